"""T5: spans are cut out of a text, a numbered sentinel left in place of each; the decoder writes what was cut.

Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer", section 3.1.4:
15 % of the tokens in spans of 3 on average, number and lengths of the spans as the published code draws them. Text,
"Thank you for inviting me to your party last week" -> inputs "Thank you <0> me to your party <1> week </s>", targets
"<0> for inviting <1> last </s>".
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from masklab.corpus.store import Store
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput
from masklab.models.heads import LMHead
from masklab.models.pattern import PADDING, Inputs, Layout, bidirectional, causal
from masklab.models.transformer import Memory, Model
from masklab.training.batches import IGNORE, Batch, Example, LossTerm


@dataclass(frozen=True)
class SpanCorruption:
    rate: float = 0.15  # share of the tokens that are cut out
    mean: float = 3.0  # tokens of a span, on average
    sentinels: int = 100  # <extra_id_0> ... in the vocabulary: the most spans that a document of a row can have

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1 or self.mean < 1 or self.sentinels < 1:
            raise BadInput("objective: rate lies between 0 and 1, mean and sentinels are at least 1")

    def open(self, data: str, part: str, tokenizer: Any = None) -> "Marked":
        return Marked(Store(data).part(part), self)

    def examples(self, source: "Marked", length: int) -> Any:
        return source.laid(length).rows

    def example(self, source: "Marked", index: int, length: int, rng: np.random.Generator, progress: float) -> Example:
        laid = source.laid(length)
        begins, tokenizer = laid.rows[index], source.tokenizer
        pairs = [
            corrupt(source.ids[a:b], noise(b - a, self.rate, self.mean, rng), source.sentinels, tokenizer.sep)
            for a, b in begins.tolist()
        ]
        inputs = side_by_side([x for x, _ in pairs], laid.inputs, tokenizer.pad)
        targets = [y for _, y in pairs]
        shifted = [np.append(tokenizer.pad, y[:-1]) for y in targets]  # padding's token is what begins the writing
        written = side_by_side(shifted, laid.targets, tokenizer.pad, causal)
        wanted = np.full(laid.targets, IGNORE, np.int64)
        every = np.concatenate(targets)
        wanted[: len(every)] = every
        ordinary = (every != tokenizer.sep) & ~np.isin(every, source.sentinels)
        text = np.full(laid.targets, IGNORE, np.int64)
        text[: len(every)] = np.where(ordinary, every, IGNORE)
        full = len(pairs) == 1 and len(pairs[0][0]) == laid.inputs
        words = sum(int(np.count_nonzero(source.units[a:b] & WORD_START)) for a, b in begins.tolist())
        return Example(inputs, {}, {"written": wanted, "text": text}, full, words, None, written)

    def heads(self, model: Model, source: "Marked", trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        return nn.ModuleDict({"lm": LMHead(model.config, model.embeddings)})

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        return written_terms(model, heads, batch)

    def baseline(self, source: "Marked", batch: Batch) -> dict[str, LossTerm]:
        """The best guess that ignores the input: how frequent every token is among what is to be written."""
        share = source.shares(batch.inputs.tokens.shape[1])
        ordinary = np.zeros_like(share)
        ordinary[source.tokenizer.ordinary] = share[source.tokenizer.ordinary]
        found = {}
        for name, weight, among in (("written", 1.0, share), ("text", 0.0, ordinary)):
            scores = torch.from_numpy(np.log(np.maximum(among / among.sum(), 1e-30)))
            target = batch.targets[name].flatten()
            asked = target != IGNORE
            right = (asked & (target == scores.argmax())).sum()
            found[name] = LossTerm(-scores[target[asked]].sum(), asked.sum(), weight, right)
        return found


class Laid(NamedTuple):
    """Rows of one length: the pieces of documents in each, and how many slots both sides have."""

    rows: Any  # corpus.packing.Rows of whole pieces, before anything is cut
    inputs: int
    targets: int
    cuts: np.ndarray  # (n, 2): of pieces of 0, 1, 2, ... tokens, how many are cut out, in how many spans


class Marked:
    """A part of a corpus whose vocabulary has sentinels at its end; all else is the part's own."""

    def __init__(self, part: Any, objective: SpanCorruption):
        self.part, self.objective = part, objective
        self.tokenizer = part.tokenizer.with_sentinels(objective.sentinels)
        self.unigram = np.pad(part.unigram, (0, self.tokenizer.size - len(part.unigram)))
        ids = [self.tokenizer.inner.token_to_id(f"<extra_id_{k}>") for k in range(objective.sentinels)]
        self.sentinels = np.array(ids, np.int32)
        self._laid: dict[int, Laid] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def laid(self, length: int) -> Laid:
        """Rows whose inputs fill `length` slots once spans are cut: a piece that fills its row does so exactly.

        Rows of many short documents may need a few slots more, as every document keeps at least one span.
        """
        if length not in self._laid:
            o = self.objective
            whole, targets = whole_length(length, o.rate, o.mean)
            rows = self.part.rows(whole + 1, 1)  # one more: each document's end
            sizes = rows.pieces[:, 1] - rows.pieces[:, 0]
            most = int(sizes.max()) if len(sizes) else 1
            cuts = np.array([counts(n, o.rate, o.mean) for n in range(most + 1)])  # (n, 2)
            if cuts[most, 1] > o.sentinels:
                raise BadInput(
                    f"rows of {length} have up to {cuts[most, 1]} spans, but there are {o.sentinels} sentinels; "
                    f"set objective.sentinels={cuts[most, 1]}, a larger objective.mean, or shorter rows"
                )
            taken, spans = cuts[sizes].T
            first = rows.offsets[:-1]
            inputs = np.add.reduceat(sizes - taken + spans + 1, first) if len(sizes) else np.zeros(1, int)
            written = np.add.reduceat(taken + spans + 1, first) if len(sizes) else np.zeros(1, int)
            self._laid[length] = Laid(rows, max(length, int(inputs.max())), max(targets, int(written.max())), cuts)
        return self._laid[length]

    def shares(self, inputs: int) -> np.ndarray:
        """(V,) how frequent each token is in the targets of rows of so many slots: text, sentinels, ends."""
        laid = next(laid for laid in self._laid.values() if laid.inputs == inputs)
        pieces = np.bincount(laid.rows.pieces[:, 1] - laid.rows.pieces[:, 0], minlength=len(laid.cuts))  # of each size
        found = (self.unigram + 1) / (self.unigram + 1).sum() * (pieces @ laid.cuts[:, 0])
        for spans in range(1, laid.cuts[:, 1].max() + 1):
            found[self.sentinels[spans - 1]] += pieces[laid.cuts[:, 1] >= spans].sum()
        found[self.tokenizer.sep] += pieces.sum()
        return found / found.sum()


