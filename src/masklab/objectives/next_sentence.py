"""Next sentence: does text B really follow text A, or does it come from elsewhere? (Devlin et al. 2019, section 3.1)

Masked words are trained along with it. Half of the pairs are real; in the others B is replaced by text of the same
length from another document, so both kinds look alike in length, and several pairs share one packed row.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from masklab.models.heads import NextSentenceHead, Pooler
from masklab.models.transformer import Model
from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.rows import frame
from masklab.training.batches import IGNORE, Batch, Example, LossTerm, states_at

IS_NEXT, IS_RANDOM = 0, 1  # the order of the classes in every published BERT


@dataclass(frozen=True)
class NextSentence:
    masked: MaskedLM = field(default_factory=MaskedLM)
    random: float = 0.5  # how many of the second texts are not the real continuation

    def open(self, data: str, part: str, tokenizer: Any = None) -> Any:
        return self.masked.open(data, part, tokenizer)

    def examples(self, source: Any, length: int) -> Any:
        return source.rows(length, 3)  # [CLS] a [SEP] b [SEP]

    def example(self, source: Any, index: int, length: int, rng: np.random.Generator, progress: float) -> Example:
        pieces, labels = [], []
        for start, end in source.rows(length, 3)[index]:
            middle = split(source, start, end, rng)
            label = IGNORE if middle in (start, end) else int(rng.random() < self.random)  # one word: nothing to pair
            second = elsewhere(source, start, end - middle, rng) if label == IS_RANDOM else (middle, end)
            spans = [(start, middle), second]
            pieces.append(([source.ids[a:b] for a, b in spans], [source.units[a:b] for a, b in spans]))
            labels.append(label)
        row = frame(source.tokenizer, pieces, length)
        hidden = self.masked.hide(row, source.tokenizer, rng, progress)
        return hidden._replace(
            at=hidden.at | {"next": row.starts}, targets=hidden.targets | {"next": np.array(labels, np.int64)}
        )

    def heads(self, model: Model, source: Any, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        heads = self.masked.heads(model, source, trained)
        heads["pooler"] = Pooler(model.config)
        heads["next_sentence"] = NextSentenceHead(model.config)
        return heads

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        states = states_at(model, batch)
        target = batch.targets["next"].flatten()
        logits = heads["next_sentence"](heads["pooler"](states["next"].flatten(0, 1))).float()  # (B P, 2)
        total = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
        right = ((logits.argmax(-1) == target) & (target != IGNORE)).sum()
        return self.masked.terms(heads, batch, states["masked"]) | {
            "next": LossTerm(total, (target != IGNORE).sum(), 1.0, right)
        }

    def baseline(self, source: Any, batch: Batch) -> dict[str, LossTerm]:
        """Always the likelier answer."""
        target = batch.targets["next"].flatten()
        asked = target != IGNORE
        p = torch.tensor([1 - self.random, self.random])
        nats = -p.log()[target.clamp(min=0)]
        return self.masked.baseline(source, batch) | {
            "next": LossTerm(nats[asked].sum(), asked.sum(), 1.0, (asked & (target == p.argmax())).sum())
        }


def split(source: Any, start: int, end: int, rng: np.random.Generator) -> int:
    """Where text A ends inside the piece [start, end): at one of its sentence starts, else at the start of a unit."""
    sentences = source.sentences
    inner = sentences[np.searchsorted(sentences, start + 1) : np.searchsorted(sentences, end)]
    inner = inner[_begins_units(source, inner)]
    if len(inner) == 0:
        inner = start + 1 + np.flatnonzero(_begins_units(source, slice(start + 1, end)))
    return int(inner[rng.integers(len(inner))]) if len(inner) else end


def elsewhere(source: Any, start: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """A stretch of at most `size` tokens from the beginning of a sentence of another document; no unit is cut."""
    here = _document(source, start)
    for _ in range(20):
        where = int(source.sentences[rng.integers(len(source.sentences))])
        document = _document(source, where)
        if document != here and _begins_units(source, where):
            return where, _last_cut(source, where, min(where + size, int(source.documents[document + 1])))
    return start, _last_cut(source, start, start + size)  # a corpus of one document: its own beginning is all there is


def _begins_units(source: Any, tokens: Any) -> Any:
    """Does a unit of every layer begin at each of these tokens?"""
    return source.units[tokens] & source.uncut == source.uncut


def _last_cut(source: Any, start: int, end: int) -> int:
    """The last place in (start, end] where a unit ends; `end` if one unit fills it all."""
    if end == source.documents[_document(source, start) + 1]:
        return end
    found = np.flatnonzero(_begins_units(source, slice(start + 1, end + 1)))
    return start + 1 + int(found[-1]) if len(found) else end


def _document(source: Any, token: int) -> int:
    return int(np.searchsorted(source.documents, token, side="right")) - 1
