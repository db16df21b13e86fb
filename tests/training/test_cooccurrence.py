"""Token vectors from counts: the counts by hand, the factorisation by numpy, and what a model starts with."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from masklab.corpus.store import Store
from masklab.recipe import Recipe
from masklab.training import cooccurrence
from masklab.training.cooccurrence import factor, mutual_information, token_vectors
from masklab.training.session import build


def by_hand(ids: list[int], documents: list[int], size: int, window: int) -> np.ndarray:
    """Positive pointwise mutual information with two loops, as the paper writes it."""
    counts = np.zeros((size, size))
    for begin, end in pairwise(documents):
        for i in range(begin, end):
            for j in range(begin, end):
                if 0 < abs(i - j) <= window:
                    counts[ids[i], ids[j]] += 1 / abs(i - j)
    context = counts.sum(0) ** 0.75
    context /= context.sum()
    found = np.zeros_like(counts)
    for i, j in np.argwhere(counts):
        found[i, j] = max(0.0, np.log(counts[i, j] / counts[i].sum() / context[j]))
    return found


@pytest.mark.parametrize("cells", [1 << 26, 7 * 4])
def test_counts_are_those_of_two_loops(monkeypatch: pytest.MonkeyPatch, cells: int):
    """Windows end at documents; with little memory only the most frequent contexts are counted."""
    random = np.random.default_rng(0)
    ids, documents = random.integers(0, 7, 60), np.array([0, 1, 25, 28, 60])
    part = SimpleNamespace(
        ids=ids.astype(np.uint16), documents=documents, unigram=np.bincount(ids, minlength=7),
        tokenizer=SimpleNamespace(size=7),
    )  # fmt: skip
    monkeypatch.setattr(cooccurrence, "_CELLS", cells)
    found = mutual_information(part, 3)
    if cells == 7 * 4:
        assert found.shape == (7, 4)
        counted = np.argsort(-part.unigram, kind="stable")[:4]
        # the same pairs are counted, normalised over the four contexts alone
        assert ((by_hand(list(ids), list(documents), 7, 3)[:, counted] > 0) | (found >= 0)).all()
    else:
        np.testing.assert_allclose(found, by_hand(list(ids), list(documents), 7, 3), atol=1e-4)


def test_a_long_corpus_is_read_in_stretches(monkeypatch: pytest.MonkeyPatch):
    part = SimpleNamespace(ids=np.arange(1000), documents=np.arange(0, 1001, 10))
    monkeypatch.setattr(cooccurrence, "_TOKENS", 300)
    monkeypatch.setattr(cooccurrence, "_STRETCHES", 3)
    ids, ends = cooccurrence._text(part)
    assert ids.tolist() == [*range(100), *range(450, 550), *range(900, 1000)]
    assert set(range(10, 301, 10)) <= set(ends.tolist())


def test_the_factors_are_the_singular_vectors():
    """Similarities between rows equal those of the exact decomposition (up to bfloat16 products)."""
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(60, 5, generator=random) @ torch.randn(5, 50, generator=random)
    u, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    exact = u[:, :5] * s[:5].sqrt()
    found = factor(matrix, 5, 1)
    torch.testing.assert_close(found @ found.T, exact @ exact.T, atol=0.3, rtol=0.05)


def test_words_of_like_company_are_near(store: Store):
    """Three kinds of words, each kind always in the same place of a sentence: a word's nearest is of its kind."""
    random = np.random.default_rng(0)
    kinds = np.arange(60) // 20
    ids = (random.integers(0, 20, 9000) + 20 * (np.arange(9000) % 3)).astype(np.uint16)
    tokenizer = SimpleNamespace(size=60, ordinary=np.arange(60))
    part = SimpleNamespace(ids=ids, documents=np.array([0, 9000]), unigram=np.bincount(ids), tokenizer=tokenizer)
    vectors = token_vectors(part, 8, window=2)
    assert vectors.norm(dim=1).mean() == pytest.approx(8**0.5, rel=0.01)
    nearest = (vectors @ vectors.T).fill_diagonal_(-1e9).argmax(1)
    assert (kinds[nearest] == kinds).mean() > 0.95
    assert torch.equal(vectors, token_vectors(part, 8, window=2))


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_a_model_starts_with_them(no_dropout: Recipe, store: Store, family):
    """Same scale as drawn; special tokens and the dimensions that bert's local start keeps free are left alone."""
    recipe = replace(
        no_dropout,
        model=replace(no_dropout.model, family=family),
        initial=replace(no_dropout.initial, kind="local"),
    )
    drawn = build(recipe).pretrainer.model.embeddings.tokens.weight.detach()
    table = build(replace(recipe, embeddings="cooccurrence")).pretrainer.model.embeddings.tokens.weight.detach()
    special, ordinary = store.tokenizer.special, store.tokenizer.ordinary
    assert torch.equal(table[special], drawn[special])
    assert torch.equal((table[ordinary] != 0).any(0), (drawn[ordinary] != 0).any(0))
    free = (drawn[ordinary] != 0).any(0)
    assert table[ordinary][:, free].std() == pytest.approx(float(drawn[ordinary][:, free].std()), rel=0.1)
    assert not torch.equal(table[ordinary], drawn[ordinary])
