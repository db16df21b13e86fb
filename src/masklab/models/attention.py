"""Attention: every token gathers from the tokens it may see, in kernels that are tested equal.

Vaswani et al. 2017, section 3.2. `reference` is the textbook in float32. `plain` is two batched matmuls and a softmax
in the dtype it is given. `sdpa` is torch's fused kernel. For GPUs: `varlen` is FlashAttention over documents laid end
to end (Dao 2023), which never meets a pair of two documents; `flex` is compiled for a pattern and a bias and leaves out
blocks of scores that nobody sees (Dong et al. 2024, "Flex Attention"). What a kernel must know of pattern and bias is
made once per forward (`prepared`) and shared by all layers. docs/kernels.md says which is chosen when.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from masklab.models.pattern import Inputs, Layout, same_document, visible

Kernel = Literal["auto", "reference", "plain", "sdpa", "varlen", "flex"]
HALF = (torch.bfloat16, torch.float16)


class Documents(NamedTuple):
    """What `varlen` must know: where documents begin in the batch's rows laid end to end."""

    starts: Tensor  # (N + 1,) int32, the last one where everything ends; documents at the end may be empty
    longest: int  # slots that a document has at most
    causal: bool


class Blocks(NamedTuple):
    """What `flex` must know: the rule, and which blocks of scores it leaves anything of; the bias."""

    mask: Any  # torch.nn.attention.flex_attention.BlockMask
    bias: Tensor | None  # (H, T, T)


Seen = Tensor | Documents | Blocks | None


def candidates(device: torch.device, dtype: torch.dtype, layout: Layout, biased: bool) -> tuple[Kernel, ...]:
    """The kernels worth a measurement; the first is what `auto` means without one.

    Measured on one core, forward and backward: in bfloat16 plain is 2 to 4 times as fast as sdpa; in float32 they are
    equal at 64 and 128 slots, and at 512 sdpa is twice as fast.
    """
    if device.type != "cuda":
        return ("plain", "sdpa") if dtype == torch.bfloat16 else ("sdpa", "plain")
    flash = dtype in HALF and torch.cuda.get_device_capability(device) >= (8, 0)
    if layout.kind in ("bidirectional", "causal") and not biased:
        return ("sdpa",) if layout.full or not flash else ("varlen", "sdpa")
    return ("flex",) if flash else ("sdpa",)


def choose(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, layout: Layout | None = None, biased: bool = False
) -> Kernel:
    """What `auto` means by rule: by device, dtype and layout alone."""
    return candidates(device, dtype, layout or Layout(), biased)[0] if kernel == "auto" else kernel


