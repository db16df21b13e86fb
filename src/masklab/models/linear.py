"""A linear layer that remembers how many matrices are stacked in it, and the usual random start of all weights."""

import torch
from torch import Tensor, nn


class Projection(nn.Linear):
    """nn.Linear whose rows are `parts` matrices of equal size (query, key and value: 3; GeGLU's two halves: 2).

    Optimizers that treat a matrix as a whole (Muon) read `parts` and treat each one by itself.
    """

    def __init__(self, inside: int, outside: int, *, parts: int = 1, bias: bool = True):
        super().__init__(inside, parts * outside, bias=bias)
        self.parts = parts


@torch.no_grad()
def draw(module: nn.Module, std: float) -> None:
    """BERT's start: weights normal with deviation `std`, biases 0, norms 1; the row of a padding index 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(0.0, std)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()
        bias = getattr(part, "bias", None)
        if isinstance(bias, Tensor):
            bias.zero_()
        if isinstance(part, nn.LayerNorm | nn.RMSNorm):
            part.weight.fill_(1.0)
