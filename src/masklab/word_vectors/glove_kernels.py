"""The step of GloVe: weighted least squares with AdaGrad, in plain loops (the reference) and on vector tiles.

Pennington et al. 2014, section 3: a cell x of the co-occurrence matrix, of word i and context j, has the loss

    f(x)/2 * (w_i . c_j + b_i + d_j - log x)**2,        f(x) = min((x / x_max)**alpha, 1)

AdaGrad (Duchi et al. 2011) divides each number's gradient by the root of 1 + the sum of its squares so far, where
gradients are counted times the rate, as the authors' program does. Each word has one row of four parts, and a step
reads and writes two neighbouring parts of two rows:

    part 0: w_i, b_i, 1     part 1: their sums of squares     part 2: c_i, 1, d_i     part 3: their sums of squares

The biases are columns like any other: beside each stands a 1 in the other table. A 1 stays what it is because its sum
of squares begins at FIXED, by whose root every change vanishes.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from masklab.rng import rng
from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.tiles import F32, I64, LINE, Tile, Writer, aligned, cpu_features, prefetch

FIXED = np.float32(1e30)
_CLIP = np.float32(100)  # of a slope, as in the authors' program
_AHEAD = 4  # entries whose rows are being fetched from memory


def new_rows(words: int, dim: int, seed: int, first: int = 0) -> np.ndarray:
    """(words, 4 * (dim + 2 rounded up to cache lines)) float32, vectors and biases within +-1/(2 dim).

    Words from `first` on have values; each is a function of (seed, word).
    """
    part = -(-(dim + 2) // LINE) * LINE
    rows = aligned(words, 4 * part)
    start = rng(seed, "glove", first).random((words - first, 2, dim + 1), np.float32)
    start = (start - np.float32(0.5)) / np.float32(dim)
    for which, bias, one in ((0, dim, dim + 1), (1, dim + 1, dim)):
        values, squares = (rows[first:, (2 * which + k) * part : (2 * which + k + 1) * part] for k in (0, 1))
        values[:, :dim] = start[:, which, :dim]
        values[:, bias] = start[:, which, dim]
        values[:, one] = 1
        squares[:] = 1
        squares[:, one] = FIXED
    return rows


def word_and_context(rows: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """(words, dim) each: w and c, as views of the rows."""
    part = rows.shape[1] // 4
    return rows[:, :dim], rows[:, 2 * part : 2 * part + dim]


@kernel
def plain(rows, word, context, log_count, weight, both, rate):
    """One step for every entry (word, context) and, with `both`, for (context, word); returns the sum of the losses.

    word, context (n,) int32, log_count and weight = f(x) (n,) float32.
    """
    part = rows.shape[1] // 4
    loss = 0.0
    for k in range(len(word)):
        for turned in range(2 if both and word[k] != context[k] else 1):
            i, j = (context[k], word[k]) if turned else (word[k], context[k])
            w, w_squares = rows[i, :part], rows[i, part : 2 * part]
            c, c_squares = rows[j, 2 * part : 3 * part], rows[j, 3 * part :]
            error = -log_count[k]
            for d in range(part):
                error += w[d] * c[d]
            slope = weight[k] * error
            loss += 0.5 * slope * error
            slope = min(max(slope, -_CLIP), _CLIP) * rate
            for d in range(part):
                to_w, to_c = slope * c[d], slope * w[d]
                w[d] -= to_w / np.sqrt(w_squares[d])
                c[d] -= to_c / np.sqrt(c_squares[d])
                w_squares[d] += to_w * to_w
                c_squares[d] += to_c * to_c
    return loss


@kernel
def tiled(tile, rows, word, context, log_count, weight, both, rate):
    """As `plain`, whole registers at a time. Entries sorted by context find its row in the cache."""
    loss = 0.0
    for k in range(len(word)):
        after = k + _AHEAD
        if after < len(word):
            prefetch(tile, rows, word[after])  # pyright: ignore[reportCallIssue]
            if context[after] != context[after - 1]:
                prefetch(tile, rows, context[after])
        i, j = word[k], context[k]
        loss += _step(tile, rows, i, j, log_count[k], weight[k], rate)  # pyright: ignore[reportCallIssue]
        if both and i != j:
            loss += _step(tile, rows, j, i, log_count[k], weight[k], rate)  # pyright: ignore[reportCallIssue]
    return loss


@intrinsic
def _step(typing, tile, rows, word, context, log_count, weight, rate):
    """One step for one cell; its loss."""

    def generate(numba_context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        w = Writer(numba_context, builder, signature, values)
        return _write_step(w, *w.arguments[1:])

    numbers = types.int64, types.int64, types.float32, types.float32, types.float32
    return types.float32(tile, rows, *numbers), generate


def _write_step(w: Writer, rows: Any, word: Any, context: Any, log_count: Any, weight: Any, rate: Any) -> Any:
    b: Any = w.builder
    width = w.tile.width
    part = b.udiv(cgutils.unpack_tuple(b, rows.shape)[1], I64(4))
    ours = w.row(rows, word)
    theirs = w.at(w.row(rows, context), b.mul(part, I64(2)))
    slices = b.udiv(part, I64(width))

    product = w.variable()
    with w.loop(slices) as loop:
        at = b.mul(loop.index, I64(width))
        b.store(w.multiply_add(w.load(w.at(ours, at)), w.load(w.at(theirs, at)), w.get(product)), product)
    error = b.fsub(_total(w, w.get(product)), log_count)
    slope = b.fmul(weight, error)
    loss = b.fmul(b.fmul(slope, error), F32(0.5))
    slope = w.call("llvm.maxnum.f32", F32, slope, F32(-_CLIP))
    slope = w.spread(b.fmul(w.call("llvm.minnum.f32", F32, slope, F32(_CLIP)), rate))

    with w.loop(slices) as loop:
        at = b.mul(loop.index, I64(width))
        places = [w.at(row, at) for row in (ours, theirs)]
        values = [w.load(place) for place in places]
        for place, value, other in zip(places, values, reversed(values), strict=True):
            squares = w.at(place, part)
            sums = w.load(squares)
            step = b.fmul(slope, other, flags=("fast",))
            change = b.fmul(step, _inverse_root(w, sums), flags=("fast",))
            w.store(b.fsub(value, change, flags=("fast",)), place)
            w.store(w.multiply_add(step, step, sums), squares)
    return loss


def _total(w: Writer, register: Any) -> Any:
    """The sum of a register's lanes."""
    typ = ir.FunctionType(F32, [F32, w.vector])
    function = cgutils.get_or_insert_function(w.builder.module, typ, f"llvm.vector.reduce.fadd.v{w.tile.width}f32")
    return w.builder.call(function, [F32(0.0), register], fastmath=("fast",))


