"""ELECTRA: the sample is the inverse of the distribution, no gradient passes it, labels and loss are as by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from masklab.corpus.store import Store
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.generator import Generator, generator_config
from masklab.models.pattern import Inputs, Layout
from masklab.models.transformer import Model
from masklab.objectives.replaced_tokens import _GRAIN, ReplacedTokens, sample
from masklab.recipe import load
from masklab.training.batches import IGNORE, Batch, micro_batches
from masklab.training.optim import Optimizer, Optimizers

SHAPE = {"vocabulary": 40, "layers": 2, "width": 32, "heads": 4, "feed_forward": 48, "max_length": 16}


@pytest.fixture
def config() -> Config:
    torch.manual_seed(0)
    return Config("electra", dropout=0, attention_dropout=0, **SHAPE)  # type: ignore[arg-type]


def batch(tokens: list[int], slots: list[int], targets: list[int], throws: list[float]) -> Batch:
    n = len(tokens)
    zero = torch.zeros(1, n, dtype=torch.int32)
    row = torch.tensor([tokens], dtype=torch.int32)
    inputs = Inputs(row, torch.arange(n, dtype=torch.int32)[None], zero, zero, zero, zero)
    wanted = {
        "masked": torch.tensor([targets]),
        "hidden": torch.tensor([targets]),
        "throw": (torch.tensor([throws]) * _GRAIN).long(),
        "replaced": torch.zeros(1, n, dtype=torch.int64),
    }
    return Batch(inputs, {"masked": torch.tensor([slots])}, wanted, Layout("bidirectional", True),
                 {"masked": sum(t != IGNORE for t in targets), "replaced": n}, n, n)  # fmt: skip


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 50))
def test_sampling_is_the_inverse_of_the_distribution(seed: int, size: int):
    logits = torch.randn(1, 1, size, generator=torch.Generator().manual_seed(seed)) * 3
    p = logits.softmax(-1)[0, 0].double()
    edges = np.concatenate([[0], np.cumsum(p.numpy())])
    throws = torch.linspace(0.001, 0.999, 200)
    got = sample(logits.expand(1, 200, size), throws[None])[0].numpy()
    for throw, token in zip(throws.tolist(), got, strict=True):
        assert edges[token] - 1e-5 <= throw <= edges[token + 1] + 1e-5
    many = (torch.arange(20_000) + 0.5) / 20_000
    counts = np.bincount(sample(logits.expand(1, 20_000, size), many[None])[0].numpy(), minlength=size)
    assert np.allclose(counts / 20_000, p, atol=2e-4)


def test_the_loss_by_hand(config: Config):
    """Four tokens, slots 1 and 2 masked; slot 1's sample is forced to be the author's, slot 2's to be another."""
    model = Model(config).eval()
    objective = ReplacedTokens(weight=50.0, generator=0.5)
    heads = objective.heads(model, SimpleNamespace())
    given_ = batch([2, 4, 4, 3], [1, 2, 0], [7, 9, IGNORE], [0.0, 0.0, 0.0])
    logits = heads["generator"](given_.inputs, given_.layout, given_.at["masked"])[0].detach().double()
    p = logits.softmax(-1)
    throw = [float(p[0, :7].sum() + p[0, 7] / 2), float(p[1, :30].sum() + p[1, 30] / 2), 0.0]
    given_ = batch([2, 4, 4, 3], [1, 2, 0], [7, 9, IGNORE], throw)
    terms = objective.loss(model, heads, given_)
    nats = -(p[0, 7].log() + p[1, 9].log())
    assert float(terms["masked"].total.detach()) == pytest.approx(float(nats), rel=1e-5)
    corrupted = given_.inputs._replace(tokens=torch.tensor([[2, 7, 30, 3]], dtype=torch.int32))
    states = model(corrupted, layout=given_.layout).last[0]
    head = heads["replaced"]
    score = F.gelu(states @ head.dense.weight.T + head.dense.bias) @ head.out.weight[0] + head.out.bias  # type: ignore
    truth = [0, 0, 1, 0]  # the sampled 7 is the author's own
    by_hand = sum(-math.log(1 / (1 + math.exp(-s if t else s))) for s, t in zip(score.tolist(), truth, strict=True))
    assert float(terms["replaced"].total.detach()) == pytest.approx(by_hand, rel=1e-5)
    assert terms["replaced"].weight == 50
    assert (int(terms["replaced"].count), int(terms["found"].count)) == (4, 1)
    always = terms["always original"]
    assert int(always.correct) == 3  # type: ignore[arg-type]
    assert float(always.total) == pytest.approx(-4 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75)))


