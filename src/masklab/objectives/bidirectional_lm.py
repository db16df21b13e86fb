"""Two language models over the same words: one guesses each word from all before it, the other from all behind it.

Peters et al. 2018, "Deep contextualized word representations", section 3.1. The models share the spelling of words and
the softmax, and nothing else. Each word of a row is asked for twice; the marks around a text are read and never asked.
Losses are nats per word, of a true distribution over the most frequent words and one class for all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from masklab.corpus.spelling import marks
from masklab.corpus.store_words import StoreWords
from masklab.errors import BadInput
from masklab.models.elmo import Elmo, WordSoftmax
from masklab.models.pattern import PADDING, Inputs
from masklab.training.batches import IGNORE, Batch, Example, LossTerm

BEFORE, AFTER, NOTHING = -2, -3, -1  # the numbers of the marks around a text, and of a slot without a word


class WordRow(NamedTuple):
    """Texts between their marks, side by side."""

    inputs: Inputs  # (T,) int32; tokens are numbers of words
    features: np.ndarray  # (T, letters) int16: how each is spelled
    words: np.ndarray  # (n,) int64: the slots that hold a word


def word_row(texts: Sequence[np.ndarray], spellings: np.ndarray, length: int) -> WordRow:
    """texts: numbers of words, rows of `spellings` (words, letters); in `length` slots."""
    tokens = np.full(length, NOTHING, np.int32)
    document = np.full(length, PADDING, np.int32)
    position, none = np.zeros((2, length), np.int32)
    slot = 0
    for number, text in enumerate(texts):
        end = slot + len(text) + 2
        tokens[slot:end] = (BEFORE, *text, AFTER)
        document[slot:end] = number
        position[slot:end] = np.arange(end - slot)
        slot = end
    words = np.flatnonzero(tokens >= 0)
    features = np.zeros((length, spellings.shape[1]), np.int16)
    features[words] = spellings[tokens[words]]
    features[tokens == BEFORE], features[tokens == AFTER] = marks(spellings.shape[1])
    return WordRow(Inputs(tokens, position, none, document, none, none), features, words)


@dataclass(frozen=True)
class BidirectionalLM:
    vocabulary: int = 793_471  # classes of the softmax; the paper's corpus has so many words of three or more uses
    cutoffs: tuple[int, ...] = (4_000, 40_000, 200_000)  # where words are rare enough for a narrower table
    shrink: float = 4.0  # how much narrower each is than the last
    unigram_start: bool = False  # the softmax starts at the words' frequencies

    kind: ClassVar[str] = "none"  # of attention

    def __post_init__(self) -> None:
        if self.vocabulary < 2 or self.shrink < 1 or any(cutoff < 1 for cutoff in self.cutoffs):
            raise BadInput("objective.vocabulary is at least 2, objective.shrink and every cutoff at least 1")

    def open(self, data: str, part: str, tokenizer: Any = None) -> Any:
        words = StoreWords(data)
        return words.part(part, tokenizer or words.vocabulary(self.vocabulary))

    def examples(self, source: Any, length: int) -> Any:
        return source.rows(length)

    def example(
        self, source: Any, index: int, length: int, rng: np.random.Generator, progress: float
    ) -> Example:  # nothing here is random
        row = word_row([source.ids[a:b] for a, b in source.rows(length)[index]], source.spellings, length)
        wanted = source.classes[row.inputs.tokens[row.words]]
        at = {"forward": row.words - 1, "backward": row.words + 1}  # a mark stands on each side of every text
        return Example(
            row.inputs, at, {"forward": wanted, "backward": wanted}, False, len(wanted), features=row.features
        )

    def heads(self, model: Any, source: Any, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        if not isinstance(model, Elmo):
            raise BadInput("two language models want a network of two readers: model=ElmoConfig(...)")
        classes = source.tokenizer.size if source else self.vocabulary
        head = WordSoftmax(model.config.width, classes, self.cutoffs, self.shrink)
        if self.unigram_start and source:
            head.start(torch.from_numpy(source.counts))
        return nn.ModuleDict({"words": head})

    def loss(self, model: Any, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        """`forward` from the states of the words before, `backward` from those of the words behind."""
        head, width = cast(WordSoftmax, heads["words"]), model.config.width
        states = model.dropout(model(batch.inputs, batch.features).last)  # (B, T, 2 D)
        terms = {}
        for name, side in (("forward", states[..., :width]), ("backward", states[..., width:])):
            target = batch.targets[name].flatten()
            asked = side.gather(1, batch.at[name].unsqueeze(2).expand(-1, -1, width)).flatten(0, 1)
            right = None if torch.is_grad_enabled() else (head.best(asked) == target).sum()
            terms[name] = LossTerm(head.loss(asked, target).sum(), (target != IGNORE).sum(), 1.0, right)
        return terms

    def baseline(self, source: Any, batch: Batch) -> dict[str, LossTerm]:
        """The unigram model of the training part's words."""
        counts = torch.from_numpy(source.counts) + 1
        scores = (counts / counts.sum()).log()
        terms = {}
        for name, target in batch.targets.items():
            target = target[target != IGNORE]
            terms[name] = LossTerm(-scores[target].sum(), torch.tensor(len(target)), 1.0,
                                   (target == scores.argmax()).sum())  # fmt: skip
        return terms
