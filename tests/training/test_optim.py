"""The optimizers against torch's own."""

import copy
from typing import cast

import pytest
import torch
from torch import nn

from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.transformer import Block, Model
from masklab.training import optim
from masklab.training.optim import Muon, Optimizer, Optimizers, orthogonal


def test_stacked_muon_is_torch_muon():
    """Same shapes in one product: the update is torch.optim.Muon's, up to the rounding of bfloat16 products."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(*s)) for s in [(16, 16), (16, 16), (48, 16), (16, 48), (16, 16)]]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    a = Muon(ours, lr=0.02, weight_decay=0.1)
    b = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)
    for _ in range(5):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, atol=2e-3, rtol=0)  # each update has entries of about 0.02 / 4


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64)])
def test_three_scaled_steps_turn_as_well_as_five(shape: tuple[int, int]):
    """As near to the nearest orthogonal matrix, and nearer than three others where some directions are faint."""
    torch.manual_seed(0)

    def nearness(x: torch.Tensor, steps: int, scaled: bool) -> float:
        left, _, right = torch.linalg.svd(x, full_matrices=False)
        found = orthogonal(x[None], (3.4445, -4.775, 2.0315), steps, 1e-7, scaled)[0].float()
        assert torch.linalg.svdvals(found).max() < 1.25
        return float((found * (left @ right)).sum() / found.norm() / min(shape) ** 0.5)

    even = torch.randn(*shape)
    faint = torch.randn(shape[0], 64) @ torch.diag(torch.logspace(0, -2, 64)) @ torch.randn(64, shape[1])
    assert nearness(even, 3, True) > nearness(even, 5, False) - 0.01
    assert nearness(faint, 3, True) > nearness(faint, 3, False) + 0.02


def tiny(family: str) -> Model:
    return Model(Config(family, vocabulary=50, layers=2, width=16, heads=2, feed_forward=32, max_length=16, pad=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_adamw_is_torch_adamw(family: str):
    """Same groups, one torch.optim.AdamW: identical weights."""
    model = tiny(family)
    twin = copy.deepcopy(model)
    ours = Optimizers(model, nn.ModuleDict(), Optimizer("adamw", lr=1e-2, clip=0))
    groups = [
        {"params": [p for p in twin.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in twin.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-6)
    for step in range(3):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step(step, 0.5)
        for group in theirs.param_groups:
            group["lr"] = 0.5e-2
        theirs.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("blocks", "least", "parts"), [(1, 8, 3), (2, 8, 6), (3, 5, 6), (4, 4, 12), (4, 16, 3)])
def test_a_fused_weight_is_turned_matrix_by_matrix(
    blocks: int, least: int, parts: int, monkeypatch: pytest.MonkeyPatch
):
    """Query, key and value of one fused weight, or blocks of their rows, each get the update they would get alone."""
    monkeypatch.setattr(optim, "LEAST_ROWS", least)
    model = tiny("bert")
    block = cast(Block, model.layers[0])
    weight = block.attention.qkv.weight
    alone = [nn.Parameter(p.clone()) for p in weight.detach().chunk(parts)]
    settings = Optimizer("muon", muon_lr=0.05, muon_blocks=blocks, weight_decay=0.0, momentum_warmup=0, clip=0)
    ours = Optimizers(model, nn.ModuleDict(), settings)
    theirs = Muon(alone, quick=True, lr=0.05, weight_decay=0.0)
    weight.grad = torch.randn_like(weight)
    for p, g in zip(alone, weight.grad.chunk(parts), strict=True):
        p.grad = g.clone()
    ours.step(0, 1.0)
    theirs.step()
    torch.testing.assert_close(weight.detach(), torch.cat([p.detach() for p in alone]), atol=5e-3, rtol=0)


def test_state_goes_out_and_comes_back():
    torch.manual_seed(0)
    first, second = tiny("modernbert"), tiny("modernbert")
    second.load_state_dict(first.state_dict())
    settings = Optimizer("muon", embedding_lr=1e-2)
    a, b = (Optimizers(m, nn.ModuleDict(), settings) for m in (first, second))

    def move(optimizers: Optimizers, model: Model, step: int) -> None:
        torch.manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizers.step(step, 1.0)

    for step in range(3):
        move(a, first, step)
    second.load_state_dict(first.state_dict())
    b.load(a.state())
    for step in range(3, 6):
        move(a, first, step)
        move(b, second, step)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


def test_state_that_has_no_place_is_said_with_a_cure():
    ours = Optimizers(tiny("bert"), nn.ModuleDict(), Optimizer("muon"))
    old = {"model.layers.0.attention.qkv.weight.0/momentum_buffer": torch.zeros(1)}
    with pytest.raises(BadInput, match=r"qkv\.weight\.0.* an older one wrote it"):
        ours.load(old)


def test_embeddings_have_a_rate_of_their_own_and_norms_do_not_decay():
    model = tiny("bert")
    ours = Optimizers(model, nn.ModuleDict(), Optimizer("adamw", lr=1e-3, embedding_lr=1e-2))
    by_id = {id(p): group for group in ours.all[0].param_groups for p in group["params"]}
    assert by_id[id(model.embeddings.tokens.weight)]["lr"] == 1e-2
    assert by_id[id(model.layers[0].attention.qkv.weight)]["lr"] == 1e-3  # type: ignore[union-attr]
    assert by_id[id(model.layers[0].attention_norm.weight)]["weight_decay"] == 0  # type: ignore[union-attr]


def test_clipping_says_what_the_norm_was():
    model = tiny("bert")
    ours = Optimizers(model, nn.ModuleDict(), Optimizer(clip=1.0))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    count = sum(p.numel() for p in model.parameters())
    assert ours.clip() == pytest.approx(count**0.5, rel=1e-5)
    assert sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) == pytest.approx(
        1, rel=1e-4
    )
