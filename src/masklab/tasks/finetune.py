"""Fine-tuning: a pre-trained model goes on with labelled examples, by the same loop under another objective.

`finetune` is one run at one learning rate or the best of a few, chosen on the held-out file; `fresh=True` is the
control arm: the same shape and vocabulary with new weights, tuned in the same way.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from masklab.corpus.store_words import reader_of
from masklab.files import atomic_write
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.local_start import Start
from masklab.recipe import Batches, Evaluation, Recipe
from masklab.tasks.classify import Classify
from masklab.tasks.labelled import Labelled
from masklab.tasks.tag import Tag
from masklab.tasks.tag_features import TagFeatures
from masklab.tasks.text_to_text import Pairs, TextToText
from masklab.training.evaluation import Pretrainer
from masklab.training.loop import Watch, train
from masklab.training.optim import Optimizer
from masklab.training.precision import Precision
from masklab.training.run import Run
from masklab.training.schedule import Budget, Schedule

Task = Classify | Tag | TagFeatures | TextToText
ROW = 128  # slots, if the model and the examples allow it: several short examples share one


class Finetuned(NamedTuple):
    run: Run
    rate: float  # the learning rate that was taken
    tried: dict[float, float]  # rate -> held-out accuracy
    scores: dict[str, float]  # on the held-out file: accuracy, macro_f1, ...; of written text bleu, chrf, exact
    baseline: dict[str, float]  # what the majority class (tags: each word's usual tag; text: its copy) scores there
    predictions: Any  # Predictions, of text Written
    cut: int  # held-out examples (tags: words) that were too long and lost their end


def rates(config: Config) -> tuple[float, ...]:
    """Learning rates worth trying: the narrower the model, the larger (BERT-base: Devlin et al. 2019, section A.3)."""
    if config.width >= 512:
        return (2e-5, 3e-5, 5e-5)
    return (5e-4, 1.5e-3, 4e-3)


def recipe(
    task: Task,
    start: str | Path,
    data: str | Path,
    *,
    rate: float | None = None,
    epochs: float = 3.0,
    least: int = 100,
    tokens: int = 2048,
    length: int | None = None,
    seed: int = 0,
    fresh: bool = False,
    initial: Start | None = None,
    precision: Precision = "auto",
    threads: int = 0,
) -> Recipe:
    """The run that teaches `task` to the model in the folder `start`.

    epochs: how often every example is read, but never fewer than `least` steps. tokens: slots a step, fewer for few
    examples. length: slots a row; unsaid, 128 or as many as the longest example needs, up to what the model reads.
    """
    loaded = hub.load(str(start))
    source: Any = task.open(str(data), "train", _tokenizer(start))
    length = length or row_length(source, loaded.config)
    there = len(task.examples(source, length))
    rows = max(1, min(tokens // length, -(-there // 2)))  # two steps an epoch at least, however few examples
    steps = max(least, round(epochs * there / rows))
    return Recipe(
        name="finetune",
        preset="tuned",
        model=replace(loaded.config, max_length=max(length, loaded.config.max_length)),
        objective=task,
        data=str(data),
        start=str(start),
        fresh=fresh,
        initial=initial or Start(),
        budget=Budget(steps=steps),
        batches=Batches(tokens=rows * length, lengths=((0.0, length),)),
        schedule=Schedule("linear", warmup=0.1),
        optimizer=Optimizer(lr=rate or rates(loaded.config)[1], weight_decay=0.01),
        evaluation=Evaluation(every=0.25),
        seed=seed,
        precision=precision,
        threads=threads,
    )


def finetune(
    task: Task,
    start: str | Path,
    data: str | Path,
    folder: str | Path | None = None,
    *,
    grid: Sequence[float] | None = None,
    watch: Watch | None = None,
    usual: str | None = None,
    **options: Any,
) -> Finetuned:
    """Train at each learning rate of `grid` and keep the one with the best held-out accuracy.

    Without a grid, one run at the usual rate. `options` are those of `recipe`; with a folder, the chosen run is left
    there with its model, `scores.json` and `predictions.tsv`. `usual` names the label that `f1_rare` leaves out.
    """
    first = recipe(task, start, data, **options)
    tried: dict[float, float] = {}
    best: Run | None = None
    for rate in grid or (first.optimizer.lr,):
        run = train(replace(first, optimizer=replace(first.optimizer, lr=rate)), None if grid else folder, watch)
        if run.stopped:
            raise KeyboardInterrupt
        tried[rate] = run.result["held_out"][task.TERM]["accuracy"]
        if tried[rate] == max(tried.values()):
            best = run
    assert best is not None
    if grid and folder is not None:  # the same run once more, now with everything that a run leaves
        best = train(best.recipe, folder, watch)
    found = judge(best, usual=usual)
    if folder is not None:
        _write(Path(folder), found)
    return found._replace(tried=tried)


def judge(run: Run, file: str = "held_out", usual: str | None = None) -> Finetuned:
    """Scores and predictions of a fine-tuned run on its held-out file, or on another of the same kind."""
    task: Task = run.recipe.objective
    length = run.recipe.batches.length
    pretrainer = run.pretrainer or reopened(run)
    source = task.open(run.recipe.data, file, _tokenizer(run.recipe.start))
    found: Any = task.predict(pretrainer, source, length)  # type: ignore[arg-type]
    ours, theirs = found.scores(usual)
    return Finetuned(run, run.recipe.optimizer.lr, {}, ours, theirs, found, source.laid(length).cut)


def reopened(run: Run) -> Pretrainer:
    """The trained modules of a run that was read back from its folder."""
    loaded = hub.load(str(run.model_folder))
    return Pretrainer(loaded.model, loaded.heads, run.recipe.objective)


def row_length(source: Labelled | Pairs, config: Config) -> int:
    """As many slots as the longest example needs, within what the model reads; at least ROW if the model has them."""
    return min(config.max_length, max(ROW, -(-source.longest // 8) * 8))


def _tokenizer(start: str | Path) -> Any:
    return reader_of(hub.find(start))


def _write(folder: Path, found: Finetuned) -> None:
    with atomic_write(folder / "scores.json", "w") as file:
        json.dump(
            {"scores": found.scores, "baseline": found.baseline, "rate": found.rate, "cut": found.cut}, file, indent=1
        )
    with atomic_write(folder / "predictions.tsv", "w") as file:
        file.writelines("\t".join(map(str, row)) + "\n" for row in found.predictions.table())
