"""The arithmetic of word vectors in vector registers: tiles of rows that are loaded once and used many times.

Nearly all the time of word2vec goes into three sums over small groups of rows, here called inputs (contexts, or one
hidden vector) and outputs (the word and its negatives, or nodes of the tree):

    slope[n, k] = (label[k] - sigmoid(input[n] . output[k])) * weight[k] * rate         `slopes`
    input[n]   += sum over k of slope[n, k] * output[k]                                 `update`
    output[k]  += sum over n of slope[n, k] * input[n]

A compiler that sees plain loops computes one dot product at a time and loads every row again for each. Here the loops
are written out for registers: `slopes` keeps rows x columns running sums (4 contexts x 6 outputs with AVX-512) while
it walks along the dimension, so that each load feeds several multiplications; the sums of many products are folded
together instead of one by one; and the sigmoid is taken of whole registers. `update` holds a slice of all outputs and
of their changes in registers while the inputs stream by.

Each building block is a numba intrinsic: a Python function that writes LLVM instructions at the place of the call. It
is written once, with Python loops over the tile, for any register width. The `Tile` that kernels take as their first
argument carries the width in its *type*, so that numba compiles and caches a kernel per tile, and tests can run the
tiles of other machines (LLVM splits registers that are too wide for this one).

Blocks take tables (arrays of rows, made by `aligned`) and lists of row numbers; they keep no addresses. `outputs`
come in groups of tile.columns rows, each group with eight lanes of labels, weights and slopes (the lanes beyond the
columns and beyond the last output have weight 0); the loops over groups are the caller's.
"""

import mmap
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import NativeValue, intrinsic, models, overload_attribute, register_model, unbox

LANES = 8  # of a group of outputs in labels, weights and slopes
LINE = 16  # floats in a cache line: rows are padded to whole lines, whatever the tile


class TileType(types.Type):
    """What numba knows of a tile: its three numbers, as part of the type."""

    def __init__(self, width: int, rows: int, columns: int):
        self.width, self.rows, self.columns = width, rows, columns
        super().__init__(name=f"Tile({width}, {rows}, {columns})")


class Tile:
    """How much fits into the registers: floats in one, and how many rows by columns of sums are kept."""

    def __init__(self, width: int, rows: int, columns: int):
        self.width, self.rows, self.columns = width, rows, columns
        self._numba_type_ = TileType(width, rows, columns)


register_model(TileType)(models.OpaqueModel)


@overload_attribute(TileType, "columns")
def _columns(tile):
    columns = tile.columns
    return lambda tile: columns


