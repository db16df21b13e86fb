"""Masked words and sentence pairs: what is hidden, what is asked, and that nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus.store import Store
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput
from masklab.objectives.masked_lm import MaskedLM, choose, log_unigram
from masklab.objectives.next_sentence import IS_NEXT, IS_RANDOM, NextSentence
from masklab.objectives.rows import plain_row
from masklab.rng import rng
from masklab.training.batches import IGNORE, collate, micro_batches


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), length=st.sampled_from([16, 64, 128]), unit=st.sampled_from(["token", "word"]))
def test_masks_hide_and_restore(store: Store, seed: int, length: int, unit):
    """Unmasked tokens untouched; targets restore the text; special tokens never hidden or asked."""
    part = store.part("train")
    index = seed % len(part.rows(length, 2))
    objective = MaskedLM(rate=0.3, unit=unit)
    row = plain_row(part, index, length)
    example = objective.example(part, index, length, rng(0, "t", seed), 1.0)
    slots, targets = example.at["masked"], example.targets["masked"]
    assert (np.diff(slots) > 0).all()
    assert row.text[slots].all()
    restored = example.inputs.tokens.copy()
    restored[slots] = targets
    assert np.array_equal(restored, row.inputs.tokens)
    hidden = example.targets["hidden"] != IGNORE
    assert (example.inputs.tokens[slots[hidden]] == part.tokenizer.mask).all()
    assert np.isin(example.inputs.tokens[slots[~hidden]], part.tokenizer.ordinary).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), rate=st.floats(0.02, 0.9))
def test_budgets(store: Store, seed: int, rate: float):
    """Tokens: exactly the rate. Words: whole words only, and the budget met to within one word."""
    part = store.part("train")
    index = seed % len(part.rows(64, 2))
    row = plain_row(part, index, 64)
    text = np.flatnonzero(row.text)
    budget = max(1, round(rate * len(text)))
    assert len(choose(row, rate, "token", rng(seed, "t"))) == budget
    chosen = choose(row, rate, "word", rng(seed, "w"))
    starts = (row.units[text] & WORD_START > 0) | (np.diff(text, prepend=-2) > 1)
    word = np.cumsum(starts)  # which word each text slot belongs to
    picked = np.isin(text, chosen)
    for w in np.unique(word):
        assert picked[word == w].all() or not picked[word == w].any()
    longest = np.bincount(word).max()
    assert len(chosen) <= max(budget, longest)
    assert len(chosen) > budget - longest


def test_eighty_ten_ten(store: Store):
    part = store.part("train")
    objective = MaskedLM(rate=0.5)
    examples = [objective.example(part, i % len(part.rows(128, 2)), 128, rng(0, "t", i), 1.0) for i in range(300)]
    shown = np.concatenate([e.inputs.tokens[e.at["masked"]] for e in examples])
    target = np.concatenate([e.targets["masked"] for e in examples])
    n = len(target)
    assert n > 10_000
    masked, kept = (shown == part.tokenizer.mask).mean(), (shown == target).mean()
    assert abs(masked - 0.8) < 4 * (0.16 / n) ** 0.5
    assert abs(kept - 0.1) < 4 * (0.09 / n) ** 0.5 + 0.1 / part.tokenizer.size


def test_masks_are_new_every_time_and_the_same_every_run(store: Store):
    part = store.part("train")
    objective = MaskedLM()
    n = len(part.rows(64, 2))

    def row_tokens(first: int) -> np.ndarray:
        return micro_batches(objective, part, seed=0, first_row=first, rows=n, length=64)[0].inputs.tokens.numpy()

    assert np.array_equal(row_tokens(0), row_tokens(0))
    masks = [(row_tokens(i * n) == part.tokenizer.mask).sum(1) for i in (0, 1)]  # two epochs
    assert not np.array_equal(row_tokens(0), row_tokens(n))
    assert abs(masks[0].sum() - masks[1].sum()) < 0.2 * masks[0].sum()


def test_every_row_comes_once_an_epoch(store: Store):
    part = store.part("train")
    n = len(part.rows(64, 2))
    seen = []

    class Spy(MaskedLM):
        def example(self, source, index, length, rng, progress):
            seen.append(index)
            return super().example(source, index, length, rng, progress)

    micro_batches(Spy(), part, seed=5, first_row=n, rows=n, length=64)
    assert sorted(seen) == list(range(n))
    assert seen != sorted(seen)


def test_micro_batches_are_the_same_step(store: Store):
    """Accumulation cuts a step into parts and changes nothing in it."""
    part = store.part("train")
    whole = micro_batches(MaskedLM(), part, seed=1, first_row=24, rows=12, length=64)[0]
    parts = micro_batches(MaskedLM(), part, seed=1, first_row=24, rows=12, length=64, accumulate=5)
    assert np.array_equal(np.concatenate([p.inputs.tokens for p in parts]), whole.inputs.tokens)
    assert sum(p.counts["masked"] for p in parts) == whole.counts["masked"]


def test_the_masking_rate_can_fall(store: Store):
    part = store.part("train")
    objective = MaskedLM(rate=0.15, start_rate=0.4)
    asked = [len(objective.example(part, 0, 128, rng(0, "t"), p).at["masked"]) for p in (0.0, 0.5, 1.0)]
    text = plain_row(part, 0, 128).text.sum()
    assert asked == [round(0.4 * text), round(0.275 * text), round(0.15 * text)]


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_sentence_pairs(store: Store, seed: int):
    """Real pairs are one stretch of text; random ones take B from another document; both framed as BERT's."""
    part = store.part("train")
    tokenizer = part.tokenizer
    index = seed % len(part.rows(128, 3))
    objective = NextSentence(MaskedLM(rate=0.01))
    example = objective.example(part, index, 128, rng(seed, "t"), 1.0)
    tokens = example.inputs.tokens.copy()
    tokens[example.at["masked"]] = example.targets["masked"]
    pieces = part.rows(128, 3)[index]
    assert len(pieces) == len(example.at["next"])
    for d, ((start, end), label) in enumerate(zip(pieces, example.targets["next"], strict=True)):
        mine = example.inputs.document == d
        ids, segment = tokens[mine], example.inputs.segment[mine]
        assert ids[0] == tokenizer.cls
        assert ids[-1] == tokenizer.sep
        first, second = ids[segment == 0][1:-1], ids[segment == 1][:-1]
        text = part.ids[start:end]
        assert np.array_equal(first, text[: len(first)])
        assert example.inputs.position[mine].tolist() == list(range(len(ids)))
        if label == IS_NEXT:
            assert np.array_equal(second, text[len(first) :])
        elif label == IS_RANDOM:
            assert 0 < len(second) <= len(text) - len(first)


