"""The building blocks on registers of every width, beside numpy."""

import numpy as np
import pytest

from masklab.word_vectors import tiles
from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.tiles import (
    TILES,
    Tile,
    add_changes,
    add_to_all,
    aligned,
    fitting,
    mean,
    slopes,
    update,
    update_outputs,
    width_of,
)

WIDTHS = [tiles.TILE.width] if tiles.TILE else []
RATE = np.float32(0.5)


@kernel
def one_step(tile, inputs, contexts, first, count, outputs, targets, labels, weights, found):
    slopes(tile, inputs, contexts, first, count, outputs, targets, labels, weights, 1, RATE, found)
    update(tile, inputs, contexts, first, count, outputs, targets, 1, found)


@kernel
def in_parts(tile, inputs, contexts, count, outputs, targets, found, changes):
    update_outputs(tile, inputs, contexts, 0, count, outputs, targets, 1, found, changes)
    add_changes(tile, inputs, contexts, 0, count, changes)


@kernel
def mean_and_back(tile, inputs, contexts, count, change):
    mean(tile, inputs, contexts, count, change)
    add_to_all(tile, inputs, contexts, count, change)


def filled(rows: int, dim: int, seed: int) -> np.ndarray:
    table = aligned(rows, dim)
    table[:, :dim] = np.random.default_rng(seed).normal(size=(rows, dim))
    return table


class Case:
    """Rows of odd length, targets that repeat, lanes that count for nothing, a second group of targets."""

    def __init__(self, count: int, dim: int, columns: int, first: int = 2):
        random = np.random.default_rng(count)
        self.inputs, self.outputs = filled(20, dim, 1) / np.float32(dim**0.5), filled(9, dim, 2)
        self.contexts = random.permutation(20).astype(np.int32)
        self.first, self.count, self.columns = first, count, columns
        self.targets = random.integers(0, 9, (2, 8)).astype(np.int32)
        self.labels = random.integers(0, 2, (2, 8)).astype(np.float32)
        self.weights = random.integers(0, 3, (2, 8)).astype(np.float32)
        self.found = np.zeros((2, count + 3, 8), np.float32)

    def expected(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, k = self.contexts[self.first : self.first + self.count], slice(self.columns)
        x, y = self.inputs[rows].astype(float), self.outputs[self.targets[1, k]].astype(float)
        slope = (self.labels[1, k] - 1 / (1 + np.exp(-x @ y.T))) * self.weights[1, k] * RATE
        inputs, outputs = self.inputs.astype(float), self.outputs.astype(float)
        inputs[rows] += slope @ y
        np.add.at(outputs, self.targets[1, k], slope.T @ x)
        return slope, inputs, outputs


@pytest.mark.parametrize("width", sorted(TILES))
def test_a_step_of_every_width(width):
    tile = TILES[width]
    for count, dim in [(1, 100), (2, 1), (3, 17), (4, 16), (5, 33), (7, 300), (10, 5)]:
        case = Case(count, dim, tile.columns)
        slope, inputs, outputs = case.expected()
        one_step(tile, case.inputs, case.contexts, 2, count, case.outputs, case.targets, case.labels, case.weights,
                 case.found)  # fmt: skip
        assert np.allclose(case.found[1, :count, : tile.columns], slope, atol=1e-6), (count, dim)
        assert np.allclose(case.inputs, inputs, atol=3e-6), (count, dim)
        assert np.allclose(case.outputs, outputs, atol=3e-6), (count, dim)
        assert not case.inputs[:, dim:].any()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("columns", [1, 3, 5])
def test_a_step_of_fewer_columns(width, columns):
    tile = Tile(width, TILES[width].rows, columns)
    case = Case(5, 20, columns)
    slope, inputs, outputs = case.expected()
    one_step(tile, case.inputs, case.contexts, 2, 5, case.outputs, case.targets, case.labels, case.weights, case.found)
    assert np.allclose(case.found[1, :5, :columns], slope, atol=1e-6)
    assert np.allclose(case.inputs, inputs, atol=3e-6)
    assert np.allclose(case.outputs, outputs, atol=3e-6)


@pytest.mark.parametrize("width", sorted(TILES))
def test_changes_gathered_and_added_later(width):
    case = Case(6, 20, TILES[width].columns, first=0)
    case.found[1, :6] = np.random.default_rng(3).normal(size=(6, 8))
    k = case.targets[1, : case.columns]
    slope = case.found[1, :6, : case.columns].astype(float)
    inputs, outputs = case.inputs.astype(float), case.outputs.astype(float)
    inputs[case.contexts[:6]] += slope @ case.outputs[k]
    np.add.at(outputs, k, slope.T @ case.inputs[case.contexts[:6]])
    changes = aligned(6, 20)
    in_parts(TILES[width], case.inputs, case.contexts, 6, case.outputs, case.targets, case.found, changes)
    assert np.allclose(case.inputs, inputs, atol=1e-5)
    assert np.allclose(case.outputs, outputs, atol=1e-5)
    assert not changes.any()


@pytest.mark.parametrize("width", sorted(TILES))
def test_means_and_repeated_rows(width):
    inputs = filled(9, 21, 4)
    contexts = np.array([3, 5, 3, 8, 3], np.int32)
    expected = inputs.astype(float)
    np.add.at(expected, contexts, inputs[contexts].astype(float).mean(0))
    change = aligned(1, 21)
    mean_and_back(TILES[width], inputs, contexts, 5, change)
    assert np.allclose(inputs, expected, atol=3e-6)
    assert not change.any()


def test_rows_begin_at_cache_lines():
    table = aligned(3, 17)
    assert table.shape == (3, 32)
    assert table.ctypes.data % 64 == 0
    assert not table.any()
    assert aligned(0, 5).shape == (0, 16)


def test_the_width_follows_the_processor():
    assert width_of("x86_64", {"avx2", "fma", "avx512f"}) == 16
    assert width_of("AMD64", {"avx2", "fma"}) == 8
    assert width_of("x86_64", {"sse4.2"}) == 0
    assert width_of("arm64", set()) == 4
    assert width_of("riscv64", set()) == 0


def test_columns_are_chosen_so_that_few_stay_idle():
    tile = TILES[8]
    assert [fitting(tile, n).columns for n in (1, 2, 6, 7, 8, 11, 12, 13, 16)] == [1, 2, 6, 4, 4, 6, 6, 5, 6]
