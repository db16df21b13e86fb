"""T5's span corruption: lengths as the paper's code computes them, inputs and targets restore the text, the loss."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from masklab.corpus.store import Store
from masklab.corpus.tokenizer import Tokenizer
from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.pattern import Layout
from masklab.models.transformer import Memory, Model
from masklab.objectives.span_corruption import SpanCorruption, corrupt, counts, noise, whole_length
from masklab.recipe import load
from masklab.training.batches import IGNORE, micro_batches
from masklab.training.evaluation import total


def restored(inputs: np.ndarray, targets: np.ndarray, sentinels: np.ndarray) -> list[int]:
    """The text again, from both."""
    cut: dict[int, list[int]] = {}
    current: list[int] = []
    for token in targets[:-1].tolist():
        if token in sentinels:
            current = cut.setdefault(token, [])
        else:
            current.append(token)
    return [x for token in inputs[:-1].tolist() for x in cut.get(token, [token])]


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 600), st.floats(0.05, 0.6), st.floats(1, 8), st.integers(0, 10**6))
def test_both_sides_restore_the_text(n: int, rate: float, mean: float, seed: int):
    ids = np.random.default_rng(seed).integers(5, 50, n).astype(np.uint16)
    sentinels = np.arange(1000, 0, -1, dtype=np.int32) + 100
    cut = noise(n, rate, mean, np.random.default_rng(seed))
    inputs, targets = corrupt(ids, cut, sentinels, 2)
    assert restored(inputs, targets, sentinels) == ids.tolist()
    taken, spans = counts(n, rate, mean)
    assert cut.sum() == taken
    assert (len(inputs), len(targets)) == (n - taken + spans + 1, taken + spans + 1)
    assert inputs[-1] == targets[-1] == 2
    if n > 1:
        assert not cut[0]
        assert cut[-1]
        assert [t for t in inputs if t > 100] == sentinels[:spans].tolist() == [t for t in targets if t > 100]


def test_lengths_are_the_published_ones():
    """568 tokens of text make 512 slots of inputs and 114 of targets (Raffel et al.'s own helper says so)."""
    assert whole_length(512, 0.15, 3.0) == (568, 114)
    assert counts(568, 0.15, 3.0) == (85, 28)
    assert counts(1, 0.15, 3.0) == (0, 0)
    inputs, targets = corrupt(np.array([7, 8, 9]), np.array([False, True, False]), np.array([99, 98]), 2)
    assert (inputs.tolist(), targets.tolist()) == ([7, 99, 9, 2], [99, 8, 2])


def test_spans_are_drawn_evenly():
    """Of 5 tokens with 2 cut in one span, the span is the end; with 2 spans, both cuts of the rest occur."""
    seen = {tuple(noise(6, 0.5, 1.5, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert len(seen) == 4  # kept parts 1+2 or 2+1, cut parts 1+2 or 2+1


@pytest.fixture
def source(store: Store) -> Any:
    return SpanCorruption().open(str(store.path), "train")


def test_a_row_by_hand(source: Any):
    objective = SpanCorruption()
    rows = objective.examples(source, 64)
    tokenizer = source.tokenizer
    assert tokenizer.size == source.part.tokenizer.size + 100
    assert tokenizer.inner.token_to_id("<extra_id_0>") == tokenizer.size - 1
    for index in range(min(len(rows), 40)):
        example = objective.example(source, index, 64, np.random.default_rng(index), 0.0)
        assert example.written is not None
        wanted = example.targets["written"]
        for number, (a, b) in enumerate(rows[index].tolist()):
            read = example.inputs.tokens[example.inputs.document == number]
            slots = example.written.document == number
            written, shown = wanted[slots], example.written.tokens[slots]
            assert restored(read, written, source.sentinels) == source.ids[a:b].tolist()
            assert shown.tolist() == [tokenizer.pad, *written[:-1].tolist()]
            assert example.written.time[slots].tolist() == list(range(len(written)))
        assert (wanted[example.written.document < 0] == IGNORE).all()
        text = example.targets["text"]
        assert set(text[text != IGNORE].tolist()).isdisjoint({*source.sentinels.tolist(), tokenizer.sep})


def test_the_loss_is_cross_entropy_of_what_is_written(source: Any):
    config = Config("t5", source.tokenizer.size, 1, 16, 2, 24, decoder_layers=1, pad=1, dropout=0, attention_dropout=0)
    torch.manual_seed(0)
    model = Model(config)
    objective = SpanCorruption()
    heads = objective.heads(model, source)
    batch = micro_batches(objective, source, seed=0, first_row=0, rows=4, length=64)[0]
    terms = objective.loss(model, heads, batch)
    memory = Memory(model(batch.inputs, layout=Layout("bidirectional")).last, batch.inputs)
    assert model.decoder is not None
    assert batch.written is not None
    logits = heads["lm"](model.decoder(batch.written, layout=Layout("causal"), memory=memory).last)
    by_hand = F.cross_entropy(logits.flatten(0, 1), batch.targets["written"].flatten(), reduction="sum")
    assert float(terms["written"].total.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    assert int(terms["written"].count) == batch.counts["written"]
    with torch.no_grad():
        judged = objective.loss(model, heads, batch)
    assert float(judged["written"].total) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    assert 0 < int(judged["text"].count) < int(judged["written"].count)


def test_the_trivial_guess_knows_sentinels_and_ends(source: Any):
    """No constant distribution scores better on all rows than the one that counts what is written."""
    objective = SpanCorruption()
    batches = [
        micro_batches(objective, source, seed=0, first_row=r, rows=8, length=64)[0]
        for r in range(0, len(objective.examples(source, 64)), 8)
    ]
    score = total(objective.baseline(source, batch) for batch in batches)
    share = source.shares(batches[0].inputs.tokens.shape[1])
    assert share.sum() == pytest.approx(1)
    wanted = np.concatenate([b.targets["written"].flatten().numpy() for b in batches])
    counted = np.bincount(wanted[wanted != IGNORE], minlength=source.tokenizer.size)
    assert share[source.tokenizer.sep] == pytest.approx(counted[source.tokenizer.sep] / counted.sum(), rel=0.15)
    entropy = -(counted[counted > 0] / counted.sum() * np.log(counted[counted > 0] / counted.sum())).sum()
    assert entropy < score["written"].loss < entropy + 1.0
    assert score["text"].loss > score["written"].loss


def test_too_few_sentinels_are_refused(store: Store):
    few = SpanCorruption(sentinels=2)
    with pytest.raises(BadInput, match="sentinels"):
        few.examples(few.open(str(store.path), "train"), 64)
    with pytest.raises(BadInput, match="rate"):
        SpanCorruption(rate=1.5)


def test_forms():
    for form, gated in (("1.0", False), ("1.1", True)):
        for preset in ("paper", "tuned"):
            shape: Any = load("t5", preset=preset, form=form).model
            assert (shape.gated, shape.tied) == (gated, not gated)
    for form, published in (("1.0", 60_506_624), ("1.1", 76_961_152)):
        small: Any = replace(load("t5", preset="paper", form=form).model, vocabulary=32128)
        assert small.parameters(["lm"]) == published
    with pytest.raises(BadInput, match="form"):
        load("t5", form="2")


def test_the_enlarged_vocabulary_is_one_wherever_it_comes_from(source: Any, tmp_path: Path):
    """Saved with a model and read again it is the same, and has no need of more sentinels."""
    source.tokenizer.save(tmp_path)
    again = Tokenizer.from_file(tmp_path)
    assert again.hash == source.tokenizer.hash
    assert again.with_sentinels(100) is again
    assert again.encode(["<extra_id_3>"], specials=True) == [[again.size - 4]]
    assert again.size - 4 not in again.encode(["<extra_id_3>"])[0]
