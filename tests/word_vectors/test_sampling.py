"""What is drawn at random has the distribution of the papers, and depends on the place in the text alone."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.sampling import Draws, alias_table, huffman, keep_chances, negative, reach, read_sentence

COUNTS = st.lists(st.integers(1, 10**6), min_size=2, max_size=40).map(np.array)


def draws_of(counts: np.ndarray, **options) -> Draws:
    asked = {"sample": 1e-3, "power": 0.75, "window": 5, "negatives": 5, "key": (0,)} | options
    return Draws.of(np.asarray(counts), **asked)


@given(COUNTS, st.floats(0, 1))
@settings(deadline=None)
def test_the_alias_table_holds_the_exact_chances(counts, power):
    table = alias_table(counts, power)
    own = (table >> np.uint64(32)).astype(np.float64) / 2**32
    other = (table & np.uint64(0xFFFFFFFF)).astype(np.int64)
    chances = own.copy()
    np.add.at(chances, other, 1 - own)
    expected = counts.astype(float) ** power
    assert np.allclose(chances / len(counts), expected / expected.sum(), atol=1e-8)


@kernel
def many_negatives(draws, size):
    found = np.zeros(len(draws.noise), np.int64)
    for i in range(size):
        found[negative(draws, i)] += 1
    return found


def test_negatives_come_as_often_as_they_should():
    counts = np.array([1000, 300, 100, 30, 0, 10])
    found = many_negatives(draws_of(counts), 200_000) / 200_000
    expected = counts**0.75 / (counts**0.75).sum()
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / 200_000)
    assert found[4] == 0


def test_frequent_words_are_thinned_out_as_in_word2vec_c():
    counts = np.array([90_000, 9_000, 900, 90, 10])
    chance = keep_chances(counts, 1e-3) / (2**32 - 1)
    limit = 1e-3 * counts.sum()
    by_the_book = np.minimum(1, (np.sqrt(counts / limit) + 1) * limit / counts)  # the line in word2vec.c
    assert np.allclose(chance, by_the_book, atol=1e-9)
    assert (keep_chances(counts, 0) == 2**32 - 1).all()


@pytest.mark.parametrize("sample", [0.0, 1e-2])
def test_sentences_end_at_line_ends_and_where_they_are_too_long(sample):
    random = np.random.default_rng(0)
    ids = random.integers(0, 5, 5000).astype(np.int32)
    ids[random.random(5000) < 0.02] = -1
    ids[:2] = -1
    ids[2:] = np.where(np.arange(4998) > 3000, np.abs(ids[2:]), ids[2:])  # the last 2,000 are one sentence
    counts = np.bincount(ids[ids >= 0])
    draws = draws_of(counts, sample=sample)
    words, places = np.empty(1000, np.int32), np.empty(1000, np.int64)
    at, lengths, kept, stood = 0, [], [], []
    while at < len(ids):
        length, at = read_sentence(ids, at, len(ids), 70, draws.keep, draws.keep_key, words, places)
        lengths.append(length)
        kept += words[:length].tolist()
        stood += places[:length].tolist()
    assert (np.array(kept) == ids[np.array(stood) - 71]).all()
    assert (np.diff(stood) > 0).all()
    if sample:
        share = np.bincount(kept) / counts
        assert np.abs(share - draws.keep / 2**32).max() < 0.06
    else:
        assert kept == ids[ids >= 0].tolist()
        longest = np.diff(np.flatnonzero(np.append(ids, -1) < 0)).max() - 1
        assert max(lengths) == min(1000, longest)


def test_a_window_reaches_equally_far_equally_often():
    draws = draws_of(np.ones(3), window=4)
    found = np.bincount([reach(draws, place) for place in range(4000)])
    assert found[0] == 0
    assert len(found) == 5
    assert np.abs(found[1:] - 1000).max() < 130


def test_other_seeds_and_purposes_draw_other_numbers():
    one, same, other = draws_of(np.ones(3)), draws_of(np.ones(3)), draws_of(np.ones(3), key=(0, 100))
    assert one.noise_key == same.noise_key
    assert len({one.noise_key, one.keep_key, one.reach_key, other.noise_key, other.keep_key, other.reach_key}) == 6


@given(COUNTS)
@settings(deadline=None)
def test_the_tree_is_huffmans(counts):
    tree = huffman(counts)
    depths = np.diff(tree.start)
    ways = [tree.steps[a:b].tolist() for a, b in zip(tree.start[:-1], tree.start[1:], strict=True)]
    assert len({tuple(way) for way in ways}) == len(counts)
    assert np.sum(0.5**depths) == 1  # a full binary tree
    branches: dict[int, set[int]] = {}
    for way in ways:
        assert way[0] >> 1 == len(counts) - 2  # all begin at the root
        for step in way:
            branches.setdefault(step >> 1, set()).add(step & 1)
    assert branches == {node: {0, 1} for node in range(len(counts) - 1)}
    heap = counts.tolist()
    heapq.heapify(heap)
    shortest = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        shortest += both
        heapq.heappush(heap, both)
    assert (depths * counts).sum() == shortest
