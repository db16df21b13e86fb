"""Counts of pairs: exact, the same however they came about, and shuffled."""

from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors import cooccurrences
from masklab.word_vectors.cooccurrences import Cooccurrences, count, count_rows

WORDS = 300


@pytest.fixture(scope="module")
def ids():
    random = np.random.default_rng(0)
    found = np.minimum(random.zipf(1.3, 6000), WORDS).astype(np.int32) - 1
    found[random.random(len(found)) < 0.05] = -1
    return found


def by_hand(ids, window, symmetric=True, by_distance=True):
    sums: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    line = 0
    for at, right in enumerate(ids.tolist()):
        if right < 0:
            line = at + 1
            continue
        for place in range(max(line, at - window), at):
            left = int(ids[place])
            sums[left, right] += Fraction(1, at - place if by_distance else 1)
            if symmetric:
                sums[right, left] += Fraction(1, at - place if by_distance else 1)
    return {pair: np.float32(float(number)) for pair, number in sums.items()}


def cells(counts):
    word, context, number = (column.tolist() for column in counts.read(0, counts.entries))
    found = dict(zip(zip(word, context, strict=True), map(np.float32, number), strict=True))
    assert len(found) == counts.entries, "a pair stands twice"
    return found | {(b, a): x for (a, b), x in found.items()} if counts.symmetric else found


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("by_distance", [True, False])
def test_counts_are_those_of_a_dictionary(ids, tmp_path, symmetric, by_distance):
    counts = count(ids, WORDS, tmp_path, window=7, symmetric=symmetric, by_distance=by_distance)
    assert cells(counts) == by_hand(ids, 7, symmetric, by_distance)
    assert counts.nonzeros == len(cells(counts))
    assert counts.runs == 0
    assert Cooccurrences.open(tmp_path) == counts


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dense", [0, 20, WORDS])
def test_neither_memory_nor_threads_change_a_bit(ids, tmp_path, monkeypatch, symmetric, dense):
    whole = count(ids, WORDS, tmp_path / "whole", window=5, symmetric=symmetric)
    monkeypatch.setattr(cooccurrences, "_DENSE", dense)
    monkeypatch.setattr(cooccurrences, "_CHUNK", 500)
    told = []
    for threads in (1, 2):
        spilled = count(ids, WORDS, tmp_path / "spilled", window=5, symmetric=symmetric, memory=1e-9,
                        threads=threads, progress=told.append)  # fmt: skip
        assert spilled.runs > 5
        for a, b in zip(whole.read(0, whole.entries), spilled.read(0, whole.entries), strict=True):
            assert np.array_equal(a, b)
    assert sum(told) == 2 * len(ids)
    assert {path.name for path in (tmp_path / "spilled").iterdir()} == {
        "word.npy", "context.npy", "count.npy", "cooccurrences.json"
    }  # fmt: skip


def test_what_the_authors_program_counts(tmp_path):
    """What `cooccur -window-size 3` of GloVe 1.2 writes for the lines "a b a c" and "b c b b".

    Its first cell apart: where nothing overflows, cooccur reads an empty file, and merges the first cell with itself.
    """
    b, a, c = 0, 1, 2  # b is the most frequent word
    ids = np.array([a, b, a, c, -1, b, c, b, b, -1], np.int32)
    third = np.float32(4 / 3)
    assert cells(count(ids, 3, tmp_path, window=3)) == {
        (b, b): np.float32(11 / 3), (b, a): 2, (b, c): 3, (a, b): 2, (a, a): 1, (a, c): third, (c, b): 3, (c, a): third,
    }  # fmt: skip
    assert cells(count(ids, 3, tmp_path, window=3, symmetric=False)) == {
        (b, b): np.float32(11 / 6), (b, a): 1, (b, c): 1.5, (a, b): 1, (a, a): 0.5, (a, c): third, (c, b): 1.5,
    }  # fmt: skip


def test_the_order_is_random(ids, tmp_path):
    counts = count(ids, WORDS, tmp_path, window=5)
    place = np.arange(counts.entries)
    for column in counts.read(0, counts.entries):
        assert abs(np.corrcoef(place, column)[0, 1]) < 4 / np.sqrt(counts.entries)
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 4 / np.sqrt(counts.entries)


def test_hashes_can_be_undone():
    last = 2**31 - 1
    pairs = [(0, 0), (0, 1), (1, 0), (last, last), (12345, 678910)]
    hashes = [cooccurrences._hash(*pair) for pair in pairs]
    assert [cooccurrences._pair(np.uint64(x)) for x in hashes] == pairs
    assert 0 not in hashes


def test_wide_windows_are_exact_to_nine_digits(tmp_path):
    random = np.random.default_rng(1)
    ids = random.integers(0, 9, 400).astype(np.int32)
    found = cells(count(ids, 9, tmp_path, window=40))
    for pair, number in by_hand(ids, 40).items():
        assert found[pair] == pytest.approx(number, rel=1e-7)


def test_rows_of_chosen_words(ids, tmp_path):
    for symmetric in (True, False):
        found = cells(count(ids, WORDS, tmp_path, window=6, symmetric=symmetric))
        rows = count_rows(ids, WORDS, [3, 17], window=6, symmetric=symmetric)
        for row, word in zip(rows, [3, 17], strict=True):
            assert row.astype(np.float32).tolist() == [found.get((word, other), 0) for other in range(WORDS)]


def test_nothing_to_count(tmp_path):
    for ids in ([], [-1], [0, -1, 1, -1]):
        counts = count(np.array(ids, np.int32), 2, tmp_path)
        assert (counts.entries, counts.nonzeros) == (0, 0)
        assert [len(column) for column in counts.read(0, 0)] == [0, 0, 0]


def test_bad_input(ids, tmp_path):
    with pytest.raises(BadInput, match="window=0"):
        count(ids, WORDS, tmp_path, window=0)
    with pytest.raises(BadInput, match="memory=0"):
        count(ids, WORDS, tmp_path, memory=0)
    with pytest.raises(BadInput, match="no finished co-occurrence counts"):
        Cooccurrences.open(tmp_path)
    counts = count(ids, WORDS, tmp_path)
    with pytest.raises(IndexError):
        counts.read(0, counts.entries + 1)
    (tmp_path / "word.npy").write_bytes((tmp_path / "word.npy").read_bytes()[:-4])
    with pytest.raises(BadInput, match=r"word\.npy: cut short"):
        counts.read(0, counts.entries)


def test_a_failure_ends_all_threads(ids, tmp_path, monkeypatch):
    monkeypatch.setattr(cooccurrences, "_CHUNK", 10)

    def stop(words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count(ids, WORDS, tmp_path, threads=2, progress=stop)
    with pytest.raises(BadInput, match="no finished"):
        Cooccurrences.open(tmp_path)
