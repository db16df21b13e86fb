"""The table of different words: each word's number and count, found eight bytes of text at a time.

Open addressing with linear probing, which grows as needed. The scan reads text as 64-bit integers and finds the end of
a word with a few bit operations on all eight bytes at once (Lamport 1975, "Multiple byte processing with full-word
instructions"). Kernels run outside the interpreter's lock, so that several tables can be filled side by side.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from masklab.word_vectors.compiling import inlined, kernel
from masklab.word_vectors.sources import LONGEST_WORD, one_word

LINE = -1  # among numbers of words: the line ends here
GAP = -2  # a word stood here that has no number
_NOWHERE = 1 << 30  # the place of words that are looked up and not read: behind all others


class Table:
    """Words numbered from 0 in the order of their appearance; `line_end`, the word at each line feed, is number 0."""

    def __init__(self, line_end: str | None = None) -> None:
        self.line_end = line_end
        self.size = 0
        self.pinned = 0  # the first so many words are never forgotten
        self.words_read = self.too_long = self.zeros = 0
        self.least = self.lost = 0  # what forgetting cost: words seen so often are gone, so many of those read
        self.counts = np.zeros(1 << 14, np.int64)
        self.first = np.zeros(1 << 14, np.int64)  # where in the corpus each word came first, in any unit that rises
        self._starts = np.zeros(1 << 14, np.int64)  # where each word begins among the letters
        self._letters = np.empty(1 << 17, np.uint8)  # the words one after another, each with a line feed behind it
        self._used = 0
        self._slots = np.zeros((1 << 15, 2), np.uint64)  # a word's key, and its number + 1; 0: empty
        self._text = np.empty(0, np.uint8)
        self._out = np.empty(0, np.int32)
        if line_end is not None:
            self.add([line_end])

    def read(self, text: bytes, place: int = 0) -> np.ndarray:
        """(n,) int32: the numbers of a text's words, LINE at each line feed, GAP for a word that is too long.

        text ends in white space; place: its number among the texts. What is returned is overwritten by the next call.
        """
        return self._read(text, place, 1, -1 if self.line_end is None else 0)

    def add(self, words: list[str]) -> np.ndarray:
        """(len(words),) int64: the numbers of words, which need not have occurred."""
        return self.find(" ".join(one_word(word) or "_" for word in words).encode("utf-8", "surrogatepass"))

    def find(self, words: bytes) -> np.ndarray:
        """The same for words with a space or a line feed between them."""
        numbers = self._read(words.replace(b"\n", b" ") + b" ", _NOWHERE, 0, -1)
        return numbers.astype(np.int64)

    def text(self, numbers: np.ndarray) -> bytes:
        """The words with a line feed behind each."""
        starts = self._starts
        ends = np.append(starts[1 : self.size], self._used)
        out = np.empty(int((ends[numbers] - starts[numbers]).sum()), np.uint8)
        _copy(self._letters, starts[numbers], ends[numbers], out)
        return out.tobytes()

    def take(self, other: "Table") -> np.ndarray:
        """Move the other's words here, and empty it: (other.size,) int64, their numbers here."""
        n = other.size
        numbers = self.find(other.text(np.arange(n)))
        self.counts[numbers] += other.counts[:n]
        self.first[numbers] = np.minimum(self.first[numbers], other.first[:n])
        self.words_read += other.words_read
        self.too_long += other.too_long
        self.zeros += other.zeros
        other.__init__(other.line_end)
        return numbers

    def forget(self, room: int) -> np.ndarray:
        """Drop the rarest words until at most `room` are left: (size before,) int64, each one's new number or -1."""
        counts = self.counts[: self.size]
        stays = np.ones(self.size, bool)
        while stays[self.pinned :].any() and np.count_nonzero(stays) > room:
            self.least += 1
            stays[self.pinned :] = counts[self.pinned :] > self.least
        kept = np.flatnonzero(stays)
        self.lost += int(counts[~stays].sum())
        words, counts, first = self.text(kept), counts[kept], self.first[kept]
        self.size = self._used = 0
        self._slots[:] = 0
        self.find(words)
        self.counts[: len(kept)], self.first[: len(kept)] = counts, first
        return np.where(stays, np.cumsum(stays) - 1, -1)

    def _read(self, text: bytes, place: int, weight: int, line_end: int) -> np.ndarray:
        self._reserve(len(text))
        self._text[: len(text)] = np.frombuffer(text, np.uint8)
        before = self.size
        n, self.size, self._used, words, too_long, zeros = _read(
            self._text, len(text), self._slots, np.uint64(64 - _bits(len(self._slots))), self.counts, self._starts,
            self._letters, self.size, self._used, line_end, weight, self._out,
        )  # fmt: skip
        self.first[before : self.size] = (place << 32) + np.arange(before, self.size)
        self.words_read += weight * words
        self.too_long += too_long
        self.zeros += zeros
        return self._out[:n]

    def _reserve(self, length: int) -> None:
        """Room for all that a text of so many bytes could bring."""
        words = self.size + length // 2 + 1
        if words > len(self.counts):
            self.counts, self.first = _longer(self.counts, words), _longer(self.first, words)
            self._starts = _longer(self._starts, words)
        if self._used + length + 1 > len(self._letters):
            self._letters = _longer(self._letters, self._used + length + 1)
        if 5 * words > 3 * len(self._slots):
            slots = np.zeros((1 << _bits(2 * words), 2), np.uint64)
            _rehash(self._slots, slots, np.uint64(64 - _bits(len(slots))))
            self._slots = slots
        if len(self._out) < 2 * length:
            self._text = np.empty(length + 8, np.uint8)  # eight bytes are read at a time, also at the last one
            self._out = np.empty(2 * length, np.int32)