def _inverse_root(w: Writer, x: Any) -> Any:
    """1 / sqrt(x). AVX-512 has it in one instruction, to four digits, which is plenty for the length of a step."""
    if w.tile.width == 16 and "avx512f" in cpu_features():
        return w.call("llvm.x86.avx512.rsqrt14.ps.512", w.vector, x, w.constant(0.0), ir.IntType(16)(-1))
    root = w.call(f"llvm.sqrt.v{w.tile.width}f32", w.vector, x)
    b: Any = w.builder
    return b.fdiv(w.constant(1.0), root, flags=("fast",))


@kernel
def by_context(word, context, count, vocabulary):
    """The entries in order of their context (a counting sort), so that training meets each context's row once."""
    place = np.zeros(vocabulary + 1, np.int64)
    for k in range(len(context)):
        place[context[k] + 1] += 1
    for v in range(vocabulary):
        place[v + 1] += place[v]
    words, contexts, counts = np.empty_like(word), np.empty_like(context), np.empty_like(count)
    for k in range(len(context)):
        at = place[context[k]]
        place[context[k]] += 1
        words[at], contexts[at], counts[at] = word[k], context[k], count[k]
    return words, contexts, counts


def step_kernel(tile: Tile | None) -> Any:
    """`tiled` on this tile, or `plain` where there is none: a function of (rows, ..., rate)."""
    if tile is None:
        return plain
    return lambda *arguments: tiled(tile, *arguments)
