"""Every kernel equals the textbook, in value and gradient, and never looks where it may not."""

import numpy as np
import pytest
import torch

from masklab.models import attention, pattern
from masklab.models.attention import Documents, Kernel, attend, candidates, choose, documents, fastest, prepared
from masklab.models.pattern import Layout, visible

PATTERNS = {
    "bidirectional": (pattern.bidirectional, "bidirectional"),
    "causal": (pattern.causal, "causal"),
    "backward": (pattern.backward, "general"),
    "prefix": (lambda n: pattern.prefix(n // 2, n), "general"),
}
ROWS = {"whole": [[7], [7]], "packed": [[3, 4], [2, 5]], "padded": [[5], [2, 3]]}
KERNELS: list[Kernel] = ["reference", "plain", "sdpa", "auto", "varlen", "flex"]
pytestmark = pytest.mark.usefixtures("kernels_of_gpus")


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
    # to varlen padding is a document like others, causal too; nobody reads what it gathers
    counted = ((inputs.document >= 0) | (kernel != "varlen"))[:, None, :, None]
    towards = torch.randn(2, 3, 7, 8) * counted

    def run(kernel: Kernel, layout: Layout):
        out = attend(q, k, v, inputs, inputs, bias, layout=layout, kernel=kernel)
        return out, torch.autograd.grad((out * towards).sum(), learned)

    out, gradients = run(kernel, layout_of(kind, which))
    expected = textbook(q, k, v, visible(inputs, inputs), bias)
    torch.testing.assert_close(out * counted, expected * counted, atol=2e-6, rtol=1e-5)
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


def test_auto_is_chosen_by_device_dtype_and_layout_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "HALF", (torch.bfloat16, torch.float16))
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose("auto", cpu, torch.bfloat16) == "plain"
    assert choose("auto", cpu, torch.float32) == "sdpa"
    assert choose("reference", cpu, torch.bfloat16) == "reference"
    for capability, packed, general in (((9, 0), "varlen", "flex"), ((7, 5), "sdpa", "sdpa")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert choose("auto", gpu, torch.float16, Layout("bidirectional")) == packed
        assert choose("auto", gpu, torch.float16, Layout("causal")) == packed
        assert choose("auto", gpu, torch.float16, Layout("bidirectional", full=True)) == "sdpa"
        assert choose("auto", gpu, torch.float16, Layout("bidirectional"), biased=True) == general
        assert choose("auto", gpu, torch.float16, Layout("general")) == general
        assert choose("auto", gpu, torch.float32, Layout("general")) == "sdpa"


@pytest.mark.parametrize("slow", ["plain", "sdpa"])
@pytest.mark.parametrize("biased", [False, True])
def test_the_fastest_kernel_is_taken_but_not_for_little(slow, biased, monkeypatch: pytest.MonkeyPatch):
    """The clock is this test's: the slow kernel takes twice as long, or a tenth longer."""
    clock, real = [0.0], attention.weigh

    def weigh(*arguments, kernel, **more):
        clock[0] += factor if kernel == slow else 1.0
        return real(*arguments, kernel=kernel, **more)

    monkeypatch.setattr(attention, "weigh", weigh)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    shape = {"rows": 4, "length": 16, "heads": 2, "head_size": 8, "biased": biased}
    cpu, layout = torch.device("cpu"), Layout("bidirectional")
    for dtype in (torch.float32, torch.bfloat16):
        rule, other = candidates(cpu, dtype, layout, biased)
        factor = 2.0
        assert fastest(cpu, dtype, layout, **shape) == (other if slow == rule else rule)
        factor = 1.1
        assert fastest(cpu, dtype, layout, **shape) == rule


def test_a_measurement_draws_no_random_numbers():
    before = torch.get_rng_state()
    fastest(torch.device("cpu"), torch.float32, Layout("causal"), rows=2, length=8, heads=1, head_size=4, biased=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_where_documents_begin(make_rows):
    found = documents(make_rows([[3, 4], [2, 3]], 7, pattern.causal), causal=True)
    assert found.starts[:6].tolist() == [0, 3, 7, 9, 12, 14]  # the last two slots are padding
    assert found.starts.dtype == torch.int32
    assert len(found.starts) == 65
    assert (found.starts[5:] == 14).all()
    assert (found.longest, found.causal) == (7, True)
    assert len(documents(make_rows([[1] * 40, [1] * 40], 40)).starts) == 129


def test_varlen_leaves_to_a_mask_what_it_cannot_do(make_rows):
    inputs, bias = make_rows([[3, 4]], 7), torch.zeros(2, 7, 7)
    packed = Layout("bidirectional")
    assert isinstance(prepared("varlen", inputs, None, packed, torch.bfloat16), Documents)
    assert isinstance(prepared("varlen", inputs, bias, packed, torch.bfloat16), torch.Tensor)
    assert isinstance(prepared("varlen", inputs, None, Layout("general"), torch.bfloat16), torch.Tensor)
    assert isinstance(prepared("varlen", inputs, None, packed, torch.float64), torch.Tensor)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@CUDA
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kernel", ["sdpa", "varlen", "flex"])
def test_equal_to_the_reference_on_the_gpu(kernel, name, biased, make_rows, monkeypatch: pytest.MonkeyPatch):
    """The real kernels, in bfloat16: values and gradients near the reference, nothing from another document."""
    monkeypatch.undo()
    builder, kind = PATTERNS[name]
    inputs = pattern.as_torch(make_rows([[70, 90, 90], [30, 226]], 256, builder), "cuda")
    tensors = [torch.randn(2, 4, 256, 32, device="cuda", dtype=torch.bfloat16) for _ in range(4)]
    q, k, v, towards = (x.requires_grad_() for x in tensors)
    bias = torch.randn(4, 256, 256, device="cuda", requires_grad=True) if biased else None
    learned = [x for x in (q, k, v, bias) if x is not None]
    owned = (inputs.document >= 0)[:, None, :, None]  # of padding nobody reads anything

    def run(kernel: Kernel):
        out = attend(q, k, v, inputs, inputs, bias, layout=Layout(kind), kernel=kernel)
        return [out.float() * owned, *torch.autograd.grad((out * towards * owned).sum(), learned)]

    for ours, theirs in zip(run(kernel), run("reference"), strict=True):
        assert (ours.float() - theirs.float()).norm() < 0.02 * theirs.float().norm()
    out = attend(q, k, v, inputs, inputs, bias, layout=Layout(kind), kernel=kernel)
    seen = visible(inputs, inputs)[0, 0]
    for i in (0, 69, 70, 159, 249):
        into = torch.autograd.grad(out[0, :, i].float().sum(), (k, v), retain_graph=True)
        assert not torch.stack([x[0].abs().sum((0, 2)) for x in into]).sum(0)[~seen[i]].any()


def test_bf16_stays_near_the_reference(make_rows):
    inputs = make_rows([[20, 12]], 32)
    q, k, v = (torch.randn(1, 4, 32, 16) for _ in range(3))
    exact = attend(q, k, v, inputs, inputs, layout=Layout("bidirectional"), kernel="reference")
    near = attend(
        q.bfloat16(), k.bfloat16(), v.bfloat16(), inputs, inputs, layout=Layout("bidirectional"), kernel="plain"
    )
    assert near.dtype == torch.bfloat16
    assert (near.float() - exact).abs().max() < 0.05