@unbox(TileType)
def _unbox_tile(typ: TileType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


TILES = {
    16: Tile(16, 4, 6),  # AVX-512: 32 registers: 24 sums, 4 inputs, 1 output
    8: Tile(8, 2, 6),  # AVX2: 16 registers: 12 sums, 2 inputs, 1 output
    4: Tile(4, 4, 6),  # NEON: 32 registers
}


def width_of(machine: str, features: set[str]) -> int:
    """How many floats a register holds: 16, 8 or 4, or 0 where only plain loops are offered."""
    if machine in ("x86_64", "AMD64"):
        return 16 if "avx512f" in features else 8 if {"avx2", "fma"} <= features else 0
    return 4 if machine in ("aarch64", "arm64") else 0


def cpu_features() -> set[str]:
    """What numba will compile for: this CPU's features, or those that NUMBA_CPU_FEATURES names."""
    asked = numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    if asked is not None:
        return {name[1:] for name in asked.split(",") if name.startswith("+")}
    return {name for name, there in llvm.get_host_cpu_features().items() if there}


TILE: Tile | None = TILES.get(width_of(platform.machine(), cpu_features()))  # None: use plain.py


def fitting(tile: Tile, outputs: int) -> Tile:
    """The tile with as few idle columns as this number of outputs allows: 11 outputs go into 2 x 6, 8 into 2 x 4."""
    return Tile(tile.width, tile.rows, -(-outputs // -(-outputs // tile.columns)))


def aligned(rows: int, dim: int) -> np.ndarray:
    """Zeros (rows, dim rounded up to whole cache lines) float32, each row at the start of a line.

    The padding columns are zero and stay so in every building block. The memory is asked for in huge pages where the
    system has them: rows are visited at random, and small pages would cost a look-up each.
    """
    padded = -(-dim // LINE) * LINE
    memory = mmap.mmap(-1, max(1, rows * padded * 4))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32, rows * padded).reshape(rows, padded)


def alone(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that share no cache line with anything else: what one thread writes all the time, none should wait for.

    Lines are fetched in pairs, so the memory begins and ends between pairs.
    """
    pair = 2 * 4 * LINE
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(-(-size // pair) * pair + pair, np.uint8)
    begin = -memory.ctypes.data % pair
    return memory[begin : begin + size].view(dtype).reshape(shape)


# ---------------------------------------------------------------- writing instructions

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


class Loop(NamedTuple):
    index: Any


class Writer:
    """Writes instructions on registers of `width` floats, and finds rows in numba's arrays."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any):
        self.builder = builder
        self.arguments = [
            context.make_array(typ)(context, builder, value) if isinstance(typ, types.Array) else value
            for typ, value in zip(signature.args, values, strict=True)
        ]
        self.tile: TileType = signature.args[0]
        self.vector = ir.VectorType(F32, self.tile.width)

    def data(self, array: Any) -> Any:
        return array.data

    def at(self, pointer: Any, index: Any) -> Any:
        """&pointer[index]"""
        return self.builder.gep(pointer, [index])

    def number(self, numbers: Any, index: Any) -> Any:
        """numbers[index] of an int32 array, as a 64-bit number."""
        return self.builder.sext(self.builder.load(self.at(self.data(numbers), index)), I64)

    def row(self, table: Any, number: Any) -> Any:
        """Where row `number` of a table begins."""
        length = cgutils.unpack_tuple(self.builder, table.shape)[1]
        return self.at(self.data(table), self.builder.mul(number, length))

    def slices(self, table: Any) -> Any:
        """How many registers a row fills."""
        length = cgutils.unpack_tuple(self.builder, table.shape)[1]
        return self.builder.udiv(length, I64(self.tile.width))

    @contextmanager
    def loop(self, count: Any) -> Iterator[Any]:
        """for index in range(count), left as it is written: LLVM would unroll short loops a hundredfold."""
        b = self.builder
        before, body, end = b.block, b.append_basic_block("loop.body"), b.append_basic_block("loop.end")
        b.cbranch(b.icmp_signed(">", count, I64(0)), body, end)
        b.position_at_end(body)
        index = b.phi(I64)
        index.add_incoming(I64(0), before)
        yield Loop(index)
        following = b.add(index, I64(1))
        index.add_incoming(following, b.block)
        again = b.cbranch(b.icmp_signed("<", following, count), body, end)
        as_written = b.module.add_metadata([ir.MetaDataString(b.module, "llvm.loop.unroll.disable")])
        mark = b.module.add_metadata([ir.MetaDataString(b.module, f"loop {len(b.module.metadata)}"), as_written])
        mark.operands = (mark, as_written)  # a loop's mark begins with itself
        again.set_metadata("llvm.loop", mark)
        b.position_at_end(end)

    def load(self, pointer: Any, typ: Any = None) -> Any:
        typ = typ or self.vector
        return self.builder.load(self.builder.bitcast(pointer, typ.as_pointer()), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, value.type.as_pointer()), align=4)

    def scalar(self, pointer: Any) -> Any:
        """One float from memory in all lanes."""
        return self.spread(self.builder.load(pointer))

    def spread(self, value: Any) -> Any:
        one = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.tile.width), [0] * self.tile.width)
        return self.builder.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), zeros)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.tile.width)

    def integers(self, value: int) -> Any:
        return ir.Constant(ir.VectorType(I32, self.tile.width), [value] * self.tile.width)

    def variable(self, start: Any = None) -> Any:
        """A register that changes: a stack slot, which LLVM turns into a register."""
        slot = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(self.constant(0.0) if start is None else start, slot)
        return slot

    def get(self, slot: Any) -> Any:
        return self.builder.load(slot)

    def call(self, name: str, result: Any, *values: Any) -> Any:
        typ = ir.FunctionType(result, [v.type for v in values])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, typ, name), values)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, in one instruction where there is one."""
        return self.call(f"llvm.fmuladd.v{self.tile.width}f32", self.vector, a, b, c)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=("fast",))

    def fold(self, sums: list[Any]) -> list[Any]:
        """Sum the lanes of each register; the totals come out side by side, tile.width to a register.

        len(sums) is a multiple of four. Four registers become one whose quarters (groups of four lanes) each hold the
        four partial totals in order; then quarters are folded until each total stands once. Two shuffles and one
        addition halve two registers at a time: under three instructions a total instead of eight.
        """
        width = self.tile.width

        def pairs(a: Any, b: Any, first: list[int], second: list[int]) -> Any:
            """first and second: lanes within a quarter, those of b counted from 4."""

            def lanes(picked: list[int]) -> list[int]:
                return [
                    quarter + p if p < 4 else width + quarter + p - 4 for quarter in range(0, width, 4) for p in picked
                ]

            return self.add(self.shuffle(a, b, lanes(first)), self.shuffle(a, b, lanes(second)))

        fours = []
        for a, b, c, d in zip(*[iter(sums)] * 4, strict=True):
            ab = pairs(a, b, [0, 4, 1, 5], [2, 6, 3, 7])  # a0 b0 a1 b1 + a2 b2 a3 b3
            cd = pairs(c, d, [0, 4, 1, 5], [2, 6, 3, 7])
            fours.append(pairs(ab, cd, [0, 1, 4, 5], [2, 3, 6, 7]))
        span = width // 4  # quarters that hold parts of the same four totals
        while span > 1:
            if len(fours) % 2:
                fours.append(self.constant(0.0))
            quarters = [range(4 * q, 4 * q + 4) for q in range(2 * width // 4)]
            even = [lane for quarter in quarters[0::2] for lane in quarter]
            odd = [lane for quarter in quarters[1::2] for lane in quarter]
            fours = [
                self.add(self.shuffle(a, b, even), self.shuffle(a, b, odd))
                for a, b in zip(fours[::2], fours[1::2], strict=True)
            ]
            span //= 2
        return fours

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x)), to seven digits.

        exp(-x) = 2**whole * 2**part; the whole part goes straight into the exponent bits, 2**part (|part| <= 1/2) is
        the Taylor series of exp(part * log 2). Beyond +-30 the result is 0 or 1 in float32 anyway.
        """
        width, bits = self.tile.width, ir.VectorType(I32, self.tile.width)
        low, high = f"llvm.maxnum.v{width}f32", f"llvm.minnum.v{width}f32"
        x = self.call(high, self.vector, self.call(low, self.vector, x, self.constant(-30.0)), self.constant(30.0))
        power = self.builder.fmul(x, self.constant(-1.4426950408889634), flags=("fast",))
        whole = self.call(f"llvm.rint.v{width}f32", self.vector, power)
        part = self.builder.fsub(power, whole)
        series = self.constant(1.5403530393381608e-4)
        for factor in (1.3333558146428443e-3, 9.618129107628477e-3, 5.550410866482158e-2,
                       0.24022650695910072, 0.6931471805599453, 1.0):  # fmt: skip
            series = self.multiply_add(series, part, self.constant(factor))
        exponent = self.builder.shl(self.builder.fptosi(whole, bits), self.integers(23))
        power = self.builder.bitcast(self.builder.add(self.builder.bitcast(series, bits), exponent), self.vector)
        return self.builder.fdiv(self.constant(1.0), self.add(power, self.constant(1.0)), flags=("fast",))


