"""How good a model is on text that it was never trained on, under masks that never change."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from masklab.rng import integer, rng, shuffled
from masklab.training.batches import Batch, LossTerm, Objective, collate
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

    def __init__(self, objective: Objective, source: Any, length: int, rows: int | None, tokens: int):
        mixed = isinstance(source, Mixture)
        self.names = [""] + ([f" of {short(name)}" for name in source.names[1:]] if mixed else [])
        sources = source.sources if mixed else [source]
        self.batches = [held_out_batches(objective, one, length, rows, tokens) for one in sources]
        self.baseline = self._named(
            total(objective.baseline(one, batch) for batch in some)
            for one, some in zip(sources, self.batches, strict=True)
        )

    def scores(self, pretrainer: Pretrainer, autocast: Any, where: Any = "cpu") -> dict[str, Score]:
        return self._named(evaluate(pretrainer, some, autocast, where) for some in self.batches)

    def _named(self, found: Iterable[dict[str, Score]]) -> dict[str, Score]:
        return {
            f"{term}{name}": score
            for name, terms in zip(self.names, found, strict=True)
            for term, score in terms.items()
        }


def held_out_batches(objective: Objective, source: Any, length: int, rows: int | None, tokens: int) -> list[Batch]:
    """The first `rows` of the held-out rows in an order, and under masks, that belong to no run: seed 0 always."""
    n = len(objective.examples(source, length))
    order = shuffled(np.arange(n), n, integer(0, "held out", length))[:rows]
    examples = [objective.example(source, int(i), length, rng(0, "held out", length, int(i)), 1.0) for i in order]
    size = max(1, tokens // length)
    kind = getattr(objective, "kind", "bidirectional")
    return [collate(examples[i : i + size], kind) for i in range(0, len(examples), size)]


def evaluate(pretrainer: Pretrainer, batches: list[Batch], autocast: Any, where: Any = "cpu") -> dict[str, Score]:
    """Scores by term; the sums run over all batches, so their size does not matter."""
    training = pretrainer.training
    pretrainer.eval()
    with torch.no_grad(), autocast:
        scores = total(pretrainer(batch.to(where)) for batch in batches)
    pretrainer.train(training)
    return scores


def total(terms: Any) -> dict[str, Score]:
    """Add up the terms of many batches: {"masked": Score(mean nats, accuracy, count)}."""
    sums: dict[str, list[float]] = {}
    for batch in terms:
        for name, term in batch.items():
            parts = sums.setdefault(name, [0.0, 0, 0.0, term.correct is not None])
            parts[0] += float(term.total)
            parts[1] += int(term.count)
            parts[2] += 0 if term.correct is None else int(term.correct)
    return {
        name: Score(nats / max(1, count), correct / max(1, count) if known else None, int(count))
        for name, (nats, count, correct, known) in sums.items()
    }
