"""Phrases: neighbours that stand together far more often than their words alone would explain become one word.

Mikolov et al. 2013, "Distributed representations of words and phrases", section 4: with counts of words and of pairs of
neighbours, score(a, b) = (count(ab) - discount) / (count(a) count(b)) times the words of the text (the factor of
word2phrase.c, which makes thresholds comparable between corpora). Or normalised pointwise mutual information (Bouma
2009), ln(p(ab) / (p(a) p(b))) / -ln p(ab), from -1 to 1. Another pass over the joined text finds longer ones.

Pairs are counted exactly, in a table of bounded size: when it is full, half of it (by hash) is put off to another scan
of the numbers, which takes a few nanoseconds a word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.compiling import inlined, kernel
from masklab.word_vectors.scan import Encoded, encode, gathered
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.vocabulary import Vocabulary
from masklab.word_vectors.word_table import LINE

Score = Literal["mikolov", "npmi"]
_THRESHOLD = {"mikolov": 100.0, "npmi": 0.5}
_ALL = 1 << 32  # the upper halves of hashes are below
_CHUNK = 1 << 20  # numbers that are joined or written at a time


@dataclass(frozen=True)
class Settings:
    """What is a phrase. threshold: one for each pass; the last one holds for those that follow.

    None: 100 for "mikolov" (word2phrase.c's), 0.5 for "npmi". min_count: of a pair; discount: None is min_count.
    """

    passes: int = 1
    threshold: float | tuple[float, ...] | None = None
    score: Score = "mikolov"
    min_count: int = 5
    discount: float | None = None
    joiner: str = "_"

    def __post_init__(self) -> None:
        if self.score not in _THRESHOLD:
            raise BadInput(f"there is no score {self.score!r}; choose one of: {', '.join(_THRESHOLD)}")
        if self.passes < 1 or self.min_count < 1:
            raise BadInput(f"passes={self.passes} and min_count={self.min_count} must be 1 or more")
        if not 1 <= len(self.thresholds) <= self.passes:
            raise BadInput(f"{len(self.thresholds)} thresholds for {self.passes} passes; give one for each, or one")
        if self.score == "npmi" and not all(-1 <= threshold <= 1 for threshold in self.thresholds):
            raise BadInput("the score npmi lies between -1 and 1; give a threshold such as 0.5")
        if any(letter <= " " for letter in self.joiner):
            raise BadInput(f"words joined by {self.joiner!r} would not be one word; give a character such as _")

    @property
    def thresholds(self) -> tuple[float, ...]:
        given = _THRESHOLD[self.score] if self.threshold is None else self.threshold
        return given if isinstance(given, tuple) else (given,)


@dataclass(frozen=True, eq=False)
class Phrases:
    """The phrases that one pass found, by falling score: word numbers, how often they stand together, how surely."""

    vocabulary: Vocabulary  # of the text in which they were found
    pairs: np.ndarray  # (n, 2) int32
    counts: np.ndarray  # (n,) int64
    scores: np.ndarray  # (n,) float64
    joiner: str = "_"

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def words(self) -> list[str]:
        """(n,): "new_york", in the order of the scores."""
        words = self.vocabulary.words
        return [f"{words[a]}{self.joiner}{words[b]}" for a, b in self.pairs.tolist()]

    def join(self, sentence: list[str]) -> list[str]:
        """["in", "new", "york"] -> ["in", "new_york"]; pairs are taken from the left."""
        joined, i = [], 0
        while i < len(sentence):
            at = self._places.get((sentence[i], sentence[i + 1])) if i + 1 < len(sentence) else None
            joined.append(sentence[i] if at is None else self.words[at])
            i += 1 if at is None else 2
        return joined

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        words = self.vocabulary.words
        return {(words[a], words[b]): i for i, (a, b) in enumerate(self.pairs.tolist())}


def with_phrases(
    corpus: Corpus | Encoded,
    settings: Settings = Settings(),
    *,
    min_count: int = 5,
    max_words: int | None = None,
    end_of_line: str | None = None,
    folder: str | Path | None = None,
    **options: Any,
) -> tuple[Encoded, list[Phrases]]:
    """Encode a corpus with its phrases as words: what training takes in place of the corpus, and what each pass found.

    min_count, max_words, end_of_line, folder and the rest: as for `encode`; the counts are those after joining.
    """
    least = min(min_count, settings.min_count)
    encoded = encode(corpus, min_count=least, gaps=True, folder=folder, **options)
    passes = []
    for number in range(settings.passes):
        threshold = settings.thresholds[min(number, len(settings.thresholds) - 1)]
        passes.append(find(encoded, settings, threshold))
        encoded = join(encoded, passes[-1], folder)
    return encode(encoded, min_count=min_count, max_words=max_words, end_of_line=end_of_line, folder=folder), passes


def find(encoded: Encoded, settings: Settings, threshold: float, max_pairs: int = 1 << 22) -> Phrases:
    """The pairs of neighbours whose score is above the threshold. The text is best encoded with `gaps`.

    max_pairs: how many different ones are counted at a time, 32 bytes each.
    """
    vocabulary = encoded.vocabulary
    pairs, counts = _often(encoded.ids, vocabulary.counts >= settings.min_count, settings.min_count, max_pairs)
    first, second = vocabulary.counts[pairs.T].astype(np.float64)
    total = vocabulary.total
    if settings.score == "mikolov":
        discount = settings.min_count if settings.discount is None else settings.discount
        scores = (counts - discount) / (first * second) * total
    else:
        share = counts / total
        with np.errstate(divide="ignore", invalid="ignore"):  # a text of one pair alone: 0 / 0
            scores = np.nan_to_num(np.log(share * total / first * total / second) / -np.log(share), nan=1)
    kept = np.flatnonzero(scores > threshold)
    kept = kept[np.lexsort((pairs[kept, 1], pairs[kept, 0], -scores[kept]))]
    return Phrases(vocabulary, pairs[kept], counts[kept], scores[kept], settings.joiner)


def join(encoded: Encoded, phrases: Phrases, folder: str | Path | None = None) -> Encoded:
    """The text with its phrases as words, taken from the left. Words keep their numbers; phrases stand behind them."""
    words = list(encoded.vocabulary.words)
    index = dict(encoded.vocabulary.index)
    became = np.zeros(len(phrases), np.int32)
    for i, word in enumerate(phrases.words):
        became[i] = index.setdefault(
            word, len(words)
        )  # it may be there: written so in the text, or "a_b c" and "a b_c"
        if became[i] == len(words):
            words.append(word)
    counts = np.append(encoded.vocabulary.counts, np.zeros(len(words) - len(encoded.vocabulary), np.int64))
    keys = np.zeros(1 << (2 * len(phrases)).bit_length(), np.uint64)
    places = np.zeros(len(keys), np.int32)
    starts = np.zeros(len(encoded.vocabulary), np.bool_)
    starts[phrases.pairs[:, 0]] = True
    _fill(phrases.pairs, became, keys, places)

    def chunks() -> Iterator[np.ndarray]:
        at = 0
        while at < len(encoded.ids):
            out = np.empty(_CHUNK, np.int32)
            at, n = _join(encoded.ids, at, starts, keys, places, counts, out)
            yield out[:n]

    ids = gathered(chunks(), folder)
    gone = int(encoded.vocabulary.counts.sum() - counts.sum())
    return Encoded(Vocabulary(words, counts, encoded.vocabulary.total - gone), ids)


def lines(encoded: Encoded) -> Iterator[str]:
    """The text that the numbers stand for, in stretches: words with a space between, each line ended."""
    pieces = [f" {word}" for word in encoded.vocabulary.words]
    begins = True
    for at in range(0, len(encoded.ids), _CHUNK):
        some = encoded.ids[at : at + _CHUNK]
        text = "".join([pieces[id] if id >= 0 else "\n" for id in some[some >= LINE].tolist()]).replace("\n ", "\n")
        yield text.removeprefix(" ") if begins else text
        begins = text.endswith("\n") or (begins and not text)


def _often(ids: np.ndarray, frequent: np.ndarray, least: int, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbours that stand together `least` times or more: (n, 2) int32 and (n,) int64. Both are frequent.

    At most `room` are in memory: when the table is full, pairs of the upper half of the hashes wait for another scan.
    """
    found = []
    room = min(room, max(1, len(ids)))
    low, width = 0, _ALL
    while low < _ALL:
        keys, counts = _empty(room)
        at, used = 1, 0
        while at < len(ids):
            at, used = _count(ids, at, frequent, low, low + width, keys, counts, used, room)
            if at < len(ids):
                width //= 2
                old, (keys, counts) = (keys, counts), _empty(room)
                used = _keep(*old, low + width, keys, counts)
        often = counts >= least
        found.append((keys[often] - np.uint64(1), counts[often]))
        low += width
    keys, counts = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int32), counts