def instructions(write: Callable[..., None], *typs: Any) -> Any:
    """What an intrinsic returns: its signature, and a function that writes its instructions. It returns nothing."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        writer = Writer(context, builder, signature, values)
        write(writer, *writer.arguments[1:])
        return context.get_dummy_value()

    return types.void(*typs), generate


# ---------------------------------------------------------------- building blocks


def block(function: Callable[..., Any]) -> Any:
    """A numba intrinsic, but `Any` to type checkers: it is called without the function's first argument."""
    return intrinsic(function)


@block
def slopes(typing, tile, inputs, contexts, first, count, outputs, targets, labels, weights, group, rate, result):
    """result[group, n, k] = (label - sigmoid(input . outputs[target])) * weight * rate, n < count.

    input = inputs[contexts[first + n]]; target, label, weight = targets[group, k], labels[group, k], weights[group,
    k] for k < tile.columns. `result` needs tile.rows - 1 spare rows a group. inputs (rows, D), outputs (rows, D),
    contexts (any,) int32, targets (groups, 8) int32, labels and weights (groups, 8) float32, result (groups, at least
    count + tile.rows - 1, 8) float32.
    """

    def write(w, inputs, contexts, first, count, outputs, targets, labels, weights, group, rate, result):
        width, rows, columns = w.tile.width, w.tile.rows, w.tile.columns
        b = w.builder
        lanes = b.mul(group, I64(LANES))
        target = [w.row(outputs, w.number(targets, b.add(lanes, I64(k)))) for k in range(columns)]
        capacity = cgutils.unpack_tuple(b, result.shape)[1]
        results = w.at(w.data(result), b.mul(lanes, capacity))
        steps = w.slices(outputs)
        rate = w.spread(rate)

        def per_lane(array, register):
            """The eight lanes of a group of labels or weights, repeated or cut as the given result register needs."""
            some = ir.VectorType(F32, min(LANES, width))
            part = w.load(w.at(w.data(array), b.add(lanes, I64(register * width % LANES))), some)
            return w.shuffle(part, part, [lane % LANES for lane in range(width)])

        def tile_of(begin, rows):
            there = b.add(first, begin)
            context = [w.row(inputs, w.number(contexts, b.add(there, I64(n)))) for n in range(rows)]
            sums = [[w.variable() for _ in range(columns)] for _ in range(rows)]
            with w.loop(steps) as step:
                offset = b.mul(step.index, I64(width))
                left = [w.load(w.at(row, offset)) for row in context]
                for k in range(columns):
                    right = w.load(w.at(target[k], offset))
                    for n in range(rows):
                        b.store(w.multiply_add(left[n], right, w.get(sums[n][k])), sums[n][k])
            zeros = [w.constant(0.0)] * (LANES - columns)
            totals = w.fold([total for row in sums for total in [*map(w.get, row), *zeros]])
            for register, total in enumerate(totals):
                slope = b.fsub(per_lane(labels, register), w.sigmoid(total), flags=("fast",))
                slope = b.fmul(b.fmul(slope, per_lane(weights, register), flags=("fast",)), rate, flags=("fast",))
                w.store(slope, w.at(results, b.add(b.mul(begin, I64(LANES)), I64(register * width))))

        whole = b.udiv(count, I64(rows))
        with w.loop(whole) as loop:
            tile_of(b.mul(loop.index, I64(rows)), rows)
        done = b.mul(whole, I64(rows))
        rest = b.sub(count, done)
        end = b.append_basic_block("slopes.end")
        choice = b.switch(rest, end)
        for left_over in range(1, rows):
            block = b.append_basic_block(f"slopes.{left_over}")
            choice.add_case(I64(left_over), block)
            b.position_at_end(block)
            tile_of(done, left_over)
            b.branch(end)
        b.position_at_end(end)

    return instructions(
        write, tile, inputs, contexts, types.int64, types.int64, outputs, targets, labels, weights, types.int64,
        types.float32, result,
    )  # fmt: skip


