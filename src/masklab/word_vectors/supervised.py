"""fastText's classifier: a text is the mean of its words' (and word n-grams') rows, and a linear layer names its label.

Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification". A line of the corpus is one example; the words
that begin with `__label__` are its labels. Word n-grams (section 2.2) are hashed into the same buckets as character
n-grams. Losses: softmax (section 2), hierarchical softmax (2.1), negative sampling, or one question for each label.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.compiling import kernel
from masklab.word_vectors.fasttext_files import read_bin
from masklab.word_vectors.fasttext_kernels import (
    DROPPED,
    NO_LABEL,
    NOTHING,
    Groups,
    Lines,
    Task,
    all_groups,
    desk_for,
    empty_groups,
    hidden_of,
    pieces_of,
    read_lines,
    survey,
    tree_groups,
)
from masklab.word_vectors.fasttext_rows import (
    announce_begin,
    as_read,
    continued,
    input_rows,
    kept,
    ngrams_of,
    read_corpus,
    row_map,
    rows_of,
    run_and_settle,
    taken_up,
)
from masklab.word_vectors.hot_rows import MOST, TURNS, copies, room
from masklab.word_vectors.ngrams import LINE_END, Ngrams, Table, hashes_of, mean_rows
from masklab.word_vectors.runner import Chunk, Loss, Schedule, Watch, borders_of
from masklab.word_vectors.sampling import Draws, huffman
from masklab.word_vectors.scan import LINE as LINE_ENDS
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.tiles import LINE, TILE, aligned
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the official program."""

    loss: Literal["softmax", "ns", "hs", "ova"] = "softmax"  # ova: one-vs-all, for lines with several labels
    label: str = "__label__"  # words that begin so are labels
    dim: int = 100
    word_ngrams: int = 1  # up to so many words; 1: words alone
    shortest: int = 0  # of character n-grams
    longest: int = 0  # 0: none
    buckets: int = 2_000_000
    min_count: int = 1
    min_count_label: int = 1
    negatives: int = 5
    noise: float = 0.5
    epochs: int = 5
    seconds: float | None = None
    rate: float = 0.1
    rate_end: float = 0.0
    threads: int = 0
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        Ngrams(self.shortest, self.longest, self.buckets)
        _ = self.schedule  # which checks its own
        if self.loss not in ("softmax", "ns", "hs", "ova"):
            raise BadInput(
                f"loss={self.loss!r}: choose softmax, ns (negative sampling), hs (hierarchical softmax) or ova "
                f"(one-vs-all, for several labels a line)"
            )
        for name in ("dim", "word_ngrams", "min_count", "min_count_label", "negatives"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: give 1 or more")
        if self.word_ngrams > 1 and not self.buckets:
            raise BadInput("buckets=0: word n-grams need buckets; 2,000,000 is usual")
        if not self.label:
            raise BadInput("label='': say how labels begin, such as __label__")

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.seconds, self.rate, self.rate_end, self.threads, self.deterministic)


def labelled(texts: Iterable[str], labels: Iterable[str], prefix: str = "__label__") -> Iterator[list[str]]:
    """Two columns of a table as lines to train on. ("so good", "fine") -> ["__label__fine", "so", "good"]

    White space in a label becomes "_", as it would part the label in two.
    """
    for text, label in zip(texts, labels, strict=True):
        yield [prefix + "_".join(label.split()), *words_of(text)]


def words_of(text: str) -> list[str]:
    """The words of a text, parted as the scan of a file parts them: by characters up to the space."""
    return _WORD.findall(text)


_WORD = re.compile(r"[^\x00-\x20]+")


