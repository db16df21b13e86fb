"""The pieces of a word that fastText knows: character n-grams, each hashed to one of a fixed number of buckets.

Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2; the bytes are hashed as the
released models do it, so that their files and ours agree. Word n-grams for classification: Joulin et al. 2017, "Bag of
Tricks for Efficient Text Classification", section 2.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.compiling import inlined, kernel

LINE_END = "</s>"  # fastText's word for the end of a line; it has a row of its own and no n-grams
_BASIS = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_WORD_NGRAM = np.uint64(116049371)


class Table(NamedTuple):
    """Lists of numbers of different length in one piece: word i has `ids[offsets[i] : offsets[i + 1]]`."""

    offsets: np.ndarray  # (words + 1,) int64
    ids: np.ndarray  # (n,) int32

    def row(self, i: int) -> np.ndarray:
        return self.ids[self.offsets[i] : self.offsets[i + 1]]


@dataclass(frozen=True)
class Ngrams:
    """Which n-grams a word has and how many buckets they share.

    Ngrams(3, 4).of("her") -> ["<he", "<her", "her", "her>", "er>"]
    """

    shortest: int = 3
    longest: int = 6  # 0: no n-grams
    buckets: int = 2_000_000

    def __post_init__(self) -> None:
        if not 0 <= self.longest <= 100:
            raise BadInput(f"longest={self.longest}: the longest n-gram has 0 (no n-grams) to 100 characters")
        if self.longest and not 1 <= self.shortest <= self.longest:
            raise BadInput(
                f"shortest={self.shortest}: the shortest n-gram has 1 to {self.longest} characters (the longest has "
                f"{self.longest}); longest=0 switches n-grams off"
            )
        if not 0 <= self.buckets < 2**31 or (self.longest and not self.buckets):
            raise BadInput(f"buckets={self.buckets}: n-grams share 1 to {2**31 - 1:,} buckets; 2,000,000 is usual")

    def of(self, word: str) -> list[str]:
        """The n-grams of one word, in fastText's order: every one of `<word>` but the lone brackets."""
        if word == LINE_END:
            return []
        text = f"<{word}>"
        return [
            text[start : start + n]
            for start in range(len(text))
            for n in range(max(1, self.shortest), self.longest + 1)
            if start + n <= len(text) and not (n == 1 and start in (0, len(text) - 1))
        ]

    def ids(self, word: str) -> np.ndarray:
        """(n,) int32: the bucket of every n-gram of `of(word)`."""
        return self.table([word]).ids

    def table(self, words: Sequence[str]) -> Table:
        """The buckets of many words at once; one row a word, `</s>` has an empty one."""
        letters, ends = letters_of(words)
        offsets = np.zeros(len(words) + 1, np.int64)
        _count(letters, ends, self.shortest, self.longest, offsets)
        offsets[[i + 1 for i, word in enumerate(words) if word == LINE_END]] = 0
        np.cumsum(offsets, out=offsets)
        ids = np.empty(offsets[-1], np.int32)
        _fill(letters, ends, self.shortest, self.longest, max(1, self.buckets), offsets, ids)
        return Table(offsets, ids)


