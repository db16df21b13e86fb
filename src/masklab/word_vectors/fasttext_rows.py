"""The tables of a fastText model: a row a word, then a row for each bucket that the text falls into.

Of two million buckets a corpus uses a part. The others have no row here: they would keep the noise they began with, so
they count as zeros instead. Those in use stand in the order of their frequency, so that the busy ones lie together.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from masklab.errors import BadInput
from masklab.rng import rng
from masklab.word_vectors.compiling import announced
from masklab.word_vectors.hot_rows import settle
from masklab.word_vectors.ngrams import LINE_END, Ngrams, Table, mean_rows
from masklab.word_vectors.runner import Chunk, Loss, Outcome, Schedule, Watch, run
from masklab.word_vectors.scan import Encoded, encode
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.tiles import TILE, aligned
from masklab.word_vectors.trained import Trained

_BLOCK = 1 << 14  # rows that are drawn at once


def input_rows(
    words: int, seen: np.ndarray, dim: int, seed: int, start: Trained | None = None, more: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The table to train, (words + buckets in use, padded dim), and which buckets these are, (n,) int32.

    seen (buckets,): how often the text falls into each bucket. Rows begin as in `start`, whose buckets keep their
    places, or evenly between -1 / dim and 1 / dim, as the official program draws them. Behind all come `more` zeros.
    """
    known = np.zeros(0, np.int32) if start is None else np.asarray(start.arrays["bucket_numbers"])
    fresh = seen.copy()
    fresh[known] = 0
    new = np.flatnonzero(fresh)
    new = new[np.argsort(-fresh[new], kind="stable")].astype(np.int32)
    used = words + len(known) + len(new)
    table = aligned(used + more, dim)
    old_words = 0 if start is None else len(start.arrays["words"])
    stream = 0 if start is None else start.words_read
    draw_rows(table[old_words:words], dim, seed, stream, 0)
    draw_rows(table[words + len(known) : used], dim, seed, stream, 1)
    if start is not None:
        table[:old_words, :dim] = start.arrays["words"]
        table[words : words + len(known), :dim] = start.arrays["buckets"]
    return table, np.concatenate([known, new])


def draw_rows(rows: np.ndarray, dim: int, seed: int, *where: int) -> None:
    """Fill rows evenly between -1 / dim and 1 / dim."""
    for block in range(0, len(rows), _BLOCK):
        part = rows[block : block + _BLOCK, :dim]
        part[:] = rng(seed, "fasttext rows", *where, block).random(part.shape, np.float32) * (2 / dim) - 1 / dim


def row_map(numbers: np.ndarray, buckets: int, first: int = 0) -> np.ndarray:
    """(buckets,) int32: which row each bucket has, `first` + its place in `numbers`, or -1."""
    row_of = np.full(buckets, -1, np.int32)
    row_of[numbers] = np.arange(first, first + len(numbers), dtype=np.int32)
    return row_of


def rows_of(table: Table, numbers: np.ndarray, buckets: int, first: int = 0) -> Table:
    """The same lists with the rows of `row_map` in place of buckets."""
    return Table(table.offsets, row_map(numbers, buckets, first)[table.ids])


def ngrams_of(settings: dict[str, Any]) -> Ngrams:
    """The n-grams that a model was trained with."""
    return Ngrams(settings["shortest"], settings["longest"], settings["buckets"])


class Unseen:
    """Vectors for words that training never met: the mean of their n-grams' rows.

    >>> Unseen(trained)("gastroenteritis")
    """

    def __init__(self, trained: Trained) -> None:
        if "buckets" not in trained.arrays:
            raise BadInput(f"{trained.method} vectors know whole words only; train with `masklab words fasttext`")
        self.ngrams = ngrams_of(trained.settings)
        self.rows = trained.arrays["buckets"]
        self.row_of = row_map(np.asarray(trained.arrays["bucket_numbers"]), self.ngrams.buckets)

    def __call__(self, word: str) -> np.ndarray:
        """(D,) float32; zeros for a word without n-grams."""
        return self.many([word])[0]

    def many(self, words: list[str]) -> np.ndarray:
        """(len(words), D) float32."""
        table = self.ngrams.table(words)
        return mean_rows(None, self.rows, Table(table.offsets, self.row_of[table.ids]))


