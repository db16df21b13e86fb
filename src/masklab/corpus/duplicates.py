"""Groups documents that share long stretches of text, so that no copy of a held-out document is trained on.

Word shingles: Broder 1997, "On the resemblance and containment of documents"; one in a few is kept, by its hash
(sampling modulo m, section 4 there), and documents that share a kept one fall into one group. Work is linear in the
text and memory is bounded: when too many shingles are held, half of them are let go. `leak` measures what is left.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from masklab.corpus.units import batched, code_points, kinds, stretches, word_characters, word_starts

_BATCH = 2_000_000  # characters at a time
_AT_A_TIME = 60_000  # characters whose shingles are found together: what that takes stays in the processor's cache
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Shingles:
    """Sampled shingles of the documents added so far."""

    def __init__(self, words: int = 16, keep_one_in: int = 4, at_most: int = 8_000_000):
        self.words, self.keep_one_in, self.at_most = words, keep_one_in, at_most
        self.documents = 0
        self._held: list[tuple[np.ndarray, np.ndarray]] = []  # (hash, document)
        self._count = 0

    def add(self, texts: list[str]) -> None:
        hashes, document = shingles(texts, self.words)
        keep = hashes % np.uint64(self.keep_one_in) == 0
        self._held.append((hashes[keep], (document[keep] + self.documents).astype(np.int32)))
        self.documents += len(texts)
        self._count += int(keep.sum())
        while self._count > self.at_most:
            self.keep_one_in *= 2
            kept = [(h % np.uint64(self.keep_one_in) == 0) for h, _ in self._held]
            self._held = [(h[k], d[k]) for (h, d), k in zip(self._held, kept, strict=True)]
            self._count = sum(len(h) for h, _ in self._held)

    def groups(self, common: int = 8) -> np.ndarray:
        """(documents,) int64: the first document of each one's group.

        Shingles of more than `common` documents are boilerplate (licences, templates) and join nothing, or a
        seventh of all docstrings would be one group. Of the 16-word runs in 1 % of the docstrings, chosen singly, 25
        to 28 % stand in the rest too; chosen by group, with common = 4, 8, 50: 3 to 7, 0.6 to 1.6, 0.3 to 0.6 %.
        """
        parent = np.arange(self.documents, dtype=np.int64)
        if not self._count:
            return parent
        hashes = np.concatenate([h for h, _ in self._held])
        document = np.concatenate([d for _, d in self._held]).astype(np.int64)
        return united(parent, sharing(hashes, document, common))


def sharing(hashes: np.ndarray, document: np.ndarray, common: int = 8) -> np.ndarray:
    """(pairs, 2): each document of a shingle with the one before it. hashes, document: (n,), in any order."""
    order = np.lexsort((document, hashes))
    hashes, document = hashes[order], document[order]
    fresh = np.append(True, (hashes[1:] != hashes[:-1]) | (document[1:] != document[:-1]))[: len(hashes)]
    hashes, document = hashes[fresh], document[fresh]
    first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
    count = np.diff(np.append(first, len(hashes)))
    joins = np.repeat((count > 1) & (count <= common), count)
    joins[first] = False
    later = np.flatnonzero(joins)
    return np.unique(np.stack([document[later - 1], document[later]], 1), axis=0)


def joined(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The documents of the pairs, in order, and the first of each one's group: (1, 2), (2, 4) -> [1, 2, 4], [1, 1, 1].

    Connected components by hooking every root to the smallest one beside it, and shortening all ways (Shiloach and
    Vishkin 1982): a few passes over arrays, however long the chains are.
    """
    ids, place = np.unique(pairs, return_inverse=True)
    a, b = place.reshape(-1, 2).T
    up = np.arange(len(ids))
    while True:
        low, high = np.minimum(up[a], up[b]), np.maximum(up[a], up[b])
        apart = low != high
        if not apart.any():
            return ids, ids[up]
        np.minimum.at(up, high[apart], low[apart])
        while (up[up] != up).any():
            up = up[up]


