"""fastText: a word is the mean of its character n-grams, so that rare words share what frequent ones learned.

Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information" (section 3: skip-gram with n-grams of 3 to 6
characters in 2 million buckets; 4.1: the settings). A word that training never met gets a vector from its n-grams.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.fasttext_kernels import desk_for, empty_groups, pieces_of, read_text, tree_groups
from masklab.word_vectors.fasttext_rows import (
    announce_begin,
    continued,
    input_rows,
    kept,
    read_corpus,
    rows_of,
    run_and_settle,
    taken_up,
)
from masklab.word_vectors.hot_rows import MOST, copies, room
from masklab.word_vectors.ngrams import Ngrams, mean_rows
from masklab.word_vectors.runner import Chunk, Loss, Schedule, Watch, borders_of
from masklab.word_vectors.sampling import Draws, Tree, huffman
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.tiles import TILE, aligned
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the paper and of the official program."""

    model: Literal["skipgram", "cbow"] = "skipgram"
    loss: Literal["ns", "hs"] = "ns"  # negative sampling, hierarchical softmax
    dim: int = 100
    window: int = 5
    shortest: int = 3
    longest: int = 6  # 0: no n-grams
    buckets: int = 2_000_000
    min_count: int = 5
    max_words: int | None = None
    lowercase: bool = False
    sample: float = 1e-4
    negatives: int = 5
    noise: float = 0.5  # negatives are drawn by count to this power
    epochs: int = 5
    seconds: float | None = None
    rate: float = 0.05
    rate_end: float = 0.0
    threads: int = 0
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        Ngrams(self.shortest, self.longest, self.buckets)
        _ = self.schedule  # which checks its own
        if self.model not in ("skipgram", "cbow"):
            raise BadInput(f"model={self.model!r}: fastText is skipgram or cbow (supervised has settings of its own)")
        if self.loss not in ("ns", "hs"):
            raise BadInput(f"loss={self.loss!r}: choose ns (negative sampling) or hs (hierarchical softmax)")
        for name in ("dim", "window", "min_count", "negatives"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: give 1 or more")
        if self.sample < 0:
            raise BadInput(f"sample={self.sample}: give a share of the text such as 1e-4, or 0 to keep all words")

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.seconds, self.rate, self.rate_end, self.threads, self.deterministic)


