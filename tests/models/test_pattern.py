"""Patterns against matrices written by hand."""

import numpy as np
import pytest

from masklab.models import pattern
from masklab.models.pattern import as_torch, at_places, visible, visible_numpy

HAND = {
    "bidirectional": (pattern.bidirectional, ["1111", "1111", "1111", "1111"]),
    "causal": (pattern.causal, ["1000", "1100", "1110", "1111"]),
    "backward": (pattern.backward, ["1111", "0111", "0011", "0001"]),
    "prefix": (lambda n: pattern.prefix(2, n), ["1100", "1100", "1110", "1111"]),
}


def matrix(lines: list[str]) -> np.ndarray:
    return np.array([[digit == "1" for digit in line] for line in lines])


@pytest.mark.parametrize("name", HAND)
def test_one_document(name, make_rows):
    builder, lines = HAND[name]
    inputs = make_rows([[4]], 4, builder)
    assert (visible(inputs, inputs)[0, 0].numpy() == matrix(lines)).all()


def test_packed_and_padded_row(make_rows):
    inputs = make_rows([[2, 3]], 7, pattern.causal)
    by_hand = matrix(["1000000", "1100000", "0010000", "0011000", "0011100", "0000011", "0000011"])
    assert (visible(inputs, inputs)[0, 0].numpy() == by_hand).all()


@pytest.mark.parametrize("name", HAND)
def test_numpy_twin_and_places(name, make_rows):
    inputs = make_rows([[3, 5], [8], [1, 2, 3]], 9, HAND[name][0])
    whole = visible(inputs, inputs)
    as_numpy = pattern.Inputs(*(field.numpy() for field in inputs))
    assert (visible_numpy(as_numpy, as_numpy) == whole[:, 0].numpy()).all()
    at = as_torch(inputs).time.long()[:, :2] * 0 + 4  # slot 4 of each row, twice
    assert (visible(at_places(inputs, at), inputs) == whole[:, :, 4:5].expand(-1, -1, 2, -1)).all()


def test_every_token_sees_itself(make_rows):
    for builder, _ in HAND.values():
        inputs = make_rows([[3, 4], [6], [1, 1]], 8, builder)
        assert visible(inputs, inputs).diagonal(dim1=-2, dim2=-1).all()


def test_builders():
    assert [x.tolist() for x in pattern.causal(3)] == [[0, 1, 2]] * 2
    assert [x.tolist() for x in pattern.backward(3)] == [[2, 1, 0]] * 2
    assert [x.tolist() for x in pattern.prefix(2, 4)] == [[0, 0, 1, 2]] * 2
    assert pattern.bidirectional(2)[0].dtype == pattern.prefix(1, 2)[0].dtype == np.int32