def train(
    corpus: Corpus,
    settings: Settings = Settings(),
    *,
    start: Trained | None = None,
    watch: Watch | None = None,
    stop: Callable[[], Any] | None = None,
) -> Trained:
    """A classifier from lines with labels.

    settings["labels"] of the result are the labels, the most frequent first; arrays: "words" (V, D), "buckets" (n, D),
    "bucket_numbers" (n,), "output" (labels, D; a row less for a tree), "label_counts" (labels,). `start`: go on with
    this model on new text; new words and labels are added (a tree takes no new label). Or take up a run that was
    stopped, if corpus and settings are the same. `watch` is told how it goes, `stop` is asked whether to end early (as
    Ctrl-C does); what is trained by then is returned.
    """
    if settings.word_ngrams == 1 and not settings.longest:
        settings = replace(settings, buckets=0)
    if start is not None:
        fixed = ("dim", "shortest", "longest", "buckets", "word_ngrams", "loss", "label")
        continued(start, "supervised", settings, fixed)
    schedule = settings.schedule
    everything, ids = read_corpus(corpus, watch, stop, min_count=1, threads=schedule.workers)
    vocabulary, labels, counts = _parted(everything, settings, start)
    words, before, first = int(np.count_nonzero(ids >= 0)), start.words_read if start else 0, 0
    place = {"words": words, "ids": len(ids)}
    if start is not None and (stopped := taken_up(start, asdict(settings), len(vocabulary), place)):
        vocabulary, counts = start.vocabulary, np.asarray(start.arrays["label_counts"])
        first, before = stopped["chunk"], stopped["words_before"]
    ngrams = Ngrams(settings.shortest, settings.longest, settings.buckets)
    known = (vocabulary, labels, settings.label, ngrams, settings.word_ngrams)
    lines = lines_of(everything.words, *known, row_of=np.full(settings.buckets, -1, np.int32))
    seen = np.zeros(settings.buckets, np.int64)
    most = survey(ids, lines, seen)
    if not most[2] or not most[0]:
        raise BadInput(
            f"no line has both words and a label: a line is an example, and its labels are words such as "
            f"{settings.label}NAME"
        )
    table = ngrams.table(everything.words)
    np.add.at(seen, table.ids, np.repeat(everything.counts * (lines.labels == NO_LABEL), np.diff(table.offsets)))
    threads = schedule.workers
    frequent = range(min(len(vocabulary), MOST))
    inputs, numbers = input_rows(
        len(vocabulary), seen, settings.dim, settings.seed, start, more=room(frequent, threads)
    )
    hot_inputs = copies(inputs, frequent, threads, turns=2 * TURNS)  # a row moves by a part of the change
    lines = lines_of(everything.words, *known, row_of=row_map(numbers, settings.buckets, len(vocabulary)))
    tree = huffman(counts) if settings.loss == "hs" else None
    size = len(labels) - (tree is not None)
    few = range(max(0, size - MOST), size) if tree is not None else range(min(size, MOST))  # a tree's root comes last
    outputs = aligned(size + room(few, threads), settings.dim)
    if start is not None:
        outputs[: len(start.arrays["output"]), : settings.dim] = start.arrays["output"]
    hot_outputs = copies(outputs, few, threads, turns=2 * TURNS)
    draws = Draws.of(
        counts, sample=0, power=settings.noise, window=1, negatives=settings.negatives,
        key=(settings.seed, before),
    )  # fmt: skip
    task = Task(settings.loss == "softmax", settings.loss == "ova", tree is not None)
    groups = [_groups(task, tree, len(labels), settings.negatives) for _ in range(threads)]
    desks = [
        desk_for(settings.dim, groups[0], most[0], words=most[1], labels=most[2], hot_inputs=rows, hot_outputs=targets)
        for rows, targets in zip(hot_inputs, hot_outputs, strict=True)
    ]

    def work(chunk: Chunk) -> Loss:
        return Loss(
            *read_lines(
                TILE, inputs, outputs, ids, chunk.begin, chunk.end, chunk.place, draws, lines, groups[chunk.thread],
                task, chunk.rate, chunk.rate_end, desks[chunk.thread],
            )
        )  # fmt: skip

    announce_begin(watch, len(vocabulary), words, schedule, labels=len(labels), resumed=first > 0)
    outcome = run_and_settle(work, _line_borders(ids), words, schedule, inputs, outputs, desks, first, watch, stop)
    inputs, outputs = inputs[: len(vocabulary) + len(numbers)], outputs[:size]
    own, shared = inputs[: len(vocabulary), : settings.dim], inputs[len(vocabulary) :, : settings.dim]
    arrays = {
        "words": own, "buckets": shared, "bucket_numbers": numbers, "output": outputs[:, : settings.dim],
        "label_counts": counts,
    }  # fmt: skip
    vectors = mean_rows(own, shared, rows_of(ngrams.table(vocabulary.words), numbers, settings.buckets))
    read = (start.words_read if start else 0) + outcome.words
    about = kept(settings, outcome, place, before) | {"labels": labels}
    return Trained("supervised", vocabulary, about, vectors, arrays, read)


