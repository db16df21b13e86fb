"""Finds, among short strings that were met before, all those of a text at once: a hash table in numpy arrays.

Strings are stretches of an array of code points, so no Python object is made for any of them. The hash is multilinear
(Lemire and Kaser 2014, "Strongly universal string hashing is fast"); what it finds is compared character by character,
so that a string is never taken for another.
"""

import numpy as np

LONGEST = 40  # characters of a string that is kept; longer ones hardly ever come again
_WEIGHTS = np.random.default_rng(0).integers(0, 1 << 64, LONGEST, np.uint64) | np.uint64(1)
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Met:
    """Strings numbered from 0 in the order in which they were added."""

    def __init__(self) -> None:
        self.count = 0
        self._keys = np.zeros(1 << 12, np.uint64)  # hashes; 0: the place is free
        self._numbers = np.zeros(1 << 12, np.int32)
        self._code = np.zeros(1 << 12, np.uint32)  # string i is code[first[i] : first[i + 1]]
        self._first = np.zeros(1 << 10, np.int64)

    def find(self, code: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hashes (n,) uint64 and numbers (n,) int64 of the strings that `code` (characters,) uint32 consists of.

        start, length: (n,) of each, one behind the other and none empty. A number is -1 where a string was not met.
        """
        place = np.arange(len(code), dtype=np.int32)
        within = place - np.repeat(start.astype(np.int32), length)
        hashes = np.add.reduceat(_WEIGHTS.take(within, mode="clip") * (code + np.uint32(1)), start) * _MIX
        hashes[hashes == 0] = 1
        slot = self._slots(hashes)
        number = np.full(len(start), -1, np.int64)
        todo = np.arange(len(start))
        while len(todo):
            at = slot[todo]
            key = self._keys[at]
            hit = key == hashes[todo]
            number[todo[hit]] = self._numbers[at[hit]]
            todo = todo[~hit & (key != 0)]
            slot[todo] = (slot[todo] + 1) & (len(self._keys) - 1)
        first = self._first[number]  # of -1 it is anything
        known = (number >= 0) & (self._first[number + 1] - first == length)
        kept = self._code.take(np.repeat((first - start).astype(np.int32), length) + place, mode="clip")
        known &= np.logical_and.reduceat(kept == code, start)
        number[~known] = -1
        return hashes, number

    def add(self, strings: list[str], hashes: np.ndarray) -> None:
        """Strings of at most LONGEST characters that were not met, none twice, and the hashes that `find` gave."""
        if not strings:
            return
        text = np.frombuffer("".join(strings).encode("utf-32-le", "surrogatepass"), np.uint32)
        held, count = int(self._first[self.count]), self.count + len(strings)
        self._code = put(self._code, held, text)
        self._first = put(self._first, self.count + 1, held + np.cumsum([len(string) for string in strings]))
        if 2 * count > len(self._keys):
            old = self._keys, self._numbers
            size = 1 << (4 * count).bit_length()
            self._keys, self._numbers = np.zeros(size, np.uint64), np.zeros(size, np.int32)
            self._place(old[0][old[0] != 0], old[1][old[0] != 0])
        self._place(hashes, np.arange(self.count, count, dtype=np.int32))
        self.count = count

    def _slots(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> np.uint64(65 - len(self._keys).bit_length())).astype(np.int64)

    def _place(self, hashes: np.ndarray, numbers: np.ndarray) -> None:
        """Each into the first free slot from its own on; of several that want the same, one gets it."""
        slot, todo = self._slots(hashes), np.arange(len(hashes))
        while len(todo):
            free = todo[self._keys[slot[todo]] == 0]
            self._numbers[slot[free]] = free
            won = free[self._numbers[slot[free]] == free]
            self._keys[slot[won]], self._numbers[slot[won]] = hashes[won], numbers[won]
            lost = np.ones(len(hashes), bool)
            lost[won] = False
            todo = todo[lost[todo]]
            slot[todo] = (slot[todo] + 1) & (len(self._keys) - 1)


def put(table: np.ndarray, at: int, values: np.ndarray) -> np.ndarray:
    """The table with values at a place, which may be behind its end: then it comes back larger."""
    size = at + len(values) + 1
    if size > len(table):
        larger = np.zeros(max(size, 2 * len(table)), table.dtype)
        larger[: len(table)] = table
        table = larger
    table[at : at + len(values)] = values
    return table