def _update(w, inputs, contexts, first, count, outputs, targets, group, slopes, store):
    """The sums of `update`; `store(n, offset, input, change)` says where the change of input n goes."""
    width, columns = w.tile.width, w.tile.columns
    b = w.builder
    lanes = b.mul(group, I64(LANES))
    target = [w.row(outputs, w.number(targets, b.add(lanes, I64(k)))) for k in range(columns)]
    capacity = cgutils.unpack_tuple(b, slopes.shape)[1]
    slope = w.at(w.data(slopes), b.mul(lanes, capacity))
    changes = [w.variable() for _ in range(columns)]
    with w.loop(w.slices(outputs)) as step:
        offset = b.mul(step.index, I64(width))
        old = [w.load(w.at(row, offset)) for row in target]
        for change in changes:
            b.store(w.constant(0.0), change)
        with w.loop(count) as loop:
            n = loop.index
            place = w.at(w.row(inputs, w.number(contexts, b.add(first, n))), offset)
            row = w.load(place)
            sums = [None, None]  # two chains of additions, so that one need not wait for the other
            for k in range(columns):
                g = w.scalar(w.at(slope, b.add(b.mul(n, I64(LANES)), I64(k))))
                half = sums[k % 2]
                sums[k % 2] = b.fmul(g, old[k], flags=("fast",)) if half is None else w.multiply_add(g, old[k], half)
                b.store(w.multiply_add(g, row, w.get(changes[k])), changes[k])
            store(n, offset, place, row, w.add(*sums) if columns > 1 else sums[0])
        for k in range(columns):  # read again: two targets may be the same row
            place = w.at(target[k], offset)
            w.store(w.add(w.load(place), w.get(changes[k])), place)


