"""Counts how often words stand near each other, in bounded memory, and leaves the counts shuffled on disk.

Pennington et al. 2014, "GloVe: global vectors for word representation", sections 3 and 4.2: two words d places apart in
one line count 1/d. Three ideas make this fast, small and exact:

* Sums are integers, in units of 1/lcm(1..window): no order of adding changes them, whatever the number of threads and
  however often memory ran full.
* Pairs of frequent words, which are most of what a text holds, have a dense block; all others share a hash table.
* The hash is a bijection of the pair, and its upper bits are the slot. So a table read from slot to slot is sorted by
  hash: written out when full, it is a sorted run. Runs put into a table in that order merge, and stream through memory
  as they do so. And as the order of hashes is a random order of pairs, what comes out is shuffled.
"""

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from masklab.errors import BadInput
from masklab.files import atomic_write, sync
from masklab.word_vectors.compiling import inlined, kernel

COLUMNS = {"word": np.int32, "context": np.int32, "count": np.float32}
_VERSION = 1
_DENSE = 2048  # words of the dense block; its 17 MB stay in a last-level cache
_FULL = 0.6  # share of the slots that may be taken: beyond it, searches grow long
_OVERHANG = 1 << 12  # slots behind the last one, so that no search has to begin again at the front
_WAITING = 64  # pairs whose slots are being fetched from memory at the same time
_RANGES = 12  # a run is read in up to 2**12 parts
_CHUNK = 1 << 19  # words that a thread takes at a time


@dataclass(frozen=True)
class Cooccurrences:
    """Shuffled counts on disk: word.npy, context.npy (int32 numbers) and count.npy (float32), one entry a pair.

    In symmetric counts an entry stands for both orders of its pair, and `word` is the one with the smaller number.
    """

    folder: Path
    vocabulary: int  # words are numbered below this
    window: int
    symmetric: bool
    by_distance: bool
    entries: int
    nonzeros: int  # cells of the co-occurrence matrix that are not zero
    runs: int  # sorted runs that went over the disk, for want of memory or because threads had one each

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """word, context and count of the entries [start, stop)."""
        if not 0 <= start <= stop <= self.entries:
            raise IndexError(f"entries {start} to {stop} of {self.entries}")
        word, context, number = (self._column(name, start, stop) for name in COLUMNS)
        return word, context, number

    def _column(self, name: str, start: int, stop: int) -> np.ndarray:
        # Read, not mapped: pages of a mapped file would count as memory of the process.
        with open(self.folder / f"{name}.npy", "rb") as file:
            size, kind = _header(file)
            file.seek(start * kind.itemsize, 1)
            column = np.fromfile(file, kind, stop - start)
            if size != self.entries or len(column) != stop - start:
                raise BadInput(f"{file.name}: cut short, or of other counts; count again")
            return column

    @classmethod
    def open(cls, folder: str | Path) -> "Cooccurrences":
        folder = Path(folder)
        try:
            known = json.loads((folder / "cooccurrences.json").read_text("utf-8"))
            if known.pop("version") != _VERSION:
                raise BadInput(f"{folder}: counts of another version of masklab; count again")
            return cls(folder, **known)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{folder}: no finished co-occurrence counts ({error}); count again") from None


def count(ids: np.ndarray, vocabulary: int, folder: str | Path, *, window: int = 15, symmetric: bool = True,
          by_distance: bool = True, memory: float = 1.0, threads: int = 1,
          progress: Callable[[int], None] | None = None) -> Cooccurrences:  # fmt: skip
    """Count the pairs of words at most `window` places apart, into files in `folder`.

    ids: (n,) int32 word numbers below `vocabulary`; -1 ends a line, and no pair reaches over it. Counts of the left
    context alone (symmetric=False) have the left word as `word`, the right one as `context`. by_distance=False: every
    pair counts 1, not 1/d. memory: gigabytes for the tables; what does not fit goes through the disk, in `folder`.
    The result depends neither on memory nor on threads. `progress` is told of every so many words that are done.
    """
    if window < 1:
        raise BadInput(f"window={window}: a word has neighbours from a window of 1 on")
    if memory <= 0:
        raise BadInput(f"memory={memory}: give gigabytes, such as 1")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("cooccurrences.json", *(run.name for run in folder.glob("run-*-*.bin"))):  # also of one that was killed
        (folder / old).unlink(missing_ok=True)  # the first is written last: counts without it are not finished
    unit = math.lcm(*range(1, window + 1)) if by_distance and window <= 22 else 2**32 if by_distance else 1
    weights = np.array([0, *(round(unit / d) if by_distance else 1 for d in range(1, window + 1))], np.uint64)
    counters = [_Counter(folder, k, len(ids), vocabulary, weights, symmetric, memory / threads) for k in range(threads)]
    starts = iter(range(0, len(ids), _CHUNK))  # shared by the threads

    def work(counter: _Counter) -> None:
        for start in starts:
            stop = min(start + _CHUNK, len(ids))
            counter.count(ids, start, stop)
            if progress:
                progress(stop - start)

    with ThreadPoolExecutor(threads) as pool:
        try:
            list(pool.map(work, counters))
        except BaseException:
            list(starts)  # nothing is left for the other threads to take
            raise
    size, nonzeros, runs = _gather(counters, folder, unit, symmetric)
    result = Cooccurrences(folder, vocabulary, window, symmetric, by_distance, size, nonzeros, runs)
    known = {name: value for name, value in asdict(result).items() if name != "folder"}
    for name in COLUMNS:
        sync(folder / f"{name}.npy")
    with atomic_write(folder / "cooccurrences.json", "w") as file:
        file.write(json.dumps({"version": _VERSION, **known}, indent=2) + "\n")
    return result


