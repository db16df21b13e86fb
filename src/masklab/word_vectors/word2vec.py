"""word2vec: a word is known by the company it keeps. Skip-gram and CBOW, by negative sampling or a tree of words.

Mikolov et al. 2013, "Efficient Estimation of Word Representations in Vector Space" and "Distributed Representations
of Words and Phrases and their Compositionality". What is read and drawn follows word2vec.c and gensim; the arithmetic
is in plain.py and, for CPUs whose vector registers are known, in tiled.py. docs/word-vector-losses.md derives the
losses.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from masklab.errors import BadInput
from masklab.rng import rng
from masklab.word_vectors import plain, tiled, tiles
from masklab.word_vectors.compiling import announced
from masklab.word_vectors.hot_rows import COLD, MOST, Hot, copies, room, settle
from masklab.word_vectors.runner import Chunk, Loss, Schedule, Watch, borders_of, run
from masklab.word_vectors.sampling import Draws, Tree, huffman
from masklab.word_vectors.scan import encode
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

_BLOCK = 4096  # rows that are initialised or looked at in one go


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults are gensim's, but for the negatives, which a window shares."""

    model: Literal["skipgram", "cbow"] = "skipgram"
    loss: Literal["ns", "hs"] = "ns"  # negative sampling, hierarchical softmax
    dim: int = 100
    window: int = 5  # each word's reach is drawn from 1 .. window
    negatives: int = 5
    shared: bool = True  # skip-gram: one draw of negatives a window; False: one for each pair of words
    noise: float = 0.75  # negatives are drawn by count to this power
    sample: float = 1e-3  # words more frequent than this are thinned out; 0 keeps all
    min_count: int = 5
    max_words: int | None = None
    lowercase: bool = False
    epochs: int = 5
    seconds: float | None = None  # train for so long, instead of so many epochs
    rate: float | None = None  # None: 0.025 for skip-gram, 0.05 for CBOW
    rate_end: float = 1e-4
    threads: int = 0  # 0: all cores
    deterministic: bool = False  # one thread, the same bits every time on one machine
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in ("skipgram", "cbow"):
            raise BadInput(f"model={self.model!r}: choose skipgram or cbow")
        if self.loss not in ("ns", "hs"):
            raise BadInput(f"loss={self.loss!r}: choose ns (negative sampling) or hs (hierarchical softmax)")
        for name in ("dim", "window", "negatives", "min_count"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: give 1 or more")
        if not self.sample >= 0:
            raise BadInput(f"sample={self.sample}: give a share of the text such as 1e-3, or 0 to keep all words")
        if not math.isfinite(self.noise):
            raise BadInput(f"noise={self.noise}: give a power of the counts such as 0.75")
        _ = self.schedule  # which checks the others

    @property
    def schedule(self) -> Schedule:
        rate = self.rate if self.rate is not None else 0.025 if self.model == "skipgram" else 0.05
        rate_end = min(self.rate_end, rate)
        return Schedule(self.epochs, self.seconds, rate, rate_end, self.threads, self.deterministic)


def train(
    corpus: Corpus,
    settings: Settings = Settings(),
    *,
    start: Trained | None = None,
    watch: Watch | None = None,
    stop: Callable[[], Any] | None = None,
) -> Trained:
    """Read a corpus and train vectors for its words.

    start: vectors to go on from; words of the corpus that they lack are added behind their own. If they come from a
    run that was stopped and the corpus and settings are the same, the run is taken up where it stopped. watch: is
    told how things stand, a dict each time ("kind": reading, begin, compiling, progress, warning, stopped or end).
    stop: ends the training early when it says yes, as Ctrl-C does; what is learnt by then is returned.

    Returns `vectors` (V, dim), and in `arrays` "output", the second table: a row a word (negative sampling) or an inner
    node of the tree; with the tree also "tree_start" and "tree_steps" (sampling.Tree).
    """
    say = watch or (lambda record: None)
    if start is not None:
        _must_fit(start, settings)

    def reading(stage: str, done: int, total: int | None) -> None:
        if stop is not None and stop():
            raise KeyboardInterrupt  # nothing is learnt yet that could be kept
        say({"kind": stage, "done": done, "total": total})

    schedule = settings.schedule
    vocabulary, ids = encode(
        corpus, min_count=settings.min_count, max_words=settings.max_words, lowercase=settings.lowercase,
        threads=schedule.workers, vocabulary=start.vocabulary if start else None, grow=start is not None,
        progress=reading, say=lambda text: say({"kind": "warning", "text": text}),
    )  # fmt: skip
    before = start.words_read if start else 0
    words = vocabulary.total - (start.vocabulary.total if start else 0)
    first, place = 0, {"words_before": before, "words": words, "ids": len(ids)}
    if start is not None and (stopped := _same_run(start, settings, vocabulary, place)):
        vocabulary, first, before = start.vocabulary, stopped["chunk"], stopped["words_before"]
    tree, inputs, outputs, hots = _tables(vocabulary, settings, start, say)
    draws = Draws.of(
        vocabulary.counts, sample=settings.sample, power=settings.noise, window=settings.window,
        negatives=settings.negatives, key=(settings.seed, before),
    )  # fmt: skip
    work = _work(settings, inputs, outputs, ids, draws, tree, hots)
    say({
        "kind": "begin", "vocabulary": len(vocabulary), "words": words, "threads": schedule.workers,
        "kernels": f"{tiles.TILE.width} floats a register" if tiles.TILE else "plain loops", "resumed": first > 0,
    })  # fmt: skip
    with announced(watch):
        work(Chunk(0, 0, 0, schedule.rate, schedule.rate, 0))
    outcome = run(
        work, borders_of(ids), words, schedule, first=first, check=lambda: _must_be_finite(inputs, schedule.rate),
        watch=watch, stop=stop,
    )  # fmt: skip
    for hot in hots:
        settle(outputs, hot)
    _must_be_finite(inputs, schedule.rate)
    say({
        "kind": "stopped" if outcome.stopped else "end", "words": outcome.words, "seconds": outcome.seconds,
        "loss": outcome.loss,
    })  # fmt: skip
    kept: dict[str, Any] = asdict(settings)
    if outcome.stopped and not settings.seconds:
        kept["stopped"] = place | {"words_before": before, "chunk": outcome.chunks}
    arrays = {"output": outputs[: len(vocabulary) - (tree is not None), : settings.dim]}
    if tree is not None:
        arrays |= {"tree_start": tree.start, "tree_steps": tree.steps}
    read = (start.words_read if start else 0) + outcome.words
    return Trained(settings.model, vocabulary, kept, inputs[:, : settings.dim], arrays, read)


def _must_fit(start: Trained, settings: Settings) -> None:
    theirs = (start.method, start.settings.get("loss"), start.settings.get("dim"))
    ours = (settings.model, settings.loss, settings.dim)
    if theirs != ours:
        was, asked = (f"{model} with loss={loss} and dim={dim}" for model, loss, dim in (theirs, ours))
        raise BadInput(f"the vectors to go on from are {was}, but {asked} is asked for: give the same, or start anew")


def _same_run(start: Trained, settings: Settings, vocabulary: Vocabulary, place: dict[str, int]) -> Any:
    """Where the run stopped that left `start`, if this is the same run on the same corpus; else None."""
    stopped = start.settings.get("stopped")
    if not stopped or len(vocabulary) != len(start.vocabulary):
        return None
    same_corpus = stopped["words"] == place["words"] and stopped["ids"] == place["ids"]
    free = {"threads", "deterministic"}  # may change between the parts of a run
    same = all(start.settings.get(name) == value for name, value in asdict(settings).items() if name not in free)
    return stopped if same_corpus and same else None


def _tables(
    vocabulary: Vocabulary, settings: Settings, start: Trained | None, say: Watch
) -> tuple[Tree | None, np.ndarray, np.ndarray, list[Hot]]:
    """The tree if there is one, and both tables: old rows kept, new input rows uniform in +-1/dim, outputs 0.

    Of the tree's top each thread has copies behind the output rows.
    """
    size, dim, threads = len(vocabulary), settings.dim, settings.schedule.workers
    old = len(start.vocabulary) if start else 0
    inputs = tiles.aligned(size, dim)
    if start is not None:
        inputs[:old, :dim] = start.vectors
    for row in range(old - old % _BLOCK, size, _BLOCK):
        fresh = rng(settings.seed, "word vectors: first values", row).random((min(_BLOCK, size - row), dim), np.float32)
        begin = max(row, old)
        inputs[begin : row + len(fresh), :dim] = (2 * fresh[begin - row :] - 1) / dim
    if settings.loss == "ns":
        outputs = tiles.aligned(size, dim)
        if start is not None:
            outputs[:old, :dim] = start.arrays["output"]
        return None, inputs, outputs, [COLD] * threads
    if size < 2:
        raise BadInput("a tree needs two words: the corpus has one that is frequent enough; give a smaller min_count")
    top = range(max(0, size - 1 - MOST), size - 1)  # the root is the last node
    outputs = tiles.aligned(size - 1 + room(top, threads), dim)
    if start is not None and size == old:
        outputs[: size - 1, :dim] = start.arrays["output"]
        tree = Tree(np.array(start.arrays["tree_start"]), np.array(start.arrays["tree_steps"]))
        return tree, inputs, outputs, copies(outputs, top, threads)
    if start is not None:
        say({"kind": "warning", "text": "new words make a new tree: its nodes start from zero, the words go on"})
    return huffman(vocabulary.counts), inputs, outputs, copies(outputs, top, threads)


def _work(
    settings: Settings, inputs: np.ndarray, outputs: np.ndarray, ids: np.ndarray, draws: Draws, tree: Tree | None,
    hots: list[Hot],
) -> Callable[[Chunk], Loss]:  # fmt: skip
    """The kernel for these settings and this CPU, with everything but the chunk in its place."""
    ids = np.asarray(ids)
    ids.flags.writeable = False  # one type for memory and memory map: compiled once
    most = 1 + settings.negatives if tree is None else int(np.diff(tree.start).max())
    tile = tiles.TILE
    skipgram = settings.model == "skipgram"
    if tile is None:

        def work(chunk: Chunk) -> Loss:
            text = (ids, chunk.begin, chunk.end, chunk.place, draws, tree, most, chunk.rate, chunk.rate_end)
            hot = hots[chunk.thread]
            if skipgram:
                return Loss(*plain.skipgram(inputs, outputs, *text, hot, settings.shared))
            return Loss(*plain.cbow(inputs, outputs, *text, hot))

        return work

    if tree is None:
        tile = tiles.fitting(tile, most)
    groups = -(-most // tile.columns)
    strict = skipgram and tree is None and not settings.shared
    desks = [tiled.desk_for(len(inputs), settings.dim, settings.window, groups, strict, hot) for hot in hots]

    def work_tiled(chunk: Chunk) -> Loss:
        text = (ids, chunk.begin, chunk.end, chunk.place, draws)
        rest = (groups, chunk.rate, chunk.rate_end, desks[chunk.thread])
        if strict:
            return Loss(*tiled.skipgram_strict(tile, inputs, outputs, *text, *rest))
        kernel = tiled.skipgram if skipgram else tiled.cbow
        return Loss(*kernel(tile, inputs, outputs, *text, tree, *rest))

    return work_tiled


def _must_be_finite(inputs: np.ndarray, rate: float) -> None:
    for row in range(0, len(inputs), _BLOCK):
        if not np.isfinite(inputs[row : row + _BLOCK]).all():
            raise BadInput(f"the vectors grew beyond all numbers; give a learning rate smaller than {rate:g}")
