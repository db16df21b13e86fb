"""Finds phrases: words that stand together far more often than chance would have it.

Normalised pointwise mutual information (Bouma 2009, "Normalized (pointwise) mutual information in collocation
extraction"), for n words: log(p(w1...wn) / (p(w1)...p(wn))) / (-(n - 1) log p(w1...wn)). It is 0 for words that ignore
each other and 1 for words that are never apart, whatever their frequency. Counting is exact, on a bounded number of
words; what was found is then looked up in the whole corpus like any list of names.
"""

from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from masklab.corpus.entities import Gazetteer
from masklab.corpus.word_items import BETWEEN, items
from masklab.errors import BadInput

SAMPLE = 10_000_000  # words that are counted, which takes less than 1 GB
_BATCH = 1_000_000  # characters at a time


@dataclass(frozen=True)
class Thresholds:
    least: int = 20  # occurrences of a phrase
    npmi: float = 0.5
    longest: int = 4  # words

    def __post_init__(self) -> None:
        if self.least < 2:
            raise BadInput(f"phrases that occur {self.least} times: what occurs once is no phrase; say 2 or more")
        if not -1 <= self.npmi <= 1:
            raise BadInput(f"npmi {self.npmi}: it lies between -1 and 1, e.g. 0.5")
        if not 2 <= self.longest <= 8:
            raise BadInput(f"phrases of {self.longest} words: choose 2 to 8")


class Phrase(NamedTuple):
    text: str
    count: int  # type: ignore[assignment]  # hides tuple.count
    npmi: float
    words: int


def phrases(
    texts: Iterable[tuple[str, np.ndarray | None]], thresholds: Thresholds | None = None, most: int = SAMPLE
) -> list[Phrase]:
    """The phrases of texts, each with the (n, 2) spans of its segmented words or None; the most frequent first.

    Case and white space make no difference. No phrase reaches over a sign or a line end. Only the first `most` words
    are counted.
    """
    asked = thresholds or Thresholds()
    ids, counts, total, spelled = _numbered(texts, asked.least, most)
    if not len(counts):
        return []
    alone = np.log(counts / total)
    found: list[Phrase] = []
    at = np.flatnonzero(ids >= 0)  # where runs of n - 1 words begin that are frequent enough ...
    rank, together = ids[at].astype(np.int64), alone  # ... which run it is, and log(p(w1)...p(wn)) of each run
    for n in range(2, asked.longest + 1):
        on = at + n - 1 < len(ids)
        on[on] = ids[at[on] + n - 1] >= 0
        at, rank = at[on], rank[on]
        word = ids[at + n - 1]
        _, first, run, count = np.unique(
            rank * len(counts) + word, return_index=True, return_inverse=True, return_counts=True
        )
        frequent = count >= asked.least
        first, count = first[frequent], count[frequent]
        together = together[rank[first]] + alone[word[first]]
        p = np.log(count / total)
        npmi = (p - together) / (-(n - 1) * p)
        for i in np.flatnonzero(npmi >= asked.npmi).tolist():
            found.append(Phrase(spelled(int(at[first[i]]), n), int(count[i]), float(npmi[i]), n))
        number = np.where(frequent, np.cumsum(frequent) - 1, -1)[run]
        at, rank = at[number >= 0], number[number >= 0]
    return sorted(found, key=lambda phrase: (-phrase.count, phrase.text))


class PhraseFinder:
    """`PhraseFinder(["New York"])(texts)` -> one (n, 2) array of character offsets for each text; case is ignored.

    Of phrases that overlap the longest wins; none cuts through a segmented word.
    """

    def __init__(self, listed: Iterable[str]):
        self._gazetteer = Gazetteer(listed, case=False)

    def __call__(self, texts: Sequence[str], words: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        return self._gazetteer(texts, words, shorter_than=1 << 62)


def _numbered(
    texts: Iterable[tuple[str, np.ndarray | None]], least: int, most: int
) -> tuple[np.ndarray, np.ndarray, int, Callable[[int, int], str]]:
    """Words as numbers: (items,) int32, -1 for signs, line ends and rare words; how often each number occurs; how many
    words there are; and a function that spells the n words from an item on."""
    hashes, begins, ends, joined = [], [], [], []
    firsts, total = [0], 0
    for batch in _batches(texts):
        some = [text for text, _ in batch]
        spans = [np.zeros((0, 2), np.int64) if words is None else words for _, words in batch]
        read = items(some, spans)
        stop = np.flatnonzero(read.line)  # a line end is an item of its own here, and no word
        hashes.append(np.insert(np.where(read.word, read.hash, 0), stop, 0))
        begins.append(np.insert(read.begin, stop, 0).astype(np.int32))
        ends.append(np.insert(read.end, stop, 0).astype(np.int32))
        joined.append(BETWEEN.join(some))
        firsts.append(firsts[-1] + len(begins[-1]))
        total += int(read.word.sum())
        if total >= most:
            break
    every, number, counts = np.unique(
        np.concatenate([np.zeros(1, np.uint64), *hashes]), return_inverse=True, return_counts=True
    )
    frequent = (counts >= least) & (every != 0)
    ids = np.where(frequent, np.cumsum(frequent) - 1, -1).astype(np.int32)[number[1:]]

    def spelled(item: int, n: int) -> str:
        batch = bisect(firsts, item) - 1
        item -= firsts[batch]
        return " ".join(joined[batch][begins[batch][item] : ends[batch][item + n - 1]].split())

    return ids, counts[frequent], total, spelled


def _batches(texts: Iterable[tuple[str, np.ndarray | None]]) -> Iterator[list[tuple[str, np.ndarray | None]]]:
    held, size = [], 0
    for text in texts:
        held.append(text)
        size += len(text[0])
        if size >= _BATCH:
            yield held
            held, size = [], 0
    if held:
        yield held
