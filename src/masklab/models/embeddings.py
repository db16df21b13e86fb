"""Tokens become vectors: a table of tokens, plus (bert, mpnet) a table of positions and (bert) of segments.

Devlin et al. 2018, figure 2. ModernBERT leaves positions to the attention (rotary) and has no segments; ELECTRA's
tables may have another width than its layers; T5 has the tokens alone, and starts what it writes with padding's vector.
"""

from torch import Tensor, nn

from masklab.models.config import Config
from masklab.models.pattern import Inputs

MPNET_OFFSET = 2  # MPNet's class counts positions from 2 (its padding token's 1, plus one)


class Embeddings(nn.Module):
    """tokens: (V, E); positions: (max_length, E) or None; segments: (S, E) or None; then norm, dropout, E -> D."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.table_width
        self.offset = MPNET_OFFSET if config.family == "mpnet" else 0
        self.tokens = nn.Embedding(config.vocabulary, width, padding_idx=None if config.family == "t5" else config.pad)
        self.positions: nn.Embedding | None = None
        self.segments: nn.Embedding | None = None
        if config.family in ("bert", "electra"):
            self.positions = nn.Embedding(config.max_length, width)
            self.segments = nn.Embedding(config.segments, width)
        elif config.family == "mpnet":
            self.positions = nn.Embedding(config.max_length + self.offset, width, padding_idx=config.pad)
        self.norm: nn.Module = nn.Identity()
        if config.family != "t5":
            self.norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias("norm"))
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(width, config.width) if width != config.width else None

    def forward(self, inputs: Inputs) -> Tensor:  # (B, T) -> (B, T, D)
        x = self.look_up(inputs)
        return x if self.project is None else self.project(x)

    def look_up(self, inputs: Inputs) -> Tensor:  # (B, T) -> (B, T, E)
        x = self.tokens(inputs.tokens)
        if self.segments is not None:
            x = x + self.segments(inputs.segment)
        if self.positions is not None:
            x = x + self.positions(inputs.position + self.offset if self.offset else inputs.position)
        return self.dropout(self.norm(x))


class SharedEmbeddings(nn.Module):
    """Another model's tables and norm, taken to this model's width: ELECTRA's generator, T5's decoder."""

    def __init__(self, config: Config, owner: Embeddings):
        super().__init__()
        self.owner = (owner,)  # in a tuple, so that the tables stay their owner's alone
        self.project = nn.Linear(config.table_width, config.width) if config.inner else None

    @property
    def tokens(self) -> nn.Embedding:
        return self.owner[0].tokens

    def forward(self, inputs: Inputs) -> Tensor:  # (B, T) -> (B, T, D)
        x = self.owner[0].look_up(inputs)
        return x if self.project is None else self.project(x)
