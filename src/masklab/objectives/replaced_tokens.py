"""ELECTRA: a small masked model fills the gaps; the trunk says of every token whether it is the author's.

Clark et al. 2020, "ELECTRA: Pre-training text encoders as discriminators rather than generators", section 2. The loss
is the generator's masked-LM loss plus 50 times the discriminator's, which is taken over all tokens, not the masked ones
alone. A sampled token that happens to be the author's counts as original. No gradient goes through the sampling.

The second corruption happens inside the loss, as it needs the generator's output; its random numbers are drawn on the
host with the example, so that a batch stays a function of (seed, step): the sample is the inverse of the cumulative
distribution at a given number in [0, 1).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklab.errors import BadInput
from masklab.models.generator import Generator, generator_config
from masklab.models.heads import ReplacedHead
from masklab.models.transformer import Model
from masklab.objectives.masked_lm import MaskedLM, log_unigram, unigram_term
from masklab.training.batches import IGNORE, Batch, Example, LossTerm

_GRAIN = 1 << 30  # numbers in [0, 1) travel as whole numbers below this


@dataclass(frozen=True)
class ReplacedTokens:
    masked: MaskedLM = field(
        default_factory=lambda: MaskedLM(mask=0.85, random=0.0)
    )  # the published code's 85 / 0 / 15
    generator: float = 0.25  # its width, heads and feed-forward, as a share of the discriminator's
    weight: float = 50.0  # of the discriminator's loss

    def __post_init__(self) -> None:
        if not 0 < self.generator <= 1:
            raise BadInput(f"objective.generator is {self.generator}: a share of the discriminator's width, e.g. 0.25")

    def open(self, data: str, part: str, tokenizer: Any = None) -> Any:
        return self.masked.open(data, part, tokenizer)

    def examples(self, source: Any, length: int) -> Any:
        return self.masked.examples(source, length)

    def example(self, source: Any, index: int, length: int, rng: np.random.Generator, progress: float) -> Example:
        found = self.masked.example(source, index, length, rng, progress)
        throws = rng.integers(0, _GRAIN, len(found.at["masked"]))
        filled = np.where(found.inputs.document >= 0, 0, IGNORE)  # every token is asked: is it the author's?
        return found._replace(targets=found.targets | {"throw": throws, "replaced": filled})

    def heads(self, model: Model, source: Any, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        generator = Generator(generator_config(model.config, self.generator), model.embeddings)
        if self.masked.unigram_start and generator.masked_lm.bias is not None:
            with torch.no_grad():
                generator.masked_lm.bias.copy_(torch.from_numpy(log_unigram(source.unigram)))
        return nn.ModuleDict({"generator": generator, "replaced": ReplacedHead(model.config)})

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        at, target = batch.at["masked"], batch.targets["masked"]  # (B, K)
        asked = target != IGNORE
        logits = heads["generator"](batch.inputs, batch.layout, at).float()  # (B, K, V)
        nats = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE, reduction="sum")
        guessed = ((logits.argmax(-1) == target) & asked).sum()
        sampled = sample(logits.detach(), batch.targets["throw"].clamp(min=0) / _GRAIN)
        tokens = batch.inputs.tokens.long()
        shown = tokens.gather(1, at)  # lists are padded with slot 0, which keeps what it has
        original = tokens.scatter(1, at, torch.where(asked, target, shown))
        corrupted = tokens.scatter(1, at, torch.where(asked, sampled, shown))
        replaced = corrupted != original  # (B, T)

        states = model(batch.inputs._replace(tokens=corrupted), layout=batch.layout).last
        score = heads["replaced"](states).float()  # (B, T)
        filled = batch.targets["replaced"] != IGNORE
        each = F.binary_cross_entropy_with_logits(score, replaced.float(), reduction="none")
        right = ((score > 0) == replaced) & filled
        count, changed = filled.sum(), (replaced & filled).sum()
        return {
            "masked": LossTerm(nats, asked.sum(), 1.0, guessed),
            "replaced": LossTerm(each[filled].sum(), count, self.weight, right.sum()),
            "found": LossTerm(each[replaced & filled].sum(), changed, 0.0, (right & replaced).sum()),
            "always original": LossTerm(count * _entropy(changed / count), count, 0.0, count - changed),
        }

    def baseline(self, source: Any, batch: Batch) -> dict[str, LossTerm]:
        """The generator: the unigram model. The discriminator: always "original", were the generator so poor.

        How often the real generator's samples are wrong is not known before; the term "always original" says in every
        report what that answer scores on the very tokens that were judged.
        """
        masked = unigram_term(source, batch, "masked")
        count = (batch.targets["replaced"] != IGNORE).sum()
        changed = masked.count - (0 if masked.correct is None else masked.correct)
        always = LossTerm(count * _entropy(changed / count), count, self.weight, count - changed)
        nothing = LossTerm(changed * -torch.log(changed / count), changed, 0.0, changed * 0)
        return {"masked": masked, "replaced": always, "found": nothing, "always original": always._replace(weight=0.0)}


def sample(logits: Tensor, throw: Tensor) -> Tensor:
    """One token from each distribution, by inverse of its cumulative sum: logits (B, K, V), throw (B, K) -> (B, K)."""
    total = logits.softmax(-1).cumsum(-1)
    last = total[..., -1:]  # 1, but for rounding
    return (
        torch.searchsorted(total, throw.unsqueeze(-1).to(total.dtype) * last, right=True)
        .squeeze(-1)
        .clamp(max=logits.shape[-1] - 1)
    )


def _entropy(share: Tensor) -> Tensor:
    """Of a coin, in nats: what the best constant guess of a share loses."""
    p = share.clamp(1e-9, 1 - 1e-9)
    return -(p * p.log() + (1 - p) * (1 - p).log())
