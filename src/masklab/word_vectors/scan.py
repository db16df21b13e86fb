"""Counts the words of a corpus and turns it into their numbers, in one pass over its bytes.

Words get provisional numbers in the order of their appearance, which go to a temporary file; when all is counted, the
numbers by falling count take their place, in stretches. Memory holds a table of the different words and one block of
text, however large the corpus. If the table would outgrow `max_table`, its rarest words are forgotten, as word2vec
does (Mikolov et al. 2013, `ReduceVocab` in word2vec.c).

How text is read: bytes up to 32, NUL among them, part words; a line feed ends the line (so \\r\\n does), and so does
the end of a file; empty lines leave nothing. What goes on for more than 1,000 bytes without a space is left out, bytes
that are not UTF-8 become U+FFFD; both are counted and said.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numba import njit

from masklab.errors import BadInput
from masklab.word_vectors.sources import LONGEST_WORD, Corpus, blocks, one_word, size_of
from masklab.word_vectors.vocabulary import Vocabulary

Progress = Callable[[str, int, int | None], None]  # stage, done, of how many (None: not known)

LINE = -1  # in `ids`: the line ends here
GAP = -2  # a word stood here that has no number
_BLOCK = 1 << 18  # bytes scanned at a time: text and numbers stay in the cache
_CHUNK = 1 << 20  # numbers that are exchanged at a time
_MAPPED = 1 << 26  # bytes of numbers from which on they stay on disk, mapped into memory


class Encoded(NamedTuple):
    vocabulary: Vocabulary
    ids: np.ndarray  # (n,) int32: word numbers, rare words left out; LINE (-1) ends each line that has words


def encode(
    corpus: Corpus,
    *,
    min_count: int = 5,
    max_words: int | None = None,
    lowercase: bool = False,
    end_of_line: str | None = None,
    vocabulary: Vocabulary | None = None,
    grow: bool = False,
    gaps: bool = False,
    max_table: int = 1 << 24,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> Encoded:
    """Read a corpus: which words it has, and the numbers of its words in order.

    corpus: a file (also .gz .xz .bz2 .zst), several, a folder of them, a prepared corpus, or lists of words, which may
    come from a generator. Words that occur less than `min_count` times are left out; of the others the `max_words` most
    frequent are kept.

    end_of_line: a word such as "</s>" that stands at each line feed, as for word2vec.c and fastText; it is word 0.
    vocabulary: use these words and count nothing; with `grow`, count, and add the new words behind its own.
    gaps: mark words left out by GAP (-2), so that their neighbours are not taken for neighbours of each other.
    max_table: different words held in memory at once, about 50 bytes each. folder: for the temporary file.
    say: is told in a line about whatever was left out or changed.

    >>> encode([["a", "b", "a"], ["c"]], min_count=1).ids
    array([ 0,  1,  0, -1,  2, -1], dtype=int32)
    """
    if min_count < 1:
        raise BadInput(f"min_count={min_count}: every word occurs at least once; give 1 or more")
    if max_words is not None and max_words < 1:
        raise BadInput(f"max_words={max_words}: give 1 or more, or None for all")
    tell = progress or (lambda stage, done, total: None)
    table = Table()
    line_end = -1 if end_of_line is None else int(table.add([end_of_line])[0])
    known = None if vocabulary is None else table.add(vocabulary.words)
    table.pinned = table.size
    total = size_of(corpus)
    with tempfile.TemporaryFile(dir=folder, prefix="masklab-words-") as file:
        forgotten: list[tuple[int, np.ndarray]] = []  # up to which number in the file, and what became of each word
        for text, ends, done in blocks(corpus, min(_BLOCK, max_table), say):
            room = max_table - len(text) // 2  # a block holds at most so many words
            if table.size > max(room, table.pinned):
                forgotten.append((file.tell() // 4, table.forget(room)))
            file.write(table.read(text, line_end).data)
            if ends:
                file.write(_END.data)
            tell("reading", done, total)
        _report(table, len(forgotten), say)
        became = _spelled(table, lowercase, say)
        found, number = _numbered(table, became, min_count, max_words, line_end, vocabulary, known, grow)
        maps = [(file.tell() // 4, number)]
        for end, now in reversed(forgotten):
            number = np.where(now < 0, GAP, number[now]).astype(np.int32)
            maps.insert(0, (end, number))
        return Encoded(found, _exchanged(file, maps, gaps, tell))


_END = np.array([LINE], np.int32)


def _report(table: "Table", forgotten: int, say: Callable[[str], None]) -> None:
    if not table.words_read:
        raise BadInput("the corpus holds no word; name files with text in them")
    if table.too_long:
        say(f"{table.too_long:,} stretches of more than {LONGEST_WORD:,} bytes without a space are left out")
    if table.zeros:
        say(f"{table.zeros:,} NUL bytes are read as spaces")
    if forgotten:
        say(
            f"the table of words was full {forgotten} times; words that had occurred at most {table.least} times were "
            f"forgotten, {table.lost:,} of the words read; give a larger max_table to keep them"
        )


def _spelled(table: "Table", lowercase: bool, say: Callable[[str], None]) -> np.ndarray:
    """(table.size,) int64: the word as which each one counts: itself, or its lower-case or mended spelling."""
    became = np.arange(table.size)
    wrong = 0
    for first in range(0, len(became), _CHUNK >> 4):
        some = became[first : first + (_CHUNK >> 4)]
        raw = table.text(some)
        text = raw.decode(errors="replace")
        valid = text.encode()
        if valid != raw:
            wrong += sum(int(table.counts[i]) for i in some[_differ(raw, valid)])
        spelled = (text.lower() if lowercase else text).encode()
        if spelled != raw:
            at = _differ(raw, spelled)
            words = spelled.split(b"\n")
            some[at] = table.read(b"\n".join([*(words[i] for i in at.tolist()), b""]), weight=0)[::2]
    if wrong:
        say(f"{wrong:,} words are not UTF-8; what cannot be read in them is now U+FFFD")
    return np.append(became, np.arange(len(became), table.size))


def _differ(ours: bytes, theirs: bytes) -> np.ndarray:
    """Which of the words, one a line, are not the same."""
    pairs = zip(ours.split(b"\n"), theirs.split(b"\n"), strict=True)
    return np.flatnonzero(np.fromiter((a != b for a, b in pairs), bool))


def _numbered(
    table: "Table", became: np.ndarray, min_count: int, max_words: int | None, line_end: int,
    vocabulary: Vocabulary | None, known: np.ndarray | None, grow: bool,
) -> tuple[Vocabulary, np.ndarray]:  # fmt: skip
    """The vocabulary, and for each word of the table its number in it, or GAP."""
    number = np.full(table.size, GAP, np.int32)
    if vocabulary is not None and not grow:
        number[known] = np.arange(len(vocabulary))
        return vocabulary, number[became]
    counts, first = np.zeros(table.size, np.int64), np.arange(table.size)
    np.add.at(counts, became, table.counts[: table.size])
    np.minimum.at(first, became, np.arange(table.size))
    wanted = counts >= min_count
    if known is not None:
        wanted[known] = counts[known] > 0
    if line_end >= 0:
        wanted[line_end] = True  # however rare
    kept = np.flatnonzero(wanted)
    kept = kept[np.lexsort((first[kept], -counts[kept], kept != line_end))][:max_words]
    if not len(kept):
        raise BadInput(f"no word of the corpus occurs min_count={min_count} times; give a smaller one")
    found = Vocabulary(table.text(kept).decode().split("\n")[:-1], counts[kept], table.words_read)
    if vocabulary is None:
        number[kept] = np.arange(len(kept))
    else:
        vocabulary = vocabulary.merged(found)
        number[kept] = vocabulary.numbers(found.words)
    return vocabulary or found, number[became]


def _exchanged(file: IO[bytes], maps: list[tuple[int, np.ndarray]], gaps: bool, tell: Progress) -> np.ndarray:
    """The file's provisional numbers exchanged for those of the vocabulary, each stretch by its own map."""
    chunk = np.empty(_CHUNK, np.int32)
    read, written, last = 0, 0, LINE
    for end, number in maps:
        while read < end:
            some = chunk[: end - read]
            file.seek(4 * read)
            file.readinto(some)  # type: ignore[attr-defined]
            left = _exchange(some, number, gaps, last)
            read += len(some)
            if left:
                last = int(some[left - 1])
                file.seek(4 * written)
                file.write(some[:left].data)
                written += left
            tell("numbering", read, maps[-1][0])
    file.truncate(4 * written)
    if 4 * written > _MAPPED:
        file.flush()
        return np.memmap(file, np.int32, "r").view(np.ndarray)
    file.seek(0)
    return np.fromfile(file, np.int32, written)


