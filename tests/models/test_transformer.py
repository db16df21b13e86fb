"""The trunk: the shortcut at asked places is exact, packing changes nothing, nobody peeks, kernels agree."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from masklab.models import pattern
from masklab.models.attention import Kernel
from masklab.models.heads import ClassifyHead, MaskedLMHead, Pooler, TagHead
from masklab.models.linear import Projection
from masklab.models.pattern import Inputs, Layout
from masklab.models.positions import bucket, rotary_table, rotate
from masklab.models.transformer import Model, take

PATTERNS = {
    "bidirectional": (pattern.bidirectional, "bidirectional"),
    "causal": (pattern.causal, "causal"),
    "backward": (pattern.backward, "general"),
    "prefix": (lambda n: pattern.prefix(n // 2, n), "general"),
}


def model_of(config, kernel: Kernel = "auto") -> Model:
    """Weights large enough for attention to be anything but flat, no dropout."""
    model = Model(replace(config, dropout=0.0, attention_dropout=0.0), kernel)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("documents", [[[12], [12]], [[5, 7], [4, 4]]], ids=["full", "packed"])
@pytest.mark.parametrize("name", PATTERNS)
def test_shortcut_is_exact(config, name, documents, make_rows):
    builder, kind = PATTERNS[name]
    layout = Layout(kind, full=documents == [[12], [12]])
    inputs = make_rows(documents, 12, builder, config.pad)
    at = torch.tensor([[0, 3, 3, 11], [7, 2, 0, 5]])  # in any order, and twice
    model = model_of(config, "plain")
    towards = torch.randn(2, 4, config.width)
    gradients = []
    for keep in ((), ("hidden",)):  # keeping states switches the shortcut off
        states = model(inputs, layout=layout, at=at, keep=keep)
        gradients.append((states.last, torch.autograd.grad((states.last * towards).sum(), list(model.parameters()))))
    (short, short_gradient), (whole, whole_gradient) = gradients
    torch.testing.assert_close(short, whole, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(short, take(model(inputs, layout=layout).last, at), atol=2e-6, rtol=1e-5)
    for ours, theirs in zip(short_gradient, whole_gradient, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_one_layer_shortcut(config, make_rows):
    model = model_of(replace(config, layers=1))
    inputs, layout = make_rows([[6, 3]], 10, pad=config.pad), Layout("bidirectional")
    at = torch.tensor([[8, 1]])
    torch.testing.assert_close(model(inputs, layout=layout, at=at).last, take(model(inputs, layout=layout).last, at))


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kernel", ["reference", "plain", "sdpa"])
def test_packed_rows_are_their_documents(config, kernel, name, make_rows):
    """A document has the same states alone and packed, and a gradient reaches exactly the tokens it may see."""
    builder, kind = PATTERNS[name]
    model = model_of(config, kernel)
    packed = make_rows([[5, 4]], 11, builder, config.pad)
    states = model(packed, layout=Layout(kind)).last
    for begin, end in ((0, 5), (5, 9)):
        alone = Inputs(*(field[:, begin:end] for field in packed))
        torch.testing.assert_close(
            states[:, begin:end], model(alone, layout=Layout(kind, full=True)).last, atol=5e-6, rtol=1e-5
        )

    embedded: list[torch.Tensor] = []

    def remember(_module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        embedded.append(out)

    model.embeddings.register_forward_hook(remember)
    states = model(packed, layout=Layout(kind)).last
    seen = pattern.visible(packed, packed)[0, 0]
    reach = (seen.float() @ seen.float()) > 0  # two layers: whom those that I see have seen
    for i in range(11):
        (into,) = torch.autograd.grad(states[0, i].square().sum(), embedded[-1], retain_graph=True)
        assert ((into[0].abs().sum(-1) != 0) == reach[i]).all()


@pytest.mark.usefixtures("kernels_of_gpus")
@pytest.mark.parametrize("kernel", ["plain", "sdpa", "auto", "varlen", "flex"])
def test_kernels_agree(config, kernel, make_rows):
    """Values and gradients, at all slots and at those asked; attentions that are kept; with dropout, which two lack."""
    inputs, layout = make_rows([[6, 6], [9, 3]], 12, pad=config.pad), Layout("bidirectional")
    reference = model_of(config, "reference")
    other = Model(reference.config, kernel)
    other.load_state_dict(reference.state_dict())
    for at in (None, torch.tensor([[0, 7], [11, 8]])):
        ours, theirs = (model(inputs, layout=layout, at=at).last for model in (other, reference))
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=1e-5)
        gradients = [torch.autograd.grad(x.square().sum(), list(model.parameters()))
                     for x, model in ((ours, other), (theirs, reference))]  # fmt: skip
        for mine, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)
    kept = [model(inputs, layout=layout, keep=("attentions",)).attentions for model in (other, reference)]
    torch.testing.assert_close(kept[0], kept[1], atol=1e-5, rtol=1e-5)
    dropping = Model(replace(config, dropout=0.0, attention_dropout=0.5), kernel)
    assert not torch.equal(*(dropping(inputs, layout=layout).last for _ in range(2)))
    with torch.autocast("cpu", torch.bfloat16):
        near = other(inputs, layout=layout).last
    assert (near - reference(inputs, layout=layout).last).abs().max() < 0.2


def test_kept_states_and_attentions(config, make_rows):
    inputs, layout = make_rows([[6, 3]], 10, pad=config.pad), Layout("bidirectional")
    states = model_of(config)(inputs, layout=layout, keep=("hidden", "attentions"))
    assert [tuple(x.shape) for x in states.hidden] == [(1, 10, 32)] * 3
    assert [tuple(x.shape) for x in states.attentions] == [(1, 4, 10, 10)] * 2
    for weights in states.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 10))
        assert weights[:, :, :6, 6:].abs().max() == 0


def test_dropout_only_while_training(config, make_rows):
    inputs, layout = make_rows([[9]], 9, pad=config.pad), Layout("bidirectional", True)
    model = Model(replace(config, dropout=0.1, attention_dropout=0.1))
    first, second = (model(inputs, layout=layout).last for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(inputs, layout=layout).last for _ in range(2))
    assert torch.equal(first, second)


def test_fused_weights_tell_their_parts(config):
    model = Model(config)
    parts = {name: module.parts for name, module in model.layers[0].named_modules() if isinstance(module, Projection)}
    gated = 2 if config.family == "modernbert" else 1
    assert parts == {"attention.qkv": 3, "attention.out": 1, "feed_forward.wi": gated, "feed_forward.wo": 1}


def test_buckets_are_those_of_transformers():
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distance = torch.arange(-600, 601)
    assert torch.equal(bucket(distance), MPNetEncoder.relative_position_bucket(distance))
    assert bucket(torch.tensor([-200, -9, -8, -1, 0, 1, 8])).tolist() == [15, 8, 8, 1, 0, 17, 24]


def test_rotation_is_by_differences_and_its_gradient_right():
    table = rotary_table(50, 8, 1000.0, torch.device("cpu"))
    q, k = torch.randn(8), torch.randn(8)
    scores = rotate(q.expand(50, 8), table) @ rotate(k.expand(50, 8), table).T
    for distance in (-7, 0, 3):
        line = scores.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), atol=1e-5, rtol=1e-5)
    wide = table.double()
    x = torch.randn(50, 8, dtype=torch.float32, requires_grad=True)
    towards = torch.randn(50, 8)
    (gradient,) = torch.autograd.grad((rotate(x, table) * towards).sum(), x)
    half = towards.unflatten(-1, (2, 4)).flip(-2).flatten(-2).double()
    torch.testing.assert_close(gradient.double(), towards.double() * wide[0] - half * wide[1], atol=1e-5, rtol=1e-5)


def test_heads_start_from_trained_ones(config):
    model = Model(config)
    trained = nn.ModuleDict({"masked_lm": MaskedLMHead(config, model.embeddings), "pooler": Pooler(config)})
    classify, tag = ClassifyHead(config, 3, trained), TagHead(config, 4, trained)
    assert classify(torch.randn(2, 32)).shape == (2, 3)
    assert tag(torch.randn(2, 5, 32)).shape == (2, 5, 4)
    lender = {"bert": "pooler", "modernbert": "masked_lm", "mpnet": None, "electra": None}[config.family]
    borrowed = dict(classify.ready.named_parameters())
    if lender:
        theirs = dict(trained[lender].named_parameters())
        assert all(torch.equal(p, theirs[name]) for name, p in borrowed.items())
    if config.family == "modernbert":
        assert torch.equal(tag.ready.get_parameter("dense.weight"), trained["masked_lm"].get_parameter("dense.weight"))


def test_the_masked_lm_head_is_tied_and_owns_no_table(config):
    model = Model(config)
    head = MaskedLMHead(config, model.embeddings)
    assert all(p is not model.embeddings.tokens.weight for p in head.parameters())
    before = head(torch.ones(32))
    with torch.no_grad():
        model.embeddings.tokens.weight[7] += 1
    assert (head(torch.ones(32)) != before).nonzero().flatten().tolist() == [7]
