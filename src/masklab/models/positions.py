"""Where a token stands, told to the attention: rotary angles and the relative bias in T5's buckets.

Both depend on the difference of two slots alone. Documents lie unbroken in a row, so within a document slots differ as
positions do, and one table serves the whole batch however its rows are packed. Rotary: Su et al. 2021; buckets:
Raffel et al. 2020, section 2.1 (the log-spaced ones of T5, 128 the largest distance told apart).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.models.config import Config

MAX_DISTANCE = 128


def frequencies(head_size: int, theta: float, device: torch.device | None = None) -> Tensor:
    """How fast each pair of dimensions turns, radians per slot: (head_size / 2,), from 1 down to about 1 / theta."""
    return 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.float32, device=device) / head_size)


def rotary_table(length: int, head_size: int, theta: float, device: torch.device) -> Tensor:
    """(cos, cos) and (-sin, sin) of each slot's angles, as `rotate` uses them: (2, T, head_size) float32."""
    angles = torch.arange(length, device=device).unsqueeze(1) * frequencies(head_size, theta, device)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair (i, i + Dh / 2) of the last dimension by its slot's angle: x (..., Dh), table (2, ..., Dh)."""
    return _Rotate.apply(x, table)  # type: ignore[return-value]


class _Rotate(torch.autograd.Function):
    """In float32, whatever x is: exact, and on CPUs four times as fast as bf16. The gradient is the turn back."""

    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(table)
        return _turn(x, table[0], table[1])

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        (table,) = ctx.saved_tensors
        return _turn(grad, table[0], -table[1]), None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = x.float()
    swapped = wide.unflatten(-1, (2, -1)).roll(1, -2).flatten(-2)  # the other of each pair
    return torch.mul(wide, cos).addcmul_(swapped, sin).to(x.dtype)


def bucket(distance: Tensor, buckets: int = 32, max_distance: int = MAX_DISTANCE, back_only: bool = False) -> Tensor:
    """key slot - query slot -> bucket: half the buckets look back, half ahead; near distances one each, far ones
    shared. back_only: all of them look back, and whatever is ahead is bucket 0 (T5's decoder).

    bucket([-200, -9, -8, -1, 0, 1, 8]) -> [15, 8, 8, 1, 0, 17, 24]
    """
    if back_only:
        distance = distance.clamp(max=0)
    half = buckets if back_only else buckets // 2
    exact = half // 2
    n = distance.abs()
    # the logarithm in float32 in just this order: boundaries then fall where transformers puts them
    far = exact + (torch.log(n.float() / exact) / math.log(max_distance / exact) * (half - exact)).clamp(min=0).long()
    return torch.where(n < exact, n, far.clamp(max=half - 1)) + (distance > 0) * half


class RelativeBias(nn.Module):
    """One learned number per (bucket of distance, head), added to the attention scores of every layer of a stack."""

    def __init__(self, config: Config, back_only: bool = False):
        super().__init__()
        self.buckets, self.back_only = config.buckets, back_only
        self.table = nn.Embedding(config.buckets, config.heads)

    def forward(self, length: int) -> Tensor:  # -> (H, T, T): [head, query slot, key slot]
        device = self.table.weight.device
        distance = torch.arange(-(length - 1), length, device=device)
        line = (
            F.embedding(bucket(distance, self.buckets, back_only=self.back_only), self.table.weight).t().contiguous()
        )  # (H, 2T - 1)
        return line.unfold(1, length, 1).flip(1)  # a query one slot later reads the line one place earlier