def test_no_gradient_passes_the_sample_and_tables_learn_from_both(config: Config):
    model = Model(config)
    objective = ReplacedTokens(generator=0.5)
    heads = objective.heads(model, SimpleNamespace())
    given_ = batch([2, 4, 4, 3], [1, 2], [7, 9], [0.3, 0.7])
    terms = objective.loss(model, heads, given_)
    generator = list(heads["generator"].parameters())
    through = torch.autograd.grad(terms["replaced"].total, generator, allow_unused=True, retain_graph=True)
    assert all(g is None for g in through)
    table = model.embeddings.tokens.weight
    for name in ("masked", "replaced"):
        (grad,) = torch.autograd.grad(terms[name].total, [table], retain_graph=True)
        assert grad.abs().sum() > 0
    assert all(p is not table for p in generator)
    ids = [id(p) for p in Optimizers(model, heads, Optimizer("muon")).parameters.values()]
    assert len(ids) == len(set(ids))
    assert ids.count(id(table)) == 1


def test_shapes(config: Config):
    quarter = generator_config(Config("electra", width=256, heads=4, feed_forward=1024, inner=128), 0.25)
    assert (quarter.width, quarter.heads, quarter.feed_forward, quarter.inner) == (64, 1, 256, 128)
    half = generator_config(config, 0.5)
    assert (half.width, half.heads, half.head_size, half.table_width) == (16, 2, 8, 32)
    assert generator_config(config, 1.0) == config


@pytest.mark.parametrize("inner", [0, 24])
def test_both_open_in_transformers(inner: int, tmp_path):
    torch.manual_seed(0)
    config = Config("electra", dropout=0, attention_dropout=0, inner=inner, **SHAPE)  # type: ignore[arg-type]
    model = Model(config).eval()
    heads = ReplacedTokens(generator=0.5).heads(model, SimpleNamespace()).eval()
    with torch.no_grad():
        for p in [*model.parameters(), *heads.parameters()]:
            p.add_(0.2 * torch.randn_like(p))
    assert hub.save(tmp_path, config, model, heads) == "ElectraForPreTraining"
    given_ = batch([2, 4, 4, 3], [1, 2], [7, 9], [0.3, 0.7])
    ids = {"input_ids": given_.inputs.tokens.long()}
    for folder, name in ((tmp_path, "ElectraForPreTraining"), (tmp_path / "generator", "ElectraForMaskedLM")):
        theirs, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        with torch.no_grad():
            there = theirs.eval()(**ids).logits
            if name == "ElectraForMaskedLM":
                here = heads["generator"](given_.inputs, given_.layout, torch.arange(4)[None])
            else:
                here = heads["replaced"](model(given_.inputs, layout=given_.layout).last)
        torch.testing.assert_close(here, there, atol=3e-5, rtol=0)
    loaded = hub.load(tmp_path)
    assert set(loaded.heads) == {"replaced", "generator"}
    again: Generator = loaded.heads["generator"]  # type: ignore[assignment]
    assert again.model.embeddings.tokens is loaded.model.embeddings.tokens
    own = heads.state_dict()
    assert all(torch.equal(x, own[k]) for k, x in loaded.heads.state_dict().items())
    other = Model(config)
    hub.save(tmp_path / "generator", again.config, *Generator(again.config, other.embeddings).alone())
    with pytest.raises(BadInput, match="not those of the discriminator"):
        hub.load(tmp_path)


def test_every_token_is_asked_and_throws_are_the_rows_own(store: Store):
    recipe = load("electra", data=str(store.path))
    found = micro_batches(recipe.objective, store.part("train"), seed=0, first_row=0, rows=8, length=64)[0]
    assert found.counts["replaced"] == found.tokens
    throws = found.targets["throw"][found.targets["masked"] != IGNORE].double() / _GRAIN
    assert 0 <= throws.min() < 0.1
    assert 0.9 < throws.max() < 1
    with pytest.raises(BadInput, match="a share of the discriminator's width"):
        ReplacedTokens(generator=0)
