"""Classification: one or two sentences in, a class out, read off the first token's state.

Devlin et al. 2019, section 4.1. Texts that are too long together lose their ends, the longer one first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from masklab.errors import BadInput
from masklab.models.heads import ClassifyHead
from masklab.models.transformer import Model
from masklab.tasks import labelled
from masklab.tasks.labelled import Item, Labelled, Predictions
from masklab.tasks.table import classes, numbered, read_table
from masklab.training.batches import Batch, Example, LossTerm


@dataclass(frozen=True)
class Classify:
    """The objective of a labelled table; the recipe's `data` is the training file, `held_out` the one to judge by."""

    held_out: str  # a file of the same columns
    text: tuple[str, ...] = ("text",)  # one or two columns: names, or numbers from 1 in a file without header
    label: str = "label"
    limit: int | None = None  # use only so many training examples ...
    draw: int = 0  # ... and which: another number, another lot

    TERM: ClassVar[str] = "class"
    HEAD: ClassVar[str] = "classify"

    def __post_init__(self) -> None:
        if len(self.text) not in (1, 2):
            raise BadInput(f"objective.text names {len(self.text)} columns; a model reads one sentence or two")

    def open(self, data: str, part: str, tokenizer: Any = None) -> Labelled:
        """`part` is "train", "held_out", or the path of another file with the same columns."""
        train = read_table(data, self.text, self.label)
        chosen = labelled.first_of(len(train.labels), self.limit, self.draw)
        names = classes(train.labels)  # of the whole file, so that `limit` does not change what there is to choose from
        truth = np.array(numbered(data, train.labels, train.lines, names, data))[chosen]
        frequency = np.bincount(truth, minlength=len(names))
        texts = [train.texts[i] for i in chosen]
        if part != "train":
            other = read_table(self.held_out if part == "held_out" else part, self.text, self.label)
            texts, truth = other.texts, np.array(numbered(other.path, other.labels, other.lines, names, data))
        pieces = _encoded(tokenizer, texts)
        majority = int(frequency.argmax())

        def items(length: int) -> tuple[list[Item], int]:
            found, cut = [], 0
            for i, segments in enumerate(pieces):
                kept = truncated(segments, length - 1 - len(segments))
                cut += sum(map(len, kept)) < sum(map(len, segments))
                found.append(Item(kept, np.zeros(1, np.int64), truth[i : i + 1], np.array([majority]), np.array([i])))
            return found, cut

        longest = max(1 + sum(len(s) + 1 for s in segments) for segments in pieces)
        return Labelled(tokenizer, names, frequency, items, longest)

    def examples(self, source: Labelled, length: int) -> Any:
        return source.laid(length).rows

    def example(
        self, source: Labelled, index: int, length: int, rng: np.random.Generator, progress: float
    ) -> Example:  # nothing here is random
        return source.example(index, length, self.TERM)

    def heads(self, model: Model, source: Labelled, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        return nn.ModuleDict({self.HEAD: ClassifyHead(model.config, len(source.labels), trained)})

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        return labelled.loss(model, heads, batch, self.TERM, self.HEAD)

    def baseline(self, source: Labelled, batch: Batch) -> dict[str, LossTerm]:
        """The most frequent class of the training file."""
        return labelled.baseline(source, batch, self.TERM)

    def predict(self, pretrainer: Any, source: Labelled, length: int) -> Predictions:
        return labelled.predict(pretrainer, source, length, self.TERM, self.HEAD)


def truncated(segments: tuple[np.ndarray, ...], room: int) -> tuple[np.ndarray, ...]:
    """Both texts cut to `room` tokens together, the longer one first: lengths (7, 3) in 6 -> (3, 3)."""
    if len(segments) == 1:
        return (segments[0][:room],)
    a, b = sorted(map(len, segments))
    shorter = min(a, max(room // 2, room - b))
    sizes = (shorter, room - shorter) if len(segments[0]) <= len(segments[1]) else (room - shorter, shorter)
    return tuple(segment[:size] for segment, size in zip(segments, sizes, strict=True))


def _encoded(tokenizer: Any, texts: Sequence[tuple[str, ...]]) -> list[tuple[np.ndarray, ...]]:
    """Token ids of each text of each example."""
    columns = [tokenizer.encode(list(column)) for column in zip(*texts, strict=True)]
    return [tuple(np.array(ids, np.int64) for ids in example) for example in zip(*columns, strict=True)]