def letters_of(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """`<word>` of every word in UTF-8, end to end: (all bytes, where each word ends).

    Bytes of a corpus that are no UTF-8 stand in words as lone surrogates and become the same bytes again.
    """
    spelled = [f"<{word}>".encode("utf-8", "surrogateescape") for word in words]
    ends = np.cumsum(np.fromiter(map(len, spelled), np.int64, len(spelled)))
    return np.frombuffer(b"".join(spelled), np.uint8), ends


@inlined
def _absorb(hashed, byte):
    """One step of FNV-1a. fastText's released models take bytes as signed: 0xE4 is hashed as 0xFFFFFFE4."""
    return np.uint32((hashed ^ np.uint32(np.int32(np.int8(byte)))) * _PRIME)


@kernel
def fnv1a(letters):
    """fastText's 32-bit hash of some bytes."""
    hashed = _BASIS
    for byte in letters:
        hashed = _absorb(hashed, byte)
    return hashed


@kernel
def _count(letters, ends, shortest, longest, lengths):
    """How many n-grams each word has, into lengths[1:]: with c characters there are c - n + 1 n-grams of length n."""
    start = 0
    for i in range(len(ends)):
        characters = 0
        for j in range(start, ends[i]):
            characters += (letters[j] & 0xC0) != 0x80  # a byte that continues a character is no new one
        total = 0
        for n in range(max(1, shortest), min(longest, characters) + 1):
            total += characters - n + 1 - (2 if n == 1 else 0)  # "<" and ">" alone are none
        lengths[i + 1] = total
        start = ends[i]


@kernel
def _fill(letters, ends, shortest, longest, buckets, offsets, ids):
    """The buckets themselves. A longer n-gram goes on from the hash of the shorter one that it begins with."""
    begin = 0
    for i in range(len(ends)):
        end = ends[i]
        q = offsets[i]
        if q < offsets[i + 1]:
            for start in range(begin, end):
                if (letters[start] & 0xC0) == 0x80:
                    continue
                hashed = _BASIS
                j = start
                n = 0
                while j < end and n < longest:
                    hashed = _absorb(hashed, letters[j])
                    j += 1
                    while j < end and (letters[j] & 0xC0) == 0x80:
                        hashed = _absorb(hashed, letters[j])
                        j += 1
                    n += 1
                    if n >= shortest and not (n == 1 and (start == begin or j == end)):
                        ids[q] = hashed % np.uint32(buckets)
                        q += 1
        begin = end


def hashes_of(words: Sequence[str]) -> np.ndarray:
    """(words,) int32: the hash of each whole word, without brackets, as word n-grams take it."""
    letters, ends = letters_of(words)
    hashed = np.empty(len(ends), np.int32)
    _hash_each(letters, ends, hashed)
    return hashed


@kernel
def _hash_each(letters, ends, hashed):
    begin = 0
    for i in range(len(ends)):
        hashed[i] = np.int32(fnv1a(letters[begin + 1 : ends[i] - 1]))
        begin = ends[i]


@inlined
def word_ngram(hashed, following):
    """The 64-bit hash of a word n-gram from that of the shorter one and the next word's hash (both sign-extended)."""
    return hashed * _WORD_NGRAM + np.uint64(np.int64(following))


def word_ngram_ids(hashes: np.ndarray, longest: int, buckets: int) -> list[int]:
    """The buckets of a line's word n-grams of 2 to `longest` words, in fastText's order."""
    ids = []
    for i, first in enumerate(hashes):
        hashed = int(first) % 2**64
        for following in hashes[i + 1 : i + longest]:
            hashed = (hashed * int(_WORD_NGRAM) + int(following)) % 2**64
            ids.append(hashed % buckets)
    return ids


def mean_rows(own: np.ndarray | None, shared: np.ndarray, table: Table) -> np.ndarray:
    """(words, dim) float32: the mean of a word's own row and of the shared rows that `table` lists for it.

    Without `own` (unseen words) it is the mean of the shared rows alone, zeros for a word without any. A row number of
    -1 is a bucket that no training word touched: it is a row of zeros, but it counts.
    """
    n = len(table.offsets) - 1
    out = np.zeros((n, shared.shape[1]), np.float32)
    if own is not None:
        out[:] = own
    _add_rows(shared, table.offsets, table.ids, own is not None, out)
    return out


@kernel
def _add_rows(shared, offsets, ids, one_more, out):
    for i in range(len(out)):
        row = out[i]
        for q in range(offsets[i], offsets[i + 1]):
            if ids[q] >= 0:
                for d in range(len(row)):
                    row[d] += shared[ids[q], d]
        rows = offsets[i + 1] - offsets[i] + one_more
        if rows > 1:
            for d in range(len(row)):
                row[d] /= np.float32(rows)
