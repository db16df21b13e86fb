"""Tagging by features: the network stays as it is, and a tagger learns which of its layers say what a label needs.

Peters et al. 2018, section 3.3: each word's vector is a mixture of all layers of a frozen ELMo, and a two-way LSTM over
these vectors answers. With `vectors`, word vectors of a file take the network's place: the comparison to make.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from masklab.corpus.spelling import spelled
from masklab.errors import BadInput
from masklab.models.elmo import Elmo
from masklab.models.tagger import FeatureTagger
from masklab.objectives.bidirectional_lm import word_row
from masklab.tasks import labelled
from masklab.tasks.labelled import Labelled, Predictions
from masklab.tasks.tag import Tag, laid_out
from masklab.training.batches import Batch, Example, LossTerm


class Sentences(Labelled):
    """Tagged sentences whose "tokens" are numbers of words, each with its spelling or its vector."""

    spellings: np.ndarray  # (words, letters) uint16
    vectors: np.ndarray | None = None  # (words, D) float32: of a file

    def example(self, index: int, length: int, term: str) -> Example:
        laid = self.laid(length)
        members = [laid.items[i] for i in laid.rows[index]]
        row = word_row([item.segments[0] for item in members], self.spellings, length)
        features = row.features
        if self.vectors is not None:
            features = np.zeros((length, self.vectors.shape[1]), np.float32)
            features[row.words] = self.vectors[row.inputs.tokens[row.words]]
        targets = {term: np.concatenate([item.target for item in members]),
                   "usual": np.concatenate([item.usual for item in members])}  # fmt: skip
        return Example(row.inputs, {term: row.words}, targets, False, len(row.words), features=features)


@dataclass(frozen=True)
class TagFeatures:
    """The objective of tagged text for a frozen network; the recipe's `data` is the training file."""

    held_out: str  # a file of the same columns
    word: str = ""  # column number from 1, CoNLL-U column or JSON field; unsaid: what `read_tagged` takes
    tag: str = ""
    limit: int | None = None  # use only so many training sentences ...
    draw: int = 0  # ... and which: another number, another lot
    vectors: str = ""  # a file or folder of word vectors to use instead of the network's layers
    inside: int = 64  # width of each of the tagger's readers
    dropout: float = 0.5

    TERM: ClassVar[str] = "tag"
    HEAD: ClassVar[str] = "tag"
    kind: ClassVar[str] = "none"  # of attention

    def open(self, data: str, part: str, tokenizer: Any = None) -> Sentences:
        """`part` is "train", "held_out", or the path of another file of the same kind."""
        asked = Tag(self.held_out, self.word, self.tag, self.limit, self.draw)
        words, names, frequency, truth, answers = asked.read(data, part)
        different = list(dict.fromkeys(word for sentence in words for word in sentence))
        number = {word: np.array([i]) for i, word in enumerate(different)}
        pieces = [[number[word] for word in sentence] for sentence in words]
        source: Sentences = laid_out(tokenizer, names, frequency, pieces, truth, answers, Sentences)
        source.spellings = spelled(different)
        source.vectors = vectors_of(self.vectors, different) if self.vectors else None
        return source

    def examples(self, source: Sentences, length: int) -> Any:
        return source.laid(length).rows

    def example(
        self, source: Sentences, index: int, length: int, rng: np.random.Generator, progress: float
    ) -> Example:  # nothing here is random
        return source.example(index, length, self.TERM)

    def heads(self, model: Any, source: Sentences, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        if not isinstance(model, Elmo):
            raise BadInput("layers are mixed for a tagger only of a model that reads letters (recipe elmo)")
        model.requires_grad_(False)
        layers, width = model.config.layers + 1, 2 * model.config.width
        if source.vectors is not None:
            layers, width = 1, source.vectors.shape[1]
        return nn.ModuleDict({self.HEAD: FeatureTagger(layers, width, len(source.labels), self.inside, self.dropout)})

    def loss(self, model: Any, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        return labelled.loss(model, heads, batch, self.TERM, self.HEAD, logits)

    def baseline(self, source: Sentences, batch: Batch) -> dict[str, LossTerm]:
        """Each word's most frequent tag in training; for words that do not occur there, the most frequent of all."""
        return labelled.baseline(source, batch, self.TERM)

    def predict(self, pretrainer: Any, source: Sentences, length: int) -> Predictions:
        return labelled.predict(pretrainer, source, length, self.TERM, self.HEAD, logits=logits)


def logits(model: Elmo, heads: nn.ModuleDict, batch: Batch, term: str, head: str) -> Tensor:
    """(B, K, classes) float32 at the asked words, from the network's layers or the vectors that the batch came with."""
    assert batch.features is not None
    layers: Sequence[Tensor] = [batch.features]
    if not batch.features.is_floating_point():
        model.eval()  # as it is frozen, its dropout is too
        with torch.no_grad():
            layers = model(batch.inputs, batch.features, keep=("hidden",)).hidden
    found = cast(FeatureTagger, heads[head])(layers, batch.inputs.document).float()
    return found.gather(1, batch.at[term].unsqueeze(2).expand(-1, -1, found.shape[2]))


def vectors_of(path: str, words: Sequence[str]) -> np.ndarray:
    """(words, D) float32: the vectors of a file, of the word or else of it in lower case; 0 for those it lacks."""
    from masklab.word_vectors.keyed import WordVectors

    table = WordVectors.open(path)
    found = np.zeros((len(words), table.vectors.shape[1]), np.float32)
    for i, word in enumerate(words):
        known = word if word in table else word.lower()
        if known in table:
            found[i] = table[known]
    return found