def fastest(
    device: torch.device, dtype: torch.dtype, layout: Layout, *, rows: int, length: int, heads: int, head_size: int,
    biased: bool,
) -> Kernel:  # fmt: skip
    """Which kernel is fastest at this shape, forward and backward: the rule's, or one that beats it by a fifth.

    Rows of two documents (one, if the layout says so), fewer than `rows` where those would take too long: three rounds,
    alternating, together a fraction of a second.
    """
    names = candidates(device, dtype, layout, biased)
    if len(names) == 1:
        return names[0]
    rows = max(1, min(rows, (1 << (21 if device.type == "cpu" else 27)) // (heads * length * length)))
    place = torch.arange(length, dtype=torch.int32, device=device).expand(rows, length)
    document = torch.zeros_like(place) if layout.full else (place > length // 2).int()
    asking = place if layout.kind == "causal" else torch.zeros_like(place)
    inputs = Inputs(place, place, place, document, asking, asking)
    bias = torch.zeros(heads, length, length, device=device, requires_grad=True) if biased else None
    q, k, v = (torch.ones(rows, length, heads, head_size, dtype=dtype, device=device, requires_grad=True)
               for _ in "qkv")  # fmt: skip

    def seconds(kernel: Kernel) -> float:
        began = time.perf_counter()
        turned = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        attend(*turned, inputs, inputs, bias, layout=layout, kernel=kernel).square().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    for name in names:
        seconds(name)  # starts libraries
    laps = [{name: seconds(name) for name in names} for _ in range(3)]
    took = {name: min(lap[name] for lap in laps) for name in names}
    best = min(names, key=lambda name: took[name])
    return best if took[best] * 1.2 < took[names[0]] else names[0]


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype matmuls will run in: autocast's where that is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def prepared(kernel: Kernel, inputs: Inputs, bias: Tensor | None, layout: Layout, dtype: torch.dtype) -> Seen:
    """Pattern and bias as `kernel` wants them where every slot asks; what it cannot do, sdpa does with a mask."""
    if kernel == "flex":
        return blocks(inputs, bias)
    if kernel == "varlen" and bias is None and layout.kind in ("bidirectional", "causal") and dtype in HALF:
        return documents(inputs, layout.kind == "causal")
    return additive(inputs, inputs, bias, layout, dtype)


def documents(inputs: Inputs, causal: bool = False) -> Documents:
    """Document by document, the rows one after the other; padding counts as a document.

    There are 64, 128, 256, ... of them, the last ones empty: a compiled layer meets few shapes.
    """
    rows, length = inputs.document.shape
    first = torch.ones(rows, length, dtype=torch.bool, device=inputs.document.device)
    first[:, 1:] = inputs.document[:, 1:] != inputs.document[:, :-1]
    found = first.flatten().nonzero().flatten()
    count = max(64, 1 << (len(found) - 1).bit_length())
    starts = torch.full((count + 1,), rows * length, dtype=torch.int32, device=found.device)
    starts[: len(found)] = found
    return Documents(starts, length, causal)


def blocks(inputs: Inputs, bias: Tensor | None) -> Blocks:
    """The rule of pattern.py, block by block of the scores."""
    document, asked, visible_from = inputs.document, inputs.time, inputs.visible_from

    def rule(b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (document[b, i] == document[b, j]) & (visible_from[b, j] <= asked[b, i])

    rows, length = document.shape
    make, _ = _flex(document.device.type == "cuda")
    return Blocks(make(rule, rows, None, length, length, device=document.device), bias)


@lru_cache
def _flex(compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """create_block_mask and flex_attention; compiled, they are made anew for each row length, which is once a phase."""
    from torch.nn.attention import flex_attention as flex  # takes a second to import

    functions = flex.create_block_mask, flex.flex_attention
    return tuple(torch.compile(f, dynamic=False) for f in functions) if compiled else functions  # type: ignore[return-value]


def additive(query: Inputs, key: Inputs, bias: Tensor | None, layout: Layout, dtype: torch.dtype) -> Tensor | None:
    """Pattern and bias as one tensor to add to the scores, -inf where unseen; None where there is nothing to add.

    bias: broadcastable to (B, H, Tq, Tk). The result broadcasts to that too.
    """
    return _masked(bias, _seen(query, key, layout), dtype)


def _masked(bias: Tensor | None, seen: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A sum rather than a fill of the bias: a quarter of the time, and its gradient is a sum over the batch."""
    if bias is not None:
        bias = bias.to(dtype)
    if seen is None:
        return bias
    mask = torch.full(seen.shape, -torch.inf, dtype=dtype, device=seen.device).masked_fill_(seen, 0.0)
    return mask if bias is None else bias + mask


def _seen(query: Inputs, key: Inputs, layout: Layout) -> Tensor | None:
    if layout.kind == "bidirectional":
        return None if layout.full else same_document(query, key)
    return visible(query, key)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query: Inputs,
    key: Inputs,
    bias: Tensor | None = None,
    *,
    layout: Layout,
    kernel: Kernel = "auto",
    dropout: float = 0.0,
) -> Tensor:
    """q (B, H, Tq, Dh), k and v (B, H, Tk, Dh), the integers of both sides -> (B, H, Tq, Dh).

    Across (query is not key) the document alone decides, and a token whose document is not on the other side gathers
    zeros.
    """
    if query is key:
        kernel = choose(kernel, q.device, q.dtype, layout, bias is not None)
        seen = prepared(kernel, query, bias, layout, q.dtype)
        return weigh(q, k, v, seen, kernel=kernel, dropout=dropout)[0]
    add, found = across(query, key, q.dtype)
    out, _ = weigh(q, k, v, add if bias is None else add + bias, kernel=kernel, dropout=dropout)
    return torch.where(found, out, 0.0)


def across(query: Inputs, key: Inputs, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What to add to the scores of cross attention, (B, 1, Tq, Tk), and who finds anybody, (B, 1, Tq, 1) bool.

    Who finds nobody looks at all, as a softmax over nothing would be NaN; what it gathers is to be thrown away.
    """
    seen = same_document(query, key)
    found = seen.any(-1, keepdim=True)
    add = _masked(None, seen | ~found, dtype)
    assert add is not None
    return add, found


def weigh(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Seen,
    *,
    kernel: Kernel = "auto",
    dropout: float = 0.0,
    keep: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q kT / sqrt(Dh) + seen) v -> (B, H, Tq, Dh), and the softmax (B, H, Tq, Tk) itself if it is to be kept.

    seen: what `prepared` or `additive` gave. scale: another factor than 1 / sqrt(Dh).
    """
    scale = float(q.shape[-1] ** -0.5 if scale is None else scale)
    if isinstance(seen, (Documents, Blocks)):
        if dropout or keep:
            raise ValueError("varlen and flex know no dropout and keep no weights: prepare for sdpa instead")
        return (_varlen if isinstance(seen, Documents) else _weigh_blocks)(q, k, v, seen, scale), None  # type: ignore[arg-type]
    kernel = choose(kernel, q.device, q.dtype)
    if kernel == "reference":
        with torch.autocast(q.device.type, enabled=False):
            scores = q.float() @ k.float().transpose(-1, -2) * scale
            weights = torch.softmax(scores if seen is None else scores + seen.float(), -1)
            out = F.dropout(weights, dropout) @ v.float()
        return out.to(v.dtype), weights if keep else None
    if kernel != "plain" and not keep:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout, scale=scale), None
    scores = torch.matmul(q if scale == 1 else q * scale, k.transpose(-1, -2))
    if seen is not None:
        scores.add_(seen)
    weights = torch.softmax(scores, -1)
    return torch.matmul(F.dropout(weights, dropout) if dropout else weights, v), weights if keep else None


def _varlen(q: Tensor, k: Tensor, v: Tensor, seen: Documents, scale: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, T, H, Dh), as the projection gave them
    out = varlen_attn(
        q.flatten(0, 1),
        k.flatten(0, 1),
        v.flatten(0, 1),
        seen.starts,
        seen.starts,
        seen.longest,
        seen.longest,
        scale=scale,
        window_size=(-1, 0) if seen.causal else (-1, -1),  # how far back and ahead a slot looks
    )
    assert isinstance(out, Tensor)
    return out.view(q.shape).transpose(1, 2)


def _weigh_blocks(q: Tensor, k: Tensor, v: Tensor, seen: Blocks, scale: float) -> Tensor:
    bias = seen.bias

    def add(score: Tensor, _b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + bias[h, i, j]  # type: ignore[index]

    _, attention = _flex(q.device.type == "cuda")
    return attention(q, k, v, score_mod=None if bias is None else add, block_mask=seen.mask, scale=scale)