@njit(nogil=True, cache=True)
def _exchange(ids, number, gaps, last):
    """Words exchanged in place, those without a number dropped (or marked), lines without words too; how many stay."""
    left = 0
    for i in range(len(ids)):
        now = ids[i] if ids[i] < 0 else number[ids[i]]
        if now == GAP and not gaps:
            continue
        if now == LINE and last == LINE:
            continue
        ids[left] = last = now
        left += 1
    return left


class Table:
    """Words numbered from 0 in the order of their appearance, with their counts: open addressing, grows as needed."""

    def __init__(self) -> None:
        self.size = 0
        self.pinned = 0  # the first so many words are never forgotten
        self.words_read = self.too_long = self.zeros = 0
        self.least = self.lost = 0  # what forgetting cost
        self.counts = np.zeros(1 << 16, np.int64)
        self._slots = np.zeros((1 << 17, 2), np.uint64)  # a word's key, and its number + 1; 0: empty
        self._starts = np.zeros(1 << 16, np.int64)  # where each word begins among the letters
        self._letters = np.empty(1 << 20, np.uint8)  # the words one after another, each with a line feed behind it
        self._used = 0
        self._out = np.empty(0, np.int32)

    def read(self, text: bytes, line_end: int = -1, weight: int = 1) -> np.ndarray:
        """(n,) int32: the numbers of a text's words, GAP for one too long; LINE at a line feed, `line_end` before it.

        text must end in white space. New words are added, counts grow by `weight`. What is returned is overwritten by
        the next call.
        """
        self._reserve(len(text))
        bits = 64 - int(len(self._slots) - 1).bit_length()
        n, self.size, self._used, words, too_long, zeros = _read(
            np.frombuffer(text, np.uint8), self._slots, np.uint64(bits), self.counts, self._starts, self._letters,
            self.size, self._used, line_end, weight, self._out,
        )  # fmt: skip
        self.words_read += weight * words
        self.too_long += too_long
        self.zeros += zeros
        return self._out[:n]

    def add(self, words: list[str]) -> np.ndarray:
        """(len(words),) int64: the numbers of words that need not have occurred."""
        lines = "\n".join([*(one_word(word) or "_" for word in words), ""])
        return self.read(lines.encode("utf-8", "surrogatepass"), weight=0)[::2].astype(np.int64)

    def text(self, numbers: np.ndarray) -> bytes:
        """The words with a line feed behind each."""
        starts = self._starts
        ends = np.append(starts[1 : self.size], self._used)
        out = np.empty(int((ends[numbers] - starts[numbers]).sum()), np.uint8)
        _copy(self._letters, starts[numbers], ends[numbers], out)
        return out.tobytes()

    def forget(self, room: int) -> np.ndarray:
        """Drop the rarest words until at most `room` are left: (size before,) int64, each one's new number or -1."""
        counts = self.counts[: self.size]
        stays = np.ones(self.size, bool)
        while stays[self.pinned :].any() and np.count_nonzero(stays) > room:
            self.least += 1
            stays[self.pinned :] = counts[self.pinned :] > self.least
        kept = np.flatnonzero(stays)
        fresh = Table()
        fresh.read(self.text(kept), weight=0)
        fresh.counts[: len(kept)] = counts[kept]
        self.lost += int(counts[~stays].sum())
        self.size, self._used, self.counts = fresh.size, fresh._used, fresh.counts
        self._slots, self._starts, self._letters = fresh._slots, fresh._starts, fresh._letters
        return np.where(stays, np.cumsum(stays) - 1, -1)

    def _reserve(self, length: int) -> None:
        """Room for all that a text of so many bytes could bring."""
        words = self.size + length // 2 + 1
        if words > len(self.counts):
            self.counts, self._starts = _longer(self.counts, words), _longer(self._starts, words)
        if self._used + length + 1 > len(self._letters):
            self._letters = _longer(self._letters, self._used + length + 1)
        if 5 * words > 3 * len(self._slots):
            slots = np.zeros((1 << (2 * words - 1).bit_length(), 2), np.uint64)
            _rehash(self._slots, slots, np.uint64(64 - int(len(slots) - 1).bit_length()))
            self._slots = slots
        if len(self._out) < 2 * length:
            self._out = np.empty(2 * length, np.int32)