def count_rows(ids: np.ndarray, vocabulary: int, chosen: list[int], *, window: int = 15, symmetric: bool = True,
               by_distance: bool = True) -> np.ndarray:  # fmt: skip
    """(len(chosen), vocabulary) float64: the rows of a few words alone, without a table of all pairs."""
    row = np.full(vocabulary + 1, -1, np.int32)  # the last one is for -1, the end of a line
    row[chosen] = np.arange(len(chosen))
    rows = np.zeros((len(chosen), vocabulary))
    weights = np.array([0, *(1 / d if by_distance else 1 for d in range(1, window + 1))])
    _count_rows(ids, row, weights, symmetric, rows)
    return rows


class _Counter:
    """What one thread counts with: a dense block, a table, and the runs it had to write."""

    def __init__(self, folder: Path, number: int, words: int, vocabulary: int, weights: np.ndarray, symmetric: bool,
                 memory: float):  # fmt: skip
        self.folder, self.number, self.weights, self.symmetric = folder, number, weights, symmetric
        self.frequent = min(_DENSE, vocabulary)
        cells = self.frequent * (self.frequent + 1) // 2 if symmetric else self.frequent**2
        self.dense = np.zeros(cells, np.uint64)
        least = 4 * (len(weights) + _WAITING)
        slots = int(min((memory * 1e9 - 8 * cells) / 16, 2 * words * len(weights), 2**31))
        self.slots = max(slots, least)
        self.table = np.zeros((self.slots + min(_OVERHANG, self.slots), 2), np.uint64)  # (hash, sum); hash 0: free
        self.limit = int(_FULL * self.slots) - len(weights) - _WAITING
        self.taken = 0
        self.runs: list[_Run] = []

    def count(self, ids: np.ndarray, start: int, stop: int) -> None:
        while True:
            start, self.taken = _count(ids, start, stop, self.weights, self.symmetric, self.frequent, self.dense,
                                       self.table, self.slots, self.taken, self.limit)  # fmt: skip
            if start == stop:
                return
            self.spill()

    def add_dense(self, dense: np.ndarray) -> None:
        cell = 0
        while True:
            cell, self.taken = _add_dense(dense, cell, self.symmetric, self.frequent, self.table, self.slots,
                                          self.taken, self.limit)  # fmt: skip
            if cell == len(dense):
                return
            self.spill()

    def spill(self) -> None:
        path = self.folder / f"run-{self.number}-{len(self.runs)}.bin"
        self.runs.append(_Run.write(path, self.drained()))
        self.clear()

    def drained(self) -> np.ndarray:
        """(n, 2) uint64: hash and sum of every pair, in order of the hash, at the front of the table."""
        return self.table[: _drain(self.table)]

    def clear(self) -> None:
        self.table.fill(0)
        self.taken = 0


