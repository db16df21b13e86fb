"""Copies of hot rows: whatever threads do to them reaches the rows, whichever way they take turns."""

from threading import Thread

import numpy as np
import pytest

from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.hot_rows import TURNS, copies, mine, room, settle, take_mine
from masklab.word_vectors.tiles import aligned

ROWS = range(3, 8)


@kernel
def add_ones(table, hot, numbers):
    """Each of `numbers` is a row, to which it adds 1, without any lock of its own."""
    for number in numbers:
        row = mine(table, hot, number)
        for d in range(table.shape[1]):
            table[row, d] += 1


def table_of(threads: int) -> np.ndarray:
    table = aligned(10 + room(ROWS, threads), 20)
    table[:10] = np.arange(10)[:, None]
    return table


def test_two_threads_at_once_lose_nothing():
    hots, table = copies(10, ROWS, 2), table_of(2)
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
    (one, other), table = copies(10, ROWS, 2), table_of(2)
    five = np.array([5])
    add_ones(table, one, np.repeat(five, TURNS))
    assert table[5, 0] == 5  # nobody else knows yet
    add_ones(table, one, five)
    assert table[5, 0] == 5 + TURNS
    add_ones(table, other, five)  # begins from the row as it is now
    assert table[other.copies + 2, 0] == 5 + TURNS + 1
    settle(table, other)
    assert table[5, 0] == 5 + TURNS + 1
    settle(table, one)
    assert table[5, 0] == 5 + TURNS + 2
    settle(table, one)  # once more changes nothing
    assert table[5, 0] == 5 + TURNS + 2


def test_only_hot_rows_have_copies():
    (hot, _), table = copies(10, ROWS, 2), table_of(2)
    numbers = np.arange(10, dtype=np.int32)
    use(table, hot, numbers, 9)
    assert numbers.tolist() == [0, 1, 2, *range(hot.copies, hot.copies + 5), 8, 9]


@kernel
def use(table, hot, numbers, count):
    take_mine(table, hot, numbers, count)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_copies_of_different_threads_are_apart(threads):
    found = [
        row
        for hot in copies(10, ROWS, threads)
        for row in range(hot.copies, hot.copies + 2 * hot.size)  # copies and bases
    ]
    assert sorted(found) == list(range(10, 10 + room(ROWS, threads)))
    assert len(found) == (0 if threads == 1 else 2 * len(ROWS) * threads)