def train(
    corpus: Corpus,
    settings: Settings = Settings(),
    *,
    start: Trained | None = None,
    watch: Watch | None = None,
    stop: Callable[[], Any] | None = None,
) -> Trained:
    """Vectors for the words of a corpus, and rows for their n-grams.

    arrays: "words" (V, D) the words' own rows, "buckets" (n, D) and "bucket_numbers" (n,) the rows of the buckets in
    use, "output" (V, D; a row less for a tree, which is in "tree_start" and "tree_steps"). vectors[w] is the mean of
    the rows of w. `start`: go on with this model on new text; its words keep their numbers, new ones follow. Or take
    up a run that was stopped, if corpus and settings are the same. `watch` is told how it goes, `stop` is asked whether
    to end early (as Ctrl-C does); what is trained by then is returned.
    """
    if not settings.longest:
        settings = replace(settings, buckets=0)
    if start is not None:
        continued(start, "fasttext", settings, ("dim", "shortest", "longest", "buckets", "loss"))
    schedule = settings.schedule
    vocabulary, ids = read_corpus(
        corpus, watch, stop, min_count=settings.min_count, max_words=settings.max_words, lowercase=settings.lowercase,
        vocabulary=start.vocabulary if start else None, grow=start is not None, threads=schedule.workers,
    )  # fmt: skip
    if len(vocabulary) < 2:  # "</s>" is always there
        raise BadInput(
            f"no word occurs {settings.min_count} times in this corpus; give a smaller min_count, or more text"
        )
    words, before, first = int(np.count_nonzero(ids >= 0)), start.words_read if start else 0, 0
    place = {"words": words, "ids": len(ids)}
    if start is not None and (stopped := taken_up(start, asdict(settings), len(vocabulary), place)):
        vocabulary, first, before = start.vocabulary, stopped["chunk"], stopped["words_before"]
    table = Ngrams(settings.shortest, settings.longest, settings.buckets).table(vocabulary.words)
    seen = np.zeros(settings.buckets, np.int64)
    np.add.at(seen, table.ids, np.repeat(vocabulary.counts, np.diff(table.offsets)))
    threads = schedule.workers
    frequent = range(len(vocabulary), len(vocabulary) + min(MOST, np.count_nonzero(seen)))
    inputs, numbers = input_rows(
        len(vocabulary), seen, settings.dim, settings.seed, start, more=room(frequent, threads)
    )
    hot_inputs = copies(inputs, frequent, threads)
    pieces = pieces_of(
        np.arange(len(vocabulary), dtype=np.int32), rows_of(table, numbers, settings.buckets, len(vocabulary))
    )
    tree = _tree(vocabulary, start, watch) if settings.loss == "hs" else None
    size = len(vocabulary) - (tree is not None)
    top = range(max(0, size - MOST), size) if tree is not None else range(0)  # the root is the last node
    outputs = aligned(size + room(top, threads), settings.dim)
    if start is not None and (tree is None or len(vocabulary) == len(start.vocabulary)):
        outputs[: len(start.arrays["output"]), : settings.dim] = start.arrays["output"]
    hot_outputs = copies(outputs, top, threads)
    draws = Draws.of(
        vocabulary.counts, sample=settings.sample, power=settings.noise, window=settings.window,
        negatives=settings.negatives, key=(settings.seed, before),
    )  # fmt: skip
    examples = 2 * settings.window
    ways = tree_groups(*tree) if tree else None
    groups = [ways or empty_groups(examples, settings.negatives + 1) for _ in range(threads)]
    cbow = settings.model == "cbow"
    most = int(np.diff(pieces.offsets).max()) * (examples if cbow else 1)
    desks = [
        desk_for(settings.dim, groups[0], most, examples, hot_inputs=rows, hot_outputs=targets)
        for rows, targets in zip(hot_inputs, hot_outputs, strict=True)
    ]

    def work(chunk: Chunk) -> Loss:
        return Loss(
            *read_text(
                TILE, inputs, outputs, ids, chunk.begin, chunk.end, chunk.place, draws, pieces, groups[chunk.thread],
                cbow, tree is not None, chunk.rate, chunk.rate_end, desks[chunk.thread],
            )
        )  # fmt: skip

    announce_begin(watch, len(vocabulary), words, schedule, resumed=first > 0)
    outcome = run_and_settle(work, borders_of(ids), words, schedule, inputs, outputs, desks, first, watch, stop)
    inputs, outputs = inputs[: len(vocabulary) + len(numbers)], outputs[:size]
    own, shared = inputs[: len(vocabulary), : settings.dim], inputs[len(vocabulary) :, : settings.dim]
    arrays = {"words": own, "buckets": shared, "bucket_numbers": numbers, "output": outputs[:, : settings.dim]}
    if tree is not None:
        arrays |= {"tree_start": tree.start, "tree_steps": tree.steps}
    vectors = mean_rows(own, shared, rows_of(table, numbers, settings.buckets))
    read = (start.words_read if start else 0) + outcome.words
    return Trained("fasttext", vocabulary, kept(settings, outcome, place, before), vectors, arrays, read)


def _tree(vocabulary: Vocabulary, start: Trained | None, watch: Watch | None) -> Tree:
    """The tree of the model to go on with, as long as it has a leaf for every word; else a new one."""
    if start is not None and len(vocabulary) == len(start.vocabulary):
        if "tree_start" in start.arrays:
            return Tree(np.array(start.arrays["tree_start"]), np.array(start.arrays["tree_steps"]))
        return huffman(start.vocabulary.counts)
    if start is not None and watch is not None:
        watch({"kind": "warning", "text": "new words make a new tree: its nodes start from zero, the words go on"})
    return huffman(vocabulary.counts)