@block
def update(typing, tile, inputs, contexts, first, count, outputs, targets, group, slopes):
    """Both tables take their step: input += sum of slope * output, output += sum of slope * input.

    As in `slopes`, input = inputs[contexts[first + n]], output = outputs[target]. The contexts differ from each
    other; targets may repeat within the group.
    """

    def write(w, inputs, contexts, first, count, outputs, targets, group, slopes):
        def store(n, offset, place, row, change):
            w.store(w.add(row, change), place)

        _update(w, inputs, contexts, first, count, outputs, targets, group, slopes, store)

    return instructions(write, tile, inputs, contexts, types.int64, types.int64, outputs, targets, types.int64, slopes)


@block
def update_outputs(typing, tile, inputs, contexts, first, count, outputs, targets, group, slopes, changes):
    """As `update`, but the inputs stay and changes[n] += sum of slope * output: for several groups of outputs."""

    def write(w, inputs, contexts, first, count, outputs, targets, group, slopes, changes):
        def store(n, offset, place, row, change):
            place = w.at(w.row(changes, n), offset)
            w.store(w.add(w.load(place), change), place)

        _update(w, inputs, contexts, first, count, outputs, targets, group, slopes, store)

    return instructions(
        write, tile, inputs, contexts, types.int64, types.int64, outputs, targets, types.int64, slopes, changes
    )


@block
def add_changes(typing, tile, inputs, contexts, first, count, changes):
    """inputs[contexts[first + n]] += changes[n], and changes[n] = 0 for the next window."""

    def write(w, inputs, contexts, first, count, changes):
        b = w.builder
        with w.loop(count) as loop:
            row = w.row(inputs, w.number(contexts, b.add(first, loop.index)))
            change = w.row(changes, loop.index)
            with w.loop(w.slices(inputs)) as step:
                offset = b.mul(step.index, I64(w.tile.width))
                place, taken = w.at(row, offset), w.at(change, offset)
                w.store(w.add(w.load(place), w.load(taken)), place)
                w.store(w.constant(0.0), taken)

    return instructions(write, tile, inputs, contexts, types.int64, types.int64, changes)


@block
def add_to_all(typing, tile, inputs, contexts, count, change):
    """inputs[contexts[n]] += change[0] for every n, and change[0] = 0; contexts may repeat."""

    def write(w, inputs, contexts, count, change):
        b = w.builder
        with w.loop(w.slices(inputs)) as step:
            offset = b.mul(step.index, I64(w.tile.width))
            taken = w.at(w.data(change), offset)
            value = w.load(taken)
            w.store(w.constant(0.0), taken)
            with w.loop(count) as loop:
                place = w.at(w.row(inputs, w.number(contexts, loop.index)), offset)
                w.store(w.add(w.load(place), value), place)

    return instructions(write, tile, inputs, contexts, types.int64, change)


@block
def mean(typing, tile, inputs, contexts, count, result):
    """result[0] = the mean of inputs[contexts[n]], n < count (at least 1)."""

    def write(w, inputs, contexts, count, result):
        b = w.builder
        share = w.spread(b.fdiv(F32(1.0), b.sitofp(count, F32)))
        total = w.variable()
        with w.loop(w.slices(inputs)) as step:
            offset = b.mul(step.index, I64(w.tile.width))
            b.store(w.constant(0.0), total)
            with w.loop(count) as loop:
                place = w.at(w.row(inputs, w.number(contexts, loop.index)), offset)
                b.store(w.add(w.get(total), w.load(place)), total)
            w.store(b.fmul(w.get(total), share, flags=("fast",)), w.at(w.data(result), offset))

    return instructions(write, tile, inputs, contexts, types.int64, result)


@block
def prefetch(typing, tile, table, number):
    """Ask for a row that will be read and written soon; the work goes on meanwhile."""

    def write(w, table, number):
        b = w.builder
        row = w.row(table, number)
        lines = b.udiv(cgutils.unpack_tuple(b, table.shape)[1], I64(LINE))
        with w.loop(lines) as loop:
            place = b.bitcast(w.at(row, b.mul(loop.index, I64(LINE))), ir.IntType(8).as_pointer())
            w.call("llvm.prefetch.p0", ir.VoidType(), place, I32(1), I32(3), I32(1))

    return instructions(write, tile, table, types.int64)