def _parted(
    everything: Vocabulary, settings: Settings, start: Trained | None
) -> tuple[Vocabulary, list[str], np.ndarray]:
    """The words that get a row, the labels, and how often each label occurs."""
    is_label = np.array([word.startswith(settings.label) for word in everything.words])
    kept = everything.counts >= np.where(is_label, settings.min_count_label, settings.min_count)

    def those(chosen: np.ndarray) -> Vocabulary:
        chosen = chosen[np.argsort(-everything.counts[chosen], kind="stable")]
        return Vocabulary([everything.words[i] for i in chosen], everything.counts[chosen], everything.total)

    words, labels = those(np.flatnonzero(kept & ~is_label)), those(np.flatnonzero(kept & is_label))
    if start is None:
        if not len(labels):
            raise BadInput(
                f"there is no label in the corpus: each line is an example, and words that begin with "
                f"{settings.label} are its labels, such as {settings.label}good"
            )
        return words, labels.words, labels.counts
    old = Vocabulary(start.settings["labels"], np.asarray(start.arrays["label_counts"]), 0)
    if settings.loss != "hs":
        labels = old.merged(labels)
        return start.vocabulary.merged(words), labels.words, labels.counts
    new = [label for label in labels.words if label not in old]
    if new:
        raise BadInput(f"{new[0]} is a new label, and a tree of labels (loss=hs) takes none; begin anew, or use ova")
    return start.vocabulary.merged(words), old.words, old.counts


def lines_of(
    words: Sequence[str], vocabulary: Vocabulary, labels: Sequence[str], prefix: str, ngrams: Ngrams, longest: int,
    row_of: np.ndarray,
) -> Lines:  # fmt: skip
    """What each of `words` stands for. row_of (buckets,): which row of the input table each bucket has, or -1."""
    place = {label: i for i, label in enumerate(labels)}
    of_label = [place.get(word, DROPPED) if word.startswith(prefix) else NO_LABEL for word in words]
    table = ngrams.table(words)
    pieces = pieces_of(vocabulary.numbers(words).astype(np.int32), Table(table.offsets, row_of[table.ids]))
    padded = np.pad(row_of, (0, -len(row_of) % LINE)).reshape(-1, LINE)
    return Lines(pieces, hashes_of(words), np.array(of_label, np.int32), longest, len(row_of), padded)


def _groups(task: Task, tree: Any, labels: int, negatives: int) -> Groups:
    if tree is not None:
        return tree_groups(*tree)
    return all_groups(labels) if task.softmax or task.each else empty_groups(1, negatives + 1)


def _line_borders(ids: np.ndarray) -> np.ndarray:
    """Chunks as `borders_of` cuts them, but never within a line."""
    borders = borders_of(ids)
    ends = np.flatnonzero(ids < 0) + 1
    return np.unique(np.concatenate([[0], ends[np.minimum(np.searchsorted(ends, borders[1:]), len(ends) - 1)]]))


# ---------------------------------------------------------------- what a classifier is for


class Answer(NamedTuple):
    label: str
    chance: float


class Score(NamedTuple):
    """How right the first k answers are, over the lines that have words and known labels."""

    lines: int
    precision: float  # of all answers given
    recall: float  # of all labels there are
    labels: dict[str, tuple[float, float, int]]  # of each label: precision, recall, lines that have it


