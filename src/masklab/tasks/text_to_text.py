"""Text to text: any task whose answer is written out, e.g. translation; read with the encoder, written by the decoder.

Raffel et al. 2020, section 2.4: every task is cast as text in, text out. Several examples share a row, as everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from masklab.corpus.packing import pack
from masklab.errors import BadInput
from masklab.models.generate import greedy, padded
from masklab.models.heads import LMHead
from masklab.models.pattern import causal
from masklab.models.transformer import Model
from masklab.objectives.span_corruption import side_by_side, written_terms
from masklab.tasks.labelled import first_of
from masklab.tasks.table import read_table
from masklab.training.batches import IGNORE, Batch, Example, LossTerm


@dataclass(frozen=True)
class TextToText:
    """The objective of a table of pairs; the recipe's `data` is the training file, `held_out` the one to judge by."""

    held_out: str  # a file of the same columns
    text: str = "text"  # the column that is read: its name, or its number from 1 in a file without header
    label: str = "label"  # the column that is to be written
    prefix: str = ""  # put before every text, e.g. "translate English to German: "
    limit: int | None = None  # use only so many training examples ...
    draw: int = 0  # ... and which: another number, another lot

    TERM: ClassVar[str] = "written"

    def open(self, data: str, part: str, tokenizer: Any = None) -> "Pairs":
        """`part` is "train", "held_out", or the path of another file with the same columns."""
        table = read_table(data, [self.text], self.label)
        chosen = first_of(len(table.labels), self.limit, self.draw)
        train = [table.labels[i] for i in chosen]
        counts = np.bincount(np.concatenate(_encoded(tokenizer, train)), minlength=tokenizer.size)
        texts, labels = [table.texts[i][0] for i in chosen], train
        if part != "train":
            table = read_table(self.held_out if part == "held_out" else part, [self.text], self.label)
            texts, labels = [text for (text,) in table.texts], table.labels
        return Pairs(tokenizer, texts, labels, self.prefix, counts)

    def examples(self, source: "Pairs", length: int) -> Any:
        return source.laid(length).rows

    def example(
        self, source: "Pairs", index: int, length: int, rng: np.random.Generator, progress: float
    ) -> Example:  # nothing here is random
        laid, pad = source.laid(length), source.tokenizer.pad
        members = [laid.pairs[i] for i in laid.rows[index]]
        targets = [y for _, y in members]
        every = np.concatenate(targets)
        wanted = np.full(length, IGNORE, np.int64)
        wanted[: len(every)] = every
        written = side_by_side([np.append(pad, y[:-1]) for y in targets], length, pad, causal)
        inputs = side_by_side([x for x, _ in members], length, pad)
        full = len(members) == 1 and len(members[0][0]) == length
        return Example(inputs, {}, {"written": wanted}, full, len(members), None, written)

    def heads(self, model: Model, source: "Pairs", trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        if model.decoder is None:
            raise BadInput(f"{model.config.family} only reads; text to text needs a model that writes, e.g. t5")
        return nn.ModuleDict({"lm": LMHead(model.config, model.embeddings)})

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        return written_terms(model, heads, batch)

    def baseline(self, source: "Pairs", batch: Batch) -> dict[str, LossTerm]:
        """How frequent every token is in the answers of the training file."""
        scores = torch.from_numpy(np.log((source.counts + 1) / (source.counts + 1).sum()))
        target = batch.targets["written"].flatten()
        asked = target != IGNORE
        right = (asked & (target == scores.argmax())).sum()
        return {"written": LossTerm(-scores[target[asked]].sum(), asked.sum(), 1.0, right)}

    def predict(self, pretrainer: Any, source: "Pairs", length: int, rows: int = 64) -> "Written":
        """What a trained model writes for every example of `source`, greedily, at most `length` tokens each."""
        pairs, tokenizer = source.laid(length).pairs, source.tokenizer
        training = pretrainer.training
        pretrainer.eval()
        where = next(pretrainer.parameters()).device
        found = [""] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))  # alike lengths side by side
        for first in range(0, len(order), rows):
            some = order[first : first + rows]
            inputs = padded([pairs[i][0].tolist() for i in some], tokenizer.pad)
            inputs = type(inputs)(*(x.to(where) for x in inputs))
            head: LMHead = pretrainer.heads["lm"]
            for i, ids in zip(
                some, greedy(pretrainer.model, head, inputs, end=tokenizer.sep, longest=length), strict=True
            ):
                found[i] = tokenizer.decode(ids)
        pretrainer.train(training)
        plain = [tokenizer.decode(tokenizer.encode([label])[0]) for label in source.targets]  # as the vocabulary spells
        return Written(source.texts, plain, found)


