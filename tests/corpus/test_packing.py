"""Packing: every token once, no row too long, cuts at word starts, hardly a slot empty, and fast."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masklab.corpus.packing import pack, pieces, rows
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput


def corpus(lengths, seed=0, words=1.3):
    """Documents of these lengths, with word starts and sentence starts at random."""
    random = np.random.default_rng(seed)
    documents = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    units = (random.random(documents[-1]) < 1 / words).astype(np.uint8) * WORD_START
    units[documents[:-1][np.diff(documents) > 0]] |= WORD_START
    sentences = np.flatnonzero((units > 0) & (random.random(len(units)) < 0.05))
    return documents, units, sentences


@given(
    st.lists(st.integers(0, 60), max_size=25), st.integers(4, 40), st.integers(0, 3), st.booleans(),
    st.sampled_from([1.0, 1.3, 8.0]),
)  # fmt: skip
def test_every_token_once_and_no_row_too_long(lengths, length, overhead, packed, words):
    documents, units, sentences = corpus(lengths, words=words)
    made = rows(documents, units, sentences, length, overhead, packed)
    seen = np.zeros(documents[-1], int)
    for row in range(len(made)):
        found = made[row]
        assert found.dtype == np.int64
        assert len(found) == 1 or packed
        assert (found[:, 1] > found[:, 0]).all()
        assert (found[:, 1] - found[:, 0] + overhead).sum() <= length
        for start, end in found.tolist():
            seen[start:end] += 1
            inside = np.searchsorted(documents, start, side="right")  # one document per piece
            assert end <= documents[inside]
            window = units[start + 1 : end + 1] if end < documents[inside] else [WORD_START]
            assert start in documents or units[start] or not units[max(start - length + overhead, 0) + 1 : start].any()
            assert len(window)
    assert (seen == 1).all()


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(30, 40))
def test_pack_is_best_fit_decreasing(costs, length):
    """The same number of rows as the plain algorithm, one piece after another."""
    row = pack(np.array(costs, int), length)
    used = np.bincount(row, costs) if costs else np.zeros(0)
    assert (used <= length).all()
    room: list[int] = []
    for cost in sorted(costs, reverse=True):
        fits = [at for at, left in enumerate(room) if left >= cost]
        at = min(fits, key=lambda at: room[at]) if fits else len(room)
        room[at:] = [*(room[at:] or [length])]
        room[at] -= cost
    assert sorted(length - used) == sorted(room)


def test_a_word_longer_than_the_row_is_cut_hard():
    documents, units = np.array([0, 10]), np.array([1] + [0] * 9, np.uint8)
    assert pieces(documents, units, np.zeros(0, np.int64), 4).tolist() == [[0, 4], [4, 8], [8, 10]]


def test_a_sentence_start_close_to_the_end_is_taken():
    documents, units = np.array([0, 200]), np.ones(200, np.uint8)
    assert pieces(documents, units, np.array([0, 126]), 128).tolist() == [[0, 126], [126, 200]]
    assert pieces(documents, units, np.array([0, 100]), 128).tolist() == [[0, 128], [128, 200]]


@pytest.mark.parametrize(("length", "overhead"), [(128, 2), (128, 3), (512, 2)])
def test_fill_and_speed(length, overhead):
    lengths = np.random.default_rng(0).lognormal(5.3, 1.1, 20_000).astype(int)
    documents, units, sentences = corpus(lengths)
    began = time.perf_counter()
    made = rows(documents, units, sentences, length, overhead)
    assert made.fill > 0.99
    assert time.perf_counter() - began < 5
    assert len(rows(documents, units, sentences, length, overhead, packed=False)) >= len(made)


def test_rows_without_room_are_refused():
    documents, units, sentences = corpus([5])
    with pytest.raises(BadInput, match="no room for text"):
        rows(documents, units, sentences, 2, 2)


def test_indexing():
    made = rows(*corpus([5, 9]), length=8, overhead=2)
    assert made[-1].tolist() == made[len(made) - 1].tolist()
    with pytest.raises(IndexError):
        made[len(made)]
    assert len(list(made)) == len(made)  # type: ignore[call-overload]
    assert len(rows(*corpus([0]), length=8, overhead=2)) == 0


def test_a_phrase_is_not_cut_either():
    units = np.full(20, 1 | 4, np.uint8)
    units[8:12] = [1 | 4 | 8, 1 | 8, 1 | 8, 1 | 8]  # a phrase of four words
    documents, sentences = np.array([0, 20]), np.array([0, 10])
    assert pieces(documents, units, sentences, 10).tolist() == [[0, 10], [10, 20]]
    assert pieces(documents, units, sentences, 10, uncut=1 | 4).tolist() == [[0, 8], [8, 18], [18, 20]]
    for row in (found := rows(documents, units, sentences, 12, 2, uncut=1 | 4)).pieces:
        assert row[0] not in (9, 10, 11), found.pieces
