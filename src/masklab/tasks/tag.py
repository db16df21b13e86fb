"""Tagging: a label for every word (part of speech, names, case and punctuation), asked at the word's first piece.

Devlin et al. 2019, section 5.3. A sentence longer than a row is read in several pieces of about equal length, cut
between words, so that no label is lost; only a single word that fills a row by itself loses its last pieces.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from torch import nn

from masklab.models.heads import TagHead
from masklab.models.transformer import Model
from masklab.tasks import labelled
from masklab.tasks.labelled import Item, Labelled, Predictions
from masklab.tasks.table import Tagged, classes, numbered, read_tagged
from masklab.training.batches import Batch, Example, LossTerm


@dataclass(frozen=True)
class Tag:
    """The objective of tagged text; the recipe's `data` is the training file, `held_out` the one to judge by."""

    held_out: str  # a file of the same columns
    word: str = ""  # column number from 1, CoNLL-U column or JSON field; unsaid: what `read_tagged` takes
    tag: str = ""
    limit: int | None = None  # use only so many training sentences ...
    draw: int = 0  # ... and which: another number, another lot
    tags: tuple[str, ...] = ()  # all labels there can be, if the training file may lack some; unsaid: those in it

    TERM: ClassVar[str] = "tag"
    HEAD: ClassVar[str] = "tag"

    def open(self, data: str, part: str, tokenizer: Any = None) -> Labelled:
        """`part` is "train", "held_out", or the path of another file of the same kind."""
        words, names, frequency, truth, answers = self.read(data, part)
        return laid_out(tokenizer, names, frequency, word_pieces(tokenizer, words), truth, answers)

    def read(self, data: str, part: str) -> tuple[list[list[str]], list[str], np.ndarray, list[Any], list[Any]]:
        """Words of each sentence, all labels, how often each occurs in training, each word's label and usual label."""
        train = read_tagged(data, self.word, self.tag)
        chosen = labelled.first_of(len(train.words), self.limit, self.draw)
        names = list(self.tags) or classes(_flat(train.tags))  # of the whole file, whatever the limit
        train = Tagged(train.path, *([column[i] for i in chosen] for column in train[1:]))  # type: ignore[arg-type]
        truth = _numbers(train, names, data)
        usual = usual_tags(train.words, truth)
        frequency = np.bincount(_flat(truth), minlength=len(names))
        read = train
        if part != "train":
            read = read_tagged(self.held_out if part == "held_out" else part, self.word, self.tag)
            truth = _numbers(read, names, data)
        majority = int(frequency.argmax())
        answers = [[usual.get(word, majority) for word in words] for words in read.words]
        return read.words, names, frequency, truth, answers

    def examples(self, source: Labelled, length: int) -> Any:
        return source.laid(length).rows

    def example(
        self, source: Labelled, index: int, length: int, rng: np.random.Generator, progress: float
    ) -> Example:  # nothing here is random
        return source.example(index, length, self.TERM)

    def heads(self, model: Model, source: Labelled, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        return nn.ModuleDict({self.HEAD: TagHead(model.config, len(source.labels), trained)})

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        return labelled.loss(model, heads, batch, self.TERM, self.HEAD)

    def baseline(self, source: Labelled, batch: Batch) -> dict[str, LossTerm]:
        """Each word's most frequent tag in training; for words that do not occur there, the most frequent of all."""
        return labelled.baseline(source, batch, self.TERM)

    def predict(self, pretrainer: Any, source: Labelled, length: int) -> Predictions:
        return labelled.predict(pretrainer, source, length, self.TERM, self.HEAD)


def tag(pretrainer: Any, tokenizer: Any, labels: list[str], sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """The label that a trained model gives to each word of each sentence."""
    nothing = [[0] * len(words) for words in sentences]
    pieces = word_pieces(tokenizer, sentences)
    source = laid_out(tokenizer, labels, np.ones(len(labels), np.int64), pieces, nothing, nothing)
    length = min(pretrainer.model.config.max_length, max(128, source.longest))
    found = iter(labelled.predict(pretrainer, source, length, Tag.TERM, Tag.HEAD).predicted.tolist())
    return [[labels[next(found)] for _ in words] for words in sentences]


def laid_out(
    tokenizer: Any, names: list[str], frequency: np.ndarray, pieces: list[list[np.ndarray]], truth: Sequence[Any],
    answers: Sequence[Any], make: type[Labelled] = Labelled,
) -> Any:  # fmt: skip
    """Sentences in rows. pieces, truth, answers: of each word of each sentence, its tokens and two labels."""
    begins = np.cumsum([0, *map(len, pieces)])

    def items(length: int) -> tuple[list[Item], int]:
        found, cut = [], 0
        for i, sentence in enumerate(pieces):
            cut += sum(len(word) > length - 2 for word in sentence)
            for a, b in stretches([len(word) for word in sentence], length - 2):
                words = [word[: length - 2] for word in sentence[a:b]]
                at = np.cumsum([1, *map(len, words[:-1])])  # slot 0 is [CLS]
                target, answer = np.array(truth[i][a:b]), np.array(answers[i][a:b])
                found.append(Item((np.concatenate(words),), at, target, answer, np.arange(a, b) + begins[i]))
        return found, cut

    return make(tokenizer, names, frequency, items, max(2 + sum(map(len, sentence)) for sentence in pieces))


def usual_tags(words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> dict[str, int]:
    """Each word's most frequent tag (of equals the lowest): [["a", "b"]], [[1, 0]] -> {"a": 1, "b": 0}."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for sentence, numbers in zip(words, tags, strict=True):
        for word, tag in zip(sentence, numbers, strict=True):
            counts[word][tag] += 1
    return {word: min(found, key=lambda tag: (-found[tag], tag)) for word, found in counts.items()}


def word_pieces(tokenizer: Any, sentences: Sequence[Sequence[str]]) -> list[list[np.ndarray]]:
    """The token ids of each word, for any tokenizer: the words are read together, with a space between them.

    A token belongs to the word in which its last character stands. A word that leaves no token is [UNK].
    """
    found = []
    for words, encoding in zip(sentences, tokenizer.encodings([" ".join(words) for words in sentences]), strict=True):
        ends = np.cumsum([len(word) + 1 for word in words])  # one past the space after each word
        spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        visible = spans[:, 1] > spans[:, 0]
        last = np.where(visible, spans[:, 1] - 1, spans[:, 0])
        owner = np.searchsorted(ends, last, side="right")
        ids = np.array(encoding.ids, np.int64)
        bounds = np.searchsorted(owner, np.arange(len(words) + 1))
        unknown = np.array([tokenizer.unk])
        found.append([ids[a:b] if b > a else unknown for a, b in pairwise(bounds)])
    return found


def stretches(sizes: list[int], room: int) -> list[tuple[int, int]]:
    """Word ranges [a, b) of at most `room` tokens and about equal size: [3, 3, 3, 1], 8 -> [(0, 2), (2, 4)]."""
    total = sum(min(size, room) for size in sizes)
    goal = -(-total // -(-total // room))
    found, start, filled = [], 0, 0
    for i, size in enumerate(sizes):
        size = min(size, room)
        if i > start and (filled + size > room or filled >= goal):
            found.append((start, i))
            start, filled = i, 0
        filled += size
    return [*found, (start, len(sizes))]


def _numbers(read: Tagged, names: list[str], trained_on: str) -> list[list[int]]:
    return [
        numbered(read.path, tags, lines, names, trained_on) for tags, lines in zip(read.tags, read.lines, strict=True)
    ]


def _flat(nested: Sequence[Sequence[Any]]) -> list[Any]:
    return [x for inner in nested for x in inner]