def read_corpus(corpus: Corpus, watch: Watch | None, stop: Callable[[], Any] | None, **options: Any) -> Encoded:
    """`encode` with fastText's ends of lines; `watch` is told how far it has come and what was odd about the text."""

    def progress(stage: str, done: int, total: int | None) -> None:
        if stop is not None and stop():
            raise KeyboardInterrupt  # nothing is learnt yet that could be kept
        if watch is not None:
            watch({"kind": stage, "done": done, "total": total})

    def say(text: str) -> None:
        if watch is None:
            warnings.warn(text, stacklevel=2)
        else:
            watch({"kind": "warning", "text": text})

    vocabulary, ids = encode(corpus, end_of_line=LINE_END, progress=progress, say=say, **options)
    return Encoded(vocabulary, as_read(ids))


def as_read(ids: np.ndarray) -> np.ndarray:
    """Read-only, as a memory map is: one type for both, for which kernels are compiled once."""
    ids = np.asarray(ids)
    ids.flags.writeable = False
    return ids


def announce_begin(watch: Watch | None, vocabulary: int, words: int, schedule: Schedule, **more: Any) -> None:
    """Tells `watch` what is about to be trained, and how."""
    if watch is not None:
        kernels = f"{TILE.width} floats a register" if TILE else "plain loops"
        about = {"vocabulary": vocabulary, "words": words, "threads": schedule.workers, "kernels": kernels}
        watch({"kind": "begin", **about, **more})


def run_and_settle(
    work: Callable[[Chunk], Loss], borders: np.ndarray, words: int, schedule: Schedule, inputs: np.ndarray,
    outputs: np.ndarray, desks: list[Any], first: int, watch: Watch | None, stop: Callable[[], Any] | None,
) -> Outcome:  # fmt: skip
    """Compile, train from chunk `first` on, merge the threads' copies of hot rows, tell `watch` how it ended.

    inputs, outputs: both tables with all their spare rows; desks: one for each thread.
    """
    with announced(watch):
        work(Chunk(0, 0, 0, schedule.rate, schedule.rate, 0))
    check = partial(must_be_finite, inputs)
    outcome = run(work, borders, words, schedule, first=first, check=check, watch=watch, stop=stop)
    for desk in desks:
        settle(inputs, desk.hot_inputs)
        settle(outputs, desk.hot_outputs)
    must_be_finite(inputs)
    announce_end(watch, outcome)
    return outcome


def announce_end(watch: Watch | None, outcome: Outcome) -> None:
    """Tells `watch` how it ended."""
    if watch is not None:
        about = {"words": outcome.words, "seconds": outcome.seconds, "loss": outcome.loss}
        watch({"kind": "stopped" if outcome.stopped else "end", **about})


def must_be_finite(inputs: np.ndarray) -> None:
    """Once an epoch: the kernels themselves do not see NaN."""
    if not all(np.isfinite(inputs[i : i + _BLOCK]).all() for i in range(0, len(inputs), _BLOCK)):
        raise BadInput("the vectors have grown beyond all bounds; give a smaller rate, such as half of it")


def continued(start: Trained, method: str, settings: Any, fixed: tuple[str, ...]) -> None:
    """Refuse to go on with a model of another kind, or under settings that its tables do not fit."""
    if start.method != method:
        raise BadInput(f"these are {start.method} vectors: go on with the command that made them, or begin anew")
    for name in fixed:
        was, now = start.settings[name], getattr(settings, name)
        if was != now:
            raise BadInput(f"{name}={now}, but the model to go on with has {name}={was}; leave it so, or begin anew")


def taken_up(
    start: Trained | None, settings: dict[str, Any], size: int, place: dict[str, int]
) -> dict[str, int] | None:
    """Where the run stopped that left `start`, if this is the same run on the same corpus; else None.

    size: of the vocabulary, together with new words. place: what a stopped run remembers of its corpus.
    """
    stopped = start and start.settings.get("stopped")
    if not start or not stopped or size != len(start.vocabulary) or any(stopped[k] != v for k, v in place.items()):
        return None
    free = ("threads", "deterministic")  # may change between the parts of a run
    same = all(start.settings.get(name) == value for name, value in settings.items() if name not in free)
    return stopped if same else None


def kept(settings: Any, outcome: Outcome, place: dict[str, int], before: int) -> dict[str, Any]:
    """Settings as they are kept with the model; of a run that was stopped, also where."""
    plain = asdict(settings)
    if outcome.stopped and not settings.seconds:
        plain["stopped"] = place | {"words_before": before, "chunk": outcome.chunks}
    return plain