def _bits(n: int) -> int:
    """Of the numbers below n."""
    return (n - 1).bit_length()


def _longer(array: np.ndarray, length: int) -> np.ndarray:
    new = np.zeros(max(length, len(array) * 3 // 2), array.dtype)
    new[: len(array)] = array
    return new


# Text is read eight bytes at a time, as one little-endian integer. A word of up to seven bytes is its own key; a longer
# one has a hash with the highest bit set, and is compared with the table's.
_LONG = np.uint64(1 << 63)
_ONES = np.uint64(0x0101010101010101)  # times a byte: that byte eight times over
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: the high bits say which slot


def _load(typing, address):
    """The eight bytes at an address, which need not be aligned."""

    def load(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(types.uint64), load


_eight: Any = intrinsic(_load)


@inlined
def _spaces(x):
    """The highest bit of each of the eight bytes that is at most 32 (the lower seven bits plus 95 do not reach it)."""
    return ~((x & (np.uint64(0x7F) * _ONES)) + np.uint64(95) * _ONES | x) & (np.uint64(0x80) * _ONES)


@inlined
def _hashed(key, x):
    key = (key ^ x) * _GOLDEN
    return key ^ (key >> np.uint64(32))


@kernel
def _read(text, end, slots, shift, counts, starts, letters, size, used, line_end, weight, out):
    """The scan of one text, `end` bytes long. No array is checked for room: `_reserve` has made enough."""
    mask = np.uint64(len(slots) - 1)
    address = np.uint64(text.ctypes.data)
    n = words = too_long = zeros = i = 0
    while i < end:  # a word, or none, and one white space
        x = _eight(address + np.uint64(i))
        spaces = _spaces(x)
        if not spaces & np.uint64(0x80):
            begin = i
            key = np.uint64(0)
            while not spaces:
                key = _hashed(key, x)
                i += 8
                x = _eight(address + np.uint64(i))
                spaces = _spaces(x)
            before = ((spaces & -spaces) >> np.uint64(7)) - np.uint64(1)  # covers the bytes before the first space
            x &= before
            key = _hashed(key, x) | _LONG if i > begin else x
            i += np.int64(((before & _ONES) * _ONES) >> np.uint64(56))
            length = i - begin
            if length <= LONGEST_WORD:
                slot = (key * _GOLDEN) >> shift
                while True:
                    number = np.int64(slots[slot, 1]) - 1
                    if number < 0:
                        number = size
                        slots[slot, 0] = key
                        slots[slot, 1] = number + 1
                        counts[number] = 0
                        starts[number] = used
                        for k in range(length):
                            letters[used + k] = text[begin + k]
                        letters[used + length] = 10
                        used += length + 1
                        size += 1
                        break
                    if slots[slot, 0] == key and (length < 8 or _same(text, begin, letters, starts[number], length)):
                        break
                    slot = (slot + np.uint64(1)) & mask
                counts[number] += weight
                out[n] = number
                words += 1
            else:
                out[n] = GAP
                too_long += 1
            n += 1
        if text[i] == 10:
            if line_end >= 0:
                out[n] = line_end
                counts[line_end] += weight
                words += 1
                n += 1
            out[n] = LINE
            n += 1
        elif text[i] == 0:
            zeros += 1
        i += 1
    return n, size, used, words, too_long, zeros


@inlined
def _same(text, begin, letters, start, length):
    for k in range(length):
        if text[begin + k] != letters[start + k]:
            return False
    return letters[start + length] == 10


@kernel
def _rehash(old, new, shift):
    mask = np.uint64(len(new) - 1)
    for i in range(len(old)):
        if old[i, 1]:
            slot = (old[i, 0] * _GOLDEN) >> shift
            while new[slot, 1]:
                slot = (slot + np.uint64(1)) & mask
            new[slot] = old[i]


@kernel
def _copy(letters, starts, ends, out):
    at = 0
    for i in range(len(starts)):
        for k in range(starts[i], ends[i]):
            out[at] = letters[k]
            at += 1
