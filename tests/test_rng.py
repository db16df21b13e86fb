"""Randomness without state: permutations really permute, and streams are their own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from masklab.rng import integer, rng, shuffled


@given(st.integers(1, 3000), st.integers(0, 2**62))
def test_shuffled_is_a_permutation(n: int, key: int):
    assert np.array_equal(np.sort(shuffled(np.arange(n), n, key)), np.arange(n))


@given(st.integers(2, 3000), st.integers(0, 1000), st.data())
def test_any_slice_costs_only_that_slice(n: int, key: int, data: st.DataObject):
    some = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    assert np.array_equal(shuffled(some, n, key), shuffled(np.arange(n), n, key)[some])


def test_shuffled_looks_random():
    """Neighbours do not stay neighbours, and every place is reached about equally often."""
    n = 1000
    orders = np.stack([shuffled(np.arange(n), n, key) for key in range(300)])
    assert abs(np.corrcoef(orders[0], np.arange(n))[0, 1]) < 0.1
    assert (np.abs(np.diff(orders, axis=1)) == 1).mean() < 0.005  # 2/n expected
    assert abs(orders[:, 0].mean() - n / 2) < 4 * n / np.sqrt(12 * 300)


def test_streams_differ_by_every_part_and_repeat():
    draws = {tuple(rng(*key).random(4)) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 0, 1)]}
    assert len(draws) == 5
    assert np.array_equal(rng(3, "x", 5, 2).random(10), rng(3, "x", 5, 2).random(10))
    assert integer(0, "dropout", 1, 23) != integer(0, "dropout", 12, 3)


def test_streams_do_not_overlap():
    """Two neighbours in `where` are 2**64 draws apart, not one."""
    assert len(np.intersect1d(rng(0, "a", 0).integers(0, 2**63, 5000), rng(0, "a", 1).integers(0, 2**63, 5000))) == 0
