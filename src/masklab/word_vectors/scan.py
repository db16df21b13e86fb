"""Counts the words of a corpus and turns it into their numbers, in one pass over its bytes.

Words get provisional numbers in the order of their appearance, which go to a temporary file; when all is counted, the
numbers by falling count take their place. Memory holds a table of the different words and a few blocks of text, however
large the corpus. Threads read blocks side by side, each into a table of its own; the tables are merged at the end, and
when together they would outgrow `max_table`. If that is not enough, the rarest words are forgotten, as in word2vec
(Mikolov et al. 2013, `ReduceVocab` in word2vec.c).

How text is read: bytes up to 32, NUL among them, part words; a line feed ends the line (so \\r\\n does, and \\r alone
in a file that has nothing else), and so does the end of a file; empty lines leave nothing. What goes on for more than
1,000 bytes without a space is left out, bytes that are not UTF-8 become U+FFFD; both are counted and said.
"""

import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.sources import LONGEST_WORD, Block, Corpus, blocks, size_of
from masklab.word_vectors.vocabulary import Vocabulary
from masklab.word_vectors.word_table import GAP, LINE, Table

Progress = Callable[[str, int, int | None], None]  # stage, done, of how many (None: not known)

_BLOCK = 1 << 18  # bytes scanned at a time: text and numbers stay in the cache
_CHUNK = 1 << 20  # numbers that are exchanged at a time
_MAPPED = 1 << 25  # bytes of numbers from which on they stay on disk, mapped into memory
_WORDS = 1 << 16  # words that are spelled at a time


class Encoded(NamedTuple):
    vocabulary: Vocabulary
    ids: np.ndarray  # (n,) int32: word numbers, rare words left out; LINE (-1) ends each line that has words


