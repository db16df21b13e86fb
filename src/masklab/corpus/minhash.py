"""Finds documents that are nearly the same, by MinHash signatures and buckets of equal bands.

The share of equal numbers in two signatures estimates the Jaccard similarity of their sets of word runs (Broder 1997,
"On the resemblance and containment of documents"); documents that agree in a whole band of numbers are candidates
(locality-sensitive hashing: Leskovec, Rajaraman and Ullman, "Mining of massive datasets", section 3.4). Lee et al.
2022, "Deduplicating training data makes language models better", clean corpora so, with runs of 5 words.

Signatures lie in a temporary file, 512 bytes a document; memory holds a few numbers a document.
"""

import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from masklab.corpus.duplicates import shingles, united, word_hashes
from masklab.rng import rng

HASHES = 128  # numbers in a signature: similarities are estimated to within about 0.035 (one deviation, at 0.8)
_MISSED = 0.005  # at most so many of the pairs that are just as similar as asked may never become candidates


class Signatures:
    """The signatures of the documents added so far. words: how long the runs are; a shorter document is one run."""

    def __init__(self, words: int = 5):
        self.words, self.documents = words, 0
        draw = rng(0, "minhash")
        self._factor = draw.integers(0, 1 << 63, HASHES, np.uint64) * np.uint64(2) + np.uint64(1)
        self._shift = draw.integers(0, 1 << 63, HASHES, np.uint64)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (it goes with this object)

    def add(self, texts: list[str]) -> None:
        found = np.zeros((len(texts), HASHES), np.uint32)
        hashes, document = _runs(texts, self.words)
        for part in _stretches(document, 1 << 15):  # so little stays in the processor's cache over all 128 rounds
            first = np.flatnonzero(np.diff(document[part], prepend=-1))
            for k in range(HASHES):
                mixed = ((hashes[part] * self._factor[k] + self._shift[k]) >> np.uint64(32)).astype(np.uint32)
                found[document[part][first], k] = np.minimum.reduceat(mixed, first)
        nothing = np.setdiff1d(np.arange(len(texts)), document)  # no word at all: like nothing else
        found[nothing] = rng(0, "no words", self.documents).integers(0, 1 << 32, (len(nothing), HASHES), np.uint32)
        self.documents += len(texts)
        self._file.write(found.tobytes())

    def near(self, similarity: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
        """(documents,) the first document of each one's group, and (documents,) how like its nearest it is.

        Groups are chains: a document joins if it is like one of them. Within a bucket each document is compared with
        the bucket's first and with the one before it.
        """
        self._file.flush()
        best = np.zeros(self.documents, np.float32)
        if self.documents < 2:
            return np.arange(self.documents), best
        table = np.memmap(self._file, np.uint32, "r", shape=(self.documents, HASHES))
        pairs = []
        rows = band_rows(similarity)
        for band in range(HASHES // rows):
            for one, other in _candidates(table[:, band * rows : (band + 1) * rows]):
                for part in np.array_split(np.arange(len(one)), len(one) // 100_000 + 1):
                    a, b = one[part], other[part]
                    like = (table[a] == table[b]).mean(1, dtype=np.float32)
                    good = like >= similarity
                    pairs.append(np.stack([a[good], b[good]], 1))
                    for side in (a, b):
                        np.maximum.at(best, side[good], like[good])
            pairs = [np.unique(np.concatenate(pairs), axis=0)] if pairs else []
        return united(np.arange(self.documents), *pairs), best


def band_rows(similarity: float) -> int:
    """The longest bands that still make candidates of nearly all pairs of that similarity: 0.8 -> 6."""
    fit = [r for r in range(1, 17) if (1 - similarity**r) ** (HASHES // r) < _MISSED]
    return max(fit, default=1)


def _candidates(band: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (earlier, later) of documents with the same band: each with its bucket's first and the one before it."""
    key = np.zeros(len(band), np.uint64)
    for column in band.T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    begin = np.flatnonzero(np.append(True, ~same))
    first = np.repeat(order[begin], np.diff(np.append(begin, len(order))))
    later = np.flatnonzero(same) + 1
    yield first[later], order[later]
    not_first = later[first[later] != order[later - 1]]
    yield order[not_first - 1], order[not_first]


def _runs(texts: list[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the runs of each text and the text's number, in order; a text of fewer words gives one run, if any."""
    hashes, document = shingles(texts, words)
    short = np.setdiff1d(np.arange(len(texts)), document)
    if not len(short):
        return hashes, document
    letters, of = word_hashes([texts[i] for i in short])
    some, begin = np.unique(of, return_index=True)
    if len(some):
        place = np.arange(len(of)) - np.repeat(begin, np.diff(np.append(begin, len(of))))
        whole = np.add.reduceat(letters * (place.astype(np.uint64) * np.uint64(2) + np.uint64(1)), begin)
        hashes, document = np.concatenate([hashes, whole]), np.concatenate([document, short[some]])
        order = np.argsort(document, kind="stable")
        hashes, document = hashes[order], document[order]
    return hashes, document


def _stretches(document: np.ndarray, size: int) -> Iterable[slice]:
    """Slices of about so many runs that end where a document ends."""
    begin = 0
    while begin < len(document):
        end = int(np.searchsorted(document, document[min(begin + size, len(document)) - 1], side="right"))
        yield slice(begin, end)
        begin = end
