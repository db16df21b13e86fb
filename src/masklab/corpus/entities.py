"""Finds names in text: those of a list (a gazetteer), at word boundaries, the longest first.

All names are looked up at once: a table holds the hash of every beginning of every name, word by word (a trie), and all
places of many texts go down it together. Chinese and other scripts without spaces are read letter by letter, so a name
is found wherever it stands; a very short one only where it cuts through no word, if the words are known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from masklab.corpus.duplicates import mixed
from masklab.corpus.units import longest_first
from masklab.corpus.word_items import BETWEEN, Items, by_text, items, joined_spans, text_begins
from masklab.errors import BadInput

_ODD = np.uint64(0x9E3779B97F4A7C15)
_SPACED = np.uint64(0x5851F42D4C957F2D)
_FILTER = 22  # bits of the hashes by which most places are seen at once to begin no name
SHORT = 3  # names shorter than so many characters must not cut through words: 中山 in 发展|中|山区 is no town


class Gazetteer:
    """`Gazetteer(["New York", "York"])(texts)` -> one (n, 2) array of character offsets for each text.

    names: names alone, or (name, type) pairs; `seen` counts what was found, by type. case: whether "apple" is not
    "Apple". White space of any kind and length in the text answers to a space in a name.
    """

    def __init__(self, names: Iterable[str | tuple[str, str]], case: bool = True):
        self.case = case
        self.seen: Counter[str] = Counter()
        listed = dict((name, "") if isinstance(name, str) else name for name in names)
        self.types = list(listed.values())
        self._levels = _levels(list(listed), items(list(listed), fine=True, case=case))
        self._filter = np.zeros(1 << _FILTER, bool)
        if self._levels:
            self._filter[self._levels[0][0] >> np.uint64(64 - _FILTER)] = True

    def __call__(
        self, texts: Sequence[str], words: Sequence[np.ndarray] | None = None, shorter_than: int = SHORT
    ) -> list[np.ndarray]:
        """words: (n, 2) spans of each text's segmented words; names shorter than so many characters that cut through
        one of them and reach beyond it are passed over."""
        if not self._levels or not texts:
            return [np.zeros((0, 2), np.int64)] * len(texts)
        spans, name = self._candidates(items(texts, fine=True, case=self.case))
        if words is not None:
            keep = (spans[:, 1] - spans[:, 0] >= shorter_than) | ~_crossing(spans, joined_spans(words, texts))
            spans, name = spans[keep], name[keep]
        found = longest_first(spans)
        kinds = np.bincount(name[np.searchsorted(spans[:, 0], found[:, 0])], minlength=len(self.types))
        for number in np.flatnonzero(kinds).tolist():
            self.seen[self.types[number]] += int(kinds[number])
        return by_text(found, texts)

    def _candidates(self, read: Items) -> tuple[np.ndarray, np.ndarray]:
        """The longest name that begins at each place: (n, 2) offsets, and (n,) which name it is."""
        alive = np.flatnonzero(self._filter[read.hash >> np.uint64(64 - _FILTER)])
        state, start = read.hash[alive], alive
        last = np.full(len(read.hash), -1, np.int64)  # the last item of the longest name so far
        name = np.full(len(read.hash), -1, np.int64)
        for depth, (hashes, numbers) in enumerate(self._levels):
            if depth:
                going = start + depth < len(read.hash)
                state, start = state[going], start[going]
                state = _step(state, read, start + depth)
            at = np.minimum(np.searchsorted(hashes, state), len(hashes) - 1)
            known = hashes[at] == state
            state, start, at = state[known], start[known], at[known]
            ends = numbers[at] >= 0
            last[start[ends]] = start[ends] + depth
            name[start[ends]] = numbers[at[ends]]
            if not len(start):
                break
        found = np.flatnonzero(last >= 0)
        return np.stack([read.begin[found], read.end[last[found]]], 1), name[found]


def _step(state: np.ndarray, read: Items, at: np.ndarray) -> np.ndarray:
    """The hash of a beginning and one item more, with or without the space between them."""
    return mixed(state * _ODD + (read.hash[at] ^ np.where(read.spaced[at], _SPACED, np.uint64(0))))


def _levels(names: list[str], read: Items) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each number of items from 1: the sorted hashes of all beginnings so long, and the names that end there, or
    -1."""
    begins = text_begins(names)
    owner = np.searchsorted(begins, read.begin, side="right") - 1
    own = np.flatnonzero(read.begin < (begins + [len(name) for name in names])[owner])  # and not what stands between
    sizes = np.bincount(owner[own], minlength=len(names))
    first = own[(np.cumsum(sizes) - sizes)[sizes > 0]]
    number = np.flatnonzero(sizes)
    found, depth, state = [], 0, read.hash[first]
    while len(number):
        order = np.argsort(state, kind="stable")
        hashes, at = np.unique(state[order], return_index=True)
        ends = np.where(sizes[number[order]] == depth + 1, number[order], -1)
        found.append((hashes, np.maximum.reduceat(ends, at)))
        depth += 1
        more = sizes[number] > depth
        number, first = number[more], first[more]
        state = _step(state[more], read, first + depth)
    return found


def _crossing(spans: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Does each span cut through one of the sorted, disjoint words and reach beyond it?"""
    if not len(words):
        return np.zeros(len(spans), bool)

    def around(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The word that each place lies inside, or an empty one at the place."""
        before = words[np.searchsorted(words[:, 0], place) - 1]  # the last that begins before it (or some later one)
        inside = (before[:, 0] < place) & (place < before[:, 1])
        return np.where(inside, before[:, 0], place), np.where(inside, before[:, 1], place)

    begin, end = spans.T
    return ((around(begin)[1] < end) & (around(begin)[1] > begin)) | ((around(end)[0] > begin) & (around(end)[0] < end))


def read_names(path: str | Path) -> list[tuple[str, str]]:
    """A gazetteer: a name a line, its type after a TAB if it has one."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path} does not exist; name a list with a name a line (and a TAB and its type)")
    found = []
    try:
        for line in path.read_text("utf-8-sig").splitlines():
            name, _, kind = line.partition("\t")
            if name.strip():
                if BETWEEN.strip() in name:
                    raise BadInput(f"{path}: {name!r} has the character U+FFFF in it, which stands for nothing")
                found.append((" ".join(name.split()), kind.split("\t")[0].strip()))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8; convert it: iconv -f gb18030 -t utf-8 {path} > new.txt") from None
    if not found:
        raise BadInput(f"{path} holds no name; write one a line")
    return found