def _empty(room: int) -> tuple[np.ndarray, np.ndarray]:
    """A table with twice as many slots: keys (0: empty) and counts."""
    slots = 1 << (2 * room - 1).bit_length()
    return np.zeros(slots, np.uint64), np.zeros(slots, np.int64)


@inlined
def _key(a, b):
    return (np.uint64(a) << np.uint64(32) | np.uint64(b)) + np.uint64(1)


@inlined
def _hash(key):
    """Stafford's mix13, in two of its three steps. Its upper half chooses the scan, the lower one the slot."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@inlined
def _slot(keys, key, hash):
    """Where the key is, or would be."""
    mask = np.uint64(len(keys) - 1)
    slot = hash & mask
    while keys[slot] != key and keys[slot] != 0:
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def _count(ids, begin, frequent, low, high, keys, counts, used, room):
    """Count the pairs that end at `begin` or later; returns where it stopped for want of room, and the room used."""
    for i in range(begin, len(ids)):
        a, b = ids[i - 1], ids[i]
        if a >= 0 and b >= 0 and frequent[a] and frequent[b]:
            key = _key(a, b)
            hash = _hash(key)
            part = np.int64(hash >> np.uint64(32))
            if low <= part < high:
                slot = _slot(keys, key, hash)
                if keys[slot] == 0:
                    if used == room:
                        return i, used
                    keys[slot] = key
                    used += 1
                counts[slot] += 1
    return len(ids), used


@kernel
def _keep(old_keys, old_counts, high, keys, counts):
    """Copy what lies below `high`; returns how much that is."""
    used = 0
    for i in range(len(old_keys)):
        hash = _hash(old_keys[i])
        if old_keys[i] and np.int64(hash >> np.uint64(32)) < high:
            slot = _slot(keys, old_keys[i], hash)
            keys[slot], counts[slot] = old_keys[i], old_counts[i]
            used += 1
    return used


@kernel
def _fill(pairs, became, keys, places):
    for i in range(len(pairs)):
        key = _key(pairs[i, 0], pairs[i, 1])
        slot = _slot(keys, key, _hash(key))
        keys[slot], places[slot] = key, became[i]


@kernel
def _join(ids, at, starts, keys, places, counts, out):
    """From place `at` on, until `out` is full: the place reached, and how many are out. The counts change with it."""
    n = 0
    while at < len(ids) and n < len(out):
        id = ids[at]
        if id >= 0 and starts[id] and at + 1 < len(ids) and ids[at + 1] >= 0:
            key = _key(id, ids[at + 1])
            slot = _slot(keys, key, _hash(key))
            if keys[slot]:
                counts[id] -= 1
                counts[ids[at + 1]] -= 1
                id = places[slot]
                counts[id] += 1
                at += 1
        out[n] = id
        n += 1
        at += 1
    return at, n
