"""ELECTRA's generator: a small masked language model whose tables are those of the discriminator it works for.

Clark et al. 2020, "ELECTRA: Pre-training text encoders as discriminators rather than generators", section 3.2: as deep
as the discriminator, a quarter to a half as wide, token, position and segment tables shared. It is thrown away after
pre-training; here it is kept beside the discriminator as a model of its own (`alone`).
"""

from dataclasses import replace

from torch import Tensor, nn

from masklab.models.config import Config
from masklab.models.embeddings import Embeddings
from masklab.models.heads import MaskedLMHead
from masklab.models.pattern import Inputs, Layout
from masklab.models.transformer import Model


class Generator(nn.Module):
    """A second trunk (no tables of its own) and a masked-LM head over the shared token table."""

    def __init__(self, config: Config, tables: Embeddings):
        super().__init__()
        self.config = config
        self.model = Model(config, tables=tables)
        self.masked_lm = MaskedLMHead(config, self.model.embeddings)

    def forward(self, inputs: Inputs, layout: Layout, at: Tensor) -> Tensor:
        """inputs (B, T), at (B, K) slots -> logits (B, K, V)."""
        return self.masked_lm(self.model(inputs, layout=layout, at=at).last)

    def alone(self) -> tuple[Model, dict[str, nn.Module]]:
        """The same network with tables of its own, and its heads."""
        owner: Embeddings = self.model.embeddings.owner[0]  # type: ignore[attr-defined]
        model = Model(self.config)
        tables = {f"embeddings.{k}": x for k, x in owner.state_dict().items() if not k.startswith("project")}
        model.load_state_dict(self.model.state_dict() | tables)
        head = MaskedLMHead(self.config, model.embeddings)
        head.load_state_dict(self.masked_lm.state_dict())
        return model, {"masked_lm": head}


def generator_config(config: Config, size: float) -> Config:
    """The generator's shape: `size` of the width, heads and feed-forward, the same depth and tables.

    Heads stay as wide as they were, unless that leaves less than one.
    """
    heads = max(1, round(config.heads * size))
    width = max(heads, round(config.width * size / heads) * heads)
    inner = 0 if width == config.table_width else config.table_width
    return replace(
        config, width=width, heads=heads, feed_forward=max(1, round(config.feed_forward * size)), inner=inner
    )
