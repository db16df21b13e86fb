"""Rows that every window needs: each thread works on copies of its own, and now and then puts its changes together.

Threads write to the same tables without locks (runner.py). That is cheap where two of them seldom meet. But the top
of a tree, the labels of a classifier and the most frequent pieces of words are in nearly every window: their memory
would travel from core to core at each update, and several threads be slower than one. So a thread has a copy of each
such row, and beside it the base, the row as it was when they were last put together. At one of TURNS uses or so

    row += copy - base,    copy = base = row

under a lock of the row, so that no thread's changes are lost. What a thread does not see are the last changes that
others made to their copies.

Copies and bases stand in the table itself, behind its rows, so that a kernel that takes the number `mine` gives
instead of the row's needs nothing else. One thread has no copies.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from masklab.word_vectors.compiling import inlined, kernel
from masklab.word_vectors.tiles import alone

TURNS = 32  # uses of a copy to one putting together: far fewer than a row needs to settle at the usual rates
MOST = 512  # hot rows of a table: with their copies they fill a quarter to half of a core's own cache
_APART = 32  # locks stand so many int32 apart, on cache lines of their own


class Hot(NamedTuple):
    """One thread's copies of the rows first ... first + size - 1 of a table."""

    first: int
    size: int  # 0: none
    copies: int  # the row where the copies begin; the bases follow
    turns: int
    locks: np.ndarray  # (size, _APART) int32, the same for all threads: 1 while a thread holds the row


def room(rows: range, threads: int) -> int:
    """How many rows a table must have behind its own, for the copies of all threads."""
    return 2 * len(rows) * threads if threads > 1 else 0


def copies(table: np.ndarray, rows: range, threads: int, turns: int = TURNS) -> list[Hot]:
    """For each thread its copies of `rows`, in a table that ends with room for them and has its values."""
    size = len(rows) if threads > 1 else 0
    first = len(table) - room(rows, threads)
    locks = alone((size, _APART), np.int32)
    hots = [Hot(rows.start, size, first + 2 * size * thread, turns, locks) for thread in range(threads)]
    for hot in hots:
        settle(table, hot)
    return hots


COLD = Hot(0, 0, 0, 1, alone((0, _APART), np.int32))


@inlined
def mine(hot, number):
    """The row that this thread uses for row `number`: its copy, if it has one."""
    place = number - hot.first
    return number + (hot.copies - hot.first if 0 <= place < hot.size else 0)


@inlined
def take_turn(table, hot, rows, count, turn):
    """Put one of hot.turns of some rows together; `turn` grows with each call. rows (count,): from `mine`."""
    if hot.size:
        for i in range(turn % hot.turns, count, hot.turns):
            place = rows[i] - hot.copies
            if 0 <= place < hot.size:
                put_together(table, hot, place)  # if another thread holds the row, there is a next time


@kernel
def settle(table, hot):
    """Put all copies together with their rows: before the first window and after the last."""
    for place in range(hot.size):
        while not put_together(table, hot, place):
            pass


@inlined
def put_together(table, hot, place):
    """row += copy - base, copy = base = row; False if another thread holds the row."""
    if not _hold(hot.locks, place):  # pyright: ignore[reportCallIssue]
        return False
    row, copy, base = hot.first + place, hot.copies + place, hot.copies + hot.size + place
    for d in range(table.shape[1]):
        value = table[row, d] + (table[copy, d] - table[base, d])
        table[row, d] = value
        table[copy, d] = value
        table[base, d] = value
    _release(hot.locks, place)  # pyright: ignore[reportCallIssue]
    return True


def _lock(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    locks = context.make_array(signature.args[0])(context, builder, values[0])
    return builder.gep(locks.data, [builder.mul(values[1], ir.Constant(ir.IntType(64), _APART))])


@intrinsic
def _hold(typing, locks, place):
    """Take a lock if nobody has it: did it work?"""

    def generate(context, builder, signature, values):
        free, held = (ir.Constant(ir.IntType(32), value) for value in (0, 1))
        lock = _lock(context, builder, signature, values)
        return builder.extract_value(builder.cmpxchg(lock, free, held, "acquire", "monotonic"), 1)

    return types.boolean(locks, types.int64), generate


@intrinsic
def _release(typing, locks, place):
    """Give a lock back; all that was written under it is seen by whoever takes it next."""

    def generate(context, builder, signature, values):
        lock = _lock(context, builder, signature, values)
        builder.store_atomic(ir.Constant(ir.IntType(32), 0), lock, "release", 4)
        return context.get_dummy_value()

    return types.void(locks, types.int64), generate