def united(parent: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(documents,) the first of each one's group: pairs (1, 2), (2, 4) and parent = arange(5) -> [0, 1, 1, 3, 1]."""
    ids, roots = joined(pairs)
    found = parent.copy()
    found[ids] = roots
    return found


def shingles(texts: list[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) uint64 hashes of every run of so many words inside a document, and (n,) the number of that document."""
    return tuple(map(np.concatenate, zip(*shingled(texts, words), strict=True)))  # type: ignore[return-value]


def shingled(texts: Iterable[str], words: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same a little at a time, however long a text is."""
    hashes, document = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    yield hashes, document
    for some, numbers in _little(texts):
        found, of = word_hashes(some)
        hashes, document = np.append(hashes, found), np.append(document, np.array(numbers)[of])
        yield _runs(hashes, document, words)
        rest = max(0, len(hashes) - words + 1)  # runs that begin here go on in what comes
        hashes, document = hashes[rest:], document[rest:]


def _little(texts: Iterable[str]) -> Iterator[tuple[list[str], list[int]]]:
    """Texts, or stretches of longer ones, and the number of the text that each is of."""
    held: list[str] = []
    numbers: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        for stretch in stretches(text, _AT_A_TIME):
            held.append(stretch)
            numbers.append(number)
            size += len(stretch) + 1
            if size >= _AT_A_TIME:
                yield held, numbers
                held, numbers, size = [], [], 0
    if held:
        yield held, numbers


def _runs(hashes: np.ndarray, document: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray]:
    n = len(hashes) - words + 1
    if n < 1:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    run = np.zeros(n, np.uint64)
    for k in range(words):
        run = run * _ODD + hashes[k : k + n]
    inside = document[:n] == document[words - 1 :]
    return mixed(run[inside]), document[:n][inside]


def word_hashes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(words,) uint64 hash of each word, blind to case and punctuation, and (words,) the number of its text."""
    code = code_points("\n".join(texts))
    kind = kinds(code)
    inside = word_characters(kind)
    at = np.flatnonzero(inside)
    if not len(at):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    begins = np.flatnonzero(word_starts(kind)[at])
    ends = np.cumsum([len(text) + 1 for text in texts])
    return spelling_hashes(lower(code[at]), begins), np.searchsorted(ends, at[begins], side="right")


def spelling_hashes(code: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """(words,) uint64. code: (letters,) of the words, side by side; begins: (words,) where each begins in it."""
    place = np.arange(len(code)) - np.repeat(begins, np.diff(begins, append=len(code)))
    return mixed(np.add.reduceat(mixed(code.astype(np.uint64)) * _powers()[place & 63], begins))


def leak(train: Iterable[str], held_out: Iterable[str], words: int = 16) -> float:
    """Share of the held-out runs of 16 words that stand in the training texts too, word for word."""
    asked = np.concatenate([np.zeros(0, np.uint64), *(shingles(t, words)[0] for t in batched(held_out, _BATCH))])
    if not len(asked):
        return 0.0
    distinct, counts = np.unique(asked, return_counts=True)
    seen = np.zeros(len(distinct), bool)
    for texts in batched(train, _BATCH):
        hashes = shingles(texts, words)[0]
        place = np.minimum(np.searchsorted(distinct, hashes), len(distinct) - 1)
        seen[place[distinct[place] == hashes]] = True
    return float(counts[seen].sum() / counts.sum())


def mixed(x: np.ndarray) -> np.ndarray:
    """Stafford's 64-bit finaliser: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_LOWER = np.arange(0x600, dtype=np.uint32)  # Latin, Greek, Cyrillic, Armenian: where there is case
for _point in range(len(_LOWER)):
    if len(chr(_point).lower()) == 1:
        _LOWER[_point] = ord(chr(_point).lower())


def lower(code: np.ndarray) -> np.ndarray:
    return np.where(code < len(_LOWER), _LOWER[np.minimum(code, len(_LOWER) - 1)], code)


@lru_cache(maxsize=1)
def _powers() -> np.ndarray:
    return np.cumprod(np.full(64, _ODD, np.uint64))
