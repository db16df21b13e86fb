"""Every kernel equals the textbook, in value and gradient, and never looks where it may not."""

import numpy as np
import pytest
import torch

from masklab.models import pattern
from masklab.models.attention import Kernel, attend, choose
from masklab.models.pattern import Layout, visible

PATTERNS = {
    "bidirectional": (pattern.bidirectional, "bidirectional"),
    "causal": (pattern.causal, "causal"),
    "backward": (pattern.backward, "general"),
    "prefix": (lambda n: pattern.prefix(n // 2, n), "general"),
}
ROWS = {"whole": [[7], [7]], "packed": [[3, 4], [2, 5]], "padded": [[5], [2, 3]]}
KERNELS: list[Kernel] = ["reference", "plain", "sdpa", "auto"]


def textbook(q, k, v, seen, bias):
    """One query at a time, in float64, over the keys it sees and no others."""
    q, k, v = (x.detach().double() for x in (q, k, v))
    out = torch.zeros_like(q)
    for b, h, i in np.ndindex(*q.shape[:3]):
        keys = seen[b, 0, i].nonzero().flatten()
        scores = k[b, h, keys] @ q[b, h, i] / q.shape[-1] ** 0.5
        if bias is not None:
            scores = scores + bias[h, i, keys].detach().double()
        out[b, h, i] = torch.softmax(scores, 0) @ v[b, h, keys]
    return out.float()


def layout_of(kind, which):
    return Layout(kind, full=which == "whole")


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("which", ROWS)
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_to_the_textbook(kernel, name, which, biased, make_rows):
    builder, kind = PATTERNS[name]
    inputs = make_rows(ROWS[which], 7, builder)
    q, k, v = (torch.randn(2, 3, 7, 8, requires_grad=True) for _ in range(3))
    bias = torch.randn(3, 7, 7, requires_grad=True) if biased else None
    learned = [x for x in (q, k, v, bias) if x is not None]
    towards = torch.randn(2, 3, 7, 8)

    def run(kernel: Kernel, layout: Layout):
        out = attend(q, k, v, inputs, inputs, bias, layout=layout, kernel=kernel)
        return out, torch.autograd.grad((out * towards).sum(), learned)

    out, gradients = run(kernel, layout_of(kind, which))
    torch.testing.assert_close(out, textbook(q, k, v, visible(inputs, inputs), bias), atol=2e-6, rtol=1e-5)
    _, expected = run("reference", Layout("general", False))  # the general rule, no shortcut
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_peeking(kernel, name, dtype, make_rows):
    """d state i / d (key j, value j) is exactly 0 wherever j is unseen, and not 0 where it is seen."""
    builder, kind = PATTERNS[name]
    inputs = make_rows([[3, 4]], 8, builder)
    seen = visible(inputs, inputs)[0, 0]
    q, k, v = (torch.randn(1, 2, 8, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    for layout in {Layout(kind, False), Layout("general", False)}:
        out = attend(q, k, v, inputs, inputs, layout=layout, kernel=kernel)
        for i in range(8):
            into = torch.autograd.grad(out[0, :, i].sum(), (k, v), retain_graph=True)
            reached = torch.stack([x.abs().sum((0, 1, 3)) for x in into]).sum(0)
            assert ((reached != 0) == seen[i]).all()


def test_full_bidirectional_rows_need_no_mask(make_rows):
    from masklab.models.attention import additive

    inputs = make_rows([[5], [5]], 5)
    assert additive(inputs, inputs, None, Layout("bidirectional", True), torch.float32) is None


@pytest.mark.parametrize("kernel", KERNELS)
def test_across(kernel, make_rows):
    """Queries of one side, keys of another: document alone decides, and who finds nobody gathers zeros, not NaN."""
    keys = make_rows([[3, 3]], 6, pattern.causal)  # its own times play no part
    queries = make_rows([[2, 1, 2]], 5)  # documents 0, 1 and 2: nobody is there for 2
    q = torch.randn(1, 2, 5, 4, requires_grad=True)
    k, v = (torch.randn(1, 2, 6, 4, requires_grad=True) for _ in range(2))
    out = attend(q, k, v, queries, keys, layout=Layout("general"), kernel=kernel)
    assert out[:, :, 3:].abs().max() == 0
    alone = attend(
        q[:, :, :2], k[:, :, :3], v[:, :, :3], make_rows([[2]], 2), make_rows([[3]], 3), layout=Layout("general")
    )
    torch.testing.assert_close(out[:, :, :2], alone)
    out.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v) if x.grad is not None)


def test_auto_is_chosen_by_device_and_dtype_alone():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose("auto", cpu, torch.bfloat16) == "plain"
    assert choose("auto", cpu, torch.float32) == "sdpa"
    assert choose("auto", gpu, torch.bfloat16) == "sdpa"
    assert choose("reference", cpu, torch.bfloat16) == "reference"


def test_bf16_stays_near_the_reference(make_rows):
    inputs = make_rows([[20, 12]], 32)
    q, k, v = (torch.randn(1, 4, 32, 16) for _ in range(3))
    exact = attend(q, k, v, inputs, inputs, layout=Layout("bidirectional"), kernel="reference")
    near = attend(
        q.bfloat16(), k.bfloat16(), v.bfloat16(), inputs, inputs, layout=Layout("bidirectional"), kernel="plain"
    )
    assert near.dtype == torch.bfloat16
    assert (near.float() - exact).abs().max() < 0.05