def _gather(counters: list[_Counter], folder: Path, unit: int, symmetric: bool) -> tuple[int, int, int]:
    """Merge what all threads counted and write the columns. Returns entries, nonzeros and runs."""
    first = counters[0]
    for other in counters[1:]:
        first.dense += other.dense
    first.add_dense(first.dense)
    if len(counters) > 1 or first.runs:
        for counter in counters:
            counter.spill()
    runs = [run for counter in counters for run in counter.runs]
    del counters[1:]  # their memory is free again
    first.dense = np.zeros(0, np.uint64)
    size = nonzeros = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context(open(folder / f"{name}.npy", "wb")) for name in COLUMNS}
        for file, kind in zip(files.values(), COLUMNS.values(), strict=True):
            _write_header(file, kind, 0)
        for part in _merged(first, runs) if runs else [first.drained()]:
            for piece in np.array_split(part, len(part) // _CHUNK + 1):
                columns = [np.empty(len(piece), kind) for kind in COLUMNS.values()]
                diagonal = _decode(piece, float(unit), symmetric, *columns)
                size += len(piece)
                nonzeros += 2 * len(piece) - diagonal if symmetric else len(piece)
                for file, column in zip(files.values(), columns, strict=True):
                    file.write(column.data)
        for file, kind in zip(files.values(), COLUMNS.values(), strict=True):
            file.seek(0)
            _write_header(file, kind, size)
    for run in runs:
        run.path.unlink()
    return size, nonzeros, len(runs)


def _merged(counter: _Counter, runs: list["_Run"]) -> Iterator[np.ndarray]:
    """The pairs of all runs, in order of their hash: range after range of hashes, each small enough for the table."""
    skip = 0  # upper bits that all hashes of a range have in common
    while sum(run.begins[-1] for run in runs) >> skip > counter.limit * 0.9:  # ranges differ in size by chance
        skip += 1
    if skip > _RANGES:
        raise BadInput(f"{counter.slots:,} slots are too few for so many pairs of words; give counting more memory")
    for part in range(1 << skip):
        counter.clear()
        for run in runs:
            counter.taken = _merge(run.read(part, skip), skip, counter.table, counter.slots, counter.taken)
        yield counter.drained()


class _Run(NamedTuple):
    """Pairs and sums on disk, in order of their hash."""

    path: Path
    begins: np.ndarray  # where each of the 2**_RANGES equal ranges of hashes begins, and the end

    @classmethod
    def write(cls, path: Path, pairs: np.ndarray) -> "_Run":
        path.write_bytes(pairs.data)
        ranges = np.arange(1 << _RANGES, dtype=np.uint64) << np.uint64(64 - _RANGES)
        return cls(path, np.append(np.searchsorted(pairs[:, 0], ranges), len(pairs)))

    def read(self, part: int, skip: int) -> np.ndarray:
        """The pairs whose upper `skip` bits are `part`: (n, 2) uint64."""
        start, stop = (int(self.begins[k << (_RANGES - skip)]) for k in (part, part + 1))
        return np.fromfile(self.path, np.uint64, 2 * (stop - start), offset=16 * start).reshape(-1, 2)


def _write_header(file: IO[bytes], kind: type, size: int) -> None:
    # numpy leaves room in a header for any length, so that it can be written again when the length is known
    header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, header)


def _header(file: IO[bytes]) -> tuple[int, np.dtype]:
    np.lib.format.read_magic(file)
    shape, _, kind = np.lib.format.read_array_header_1_0(file)
    return shape[0], kind


_ODD, _INVERSE = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xCFEE444D8B59A89B)  # their product is 1, modulo 2**64
_HALF = np.uint64(32)


@inlined
def _hash(word, context):
    """The pair as 64 mixed bits, never 0. Each step can be undone: Evensen's "rrmxmx" with shifts of one half."""
    x = ((np.uint64(word) << _HALF) | np.uint64(context)) + np.uint64(1)
    x = (x ^ (x >> _HALF)) * _ODD
    x = (x ^ (x >> _HALF)) * _ODD
    return x ^ (x >> _HALF)


@inlined
def _pair(x):
    """The word and the context that have this hash."""
    x = (x ^ (x >> _HALF)) * _INVERSE
    x = (x ^ (x >> _HALF)) * _INVERSE
    x = (x ^ (x >> _HALF)) - np.uint64(1)
    return np.int32(x >> _HALF), np.int32(x & np.uint64(0xFFFFFFFF))


@inlined
def _slot(x, skip, slots):
    """Where the search for a hash begins: larger hashes never before smaller ones."""
    return (((x << np.uint64(skip)) >> _HALF) * np.uint64(slots)) >> _HALF


@intrinsic
def _prefetch(typing, table, slot):
    """Ask for a slot of the table that will soon be read and written; the work goes on meanwhile."""

    def generate(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        row = builder.mul(values[1], cgutils.unpack_tuple(builder, array.strides)[0])
        pointer = ir.PointerType()
        place = builder.gep(builder.bitcast(array.data, pointer), [row], source_etype=ir.IntType(8))
        number = ir.IntType(32)
        typ = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, typ, "llvm.prefetch.p0")
        builder.call(function, [place, number(1), number(3), number(1)])  # for writing, to stay, data
        return context.get_dummy_value()

    return types.void(table, types.uint64), generate


