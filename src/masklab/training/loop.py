"""The training loop: any objective, any trunk, any budget; stopped anywhere, it continues as if it never had been."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from masklab.errors import BadInput
from masklab.recipe import Recipe
from masklab.rng import integer
from masklab.training.batches import Batch
from masklab.training.checkpoint import State
from masklab.training.evaluation import Judge, Score
from masklab.training.feed import Feed
from masklab.training.run import Run, RunFolder
from masklab.training.schedule import Progress
from masklab.training.session import Session, build
from masklab.training.signals import StopRequest

Watch = Callable[[dict[str, Any]], None]


def train(recipe: Recipe, folder: str | Path | None = None, watch: Watch | None = None) -> Run:
    """Train by `recipe` and leave the result in `folder`; a folder that holds this run already is continued.

    Without a folder nothing is written. `watch` is called with a dictionary for each thing that happens: kinds begin,
    step, held_out, checkpoint, end (see docs/files.md). Ctrl-C or SIGTERM finish the step, save and return.
    """
    if folder is None:
        return _train(recipe, None, watch)
    with RunFolder(Path(folder), recipe) as place:
        return place.finished() or _train(recipe, place, watch)


def _train(recipe: Recipe, place: RunFolder | None, watch: Watch | None) -> Run:
    saved = place.latest(lambda text: _say(watch, {"kind": "warning", "text": text})) if place else None
    session = build(recipe, saved.values["environment"] if saved else None)
    values = (
        saved.values
        if saved
        else {"step": 0, "milestones": [], "elapsed": session.counted, "tokens": 0, "words": 0, "sums": {}}
    )
    if saved:
        session.load(saved.tensors)
    steps = recipe.budget.count(recipe.batches.tokens, session.words_per_token)
    progress = Progress(steps, recipe.budget, values["milestones"])
    step, elapsed, tokens, words = values["step"], values["elapsed"], values["tokens"], values["words"]
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0], values["sums"])  # since the last line of the log
    run = Run(recipe, place.folder if place else None, session.pretrainer, [])

    def tell(kind: str, **more: Any) -> None:
        record = {"kind": kind, "step": step, "progress": progress.at(step), "seconds": elapsed} | more
        run.history.append(record)
        if place:
            place.log(record)
        _say(watch, record)

    def state() -> State:
        return State(
            session.state(),
            {"step": step, "milestones": progress.milestones, "elapsed": elapsed, "tokens": tokens, "words": words,
             "sums": dict(sums), "environment": session.environment},
        )  # fmt: skip

    held_out = Judge(
        recipe.objective, session.held_out, recipe.batches.length, recipe.evaluation.rows, recipe.batches.tokens
    )
    baseline = held_out.baseline
    if place:
        run.history = place.rewind(step)
    tell("begin", steps=progress.steps, baseline=_plain(baseline), environment=session.environment,
         parameters=session.parameters, resumed=saved is not None,
         same_bits=saved is None or saved.values["environment"] == session.environment)  # fmt: skip

    def judge() -> dict[str, Score]:
        scores = held_out.scores(session.pretrainer, session.autocast(), session.device)
        tell("held_out", terms=_plain(scores), baseline=_plain(baseline))
        return scores

    scores = judge() if step == 0 else {}
    feed = Feed(recipe, session.source, progress, step)
    logged = saved_at = elapsed
    try:
        with StopRequest() as stop:
            while not progress.over(step) and not stop.asked:
                began = time.perf_counter()
                batches = feed.next()
                factor = recipe.schedule.factor(progress.at(step))
                norm = one_step(session, batches, step, factor, sums)
                step += 1
                tokens += sum(b.tokens for b in batches)
                words += sum(b.words for b in batches)
                elapsed += time.perf_counter() - began
                progress.note(step, elapsed)
                if step % recipe.log_every == 0 or progress.over(step):
                    seconds = elapsed - logged
                    tell("step", terms={n: {"loss": t / max(1, c)} for n, (t, c) in sums.items()}, norm=norm,
                         factor=factor, tokens=tokens, words=words, waiting=feed.waited / max(seconds, 1e-9),
                         tokens_per_second=recipe.log_every * recipe.batches.tokens / max(seconds, 1e-9),
                         remaining=_remaining(progress, step, elapsed, recipe))  # fmt: skip
                    sums.clear()
                    logged, feed.waited = elapsed, 0.0
                every = recipe.evaluation.every
                if progress.at(step) // every > progress.at(step - 1) // every and not progress.over(step):
                    scores = judge()
                due = recipe.checkpoints.steps and step % recipe.checkpoints.steps == 0
                if place and (due or elapsed - saved_at >= recipe.checkpoints.every):
                    began = time.perf_counter()
                    place.save(step, state(), session)
                    elapsed += time.perf_counter() - began
                    saved_at = elapsed
                    tell("checkpoint")
    finally:
        feed.close()

    if not progress.over(step):
        if place:
            place.save(step, state(), session)
        tell("stopped", signal=stop.asked)
        run.stopped = stop.asked
        return run
    scores = judge()
    run.result = {"steps": step, "seconds": elapsed, "tokens": tokens, "words": words, "held_out": _plain(scores),
                  "baseline": _plain(baseline), "milestones": progress.milestones}  # fmt: skip
    tell("end", **{k: v for k, v in run.result.items() if k in ("tokens", "words", "held_out", "baseline")})
    if place:
        place.save(step, state(), session)
        place.finish(run, session)
    return run


def one_step(session: Session, batches: list[Batch], step: int, factor: float, sums: dict[str, list[float]]) -> float:
    """One optimizer step over its micro-batches; adds each term's sum and count to `sums`; the gradient's norm."""
    counts: dict[str, int] = defaultdict(int)  # over the whole step, so that splitting it changes nothing
    for batch in batches:
        for name, count in batch.counts.items():
            counts[name] += count
    for part, batch in enumerate(batches):
        torch.manual_seed(integer(session.recipe.seed, "dropout", step, part))
        with session.autocast():
            terms = session.pretrainer(batch.to(session.device))
            loss = sum(t.weight * t.total / max(1, counts[name]) for name, t in terms.items() if t.weight)
        loss.backward()  # type: ignore[union-attr]
        for name, term in terms.items():
            sums[name][0] += term.total.item()
            sums[name][1] += int(term.count)
    norm = session.optimizers.clip()
    if not math.isfinite(norm) or not all(math.isfinite(s) for s, _ in sums.values()):
        raise BadInput(
            f"the loss or its gradient is not finite at step {step} of seed {session.recipe.seed}; the last checkpoint "
            f"is whole. `masklab show` prints that step's batch; a lower optimizer.lr is the usual cure"
        )
    session.optimizers.step(step, factor)
    return norm


def _remaining(progress: Progress, step: int, elapsed: float, recipe: Recipe) -> float:
    """Seconds to the end, as far as can be told."""
    if progress.by_clock and recipe.budget.seconds is not None:
        return max(0.0, recipe.budget.seconds - elapsed)
    return elapsed / max(1, step) * ((progress.steps or step) - step)


def _plain(scores: dict[str, Score]) -> dict[str, Any]:
    return {name: score._asdict() for name, score in scores.items()}


def _say(watch: Watch | None, record: dict[str, Any]) -> None:
    if watch:
        watch(record)
