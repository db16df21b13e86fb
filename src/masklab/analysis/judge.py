"""Measures a finished model on held-out text, under the masks that every model is judged by.

scores, trivial = judge("runs/first")      # {"masked": Score(loss=3.6, accuracy=0.41, count=9728)}, the unigram's
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from masklab.analysis.opened import is_run, open_model, open_run
from masklab.corpus.tokenizer import Tokenizer
from masklab.errors import BadInput
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Recipe
from masklab.training import precision
from masklab.training.evaluation import Judge, Pretrainer, Score
from masklab.training.mixture import open_sources
from masklab.training.run import Run

Scores = dict[str, Score]


def judge(what: str | Path, data: str = "", rows: int | None = None) -> tuple[Scores, Scores]:
    """The scores of a run or a model folder, and the trivial ones (unigram, majority) on the same targets.

    A run is judged by its own objective, data and number of rows unless told otherwise; a bare model by masked words in
    `data`. The sums are done in float32, so the last digit may differ from what a run in bfloat16 reported.
    """
    recipe = Run.open(what).recipe if is_run(what) else None
    if recipe:
        recipe = open_run(what, "" if _is_task(recipe) else data).recipe
    folder, loaded, tokenizer = open_model(what)
    if recipe is None and not data:
        raise BadInput(f"{what}: is a model, not a run; name the corpus to judge it by with --data")
    if recipe is None and "masked_lm" not in loaded.heads:
        raise BadInput(f"{what}: has no masked-LM head; give the folder of the run that trained it")
    objective = recipe.objective if recipe else MaskedLM()
    source = _open(objective, recipe, data, tokenizer)
    if source.tokenizer.hash != tokenizer.hash:
        raise BadInput(f"{data}: made with another vocabulary than the model; prepare the text again with "
                       f"--tokenizer {folder}")  # fmt: skip
    length = recipe.batches.length if recipe else min(128, loaded.config.max_length)
    rows = rows or (recipe.evaluation.rows if recipe else 512)
    judged = Judge(objective, source, length, rows, 4096)
    where = precision.device()
    pretrainer = Pretrainer(loaded.model, loaded.heads, objective).to(where)
    return judged.scores(pretrainer, precision.autocast("fp32", where), where), judged.baseline


def _is_task(recipe: Recipe) -> bool:
    """Labelled tasks name the file they are judged by; pretext tasks are judged by a part of their corpus."""
    return hasattr(recipe.objective, "held_out")


def _open(objective: Any, recipe: Recipe | None, data: str, tokenizer: Tokenizer) -> Any:
    """The held-out part, of every corpus that a run mixed.

    A labelled task keeps its training file, which names the classes, and judges by another.
    """
    if recipe is not None and _is_task(recipe):
        judged = replace(objective, held_out=data) if data else objective
        return judged.open(recipe.data, "held_out", tokenizer)
    if recipe is not None and not data:
        return open_sources(recipe, "held_out", tokenizer)
    return objective.open(data, "held_out", tokenizer)