def _longer(array: np.ndarray, length: int) -> np.ndarray:
    new = np.zeros(max(length, len(array) * 3 // 2), array.dtype)
    new[: len(array)] = array
    return new


# A word of up to seven bytes is its own key; a longer one has a hash with the highest bit set, and is compared letter
# by letter.
_LONG = np.uint64(1 << 63)
_PRIME = np.uint64(0x100000001B3)  # FNV-1a's
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: the high bits say which slot


@njit(nogil=True, cache=True)
def _read(text, slots, shift, counts, starts, letters, size, used, line_end, weight, out):
    """The scan of one text. No array is checked for room: `_reserve` has made enough for all that it could bring."""
    mask = np.uint64(len(slots) - 1)
    n = words = too_long = zeros = 0
    i = 0
    while i < len(text):
        letter = text[i]
        if letter <= 32:
            i += 1
            if letter == 10:
                if line_end >= 0:
                    out[n] = line_end
                    counts[line_end] += weight
                    words += 1
                    n += 1
                out[n] = LINE
                n += 1
            elif letter == 0:
                zeros += 1
            continue
        begin = i
        key = np.uint64(0)
        while letter > 32 and i - begin < 7:
            key = key << np.uint64(8) | np.uint64(letter)
            i += 1
            letter = text[i]
        if letter > 32:
            while letter > 32:
                key = (key ^ np.uint64(letter)) * _PRIME
                i += 1
                letter = text[i]
            key |= _LONG
        length = i - begin
        if length > LONGEST_WORD:
            out[n] = GAP
            n += 1
            too_long += 1
            continue
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
            if slots[slot, 0] == key and (length <= 7 or _same(text, begin, letters, starts[number], length)):
                break
            slot = (slot + np.uint64(1)) & mask
        counts[number] += weight
        out[n] = number
        n += 1
        words += 1
    return n, size, used, words, too_long, zeros


@njit(nogil=True, cache=True)
def _same(text, begin, letters, start, length):
    for k in range(length):
        if text[begin + k] != letters[start + k]:
            return False
    return letters[start + length] == 10


@njit(nogil=True, cache=True)
def _rehash(old, new, shift):
    mask = np.uint64(len(new) - 1)
    for i in range(len(old)):
        if old[i, 1]:
            slot = (old[i, 0] * _GOLDEN) >> shift
            while new[slot, 1]:
                slot = (slot + np.uint64(1)) & mask
            new[slot] = old[i]


@njit(nogil=True, cache=True)
def _copy(letters, starts, ends, out):
    at = 0
    for i in range(len(starts)):
        for k in range(starts[i], ends[i]):
            out[at] = letters[k]
            at += 1
