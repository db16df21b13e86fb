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
from masklab.training.distributed import World, exchanging, join, noticing
from masklab.training.evaluation import Judge, Score
from masklab.training.feed import Feed
from masklab.training.precision import Scaler
from masklab.training.run import Run, RunFolder
from masklab.training.schedule import Progress
from masklab.training.session import Session, build
from masklab.training.signals import StopRequest

Watch = Callable[[dict[str, Any]], None]
Sums = dict[str, list[float]]  # of each loss term the sum (nats) and the count


def train(recipe: Recipe, folder: str | Path | None = None, watch: Watch | None = None) -> Run:
    """Train by `recipe` and leave the result in `folder`; a folder that holds this run already is continued.

    Without a folder nothing is written. `watch` is called with a dictionary for each thing that happens: kinds begin,
    step, held_out, checkpoint, end (see docs/files.md). Ctrl-C or SIGTERM finish the step, save and return.

    One of several processes (distributed.py) trains its share; the first one writes and is watched.
    """
    with noticing():
        world = join()
        watch = watch if world.first else None
        if folder is None:
            return _Training(recipe, None, watch, world).run()
        with RunFolder(Path(folder), recipe, world) as place:
            return place.finished() or _Training(recipe, place, watch, world).run()


class _Training:
    """A run while it goes on: what it computes with, and how far it is."""

    def __init__(self, recipe: Recipe, place: RunFolder | None, watch: Watch | None, world: World):
        self.recipe, self.place, self.watch, self.world = recipe, place, watch, world
        saved = place.latest(lambda text: self.say({"kind": "warning", "text": text})) if place else None
        self.session = session = build(recipe, saved.values["environment"] if saved else None, world)
        if saved and saved.values.get("data", session.data) != session.data:
            raise BadInput(
                f"{recipe.data}: is not what this run has read up to step {saved.values['step']:,} (text, vocabulary "
                f"or units changed); put that back, or begin anew in another folder (--out)"
            )
        self.step, self.elapsed, self.tokens, self.words = 0, session.counted, 0, 0
        self.sums: Sums = defaultdict(lambda: [0.0, 0])  # since the last line of the log
        steps = recipe.budget.count(recipe.batches.tokens, session.words_per_token)
        self.progress = Progress(steps, recipe.budget, saved.values["milestones"] if saved else [])
        if saved:
            session.load(saved.tensors)
            self.step, self.elapsed = saved.values["step"], saved.values["elapsed"]
            self.tokens, self.words = saved.values["tokens"], saved.values["words"]
            self.sums |= saved.values["sums"]
            session.scaler = Scaler(**saved.values.get("scaler", {}))
        self.held_out = Judge(
            recipe.objective,
            session.held_out,
            recipe.batches.length,
            recipe.evaluation.rows,
            recipe.batches.tokens,
            world,
        )
        self.baseline = _plain(self.held_out.baseline)
        self.made = Run(recipe, place.folder if place else None, session.pretrainer, [])
        if place:
            self.made.history = place.rewind(self.step)
        self.tell("begin", steps=self.progress.steps, baseline=self.baseline, environment=session.environment,
                  data=session.data, parameters=session.parameters, resumed=saved is not None,
                  same_bits=saved is None or (saved.values["environment"] == session.environment
                                             and session.environment["deterministic"]))  # fmt: skip

    def run(self) -> Run:
        """All steps that are left, or as many as there are until somebody asks to stop."""
        session, progress, recipe = self.session, self.progress, self.recipe
        if self.step == 0:
            self.judge()
        feed = Feed(recipe, session.source, progress, self.step, self.world)
        logged = saved = self.elapsed
        stop = 0  # the signal
        try:
            with StopRequest() as asked:
                while not progress.over(self.step) and not stop:
                    began = time.perf_counter()
                    batches = feed.next()
                    factor = recipe.schedule.factor(progress.at(self.step))
                    norm, sums = one_step(session, batches, self.step, factor)
                    stop = self.advance(batches, sums, time.perf_counter() - began, asked.asked)
                    if self.step % recipe.log_every == 0 or progress.over(self.step):
                        self.tell_step(norm, factor, self.elapsed - logged, feed.waited)
                        logged, feed.waited = self.elapsed, 0.0
                    if self.crossed(recipe.evaluation.every):
                        self.judge()
                    due = recipe.checkpoints.steps and self.step % recipe.checkpoints.steps == 0
                    if self.place and (due or self.elapsed - saved >= recipe.checkpoints.every):
                        began = time.perf_counter()
                        self.save()
                        self.elapsed = saved = self.world.told(self.elapsed + time.perf_counter() - began)
                        self.tell("checkpoint")
        finally:
            feed.close()
        return self.finish() if progress.over(self.step) else self.stopped(stop)

    def advance(self, batches: list[Batch], sums: Sums, seconds: float, asked: int) -> int:
        """One step further, on which all processes agree: what it read and lost, the first one's clock, who would stop.

        The signal that asked any of them to stop, or 0.
        """
        names = sorted(sums)
        read = [sum(batch.tokens for batch in batches), sum(batch.words for batch in batches)]
        here = [self.elapsed + seconds, asked, *read, *(x for name in names for x in sums[name])]
        everyone = self.world.gather(here)  # (processes, values)
        added = everyone.sum(0).tolist()
        self.step += 1
        self.elapsed = float(everyone[0, 0])
        self.tokens, self.words = self.tokens + int(added[2]), self.words + int(added[3])
        for name, total, count in zip(names, added[4::2], added[5::2], strict=True):
            self.sums[name] = [self.sums[name][0] + total, self.sums[name][1] + int(count)]
        self.progress.note(self.step, self.elapsed)
        return int(everyone[:, 1].max())

    def crossed(self, every: float) -> bool:
        """Has the last step passed a multiple of this share of the run?"""
        at = self.progress.at
        return at(self.step) // every > at(self.step - 1) // every and not self.progress.over(self.step)

    def judge(self) -> dict[str, Score]:
        session = self.session
        scores = self.held_out.scores(session.pretrainer, session.autocast(), session.device)
        self.tell("held_out", terms=_plain(scores), baseline=self.baseline)
        return scores

    def save(self) -> None:
        if self.place:
            self.place.save(self.step, self.values(), self.session)

    def values(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors."""
        return {"step": self.step, "milestones": self.progress.milestones, "elapsed": self.elapsed,
                "tokens": self.tokens, "words": self.words, "sums": dict(self.sums),
                "scaler": self.session.scaler.state(), "environment": self.session.environment,
                "data": self.session.data}  # fmt: skip

    def stopped(self, signal: int) -> Run:
        self.save()
        self.tell("stopped", signal=signal)
        self.made.stopped = signal
        return self.left()

    def finish(self) -> Run:
        scores = self.judge()
        self.made.result = {"steps": self.step, "seconds": self.elapsed, "tokens": self.tokens, "words": self.words,
                            "held_out": _plain(scores), "baseline": self.baseline,
                            "milestones": self.progress.milestones}  # fmt: skip
        self.tell("end", **{k: self.made.result[k] for k in ("tokens", "words", "held_out", "baseline")})
        self.save()
        return self.left()

    def left(self) -> Run:
        """The run, its modules whole in every process; none leaves before the first has written everything."""
        self.made.pretrainer = self.session.whole(everyone=True)
        if self.place and self.made.result:
            self.place.finish(self.made, self.session)
        self.world.wait()
        return self.made

    def tell_step(self, norm: float, factor: float, seconds: float, waited: float) -> None:
        recipe, seconds = self.recipe, max(seconds, 1e-9)
        scaler = self.session.scaler
        skipped = {"skipped": scaler.skipped, "scale": scaler.scale} if scaler.on else {}
        self.tell("step", terms={n: {"loss": t / max(1, c)} for n, (t, c) in self.sums.items()}, norm=norm,
                  factor=factor, **skipped, tokens=self.tokens, words=self.words, waiting=waited / seconds,
                  tokens_per_second=recipe.log_every * recipe.batches.tokens / seconds,
                  remaining=_remaining(self.progress, self.step, self.elapsed, recipe))  # fmt: skip
        self.sums.clear()

    def tell(self, kind: str, **more: Any) -> None:
        place = {"step": self.step, "progress": self.progress.at(self.step), "seconds": self.elapsed}
        record = {"kind": kind} | place | more
        self.made.history.append(record)
        if self.place:
            self.place.log(record)
        self.say(record)

    def say(self, record: dict[str, Any]) -> None:
        if self.watch:
            self.watch(record)


def one_step(session: Session, batches: list[Batch], step: int, factor: float) -> tuple[float, Sums]:
    """One optimizer step over its micro-batches: the gradient's norm, and what each term lost in this process."""
    world, seed = session.world, session.recipe.seed
    here: dict[str, float] = defaultdict(int)
    for batch in batches:
        for name, count in batch.counts.items():
            here[name] += count
    counts = world.add(here)  # over the whole step and all processes, so that dividing it changes nothing
    sums: Sums = defaultdict(lambda: [0.0, 0])
    for part, batch in enumerate(batches):
        torch.manual_seed(integer(seed, "dropout", step, part, *([world.rank] if world.rank else [])))
        with exchanging(session.trained, part == len(batches) - 1):
            with session.autocast():
                terms = session.trained(batch.to(session.device))
                loss = sum(t.weight * t.total / max(1, counts[name]) for name, t in terms.items() if t.weight)
            (loss * world.ranks * session.scaler.scale).backward()  # gradients are means over processes  # type: ignore[union-attr]
        for name, term in terms.items():
            sums[name][0] += term.total.item()
            sums[name][1] += int(term.count)
    session.scaler.unscale(session.pretrainer.parameters())
    norm = session.optimizers.clip()
    overflowed = not math.isfinite(norm) and not session.scaler.on
    if overflowed or not all(math.isfinite(s) for s, _ in sums.values()):
        raise BadInput(
            f"the loss or its gradient is not finite at step {step} of seed {seed}; the last checkpoint "
            f"is whole. `masklab show` prints that step's batch; a lower optimizer.lr is the usual cure"
        )
    if session.scaler.takes(norm):
        session.optimizers.step(step, factor)
    else:
        session.pretrainer.zero_grad()
    return norm, sums


def _remaining(progress: Progress, step: int, elapsed: float, recipe: Recipe) -> float:
    """Seconds to the end, as far as can be told."""
    if progress.by_clock and recipe.budget.seconds is not None:
        return max(0.0, recipe.budget.seconds - elapsed)
    return elapsed / max(1, step) * ((progress.steps or step) - step)


def _plain(scores: dict[str, Score]) -> dict[str, Any]:
    return {name: score._asdict() for name, score in scores.items()}
