"""Tokens become vectors: a table of tokens, plus (bert, mpnet) a table of positions and (bert) of segments.

Devlin et al. 2018, figure 2. ModernBERT leaves positions to the attention (rotary) and has no segments.
"""

from torch import Tensor, nn

from masklab.models.config import Config
from masklab.models.pattern import Inputs

MPNET_OFFSET = 2  # MPNet's class counts positions from 2 (its padding token's 1, plus one)


class Embeddings(nn.Module):
    """tokens: (V, D); positions: (max_length, D) or None; segments: (S, D) or None; then norm and dropout."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.width
        self.offset = MPNET_OFFSET if config.family == "mpnet" else 0
        self.tokens = nn.Embedding(config.vocabulary, width, padding_idx=config.pad)
        self.positions: nn.Embedding | None = None
        self.segments: nn.Embedding | None = None
        if config.family == "bert":
            self.positions = nn.Embedding(config.max_length, width)
            self.segments = nn.Embedding(config.segments, width)
        elif config.family == "mpnet":
            self.positions = nn.Embedding(config.max_length + self.offset, width, padding_idx=config.pad)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias("norm"))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, inputs: Inputs) -> Tensor:  # (B, T) -> (B, T, D)
        x = self.tokens(inputs.tokens)
        if self.segments is not None:
            x = x + self.segments(inputs.segment)
        if self.positions is not None:
            x = x + self.positions(inputs.position + self.offset if self.offset else inputs.position)
        return self.dropout(self.norm(x))
