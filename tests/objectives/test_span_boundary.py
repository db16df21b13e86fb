"""SpanBERT: spans are whole words that never touch, one throw each; the boundary loss equals one computed by hand."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from masklab.analysis.show import show
from masklab.corpus.store import Store
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.heads import BoundaryHead
from masklab.models.pattern import Inputs, Layout
from masklab.models.transformer import Model
from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.rows import plain_row
from masklab.objectives.span_boundary import SpanBoundary, choose_spans
from masklab.recipe import load
from masklab.rng import rng
from masklab.training.batches import IGNORE, Batch, micro_batches


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([16, 64, 128]), st.floats(0.05, 0.6), st.integers(1, 10))
def test_spans(store: Store, seed: int, length: int, rate: float, longest: int):
    part = store.part("train")
    row = plain_row(part, seed % len(part.rows(length, 2)), length)
    spans = choose_spans(row, rate, 0.2, longest, rng(0, "spans", seed))
    word = np.cumsum((row.units & WORD_START > 0) | (np.diff(row.text, prepend=False) & row.text))
    text = int(row.text.sum())
    budget = max(1, round(rate * text))
    hidden = np.zeros(length, bool)
    for a, b in spans:
        assert row.text[a:b].all()
        assert word[a - 1] != word[a] or not row.text[a - 1]  # begins with a word
        assert word[b] != word[b - 1] or not row.text[b]  # ends with one
        assert len(set(word[a:b])) <= longest
        assert row.inputs.document[a - 1] == row.inputs.document[b] == row.inputs.document[a]
        hidden[a:b] = True
    for a, b in spans:
        assert not hidden[a - 1]
        assert not hidden[b]
    assert len(spans) >= 1
    assert hidden.sum() <= budget or len(spans) == 1
    example = SpanBoundary(MaskedLM(rate), longest=longest).hide(row, part.tokenizer, rng(1, "hide", seed), 1.0)
    slots, targets = example.at["masked"], example.targets["masked"]
    restored = example.inputs.tokens.copy()
    restored[slots] = targets
    assert np.array_equal(restored, row.inputs.tokens)
    left, right = example.at["left"], example.at["right"]
    of = example.targets["span"]
    assert np.array_equal(slots - left[of] - 1, example.targets["place"])
    assert (right[of] > slots).all()
    masked = example.targets["hidden"] != IGNORE
    for span in range(len(left)):  # one throw for the whole span
        assert len(set(masked[of == span])) == 1


def test_lengths_are_geometric_and_the_budget_is_met(store: Store):
    """Of long rows: short spans are the most frequent, and the mean is near that of the geometric law cut at 10."""
    part = store.part("train")
    lengths: Counter[int] = Counter()
    asked = text = 0
    for i in range(len(part.rows(512, 2))):
        row = plain_row(part, i, 512)
        word = np.cumsum((row.units & WORD_START > 0) | (np.diff(row.text, prepend=False) & row.text))
        for a, b in choose_spans(row, 0.15, 0.2, 10, rng(0, "lengths", i)):
            lengths[len(set(word[a:b]))] += 1
            asked += b - a
        text += row.text.sum()
    assert asked / text == pytest.approx(0.15, abs=0.005)
    mean = sum(n * c for n, c in lengths.items()) / lengths.total()
    wanted = sum(n * 0.2 * 0.8 ** (n - 1) for n in range(1, 10)) + 10 * 0.8**9
    assert mean == pytest.approx(wanted, abs=0.8)  # longer spans fit less often beside others
    assert lengths[1] > lengths[3] > lengths[6]


def test_the_loss_by_hand():
    """One row of six, one span of two (slots 2 and 3): token i from states 1 and 4 and place i."""
    torch.manual_seed(0)
    config = Config("bert", vocabulary=11, layers=1, width=8, heads=2, feed_forward=16, max_length=8, dropout=0,
                    attention_dropout=0)  # fmt: skip
    model = Model(config).eval()
    objective = SpanBoundary(weight=0.5, places=4)
    heads = objective.heads(model, None)
    zero = torch.zeros(1, 6, dtype=torch.int32)
    inputs = Inputs(torch.tensor([[2, 5, 3, 3, 7, 4]], dtype=torch.int32), torch.arange(6, dtype=torch.int32)[None],
                    zero, zero, zero, zero)  # fmt: skip
    at = {"masked": torch.tensor([[2, 3]]), "left": torch.tensor([[1]]), "right": torch.tensor([[4]])}
    targets = {name: torch.tensor([value]) for name, value in (
        ("masked", [8, 9]), ("hidden", [8, 9]), ("boundary", [8, 9]), ("span", [0, 0]), ("place", [0, 1]))}  # fmt: skip
    batch = Batch(inputs, at, targets, Layout("bidirectional", True), {"masked": 2, "boundary": 2}, 6, 6)
    terms = objective.loss(model, heads, batch)
    states = model(inputs, layout=batch.layout).last[0]
    head: BoundaryHead = heads["boundary"]  # type: ignore[assignment]
    nats = 0.0
    for place, token in ((0, 8), (1, 9)):
        x = torch.cat([states[1], states[4], head.place.weight[place]])
        h = F.layer_norm(F.gelu(head.first.weight @ x + head.first.bias), [8], eps=config.norm_eps)
        y = F.layer_norm(F.gelu(head.second.weight @ h + head.second.bias), [8], eps=config.norm_eps)
        nats -= torch.log_softmax(model.embeddings.tokens.weight @ y + head.bias, 0)[token]
    assert terms["boundary"].weight == 0.5
    assert float(terms["boundary"].total.detach()) == pytest.approx(float(nats), rel=1e-5)
    with torch.no_grad():
        assert float(objective.loss(model, heads, batch)["boundary"].total) == pytest.approx(float(nats), rel=1e-5)


def test_the_boundary_sees_only_its_two_neighbours():
    config = Config("bert", vocabulary=11, layers=1, width=8, heads=2, feed_forward=16, max_length=8)
    head = BoundaryHead(config, Model(config).embeddings, 4)
    left, right = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8, requires_grad=True)
    head(left, right, torch.tensor([0, 1, 2]))[1].sum().backward()
    for grad in (left.grad, right.grad):
        assert grad is not None
        assert grad[1].abs().sum() > 0
        assert grad[[0, 2]].abs().sum() == 0


def test_places_beyond_the_table_are_not_asked(store: Store):
    part = store.part("train")
    row = plain_row(part, 0, 128)
    example = SpanBoundary(MaskedLM(0.5), places=2).hide(row, part.tokenizer, rng(0, "x"), 1.0)
    beyond = example.at["masked"] - example.at["left"][example.targets["span"]] - 1 >= 2
    assert beyond.any()
    assert ((example.targets["boundary"] == IGNORE) == beyond).all()


def test_it_is_kept_beside_and_comes_back(store: Store, tmp_path):
    config = Config("bert", vocabulary=50, layers=1, width=16, heads=2, feed_forward=16, max_length=16)
    model = Model(config)
    heads = SpanBoundary(places=7).heads(model, None)
    assert hub.save(tmp_path / "m", config, model, heads) == "BertForMaskedLM"
    loaded = hub.load(tmp_path / "m")
    assert set(loaded.heads) == {"masked_lm", "boundary"}
    assert not loaded.new
    assert not loaded.unused
    x, place = torch.randn(5, 16), torch.arange(5)
    assert torch.equal(heads["boundary"](x, x, place), loaded.heads["boundary"](x, x, place))
    hub.save(tmp_path / "other", Config("bert", vocabulary=50, layers=1, width=32, heads=2), Model(
        Config("bert", vocabulary=50, layers=1, width=32, heads=2)), {})  # fmt: skip
    (tmp_path / "other" / "heads.safetensors").write_bytes((tmp_path / "m" / "heads.safetensors").read_bytes())
    with pytest.raises(BadInput, match="not of this model"):
        hub.load(tmp_path / "other")


def test_batches_and_show(store: Store):
    recipe = load("spanbert", data=str(store.path))
    batch = micro_batches(recipe.objective, store.part("train"), seed=0, first_row=0, rows=8, length=64)[0]
    assert batch.at["left"].shape[1] < batch.at["masked"].shape[1]
    text = show(recipe, 0).page(1)
    assert "to the right" in text
    assert SpanBoundary(MaskedLM()) == load("spanbert", preset="paper").objective
    with pytest.raises(BadInput):
        SpanBoundary(p=0)
