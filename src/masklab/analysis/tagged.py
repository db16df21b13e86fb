"""Finds entities with a tagger that was fine-tuned here: a label for every word, read back as stretches of text.

    finder = Tagger("runs/names")                   # masklab finetune --task tag
    finder(["Ada Lovelace wrote to Babbage."])      # [[[0, 12], [22, 29]]]

Labels are BIO, BIOES or BMES with a type behind a hyphen (Ramshaw and Marcus 1995; Sang and Veenstra 1999).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from masklab.analysis.opened import Opened, open_model
from masklab.corpus.sentences import starts
from masklab.corpus.word_items import items
from masklab.errors import BadInput
from masklab.tasks.tag import Tag, tag
from masklab.training.evaluation import Pretrainer

_BEGINS, _ENDS = "BSU", "ESLU"  # of the letters before the hyphen; I, M and the rest go on


class Tagger:
    """`Tagger("runs/names")(texts)` -> one (n, 2) array of character offsets for each text; `seen` counts the types."""

    def __init__(self, model: Opened | str | Path):
        _, loaded, self.tokenizer = open_model(model)
        if Tag.HEAD not in loaded.heads or not loaded.labels:
            raise BadInput(f"{model} is no tagger; train one: masklab finetune MODEL --task tag --train ... --dev ...")
        self.labels = loaded.labels
        if not all(label == "O" or label[:2] in ("B-", "I-", "M-", "E-", "S-", "L-", "U-") for label in self.labels):
            some = ", ".join(self.labels[:5])
            raise BadInput(f"{model} gives the labels {some}: entities need BIO or BMES labels such as B-PER, I-PER, O")
        self.seen: Counter[str] = Counter()
        self._pretrainer = Pretrainer(loaded.model, loaded.heads, Tag(""))

    def __call__(self, texts: Sequence[str], words: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Chinese is read character by character, whatever its segmented words are."""
        sentences = [sentence for i, text in enumerate(texts) for sentence in _sentences(i, text)]
        found: list[list[tuple[int, int]]] = [[] for _ in texts]
        if sentences:
            spelled = [[texts[i][a:b] for a, b in places] for i, places in sentences]
            for (i, places), labels in zip(
                sentences, tag(self._pretrainer, self.tokenizer, self.labels, spelled), strict=True
            ):
                for first, last, kind in entities(labels):
                    found[i].append((places[first][0], places[last][1]))
                    self.seen[kind] += 1
        return [np.array(spans, np.int64).reshape(-1, 2) for spans in found]


def _sentences(number: int, text: str) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(number, character offsets of the words and signs) of each sentence of a text."""
    read = items([text], fine=True)
    edges = np.searchsorted(read.begin, [*starts(text), len(text)])
    places = list(zip(read.begin.tolist(), read.end.tolist(), strict=True))
    for a, b in pairwise(edges.tolist()):
        if b > a:
            yield number, places[a:b]


def entities(labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(first word, last word, type): ["B-PER", "I-PER", "O", "S-LOC"] -> (0, 1, "PER"), (3, 3, "LOC").

    A label that goes on with nothing begins an entity, as in CoNLL's own scorer.
    """
    first, kind = -1, ""
    for i, label in enumerate([*labels, "O"]):
        letter, _, name = label.partition("-")
        if first >= 0 and (letter == "O" or letter in _BEGINS or name != kind):
            yield first, i - 1, kind
            first = -1
        if letter != "O" and first < 0:
            first, kind = i, name
        if first >= 0 and letter in _ENDS:
            yield first, i, kind
            first = -1
