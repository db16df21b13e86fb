"""Attention: every token gathers from the tokens it may see, in three kernels that are tested equal.

Vaswani et al. 2017, section 3.2. `reference` is the textbook in float32. `plain` is two batched matmuls and a softmax
in the dtype it is given. `sdpa` is torch's fused kernel. The pattern and any bias become one additive tensor once per
forward (`additive`), shared by all layers.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from masklab.models.pattern import Inputs, Layout, same_document, visible

Kernel = Literal["auto", "reference", "plain", "sdpa"]


def choose(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> Kernel:
    """What `auto` means, by device and dtype alone: plain for bf16 on CPUs, else sdpa.

    Measured on two cores, forward and backward: in bf16 plain is 2.5 to 4 times as fast as sdpa at 64 and 128 slots; in
    float32 they are equal there, and at 512 slots sdpa is twice as fast.
    """
    if kernel != "auto":
        return kernel
    return "plain" if device.type == "cpu" and dtype == torch.bfloat16 else "sdpa"


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype matmuls will run in: autocast's where that is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


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
        out, _ = weigh(q, k, v, additive(query, key, bias, layout, q.dtype), kernel=kernel, dropout=dropout)
        return out
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
    add: Tensor | None,
    *,
    kernel: Kernel = "auto",
    dropout: float = 0.0,
    keep: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q kT / sqrt(Dh) + add) v -> (B, H, Tq, Dh), and the softmax (B, H, Tq, Tk) itself if it is to be kept.

    scale: another factor than 1 / sqrt(Dh).
    """
    kernel = choose(kernel, q.device, q.dtype)
    scale = float(q.shape[-1] ** -0.5 if scale is None else scale)
    if kernel == "sdpa" and not keep:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=add, dropout_p=dropout, scale=scale), None
    if kernel == "reference":
        with torch.autocast(q.device.type, enabled=False):
            scores = q.float() @ k.float().transpose(-1, -2) * scale
            weights = torch.softmax(scores if add is None else scores + add.float(), -1)
            out = F.dropout(weights, dropout) @ v.float()
        return out.to(v.dtype), weights if keep else None
    scores = torch.matmul(q if scale == 1 else q * scale, k.transpose(-1, -2))
    if add is not None:
        scores.add_(add)
    weights = torch.softmax(scores, -1)
    return torch.matmul(F.dropout(weights, dropout) if dropout else weights, v), weights if keep else None
