"""Unigram vocabularies: expectations by brute force, special functions by scipy's, known pieces found."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma

from masklab.corpus import unigram


def cuts(word: str):
    """Every way to part a word."""
    for choice in product([False, True], repeat=len(word) - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(choice) if cut), len(word)]
        yield [word[a:b] for a, b in pairwise(edges)]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(1, 9), min_size=1, max_size=5),
    st.sets(st.text("abc", min_size=2, max_size=4), max_size=6), st.integers(0, 99),
)  # fmt: skip
def test_expected_counts_are_those_of_all_cuts(counts, longer, seed):
    pieces = ["a", "b", *sorted(longer)]  # no "c": words with it may have no cut at all
    chance = np.random.default_rng(seed).random(len(pieces)) + 0.1
    chance /= chance.sum()
    table = dict(zip(pieces, chance.tolist(), strict=True))
    wanted = dict.fromkeys(pieces, 0.0)
    for word, count in counts.items():
        each = [(cut, math.prod(table.get(piece, 0.0) for piece in cut)) for cut in cuts(word)]
        total = sum(weight for _, weight in each)
        for cut, weight in each:
            for piece in cut:
                if total:
                    wanted[piece] = wanted.get(piece, 0.0) + count * weight / total
    found = unigram._expected(list(unigram._Words.of(counts).groups(pieces)), chance)
    assert found.tolist() == pytest.approx([wanted[piece] for piece in pieces])


@settings(max_examples=40, deadline=None)
@given(st.sets(st.text("ab", min_size=2, max_size=5), min_size=1, max_size=8), st.integers(0, 99))
def test_the_second_best_cut(longer, seed):
    pieces = ["a", "b", *sorted(longer)]
    score = dict(zip(pieces, np.log(np.random.default_rng(seed).random(len(pieces)) + 0.01).tolist(), strict=True))
    words = unigram._Words.of(dict.fromkeys(pieces, 1))
    table = np.append(np.array([score[piece] for piece in pieces]), -700.0)
    for group, (code, _) in zip(words.groups(pieces), words.by_length.values(), strict=True):
        if len(group.ids) == 1:
            continue
        parts = unigram._second_best(group.ids, table)
        for row, letters in zip(parts, code.tolist(), strict=True):
            word = "".join(map(chr, letters))
            best = max(
                sum(score[piece] for piece in cut)
                for cut in cuts(word)
                if len(cut) > 1 and all(piece in score for piece in cut)
            )
            chosen = [pieces[i] for i in row[::-1] if i >= 0]  # they come from the end
            assert "".join(chosen) == word
            assert sum(score[piece] for piece in chosen) == pytest.approx(best)


def test_digamma():
    x = np.geomspace(1e-3, 1e6, 400)
    assert np.allclose(unigram._digamma(x), digamma(x), rtol=1e-9, atol=1e-9)


def test_what_comes_out():
    assert [piece for piece, _ in unigram.learn({"ab": 9, "abab": 5}, ["a", "b"], 3)] == ["ab", "a", "b"]
    stems, endings = ["walk", "read", "look", "stone", "river", "happ"], ["", "s", "ed", "ing", "er"]
    counts = {stem + ending: 100 - 7 * i - j for i, stem in enumerate(stems) for j, ending in enumerate(endings)}
    alphabet = sorted(set("".join(counts)))
    made = unigram.learn(counts, alphabet, len(alphabet) + 12)
    found = dict(made)
    assert len(found) == len(alphabet) + 12
    assert set(alphabet) <= set(found)
    assert all(piece in word for piece in found if len(piece) > 1 for word in [" ".join(counts)])
    assert sum(math.exp(score) for score in found.values()) <= 1 + 1e-6
    assert [score for _, score in made] == sorted(found.values(), reverse=True)
    # every word can be spelled, those without a piece of their own too
    for word in counts:
        best = max(sum(found[p] for p in cut) for cut in cuts(word) if all(p in found for p in cut))
        assert best > -60, word


def test_the_alphabet_stays_and_memory_is_bounded():
    counts = {"x" * 70 + "y": 3, "zebra": 1}
    assert {"x", "y"} <= set(dict(unigram.learn(counts, ["x", "y"], 4)))
    bounded = unigram._Words.of({"abcd": 5, "efg": 9, "hi": 1}, room=8)
    assert sorted(bounded.by_length) == [3, 4]  # the most frequent ones
