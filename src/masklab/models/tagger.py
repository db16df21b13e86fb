"""A label for every word from what a frozen network knows of it: its layers mixed, then a two-way LSTM, then a choice.

Peters et al. 2018, section 3.3: the task learns how much of each layer it wants. Each is first brought to mean 0 and
deviation 1, which the paper found to help in some cases: else a layer's share would hang on how large its numbers are.
Words that come with a vector each (word2vec, GloVe) are a network of one layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.models.lstm import BothWays, from_both_ends, remembers, side_by_side


class ScalarMix(nn.Module):
    """One vector of all layers: gamma times the sum of softmax(w)_j layer_j (Peters et al. 2018, equation 1)."""

    def __init__(self, layers: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))

    @property
    def shares(self) -> Tensor:
        """(layers,), adding up to 1."""
        return self.w.softmax(0)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, T, D) each -> (B, T, D)."""
        return self.gamma * sum(share * x for share, x in zip(self.shares, layers, strict=True))


class FeatureTagger(nn.Module):
    """layers: how many are mixed; width: of each; inside: of each reader; classes: labels."""

    def __init__(self, layers: int, width: int, classes: int, inside: int = 128, dropout: float = 0.5):
        super().__init__()
        self.settings: dict[str, Any] = {
            "layers": layers, "width": width, "classes": classes, "inside": inside, "dropout": dropout,
        }  # fmt: skip
        self.mix = ScalarMix(layers)
        self.dropout = nn.Dropout(dropout)
        self.narrow = nn.Linear(width, inside)
        self.readers = BothWays(inside, 2 * inside)
        self.out = nn.Linear(2 * inside, classes)

    def forward(self, layers: Sequence[Tensor], document: Tensor) -> Tensor:
        """layers: (B, T, D) each; document (B, T) -> (B, T, classes). Each document is read by itself."""
        even = [F.layer_norm(layer.float(), layer.shape[-1:]) for layer in layers]
        x = self.narrow(self.dropout(self.mix(even)))
        found = side_by_side(self.readers(from_both_ends(x), remembers(document)))
        return self.out(self.dropout(found))