def encode(
    corpus: Corpus | Encoded,
    *,
    min_count: int = 5,
    max_words: int | None = None,
    lowercase: bool = False,
    end_of_line: str | None = None,
    vocabulary: Vocabulary | None = None,
    grow: bool = False,
    gaps: bool = False,
    threads: int = 0,
    max_table: int = 1 << 24,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> Encoded:
    """Read a corpus: which words it has, and the numbers of its words in order.

    corpus: a file (also .gz .xz .bz2 .zst), several, a folder of them, a prepared corpus, or lists of words, which may
    come from a generator; or what another `encode` gave, of which only the words asked for are kept. Words that occur
    less than `min_count` times are left out; of the others the `max_words` most frequent are kept.

    end_of_line: a word such as "</s>" that stands at each line feed, as for word2vec.c and fastText; it is word 0.
    vocabulary: use these words and count nothing; with `grow`, count, and add the new words behind its own.
    gaps: mark words left out by GAP (-2), so that their neighbours are not taken for neighbours of each other.
    threads: 0 takes all cores, up to 8; the result does not depend on it.
    max_table: different words held in memory at once, about 70 bytes each. folder: for temporary files.
    say: is told in a line about whatever was left out or changed.

    >>> encode([["a", "b", "a"], ["c"]], min_count=1).ids
    array([ 0,  1,  0, -1,  2, -1], dtype=int32)
    """
    if min_count < 1:
        raise BadInput(f"min_count={min_count}: every word occurs at least once; give 1 or more")
    if max_words is not None and max_words < 1:
        raise BadInput(f"max_words={max_words}: give 1 or more, or None for all")
    if isinstance(corpus, Encoded):
        if lowercase:
            raise BadInput("this corpus is encoded already; ask for lowercase where that is done")
        return _again(corpus, min_count, max_words, end_of_line, vocabulary, grow, gaps, folder)
    tell = progress or (lambda stage, done, total: None)
    total = size_of(corpus)
    notes: list[str] = []
    with tempfile.TemporaryFile(dir=folder, prefix="masklab-words-") as file:
        scan = _Scan(threads or min(8, len(os.sched_getaffinity(0))), end_of_line, vocabulary, max_table, file)
        with ThreadPoolExecutor(len(scan.tables)) as pool:
            for block in blocks(corpus, scan.block, notes.append):
                scan.read(block, pool)
                tell("reading", block.done, total)
            scan.merge()
        table = scan.tables[0]
        if not table.words_read:
            raise BadInput("the corpus holds no word; name files with text in them")
        spelled = _spelled(table, lowercase, notes.append)
        for note in [*notes, *_notes(table)]:
            say(note)
        found, number = _numbered(table, spelled, min_count, max_words, scan.known, vocabulary, grow)
        ids = gathered(_exchanged(scan.numbers(number[spelled], tell), gaps), folder)
    return Encoded(found, ids)


class _Scan:
    """The pass over the text: blocks go to the tables in turn, what comes of them to the file in the order of the text.

    `merge` makes one table of all, after which they go on under new numbers; `numbers` reads the file with the numbers
    of each table and time exchanged for the final ones.
    """

    def __init__(self, threads: int, end_of_line: str | None, vocabulary: Vocabulary | None, max_table: int, file: Any):
        self.tables = [Table(end_of_line) for _ in range(threads)]
        self.known = None if vocabulary is None else self.tables[0].add(vocabulary.words)
        self.tables[0].pinned = self.tables[0].size  # these are never forgotten
        self.limit = max_table + self.tables[0].size
        self.block = max(16, min(_BLOCK, max_table // (2 * threads)))  # blocks under way bring a quarter of it at most
        self.file = file  # opened to write and read
        self.places = 0
        self._waiting: deque[tuple[int, bool, Future[np.ndarray]]] = deque()
        self._stretches: list[tuple[int, int, int]] = []  # end in the file, table, how many merges came before
        self._merges: list[list[np.ndarray]] = []  # what became of the numbers of each table, all now in the first

    def read(self, block: Block, pool: ThreadPoolExecutor) -> None:
        which = self.places % len(self.tables)
        if len(self._waiting) == len(self.tables):  # a table reads one block at a time: the oldest is its last
            self._write()
        if sum(table.size for table in self.tables) + len(self.tables) * len(block.text) // 2 > self.limit:
            self.merge(self.limit // 2)
        done = pool.submit(self.tables[which].read, block.text, self.places)
        self._waiting.append((which, block.ends, done))
        self.places += 1

    def merge(self, room: int | None = None) -> None:
        """All words into the first table, of which at most `room` are kept."""
        while self._waiting:
            self._write()
        first, *others = self.tables
        became = [first.take(other) for other in others]
        kept = np.arange(first.size) if room is None or first.size <= room else first.forget(room)
        self._merges.append([kept, *(kept[numbers] for numbers in became)])

    def numbers(self, final: np.ndarray, tell: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stretches of the file, each with what its numbers are to become; `final` for those of the last merge."""
        maps = []
        for became in reversed(self._merges):
            maps.append([np.where(numbers < 0, GAP, final[numbers]).astype(np.int32) for numbers in became])
            final = maps[-1][0]
        self.file.seek(0)
        read = 0
        for end, which, merges in self._stretches:
            chunk = np.empty(end - read, np.int32)
            self.file.readinto(chunk.data)
            read = end
            yield chunk, maps[-1 - merges][which]
            tell("numbering", read, self._stretches[-1][0])

    def _write(self) -> None:
        which, ends, done = self._waiting.popleft()
        self.file.write(done.result().data)
        if ends:
            self.file.write(np.array([LINE], np.int32).data)
        self._stretches.append((self.file.tell() // 4, which, len(self._merges)))


def _notes(table: Table) -> Iterator[str]:
    """What a person should know about what was read."""
    if table.too_long:
        yield f"{table.too_long:,} stretches of more than {LONGEST_WORD:,} bytes without a space are left out"
    if table.zeros:
        yield f"{table.zeros:,} NUL bytes are read as spaces"
    if table.lost:
        yield (
            f"more than max_table different words: those that occurred at most {table.least} times before the table "
            f"was full were forgotten, {table.lost:,} of the words read; give a larger max_table to keep them"
        )


def _spelled(table: Table, lowercase: bool, note: Callable[[str], None]) -> np.ndarray:
    """(table.size,) int64: the word as which each one counts: itself, or its lower-case or mended spelling."""
    spelled = np.arange(table.size)
    wrong = 0
    for first in range(0, len(spelled), _WORDS):
        some = spelled[first : first + _WORDS]
        raw = table.text(some)
        text = raw.decode(errors="replace")
        valid = text.encode()
        if valid != raw:
            wrong += int(table.counts[some[_differ(raw, valid)]].sum())
        new = (text.lower() if lowercase else text).encode()
        if new != raw:
            at = _differ(raw, new)
            words = new.split(b"\n")
            some[at] = table.find(b" ".join(words[i] for i in at.tolist()))
    if wrong:
        note(f"{wrong:,} words are not UTF-8; what cannot be read in them is now U+FFFD")
    return np.append(spelled, np.arange(len(spelled), table.size))


def _differ(ours: bytes, theirs: bytes) -> np.ndarray:
    """Which of the words, one a line, are not the same."""
    pairs = zip(ours.split(b"\n"), theirs.split(b"\n"), strict=True)
    return np.flatnonzero(np.fromiter((a != b for a, b in pairs), bool))


def _numbered(
    table: Table, spelled: np.ndarray, min_count: int, max_words: int | None, known: np.ndarray | None,
    vocabulary: Vocabulary | None, grow: bool,
) -> tuple[Vocabulary, np.ndarray]:  # fmt: skip
    """The vocabulary, and for each word of the table its number in it, or GAP."""
    number = np.full(table.size, GAP, np.int32)
    if vocabulary is not None and not grow:
        number[known] = np.arange(len(vocabulary))
        return vocabulary, number
    counts, first = np.zeros(table.size, np.int64), table.first[: table.size].copy()
    np.add.at(counts, spelled, table.counts[: table.size])
    np.minimum.at(first, spelled, table.first[: table.size])
    end = None if table.line_end is None else 0
    kept = _kept(counts, first, min_count, max_words, known, end)
    found = Vocabulary(table.text(kept).decode().split("\n")[:-1], counts[kept], table.words_read)
    return _placed(found, kept, number, vocabulary)


def _again(
    encoded: Encoded, min_count: int, max_words: int | None, end_of_line: str | None, vocabulary: Vocabulary | None,
    grow: bool, gaps: bool, folder: str | Path | None,
) -> Encoded:  # fmt: skip
    """The same for a corpus that is encoded already. An end of line that it lacks stands behind its words at first."""
    own = encoded.vocabulary
    new = end_of_line is not None and end_of_line not in own
    if new:
        lines = int(np.count_nonzero(encoded.ids == LINE))
        own = own.merged(Vocabulary([str(end_of_line)], np.array([lines]), lines))
    number = np.full(len(own), GAP, np.int32)
    if vocabulary is not None and not grow:
        found = vocabulary
        number[:] = vocabulary.numbers(own.words, GAP)
    else:
        known = None if vocabulary is None else np.flatnonzero(vocabulary.numbers(own.words) >= 0)
        end = None if end_of_line is None else own.index[end_of_line]
        kept = _kept(own.counts, np.arange(len(own)), min_count, max_words, known, end)
        found = Vocabulary([own.words[i] for i in kept.tolist()], own.counts[kept], own.total)
        found, number = _placed(found, kept, number, vocabulary)

    def stretches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i in range(0, len(encoded.ids), _CHUNK):
            some = encoded.ids[i : i + _CHUNK]
            yield np.insert(some, np.flatnonzero(some == LINE), len(own) - 1) if new else some.copy(), number

    return Encoded(found, gathered(_exchanged(stretches(), gaps), folder))


def _kept(
    counts: np.ndarray, first: np.ndarray, min_count: int, max_words: int | None, known: np.ndarray | None,
    end: int | None,
) -> np.ndarray:  # fmt: skip
    """Which words stay, in the order of their new numbers. `known` ones stay if they occur, `end` is the first."""
    wanted = counts >= min_count
    order = [first, -counts]
    if known is not None:
        wanted[known] = counts[known] > 0
    if end is not None:
        wanted[end] = True
        order.append(np.arange(len(counts)) != end)
    kept = np.lexsort(order)
    kept = kept[wanted[kept]][:max_words]
    if not len(kept):
        raise BadInput(f"no word of the corpus occurs min_count={min_count} times; give a smaller one")
    return kept


def _placed(
    found: Vocabulary, kept: np.ndarray, number: np.ndarray, vocabulary: Vocabulary | None
) -> tuple[Vocabulary, np.ndarray]:
    """What was found, added to what there was; the words kept get their numbers in it."""
    if vocabulary is None:
        number[kept] = np.arange(len(kept))
        return found, number
    merged = vocabulary.merged(found)
    number[kept] = merged.numbers(found.words)
    return merged, number


def _exchanged(stretches: Iterable[tuple[np.ndarray, np.ndarray]], gaps: bool) -> Iterator[np.ndarray]:
    """Each stretch with its numbers exchanged by its map, without what has no number."""
    last = LINE
    for chunk, number in stretches:
        left = _exchange(chunk, number, gaps, last)
        if left:
            last = int(chunk[left - 1])
            yield chunk[:left]


@kernel
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


def gathered(chunks: Iterable[np.ndarray], folder: str | Path | None = None) -> np.ndarray:
    """Stretches of numbers as one int32 array, which stays in a temporary file, mapped into memory, if it is large."""
    held, size, file = [], 0, None
    for chunk in chunks:
        held.append(chunk)
        size += chunk.nbytes
        if size > _MAPPED:
            file = file or tempfile.TemporaryFile(dir=folder, prefix="masklab-words-")  # noqa: SIM115  the map holds it
            for some in held:
                file.write(some.data)
            held = []
    if file is None:
        return np.concatenate([np.empty(0, np.int32), *held])
    file.flush()
    return np.memmap(file, np.int32, "r").view(np.ndarray)