def test_half_of_the_pairs_are_real(store: Store):
    part = store.part("train")
    examples = [NextSentence().example(part, i % len(part.rows(128, 3)), 128, rng(0, "t", i), 1.0) for i in range(300)]
    labels = np.concatenate([e.targets["next"] for e in examples])
    labels = labels[labels != IGNORE]
    assert abs(labels.mean() - 0.5) < 4 * (0.25 / len(labels)) ** 0.5


def test_the_unigram_baseline_is_the_entropy_of_counts(store: Store):
    part = store.part("held_out")
    objective = MaskedLM()
    batch = collate([objective.example(part, i, 64, rng(0, "t", i), 1.0) for i in range(len(part.rows(64, 2)))])
    term = objective.baseline(part, batch)["masked"]
    train = store.part("train")
    counts = np.bincount(train.ids, minlength=train.tokenizer.size) + 1.0
    targets = batch.targets["masked"].numpy()
    by_hand = -np.log(counts / counts.sum())[targets[targets != IGNORE]].sum()
    assert float(term.total) == pytest.approx(by_hand, rel=1e-5)
    assert int(term.count) == (targets != IGNORE).sum()
    assert np.exp(log_unigram(train.unigram)).sum() == pytest.approx(1, rel=1e-4)


def test_contradictions_are_refused():
    with pytest.raises(BadInput, match="rate"):
        MaskedLM(rate=1.5)
    with pytest.raises(BadInput, match="together at most 1"):
        MaskedLM(mask=0.8, random=0.3)
