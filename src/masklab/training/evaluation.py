"""How good a model is on text that it was never trained on, under masks that never change."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from masklab.rng import integer, rng, shuffled
from masklab.training.batches import Batch, LossTerm, Objective, collate
from masklab.training.distributed import ALONE, World
from masklab.training.mixture import Mixture, short


class Pretrainer(nn.Module):
    """A trunk and the heads of an objective: batch -> loss terms. The one thing that is trained or wrapped."""

    def __init__(self, model: Any, heads: nn.ModuleDict, objective: Objective):
        super().__init__()
        self.model = model
        self.heads = heads
        self.objective = objective

    def forward(self, batch: Batch) -> dict[str, LossTerm]:
        return self.objective.loss(self.model, self.heads, batch)


class Score(NamedTuple):
    """A loss term over all asked slots of the held-out rows."""

    loss: float  # mean, in nats
    accuracy: float | None
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody wants here


class Judge:
    """The held-out batches of a run, and what the trivial guess scores on them.

    A mixture is judged corpus by corpus: the first gives the plain names ("masked"), the others theirs ("masked of
    general"), so that what a domain gains and what the general language loses both show.
    """

    def __init__(
        self, objective: Objective, source: Any, length: int, rows: int | None, tokens: int, world: World = ALONE
    ):
        mixed = isinstance(source, Mixture)
        self.names = [""] + ([f" of {short(name)}" for name in source.names[1:]] if mixed else [])
        sources = source.sources if mixed else [source]
        self.parts = [held_out_part(objective, one, length, rows, tokens, world) for one in sources]
        self.baseline = self._named(
            total((objective.baseline(one, batch) for batch in part.batches), part.world)
            for one, part in zip(sources, self.parts, strict=True)
        )

    def scores(self, pretrainer: Pretrainer, autocast: Any, where: Any = "cpu") -> dict[str, Score]:
        return self._named(evaluate(pretrainer, part.batches, autocast, where, part.world) for part in self.parts)

    def _named(self, found: Iterable[dict[str, Score]]) -> dict[str, Score]:
        return {
            f"{term}{name}": score
            for name, terms in zip(self.names, found, strict=True)
            for term, score in terms.items()
        }


class Part(NamedTuple):
    batches: list[Batch]
    world: World  # those among whom the rows are divided: this process alone if there are fewer rows than processes


def held_out_batches(objective: Objective, source: Any, length: int, rows: int | None, tokens: int) -> list[Batch]:
    """The first `rows` of the held-out rows in an order, and under masks, that belong to no run: seed 0 always."""
    return held_out_part(objective, source, length, rows, tokens).batches


def held_out_part(
    objective: Objective, source: Any, length: int, rows: int | None, tokens: int, world: World = ALONE
) -> Part:
    """Those of `held_out_batches` that are this process's, as many batches for each as for any other."""
    n = len(objective.examples(source, length))
    order = shuffled(np.arange(n), n, integer(0, "held out", length))[:rows]
    world = world if len(order) >= world.ranks else ALONE
    size = max(1, tokens // length // world.ranks)
    count = min(-(-len(order) // (size * world.ranks)), len(order) // world.ranks)
    kind = getattr(objective, "kind", "bidirectional")

    def batch(some: np.ndarray) -> Batch:
        made = [objective.example(source, int(i), length, rng(0, "held out", length, int(i)), 1.0) for i in some]
        return collate(made, kind)

    mine = order[world.rank :: world.ranks]
    return Part([batch(some) for some in np.array_split(mine, max(1, count)) if len(some)], world)


def evaluate(
    pretrainer: Pretrainer, batches: list[Batch], autocast: Any, where: Any = "cpu", world: World = ALONE
) -> dict[str, Score]:
    """Scores by term; the sums run over all batches of all processes, so their size does not matter."""
    training = pretrainer.training
    pretrainer.eval()
    with torch.no_grad(), autocast:
        scores = total((pretrainer(batch.to(where)) for batch in batches), world)
    pretrainer.train(training)
    return scores


def total(terms: Iterable[dict[str, LossTerm]], world: World = ALONE) -> dict[str, Score]:
    """Add up the terms of many batches: {"masked": Score(mean nats, accuracy, count)}."""
    sums: dict[str, float] = defaultdict(float)
    judged: dict[str, bool] = {}
    for batch in terms:
        for name, term in batch.items():
            judged[name] = term.correct is not None
            sums[f"nats {name}"] += float(term.total)
            sums[f"count {name}"] += int(term.count)
            sums[f"correct {name}"] += 0 if term.correct is None else int(term.correct)
    sums = world.add(sums)

    def score(name: str, known: bool) -> Score:
        count = max(1, sums[f"count {name}"])
        accuracy = sums[f"correct {name}"] / count if known else None
        return Score(sums[f"nats {name}"] / count, accuracy, int(sums[f"count {name}"]))

    return {name: score(name, known) for name, known in judged.items()}
