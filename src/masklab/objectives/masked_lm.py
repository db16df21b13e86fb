"""Masked language model: hide some of the words and ask for them back (BERT, Devlin et al. 2019, section 3.1).

Masks are dynamic (RoBERTa, Liu et al. 2019, section 4.1): a row that comes again is masked anew. Whole words can be
masked at once (BERT's own later release), or phrases or entities (ERNIE, Sun et al. 2019, section 3.2): a unit is
hidden whole or not at all, and whatever the unit, as many tokens are asked for.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from masklab.corpus.store import Store
from masklab.corpus.units import LAYER_OF, START, Unit, start_bit
from masklab.errors import BadInput
from masklab.models.heads import MaskedLMHead
from masklab.models.transformer import Model
from masklab.objectives.rows import Row, plain_row, words
from masklab.training.batches import IGNORE, Batch, Example, LossTerm, states_at


@dataclass(frozen=True)
class MaskedLM:
    rate: float = 0.15  # share of the tokens that the loss asks for, at the end of the run
    start_rate: float | None = None  # and at its beginning (falls linearly); None: the same
    unit: Unit = "token"  # what is hidden whole; "phrase" and "entity" need that layer (`masklab units`)
    mask: float = 0.8  # of the asked tokens, how many are shown as [MASK] ...
    random: float = 0.1  # ... and how many as a random token; the rest are shown as they are
    unigram_start: bool = False  # the output bias starts at the log of the corpus' token frequencies

    def __post_init__(self) -> None:
        for rate in (self.rate, self.start_rate or self.rate):
            if not 0 < rate < 1:
                raise BadInput(f"objective.rate is {rate}: a masking rate lies between 0 and 1, e.g. 0.15")
        if self.mask < 0 or self.random < 0 or self.mask + self.random > 1:
            raise BadInput(f"objective.mask + objective.random is {self.mask + self.random}: together at most 1")

    def open(self, data: str, part: str, tokenizer: Any = None) -> Any:
        found = Store(data).part(part)
        if self.unit != "token":
            start_bit(self.unit, found.layers, data)  # refuses a layer that the corpus lacks
        return found

    def examples(self, source: Any, length: int) -> Any:
        return source.rows(length, 2)

    def example(self, source: Any, index: int, length: int, rng: np.random.Generator, progress: float) -> Example:
        return self.hide(plain_row(source, index, length), source.tokenizer, rng, progress)

    def hide(self, row: Row, tokenizer: Any, rng: np.random.Generator, progress: float) -> Example:
        """Choose what to ask for, hide it 80/10/10, and keep what was there as the targets."""
        slots = choose(row, self.rate_at(progress), self.unit, rng)
        return self.hide_at(row, slots, rng.random(len(slots)), tokenizer, rng)

    def rate_at(self, progress: float) -> float:
        first = self.rate if self.start_rate is None else self.start_rate
        return first + (self.rate - first) * progress

    def hide_at(self, row: Row, slots: np.ndarray, throw: np.ndarray, tokenizer: Any,
                rng: np.random.Generator) -> Example:  # fmt: skip
        """Hide these slots; `throw`, one number in [0, 1) for each, decides between 80, 10 and 10."""
        tokens = row.inputs.tokens.copy()
        targets = tokens[slots].astype(np.int64)
        hidden = throw < self.mask
        tokens[slots[hidden]] = tokenizer.mask
        other = slots[(throw >= self.mask) & (throw < self.mask + self.random)]
        tokens[other] = tokenizer.ordinary[rng.integers(0, len(tokenizer.ordinary), len(other))]
        inputs = row.inputs._replace(tokens=tokens)
        wanted = {"masked": targets, "hidden": np.where(hidden, targets, IGNORE)}
        return Example(inputs, {"masked": slots}, wanted, row.full, words(row), row.units)

    def heads(self, model: Model, source: Any, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        head = MaskedLMHead(model.config, model.embeddings)
        if self.unigram_start and head.bias is not None:
            with torch.no_grad():
                head.bias.copy_(torch.from_numpy(log_unigram(source.unigram)))
        return nn.ModuleDict({"masked_lm": head})

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        return self.terms(heads, batch, states_at(model, batch)["masked"])

    def terms(self, heads: nn.ModuleDict, batch: Batch, states: torch.Tensor) -> dict[str, LossTerm]:
        """states: (B, K, D) at the asked slots."""
        states, target = states.flatten(0, 1), batch.targets["masked"].flatten()  # (B K, D), (B K,)
        if torch.is_grad_enabled():
            head = cast(MaskedLMHead, heads["masked_lm"])
            return _terms(head.loss(states, target), None, batch)
        logits = heads["masked_lm"](states).float()  # (B K, V)
        nats = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        return _terms(nats, logits.argmax(-1) == target, batch)

    def baseline(self, source: Any, batch: Batch) -> dict[str, LossTerm]:
        """The unigram model of the training part: it knows how frequent every token is and nothing else."""
        return {
            "masked": unigram_term(source, batch, "masked"),
            "hidden": unigram_term(source, batch, "hidden", weight=0.0),
        }


def unigram_term(source: Any, batch: Batch, name: str, weight: float = 1.0) -> LossTerm:
    """What the unigram model of the training part scores on the targets of one name."""
    target = batch.targets[name].flatten()
    asked = target != IGNORE
    scores = torch.from_numpy(log_unigram(source.unigram))
    nats = -scores[target.clamp(min=0)]
    return LossTerm(nats[asked].sum(), asked.sum(), weight, (asked & (target == scores.argmax())).sum())


def _terms(nats: torch.Tensor, right: torch.Tensor | None, batch: Batch) -> dict[str, LossTerm]:
    """`masked`: all asked tokens, which is what is trained; `hidden`: those of them that were shown as [MASK]."""

    def term(name: str, weight: float) -> LossTerm:
        asked = batch.targets[name].flatten() != IGNORE
        return LossTerm(nats[asked].sum(), asked.sum(), weight, None if right is None else (right & asked).sum())

    return {"masked": term("masked", 1.0)} | ({} if right is None else {"hidden": term("hidden", 0.0)})


def log_unigram(counts: np.ndarray) -> np.ndarray:
    """Log-probability of every token, with one added to each count so that none is impossible; (V,) float32."""
    return np.log((counts + 1) / (counts + 1).sum()).astype(np.float32)


def choose(row: Row, rate: float, unit: str, rng: np.random.Generator) -> np.ndarray:
    """Which slots to ask for: `rate` of the row's text, as whole units, in ascending order.

    Tokens: exactly round(rate x n). Larger units: shuffled ones are taken, and those that would pass the budget passed
    over, so it is met to within one unit. At least one, so that every row has a target.
    """
    text = np.flatnonzero(row.text)
    budget = max(1, round(rate * len(text)))
    if unit == "token":
        return np.sort(text[np.argpartition(rng.random(len(text)), budget - 1)[:budget]])
    # A unit starts where the bits say so, and wherever the text resumes after [CLS] or [SEP].
    starts = (row.units[text] & START[LAYER_OF[unit]] > 0) | (np.diff(text, prepend=-2) > 1)
    bounds = np.append(np.flatnonzero(starts), len(text))
    order = rng.permutation(len(bounds) - 1)
    sizes = np.diff(bounds)[order]
    first = int(np.searchsorted(np.cumsum(sizes), budget, side="right"))
    take, at, left = list(range(max(1, first))), first + 1, budget - int(sizes[:first].sum())
    while first and left and (sizes[at:] <= left).any():
        at += int((sizes[at:] <= left).argmax())
        take.append(at)
        left, at = left - int(sizes[at]), at + 1
    taken = order[take]
    inside = np.zeros(len(text) + 1, np.int64)
    np.add.at(inside, bounds[taken], 1)
    np.add.at(inside, bounds[taken + 1], -1)
    return text[np.cumsum(inside[:-1]) > 0]
