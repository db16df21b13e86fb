"""The words and signs of texts as numbers, many texts at once: what counting phrases and looking up names work on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from masklab.corpus.duplicates import lower, spelling_hashes
from masklab.corpus.units import code_points, fine_starts, kinds, letters, space, with_spans, word_starts

BETWEEN = "\n\uffff\n"  # stands between two texts: an item of its own that no name has


class Items(NamedTuple):
    """Words and signs in order; offsets count characters of `BETWEEN.join(texts)`."""

    hash: np.ndarray  # (n,) uint64
    begin: np.ndarray  # (n,) int64
    end: np.ndarray  # (n,) int64
    spaced: np.ndarray  # (n,) bool: white space stands before it
    line: np.ndarray  # (n,) bool: it is the first of its line
    word: np.ndarray  # (n,) bool: it has a letter or digit in it and is no sign


def items(texts: Sequence[str], words: Sequence[np.ndarray] | None = None, *, fine: bool = False,
          case: bool = False) -> Items:  # fmt: skip
    """words: (n, 2) spans of each text's segmented words, each then one item; fine: letters of unspaced scripts are
    items of their own; case: whether A is told from a."""
    code = code_points(BETWEEN.join(texts))
    kind = kinds(code)
    starts = fine_starts(code) if fine else word_starts(kind)
    if words is not None:
        starts, _ = with_spans(starts, joined_spans(words, texts))
    at = np.flatnonzero(~space(kind))
    if not len(at):
        none = np.zeros(0, np.int64)
        return Items(none.astype(np.uint64), none, none, *[none.astype(bool)] * 3)
    first = np.flatnonzero(starts[at])
    begin = at[first]
    end = at[np.append(first[1:], len(at)) - 1] + 1
    hashes = spelling_hashes(code[at] if case else lower(code[at]), first)
    before = np.append(np.uint32(10), code[:-1])[begin]
    spaced = space(kinds(before))
    newlines = np.cumsum(code == 10)[begin]
    line = np.append(True, np.diff(newlines) > 0)
    letters_before = np.append(0, np.cumsum(letters(kind)))
    return Items(hashes, begin, end, spaced, line, letters_before[end] > letters_before[begin])


def text_begins(texts: Sequence[str]) -> np.ndarray:
    """(texts,) int64: where each begins in `BETWEEN.join(texts)`."""
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + len(BETWEEN)
    return np.cumsum(sizes) - sizes


def joined_spans(spans: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
    """One (n, 2) array per text -> one of all, offsets in the joined texts; undone by `by_text`."""
    return np.concatenate([np.zeros((0, 2), np.int64), *map(np.add, spans, text_begins(texts))])


def by_text(spans: np.ndarray, texts: Sequence[str]) -> list[np.ndarray]:
    """(n, 2) sorted spans of the joined texts -> one array per text, offsets in that text."""
    begins = text_begins(texts)
    edges = np.searchsorted(spans[:, 0], np.append(begins, np.iinfo(np.int64).max))
    return [spans[a:b] - begin for a, b, begin in zip(edges[:-1], edges[1:], begins, strict=True)]
