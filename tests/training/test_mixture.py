"""Mixed corpora: quotas are exact at every place, runs resume to the same bits, each corpus is judged by itself."""

from dataclasses import replace
from pydoc_data.topics import topics
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masklab.analysis.show import show
from masklab.corpus.prepare import add_vocabulary, prepare
from masklab.corpus.store import Store
from masklab.corpus.tokenizer import Tokenizer
from masklab.errors import BadInput
from masklab.training.batches import micro_batches
from masklab.training.cooccurrence import token_vectors
from masklab.training.loop import train
from masklab.training.mixture import Mixture, open_sources, shares
from masklab.training.run import Run

VOCABULARY = SimpleNamespace(hash="one")


def mixture(*given: float) -> Mixture:
    sources = [SimpleNamespace(tokenizer=VOCABULARY)] * len(given)
    return Mixture([str(i) for i in range(len(given))], sources, given)


@pytest.fixture(scope="module")
def general(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    texts = [topics[name] for name in sorted(topics)[40:60]]
    return prepare(texts, tmp_path_factory.mktemp("corpus") / "general", store.tokenizer, held_out=0.1)


def test_the_documented_example():
    which, inner = mixture(0.5, 0.25, 0.25).divide(np.arange(8))
    assert which.tolist() == [2, 0, 1, 0, 2, 0, 1, 0]
    assert inner.tolist() == [0, 0, 0, 1, 1, 2, 1, 3]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(0, 10**9))
def test_every_source_gets_its_share_and_reads_on_where_it_was(weights, begin):
    share = np.array(weights) / sum(weights)
    which, inner = mixture(*share).divide(np.arange(begin, begin + 2000))
    counts = np.bincount(which, minlength=len(share))
    assert (abs(counts - 2000 * share) <= len(share) + 1).all()
    for k in range(len(share)):
        assert (np.diff(inner[which == k]) == 1).all()
    alone = [mixture(*share).divide(np.array([place])) for place in range(begin, begin + 50)]
    assert [int(w[0]) for w, _ in alone] == which[:50].tolist()  # no place needs another one
    assert [int(i[0]) for _, i in alone] == inner[:50].tolist()


def test_shares_by_size_and_given():
    sizes = [SimpleNamespace(ids=range(9)), SimpleNamespace(ids=range(1))]
    for smoothing, wanted in ((1.0, [0.9, 0.1]), (0.5, [0.75, 0.25]), (0.0, [0.5, 0.5])):
        assert np.allclose(shares("ab", sizes, [None, None], smoothing), wanted)
    three = [*sizes, SimpleNamespace(ids=range(4))]
    assert np.allclose(shares("abc", three, [None, 0.2, None], 1.0), [0.8 * 9 / 13, 0.2, 0.8 * 4 / 13])
    with pytest.raises(BadInput, match=r"add up to 1.2; they must leave something for a"):
        shares("ab", sizes, [None, 1.2], 1.0)


def test_rows_come_from_both_and_the_vocabulary_must_be_one(tiny, store, general, tmp_path):
    recipe = replace(tiny, mix=((str(general.path), 0.25),))
    source = open_sources(recipe, "train")
    assert source.shares.tolist() == [0.75, 0.25]
    batch = micro_batches(recipe.objective, source, seed=0, first_row=0, rows=16, length=32)[0]
    rows = [set(row.tolist()) for row in batch.inputs.tokens.numpy()]
    which, inner = source.divide(np.arange(16))
    assert np.bincount(which).tolist() == [12, 4]
    alone = micro_batches(recipe.objective, source.sources[0], seed=0, first_row=0, rows=12, length=32)[0]
    mask = {store.tokenizer.mask}
    for row, k, place in zip(rows, which, inner, strict=True):
        if k == 0:  # the first corpus is read in the order in which it is read alone
            unmasked = row - mask
            assert len(unmasked & set(alone.inputs.tokens[place].tolist())) > 0.6 * len(unmasked)
    other = prepare(["Quite another text, with words of its own. " * 20] * 3, tmp_path / "other", 100,
                    held_out=0.3, keep_duplicates=True)  # fmt: skip
    with pytest.raises(BadInput, match=f"masklab tokenize {other.path} --tokenizer {store.path}"):
        open_sources(replace(tiny, mix=((str(other.path), None),)), "train")
    given = add_vocabulary(other, Tokenizer.open(store.path))  # as the message says
    both = open_sources(replace(tiny, mix=((str(given.folder), 0.5),)), "train")
    assert both.shares.tolist() == [0.5, 0.5]
    with pytest.raises(BadInput, match="names a corpus twice"):
        open_sources(replace(tiny, mix=((str(store.path), 0.1),)), "train")


def test_counts_follow_the_shares(store, general):
    source = Mixture(["a", "b"], [store.part("train"), general.part("train")], [0.5, 0.5])
    one, two = (part.unigram / part.unigram.sum() for part in source.sources)
    assert np.allclose(source.unigram / source.unigram.sum(), (one + two) / 2)
    assert token_vectors(source, 16).shape == (store.tokenizer.size, 16)


def test_a_mixed_run_is_judged_by_corpus_and_resumes_to_the_same_bits(tiny, general, tmp_path):
    recipe = replace(tiny, mix=((str(general.path), 0.3),), embeddings="cooccurrence")
    straight = train(recipe, tmp_path / "straight")
    assert set(straight.result["held_out"]) == {"masked", "hidden", "masked of general", "hidden of general"}

    class Stopped(Exception):
        pass

    def stop(record):
        if record["kind"] == "checkpoint" and record["step"] == 8:
            raise Stopped

    with pytest.raises(Stopped):
        train(recipe, tmp_path / "stopped", stop)
    resumed = train(recipe, tmp_path / "stopped")
    assert resumed.result["held_out"] == straight.result["held_out"]
    assert Run.open(tmp_path / "straight").recipe.mix == recipe.mix
    assert show(tmp_path / "straight", 3).batches[0].inputs.tokens.shape == (16, 32)