class Classifier:
    """Names labels for texts.

    >>> Classifier.open("labels").predict(["not bad at all"], k=2)
    [[Answer(label='__label__good', chance=0.83), Answer(label='__label__bad', chance=0.17)]]
    """

    def __init__(self, trained: Trained) -> None:
        if trained.method != "supervised":
            raise BadInput(f"these are {trained.method} vectors, no classifier: train one (`masklab words supervised`)")
        settings, self.arrays = trained.settings, trained.arrays
        self.labels: list[str] = settings["labels"]
        ngrams = ngrams_of(settings)
        self.row_of = row_map(np.asarray(self.arrays["bucket_numbers"]), ngrams.buckets, len(trained.vocabulary))
        self.known = (trained.vocabulary, self.labels, settings["label"], ngrams, settings["word_ngrams"])
        self.output = np.asarray(self.arrays["output"], np.float32)
        self.loss: str = settings["loss"]
        self.tree = huffman(np.asarray(self.arrays["label_counts"])) if self.loss == "hs" else None

    @classmethod
    def open(cls, path: str | Path) -> "Classifier":
        """From a folder that masklab wrote, or a .bin of fastText's."""
        path = Path(path)
        if not path.exists():
            raise BadInput(f"{path} does not exist; name what `masklab words supervised` wrote, or a fastText .bin")
        return cls(Trained.load(path) if path.is_dir() else read_bin(path))

    def predict(self, texts: Iterable[str], k: int = 1, threshold: float = 0.0) -> Iterator[list[Answer]]:
        """For each text its k likeliest labels that reach the threshold (k = -1: all), the likeliest first.

        A text of which no word and no n-gram is known gets none. Words in a text that are labels are passed over.
        """
        for chances, _ in self._batches(texts):
            for found in best(chances, k, threshold):
                yield [Answer(self.labels[label], chance) for label, chance in found]

    def test(self, lines: Iterable[str], k: int = 1, threshold: float = 0.0) -> Score:
        """Precision and recall at k over labelled lines, counted as the official `test` does.

        Lines without a known word or n-gram, or without a label that training met, do not count.
        """
        given, right, there = (np.zeros(len(self.labels), np.int64) for _ in range(3))
        counted = 0
        for chances, labels in self._batches(lines):
            for found, wanted in zip(best(chances, k, threshold), labels, strict=True):
                wanted = wanted[wanted >= 0]
                counted += len(wanted) > 0
                np.add.at(there, wanted, 1)
                for label, _ in found if len(wanted) else ():
                    given[label] += 1
                    right[label] += label in wanted
        if not counted:
            raise BadInput(f"no line has words and a known label; labels are words such as {self.labels[0]}")
        each = {
            label: (float(right[i] / max(given[i], 1)), float(right[i] / max(there[i], 1)), int(there[i]))
            for i, label in enumerate(self.labels)
        }
        return Score(counted, float(right.sum() / max(given.sum(), 1)), float(right.sum() / there.sum()), each)

    def _batches(self, texts: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(lines, labels) float64 chances, NaN for a line with nothing to go by; and (lines, any) labels, then -1."""
        texts = iter(texts)
        size = max(1, min(_BATCH, 2**24 // len(self.labels)))
        while block := list(islice(texts, size)):
            index: dict[str, int] = {}
            ids: list[int] = []
            for text in block:
                ids += [index.setdefault(word, len(index)) for word in [*words_of(text), LINE_END]]
                ids.append(LINE_ENDS)
            encoded = as_read(np.array(ids, np.int32))
            lines = lines_of(list(index), *self.known, row_of=self.row_of)
            most = survey(encoded, lines, np.zeros(0, np.int64))
            hidden = np.zeros((len(block), self.output.shape[1]), np.float32)
            labels = np.zeros((len(block), most[2] + 1), np.int32)
            hidden_of(self.arrays["words"], self.arrays["buckets"], encoded, lines, most, hidden, labels)
            scores = (hidden @ self.output.T).astype(np.float64)
            yield np.where(labels[:, -1:] == NOTHING, np.nan, self._chances(scores)), labels

    def _chances(self, scores: np.ndarray) -> np.ndarray:
        """What the scores of a line's labels (or of the tree's nodes) mean."""
        if self.loss == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        right = 1 / (1 + np.exp(-scores))
        if self.tree is None:
            return right
        chances = np.empty((len(scores), len(self.labels)))
        down_the_tree(right, self.tree.start, self.tree.steps, chances)
        return chances


_BATCH = 4096  # texts at a time


@kernel
def down_the_tree(right, start, steps, chances):
    """The chance of a leaf is that of all turns on the way to it; right (lines, nodes): the chance of branch 1."""
    for i in range(len(right)):
        for leaf in range(len(start) - 1):
            chance = 1.0
            for step in steps[start[leaf] : start[leaf + 1]]:
                turn = right[i, step >> 1]
                chance *= turn if step & 1 else 1 - turn
            chances[i, leaf] = chance


def best(chances: np.ndarray, k: int, threshold: float) -> list[list[tuple[int, float]]]:
    """The k largest of each row that reach the threshold: [[0.2, 0.7, 0.1]], k=2 -> [[(1, 0.7), (0, 0.2)]]"""
    if k < 1 and k != -1:
        raise BadInput(f"k={k}: ask for 1 or more labels, or -1 for all")
    k = chances.shape[1] if k == -1 else min(k, chances.shape[1])
    first = np.argpartition(-chances, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(chances, first, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    first, values = (np.take_along_axis(a, order, axis=1).tolist() for a in (first, values))
    return [
        [(label, value) for label, value in zip(row, numbers, strict=True) if value >= threshold]  # NaN never does
        for row, numbers in zip(first, values, strict=True)
    ]
