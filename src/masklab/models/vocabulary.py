"""The loss over the whole vocabulary, which is most of the work of a small model, in half the passes over memory.

logits = states @ table.T + bias; loss = -log softmax(logits)[target]. The softmax is kept and not the logits, because
the gradient with respect to the logits is softmax - onehot(target): nothing of size (N, V) is computed twice or widened
to float32. `plain_loss` is the slow twin; a test holds them equal in value and gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100


def plain_loss(states: Tensor, table: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """states (N, D), table (V, D), bias (V,), target (N,) -> nats (N,), 0 where target is IGNORE."""
    return F.cross_entropy(F.linear(states, table, bias).float(), target, ignore_index=IGNORE, reduction="none")


def vocabulary_loss(states: Tensor, table: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """The same as `plain_loss`, in the dtype of `states`; it can be differentiated once, not twice.

    float16 cannot hold the probabilities of rare tokens, so the logits are widened there.
    """
    if states.dtype == torch.float16:
        return plain_loss(states, table, bias, target)
    return _VocabularyLoss.apply(states, table.to(states.dtype), bias.to(states.dtype), target)  # type: ignore[return-value]


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        p = torch.softmax(torch.addmm(bias, states, table.T), -1)  # (N, V), sums in float32 inside
        asked = target != IGNORE
        ctx.save_for_backward(p, states, table, target, asked)
        nats = -p.gather(1, target.clamp(min=0)[:, None])[:, 0].float().log()
        return torch.where(asked, nats, 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        p, states, table, target, asked = ctx.saved_tensors
        grad = torch.where(asked, grad, 0.0).to(p.dtype)[:, None]  # (N, 1)
        p[torch.arange(len(p), device=p.device), target.clamp(min=0)] -= 1  # the gradient of the logits, but for `grad`
        d_states = (p @ table) * grad
        d_table = p.T @ (states * grad)
        return d_states, d_table, (p.T @ grad)[:, 0], None
