"""SpanBERT: whole spans are hidden, and each hidden token is also told from the span's two neighbours alone.

Joshi et al. 2020, "SpanBERT: Improving pre-training by representing and predicting spans", section 3: span lengths are
geometric (p = 0.2, at most 10 words), a span is shown as [MASK], as random tokens or as it is as a whole, rows hold
single sequences, and the span-boundary objective asks for token i of the span from the states just outside it and i.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from masklab.corpus.units import WORD_START
from masklab.errors import BadInput
from masklab.models.heads import BoundaryHead
from masklab.models.transformer import Model
from masklab.objectives.masked_lm import MaskedLM, unigram_term
from masklab.objectives.rows import Row, plain_row
from masklab.training.batches import IGNORE, Batch, Example, LossTerm, states_at


@dataclass(frozen=True)
class SpanBoundary:
    masked: MaskedLM = field(default_factory=MaskedLM)  # its rate and 80/10/10 hold; its unit does not
    p: float = 0.2  # lengths in words are geometric: P(n) = p (1 - p)^(n - 1) ...
    longest: int = 10  # ... and longer ones are cut to this
    places: int = 64  # places in a span that have a vector; tokens beyond (rare) are not asked of the boundary
    weight: float = 1.0  # of the boundary's loss beside the masked one

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1 or self.longest < 1 or self.places < 1:
            raise BadInput("objective: p lies in (0, 1], longest and places are at least 1")

    def open(self, data: str, part: str, tokenizer: Any = None) -> Any:
        return self.masked.open(data, part, tokenizer)

    def examples(self, source: Any, length: int) -> Any:
        return self.masked.examples(source, length)

    def example(self, source: Any, index: int, length: int, rng: np.random.Generator, progress: float) -> Example:
        return self.hide(plain_row(source, index, length), source.tokenizer, rng, progress)

    def hide(self, row: Row, tokenizer: Any, rng: np.random.Generator, progress: float) -> Example:
        spans = choose_spans(row, self.masked.rate_at(progress), self.p, self.longest, rng)  # (S, 2)
        sizes = spans[:, 1] - spans[:, 0]
        of = np.repeat(np.arange(len(spans)), sizes)  # (K,) the span of each hidden token
        place = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # (K,) 0, 1, 2 in its span
        slots = spans[of, 0] + place
        throw = rng.random(len(spans))[of]  # one throw for the whole span
        hidden = self.masked.hide_at(row, slots, throw, tokenizer, rng)
        asked = place < self.places
        return hidden._replace(
            at=hidden.at | {"left": spans[:, 0] - 1, "right": spans[:, 1]},
            targets=hidden.targets
            | {
                "left": sizes,
                "right": sizes,
                "boundary": np.where(asked, hidden.targets["masked"], IGNORE),
                "span": of,
                "place": np.minimum(place, self.places - 1),
            },
        )

    def heads(self, model: Model, source: Any, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        heads = self.masked.heads(model, source, trained)
        heads["boundary"] = BoundaryHead(model.config, model.embeddings, self.places)
        return heads

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        states = states_at(model, batch)
        span, place, target = (batch.targets[name] for name in ("span", "place", "boundary"))  # (B, K)
        which = span.clamp(min=0).unsqueeze(-1).expand(-1, -1, states["left"].shape[-1])
        left, right = (states[side].gather(1, which).flatten(0, 1) for side in ("left", "right"))  # (B K, D)
        head, target = heads["boundary"], target.flatten()
        place = place.clamp(min=0).flatten()
        right_ones = None
        if torch.is_grad_enabled():
            nats = head.loss(left, right, place, target)  # type: ignore[operator]
        else:
            logits = head(left, right, place).float()  # (B K, V)
            nats = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
            right_ones = (logits.argmax(-1) == target).sum()
        asked = target != IGNORE
        return self.masked.terms(heads, batch, states["masked"]) | {
            "boundary": LossTerm(nats[asked].sum(), asked.sum(), self.weight, right_ones)
        }

    def baseline(self, source: Any, batch: Batch) -> dict[str, LossTerm]:
        """The unigram model, for both."""
        return self.masked.baseline(source, batch) | {"boundary": unigram_term(source, batch, "boundary", self.weight)}


def choose_spans(row: Row, rate: float, p: float, longest: int, rng: np.random.Generator) -> np.ndarray:
    """(S, 2) slots [begin, end) of the spans to hide, in order: `rate` of the row's text, to within one word.

    Spans are whole words of one document, never overlap and never touch, so the tokens beside each are the author's.
    """
    text = np.flatnonzero(row.text)
    resumes = np.diff(text, prepend=-2) > 1  # after [CLS] or [SEP]
    starts = np.flatnonzero((row.units[text] & WORD_START > 0) | resumes)
    begin = text[starts]  # (W,) slots of the words' first tokens
    size = np.diff(np.append(starts, len(text)))
    run = np.cumsum(resumes)[starts]
    place = np.arange(len(begin)) + run  # words on a line, with a gap between documents
    taken = np.zeros(place[-1] + 3, bool)
    budget = max(1, round(rate * len(text)))
    tries = 4 * budget + 16
    lengths = np.minimum(rng.geometric(p, tries), longest)
    anchors = rng.integers(0, len(begin), tries)
    spans: list[tuple[int, int]] = []
    for first, length in zip(anchors.tolist(), lengths.tolist(), strict=True):
        last, tokens = first, 0  # words [first, last)
        while (
            last < min(first + length, len(begin))
            and run[last] == run[first]
            and (tokens + size[last] <= budget or not (spans or tokens))  # a first word may be all there is
        ):
            tokens += int(size[last])
            last += 1
        if tokens and not taken[place[first] : place[last - 1] + 3].any():
            taken[place[first] + 1 : place[last - 1] + 2] = True
            spans.append((int(begin[first]), int(begin[last - 1] + size[last - 1])))
            budget -= tokens
        if budget <= 0:
            break
    return np.array(sorted(spans), np.int64)
