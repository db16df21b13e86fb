"""What the labelled tasks share: examples laid into packed rows, one loss over all asked slots, predictions read back.

A task turns its file into items: token segments, the slots in them that are asked, the classes wanted there. Several
items share a row (each a document of its own, so none sees another), and no slot is wasted on padding.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from masklab.corpus.packing import pack
from masklab.models.transformer import Model
from masklab.objectives.rows import frame
from masklab.rng import integer, shuffled
from masklab.tasks.score import scores
from masklab.training.batches import IGNORE, Batch, Example, LossTerm, collate, states_at

Answer = Callable[..., torch.Tensor]  # model, heads, batch, term, head -> (B, K, classes) float32 at the asked slots


class Item(NamedTuple):
    """One document of a row, e.g. ([ids of "so it goes"],), at [0] (its [CLS]), target [1]."""

    segments: tuple[np.ndarray, ...]  # one or two, token ids
    at: np.ndarray  # (K,) int64 slots from the document's [CLS], which is 0
    target: np.ndarray  # (K,) int64 classes
    usual: np.ndarray  # (K,) int64: what someone who ignores the context would answer
    origin: np.ndarray  # (K,) int64: which of the file's labels each target is


class Labelled:
    """The source of a labelled task: one file as a model reads it."""

    def __init__(
        self,
        tokenizer: Any,
        labels: list[str],
        frequency: np.ndarray,
        items: Callable[[int], tuple[list[Item], int]],
        longest: int,
    ):
        self.tokenizer = tokenizer
        self.labels = labels  # the classes' names, in the order of their numbers
        self.frequency = frequency  # (classes,) int64: how often each occurs in the training file
        self.longest = longest  # slots that the longest example needs
        self._items = items
        self._laid: dict[int, Laid] = {}

    def laid(self, length: int) -> "Laid":
        """The items for rows of `length`, and which of them make up each row."""
        if length not in self._laid:
            items, cut = self._items(length)
            costs = np.array([1 + sum(len(s) + 1 for s in item.segments) for item in items])
            row = pack(costs, length)
            order = np.argsort(row, kind="stable")
            bounds = np.flatnonzero(np.diff(row[order])) + 1
            self._laid[length] = Laid(items, np.split(order, bounds), cut)
        return self._laid[length]

    def example(self, index: int, length: int, term: str) -> Example:
        laid = self.laid(length)
        members = [laid.items[i] for i in laid.rows[index]]
        unmarked = [[np.zeros(len(s), np.uint8) for s in item.segments] for item in members]  # no word bits needed
        row = frame(self.tokenizer, [(list(m.segments), u) for m, u in zip(members, unmarked, strict=True)], length)
        at = np.concatenate([item.at + start for item, start in zip(members, row.starts, strict=True)])
        targets = {term: np.concatenate([item.target for item in members]),
                   "usual": np.concatenate([item.usual for item in members])}  # fmt: skip
        return Example(row.inputs, {term: at}, targets, row.full, len(at))

    def __len__(self) -> int:
        return int(self.frequency.sum())


class Laid(NamedTuple):
    items: list[Item]
    rows: list[np.ndarray]  # item numbers, row by row
    cut: int  # how many examples (or words) were too long and lost their end


def first_of(n: int, limit: int | None, draw: int) -> np.ndarray:
    """Which of n training examples to use: all, or `limit` of them by lot; larger limits contain the smaller ones."""
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(shuffled(np.arange(limit), n, integer(draw, "labelled examples")))


def logits(model: Model, heads: nn.ModuleDict, batch: Batch, term: str, head: str) -> torch.Tensor:
    """(B, K, classes) float32 at the asked slots."""
    return heads[head](states_at(model, batch)[term]).float()


def loss(
    model: Model, heads: nn.ModuleDict, batch: Batch, term: str, head: str, logits: Answer = logits
) -> dict[str, LossTerm]:
    """Cross-entropy over every asked slot."""
    target = batch.targets[term].flatten()
    scores = logits(model, heads, batch, term, head).flatten(0, 1)
    total = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="sum")
    right = None if torch.is_grad_enabled() else (scores.argmax(-1) == target).sum()
    return {term: LossTerm(total, (target != IGNORE).sum(), 1.0, right)}


def baseline(source: Labelled, batch: Batch, term: str) -> dict[str, LossTerm]:
    """Nats by the classes' frequencies in training; right by the usual answer (`Item.usual`)."""
    target, usual = batch.targets[term].flatten(), batch.targets["usual"].flatten()
    asked = target != IGNORE
    p = torch.from_numpy((source.frequency + 1) / (source.frequency + 1).sum())
    return {term: LossTerm(-p.log()[target[asked]].sum(), asked.sum(), 1.0, ((usual == target) & asked).sum())}


class Predictions(NamedTuple):
    """For every label of a file, in the file's order."""

    truth: np.ndarray  # (N,) int64
    predicted: np.ndarray  # (N,) int64
    usual: np.ndarray  # (N,) int64: the baseline's answers
    probability: np.ndarray  # (N,) float32 of the predicted class
    labels: list[str]

    def scores(self, usual: str | None = None) -> tuple[dict[str, float], dict[str, float]]:
        """Ours and the baseline's; `usual` names the label that `f1_rare` leaves out."""
        number = self.labels.index(usual) if usual else None
        ours, theirs = (scores(self.truth, x, len(self.labels), number) for x in (self.predicted, self.usual))
        return ours, theirs

    def table(self) -> Iterator[tuple[Any, ...]]:
        yield "number", "truth", "predicted", "probability"
        for i, (a, b, q) in enumerate(zip(self.truth, self.predicted, self.probability, strict=True), 1):
            yield i, self.labels[a], self.labels[b], f"{q:.4f}"


def predict(
    pretrainer: Any, source: Labelled, length: int, term: str, head: str, tokens: int = 16384, logits: Answer = logits
) -> Predictions:
    """The classes that a trained model gives to every example of `source`."""
    laid = source.laid(length)
    count = sum(len(item.target) for item in laid.items)
    truth, predicted, usual = np.zeros((3, count), np.int64)
    probability = np.zeros(count, np.float32)
    where = next(pretrainer.parameters()).device
    training, size = pretrainer.training, max(1, tokens // length)
    pretrainer.eval()
    for first in range(0, len(laid.rows), size):
        rows = range(first, min(first + size, len(laid.rows)))
        batch = collate([source.example(row, length, term) for row in rows]).to(where)
        with torch.no_grad():
            found = logits(pretrainer.model, pretrainer.heads, batch, term, head).softmax(-1).cpu()
        asked = batch.targets[term].cpu() != IGNORE
        best, answer = found[asked].max(-1)
        origin = np.concatenate([laid.items[i].origin for row in rows for i in laid.rows[row]])
        truth[origin], predicted[origin] = batch.targets[term].cpu()[asked].numpy(), answer.numpy()
        usual[origin], probability[origin] = batch.targets["usual"].cpu()[asked].numpy(), best.numpy()
    pretrainer.train(training)
    return Predictions(truth, predicted, usual, probability, source.labels)
