"""Copies of hot rows: whatever threads do to them reaches the rows, whichever way they take turns."""

from threading import Thread

import numpy as np
import pytest

from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.hot_rows import Hot, copies, mine, room, settle, take_turn
from masklab.word_vectors.tiles import aligned

ROWS = range(3, 8)


@kernel
def add_ones(table, hot, numbers):
    """Each of `numbers` is a row, to which it adds 1, without any lock of its own."""
    rows = np.empty(1, np.int32)
    for turn in range(len(numbers)):
        rows[0] = mine(hot, numbers[turn])
        for d in range(table.shape[1]):
            table[rows[0], d] += 1
        take_turn(table, hot, rows, 1, turn)


def table_of(threads: int, turns: int = 4) -> tuple[np.ndarray, list[Hot]]:
    table = aligned(10 + room(ROWS, threads), 20)
    table[:10] = np.arange(10)[:, None]
    return table, copies(table, ROWS, threads, turns)


@pytest.mark.parametrize("turns", [1, 7])
def test_two_threads_at_once_lose_nothing(turns):
    table, hots = table_of(2, turns)
    numbers = np.random.default_rng(0).integers(ROWS.start, ROWS.stop, 400_000)
    add_ones(table, hots[0], numbers[:0])  # compiles
    threads = [Thread(target=add_ones, args=(table, hot, numbers)) for hot in hots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for hot in hots:
        settle(table, hot)
    expected = np.arange(10) + 2 * np.bincount(numbers, minlength=10)
    assert np.array_equal(table[:10], np.repeat(expected[:, None], table.shape[1], axis=1))


def test_a_thread_sees_what_others_did_when_it_puts_together():
    table, (one, other) = table_of(2)
    five = np.array([5] * 4)
    add_ones(table, other, five[:1])  # its first turn: put together at once
    assert table[5, 0] == 6
    add_ones(table, one, five)
    assert table[5, 0] == 7  # the first of its four; it did not wait to see the other's
    assert table[one.copies + 2, 0] == 10
    settle(table, other)
    assert table[other.copies + 2, 0] == 7
    settle(table, one)
    assert table[5, 0] == table[one.copies + 2, 0] == 10
    settle(table, one)  # once more changes nothing
    assert table[5, 0] == 10


def test_only_hot_rows_have_copies():
    _, (hot, _) = table_of(2)
    assert [row_of(hot, i) for i in range(10)] == [0, 1, 2, *range(hot.copies, hot.copies + 5), 8, 9]


@kernel
def row_of(hot, number):
    return mine(hot, number)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_copies_of_different_threads_are_apart(threads):
    table, hots = table_of(threads)
    found = [row for hot in hots for row in range(hot.copies, hot.copies + 2 * hot.size)]  # copies and bases
    assert sorted(found) == list(range(10, len(table)))
    assert len(found) == (0 if threads == 1 else 2 * len(ROWS) * threads)