@inlined
def _add(table, slot, x, amount):
    """Add to the pair's sum; returns 1 if the pair is new."""
    while True:
        found = table[slot, 0]
        if found == x:
            table[slot, 1] += amount
            return 0
        if found == 0:
            table[slot, 0] = x
            table[slot, 1] = amount
            return 1
        slot += np.uint64(1)


@kernel
def _count(ids, start, stop, weights, symmetric, frequent, dense, table, slots, taken, limit):
    """Count the pairs whose right word stands in [start, stop). Returns where it stopped, and the slots then taken."""
    window = len(weights) - 1
    waiting = np.empty(_WAITING + window, np.uint64)
    amounts = np.empty(_WAITING + window, np.uint64)
    wait = 0
    line = start
    while line > 0 and line > start - window and ids[line - 1] >= 0:
        line -= 1
    at = start
    while at < stop and taken < limit:
        right = ids[at]
        if right < 0:
            line = at + 1
        else:
            for place in range(max(line, at - window), at):
                left = ids[place]
                amount = weights[at - place]
                a, b = (min(left, right), max(left, right)) if symmetric else (left, right)
                if a < frequent and b < frequent:
                    dense[np.int64(b) * (b + 1) // 2 + a if symmetric else np.int64(a) * frequent + b] += amount
                else:
                    x = _hash(a, b)
                    _prefetch(table, _slot(x, 0, slots))  # pyright: ignore[reportCallIssue]
                    waiting[wait] = x
                    amounts[wait] = amount
                    wait += 1
            if wait >= _WAITING:
                for k in range(wait):
                    taken += _add(table, _slot(waiting[k], 0, slots), waiting[k], amounts[k])
                wait = 0
        at += 1
    for k in range(wait):
        taken += _add(table, _slot(waiting[k], 0, slots), waiting[k], amounts[k])
    return at, taken


@kernel
def _add_dense(dense, cell, symmetric, frequent, table, slots, taken, limit):
    """Move the dense block's cells from `cell` on into the table. Returns where it stopped, and the slots taken."""
    a, b = 0, 0
    while cell < len(dense) and taken < limit:
        if dense[cell]:
            if symmetric:
                b = np.int64((np.sqrt(8.0 * cell + 1) - 1) / 2)
                a = cell - b * (b + 1) // 2
            else:
                a, b = cell // frequent, cell % frequent
            x = _hash(a, b)
            taken += _add(table, _slot(x, 0, slots), x, dense[cell])
        cell += 1
    return cell, taken


@kernel
def _merge(run, skip, table, slots, taken):
    for k in range(len(run)):
        taken += _add(table, _slot(run[k, 0], skip, slots), run[k, 0], run[k, 1])
    return taken


@kernel
def _drain(table):
    """Bring the pairs to the front of the table in order of their hash; returns how many there are."""
    size = 0
    for slot in range(len(table)):
        x, amount = table[slot, 0], table[slot, 1]
        if x:
            place = size
            while place > 0 and table[place - 1, 0] > x:  # only searches that met others' slots are out of order
                table[place, 0], table[place, 1] = table[place - 1, 0], table[place - 1, 1]
                place -= 1
            table[place, 0], table[place, 1] = x, amount
            size += 1
    return size


@partial(kernel, fastmath=False)  # x / unit, not x * (1 / unit)
def _decode(entries, unit, symmetric, word, context, count):
    """Hashes and sums as numbers of words and counts; returns how many pair a word with itself."""
    diagonal = 0
    for k in range(len(entries)):
        word[k], context[k] = _pair(entries[k, 0])
        twice = symmetric and word[k] == context[k]  # the pair stands in both orders
        count[k] = entries[k, 1] / unit * (2 if twice else 1)
        diagonal += word[k] == context[k]
    return diagonal


@kernel
def _count_rows(ids, row, weights, symmetric, rows):
    line = 0
    for at in range(len(ids)):
        right = ids[at]
        if right < 0:
            line = at + 1
            continue
        for place in range(max(line, at - len(weights) + 1), at):
            left = ids[place]
            if row[left] >= 0:
                rows[row[left], right] += weights[at - place]
            if symmetric and row[right] >= 0:
                rows[row[right], left] += weights[at - place]