class Laid(NamedTuple):
    pairs: list[tuple[np.ndarray, np.ndarray]]  # token ids of both sides, each with its end
    rows: list[np.ndarray]  # numbers of pairs, row by row
    cut: int  # how many pairs were too long and lost their end


class Pairs:
    """The source of a text-to-text task: one file as a model reads it."""

    def __init__(self, tokenizer: Any, texts: list[str], targets: list[str], prefix: str, counts: np.ndarray):
        self.tokenizer, self.texts, self.targets = tokenizer, texts, targets
        self.counts = counts  # (V,) int64: how often each token occurs in the answers of the training file
        before = tokenizer.encode([prefix])[0] if prefix else []
        self._pairs = [
            (np.array([*before, *x]), y)
            for x, y in zip(tokenizer.encode(texts), _encoded(tokenizer, targets), strict=True)
        ]
        self.longest = 1 + max(max(len(x), len(y) - 1) for x, y in self._pairs)  # slots of the longest example
        self._laid: dict[int, Laid] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def laid(self, length: int) -> Laid:
        if length not in self._laid:
            end = self.tokenizer.sep
            pairs = [(np.append(x[: length - 1], end), np.append(y[:-1][: length - 1], end)) for x, y in self._pairs]
            cut = sum(len(x) >= length or len(y) > length for x, y in self._pairs)
            row = pack(np.array([max(len(x), len(y)) for x, y in pairs]), length)
            order = np.argsort(row, kind="stable")
            bounds = np.flatnonzero(np.diff(row[order])) + 1
            self._laid[length] = Laid(pairs, np.split(order, bounds), cut)
        return self._laid[length]


class Written(NamedTuple):
    """For every example of a file, in the file's order."""

    texts: list[str]
    truth: list[str]
    predicted: list[str]

    def scores(self, usual: str | None = None) -> tuple[dict[str, float], dict[str, float]]:
        """Ours, and what copying the input scores: BLEU and chrF (sacrebleu's, 0 to 100), share of equal texts."""
        return _scores(self.predicted, self.truth), _scores(self.texts, self.truth)

    def table(self) -> Iterator[tuple[Any, ...]]:
        yield "number", "text", "truth", "predicted"
        for i, row in enumerate(zip(self.texts, self.truth, self.predicted, strict=True), 1):
            yield i, *(text.replace("\t", " ").replace("\n", " ") for text in row)


def _scores(found: list[str], truth: list[str]) -> dict[str, float]:
    try:
        from sacrebleu import corpus_bleu, corpus_chrf
    except ImportError:
        raise BadInput("scores of written text need sacrebleu: pip install 'masklab[eval]'") from None
    chinese = sum("一" <= c <= "鿿" for text in truth for c in text) > sum(map(len, truth)) / 2
    return {
        "bleu": corpus_bleu(found, [truth], tokenize="zh" if chinese else "13a", force=True).score,
        "chrf": corpus_chrf(found, [truth]).score,
        "exact": sum(a == b for a, b in zip(found, truth, strict=True)) / len(truth),
    }


def _encoded(tokenizer: Any, texts: list[str]) -> list[np.ndarray]:
    """Token ids of each text, with its end."""
    return [np.array([*ids, tokenizer.sep], np.int64) for ids in tokenizer.encode(texts)]