def written_terms(model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
    """The decoder's loss: `written` is every token of the targets; `text`, if told, those but sentinels and ends."""
    assert batch.written is not None
    assert model.decoder is not None
    memory = Memory(model(batch.inputs, layout=batch.layout).last, batch.inputs)
    states = model.decoder(batch.written, layout=Layout("causal"), memory=memory).last.flatten(0, 1)
    target, head = batch.targets["written"].flatten(), cast(LMHead, heads["lm"])
    right: torch.Tensor | None = None
    if torch.is_grad_enabled():
        nats = head.loss(states, target)
    else:
        logits = head(states).float()
        nats = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        right = logits.argmax(-1) == target

    def term(name: str, weight: float) -> LossTerm:
        asked = batch.targets[name].flatten() != IGNORE
        return LossTerm(nats[asked].sum(), asked.sum(), weight, None if right is None else (right & asked).sum())

    text = right is not None and "text" in batch.targets
    return {"written": term("written", 1.0)} | ({"text": term("text", 0.0)} if text else {})


def side_by_side(pieces: list[np.ndarray], length: int, pad: int, pattern: Any = bidirectional) -> Inputs:
    """Token ids of documents, laid into one row of `length` slots."""
    tokens = np.full(length, pad, np.int32)
    position, segment, time, visible_from = np.zeros((4, length), np.int32)
    document = np.full(length, PADDING, np.int32)
    slot = 0
    for number, ids in enumerate(pieces):
        here = slice(slot, slot + len(ids))
        tokens[here] = ids
        position[here] = np.arange(len(ids))
        document[here] = number
        time[here], visible_from[here] = pattern(len(ids))
        slot += len(ids)
    return Inputs(tokens, position, segment, document, time, visible_from)


# --- how much is cut, and where: section 3.1.4 and the published code's random_spans_noise_mask ----------------------


@lru_cache(maxsize=1 << 16)
def counts(n: int, rate: float, mean: float) -> tuple[int, int]:
    """Of n tokens, how many are cut out, and in how many spans: counts(512, 0.15, 3) -> (77, 26).

    Something is always cut and something always stays, so of a single token nothing is.
    """
    if n < 2:
        return 0, 0
    taken = min(max(round(n * rate), 1), n - 1)
    return taken, min(max(round(taken / mean), 1), n - taken)


@lru_cache(maxsize=256)
def whole_length(length: int, rate: float, mean: float) -> tuple[int, int]:
    """The longest text whose inputs fit `length` slots, and the slots of its targets: (512, .15, 3) -> (568, 114)."""

    def slots(n: int) -> tuple[int, int]:
        taken, spans = counts(n, rate, mean)
        return n - taken + spans + 1, taken + spans + 1  # one sentinel a span on both sides, and the end

    n = 1
    while slots(n + 1)[0] <= length:
        n += 1
    return n, slots(n)[1]


def noise(n: int, rate: float, mean: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) bool: what is cut. Kept and cut spans take turns, a kept one first; all lengths are drawn evenly."""
    taken, spans = counts(n, rate, mean)
    if not spans:
        return np.zeros(n, bool)
    lengths = np.stack([_parts(n - taken, spans, rng), _parts(taken, spans, rng)], 1).ravel()
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def _parts(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`total` cut into `parts` lengths of at least 1, each way as likely as any other."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1 if parts > 1 else np.zeros(0, np.int64)
    return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(ids: np.ndarray, cut: np.ndarray, sentinels: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, both ending in `end`. corrupt([7, 8, 9], [F, T, F], [99], 2) -> [7, 99, 9, 2], [99, 8, 2]"""
    first = cut & ~np.concatenate([[False], cut[:-1]])  # where a span begins
    number = sentinels[np.maximum(np.cumsum(first) - 1, 0)] if first.any() else np.zeros(len(ids), np.int64)
    inputs = np.where(first, number, ids)[~cut | first]
    begins = np.flatnonzero(first[cut])
    targets = np.insert(ids[cut].astype(np.int64), begins, sentinels[: len(begins)])
    return np.append(inputs, end), np.append(targets, end)
