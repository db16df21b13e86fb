"""GloVe: word vectors whose products are the logarithms of how often two words stand near each other.

Pennington et al. 2014, "GloVe: global vectors for word representation". The corpus is read once, into counts of pairs
(cooccurrences.py); training then goes over the counts, not over the text. Defaults are those of the authors' program.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.compiling import announced
from masklab.word_vectors.cooccurrences import Cooccurrences, count
from masklab.word_vectors.glove_kernels import by_context, new_rows, step_kernel, word_and_context
from masklab.word_vectors.runner import Chunk, Loss, Schedule, Watch, run
from masklab.word_vectors.scan import encode
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.tiles import TILE
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

_CHUNK = 1 << 20  # entries that a thread takes at a time, at most
_CHUNKS = 32  # an epoch has at least so many, if it has 1000 entries for each


@dataclass(frozen=True)
class Settings:
    dim: int = 100
    window: int = 15  # words on each side
    symmetric: bool = True  # False: the left context alone
    by_distance: bool = True  # words d places apart count 1/d; False: 1
    x_max: float = 100.0  # counts from here on weigh 1 ...
    alpha: float = 0.75  # ... and smaller ones (count / x_max)**alpha
    rate: float = 0.05
    epochs: int = 25  # passes over the counts
    min_count: int = 5
    max_words: int | None = None
    lowercase: bool = False
    memory: float = 0.5  # gigabytes for counting; what does not fit goes through the disk
    seconds: float | None = None  # train for so long, instead of so many epochs
    threads: int = 0  # 0: all cores
    deterministic: bool = False  # one thread, the same bits every time
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise BadInput(f"dim={self.dim}: give 1 or more")
        if not self.x_max > 0:
            raise BadInput(f"x_max={self.x_max}: give a count above 0")
        if not self.alpha >= 0:
            raise BadInput(f"alpha={self.alpha}: give 0 or more")
        if self.window < 1:
            raise BadInput(f"window={self.window}: a word has neighbours from a window of 1 on")
        if not self.memory > 0:
            raise BadInput(f"memory={self.memory}: give gigabytes, such as 0.5")
        _ = self.schedule  # which checks the others

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.seconds, self.rate, self.rate, self.threads, self.deterministic)


def train(corpus: Corpus, settings: Settings = Settings(), *, start: Trained | None = None,
          watch: Watch | None = None, stop: Callable[[], Any] | None = None) -> Trained:  # fmt: skip
    """Count a corpus and train on the counts.

    start: vectors to go on from; words of the corpus that it lacks are added to its own. watch: is told how things
    stand, a dict each time, as in `word2vec.train`; the "words" of its records are cells of the matrix of counts that
    were trained on. stop: ends the training early when it says yes, as Ctrl-C does; what is learnt is kept.
    """
    if start is not None and (start.method != "glove" or start.settings["dim"] != settings.dim):
        raise BadInput(f"these vectors are {start.method} of {start.settings['dim']} numbers; "
                       f"to go on as GloVe takes GloVe vectors of dim={settings.dim}")  # fmt: skip
    say = watch or (lambda record: None)

    def tell(stage: str, done: int, total: int | None) -> None:
        if stop is not None and stop():
            raise KeyboardInterrupt  # nothing is learnt yet that could be kept
        say({"kind": stage, "done": done, "total": total})

    vocabulary, ids = encode(
        corpus, min_count=settings.min_count, max_words=settings.max_words, lowercase=settings.lowercase,
        threads=settings.schedule.workers, vocabulary=start.vocabulary if start else None, grow=start is not None,
        progress=tell, say=lambda text: say({"kind": "warning", "text": text}),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="masklab-glove-") as folder:
        done, total = 0, len(ids)

        def progress(words: int) -> None:
            nonlocal done
            done += words
            tell("counting", done, total)

        with announced(watch):
            counts = count(ids, len(vocabulary), folder, window=settings.window, symmetric=settings.symmetric,
                           by_distance=settings.by_distance, memory=settings.memory,
                           threads=settings.schedule.workers, progress=progress)  # fmt: skip
        del ids
        return train_on(counts, vocabulary, settings, start=start, watch=watch, stop=stop)


def train_on(counts: Cooccurrences, vocabulary: Vocabulary, settings: Settings = Settings(), *,
             start: Trained | None = None, watch: Watch | None = None,
             stop: Callable[[], Any] | None = None) -> Trained:  # fmt: skip
    """Train on counts that are there already. Settings of reading and counting play no part."""
    if not counts.entries:
        raise BadInput("no two words of this corpus stand in one line; give lines of several words, or another window")
    rows = new_rows(len(vocabulary), settings.dim, settings.seed, first=len(start.vocabulary) if start else 0)
    if start is not None:
        rows[: len(start.vocabulary)] = start.arrays["rows"]
    step = step_kernel(TILE)
    log_max = np.float32(np.log(settings.x_max))
    schedule = settings.schedule

    def train_chunk(chunk: Chunk) -> Loss:
        word, context, number = by_context(*counts.read(chunk.begin, chunk.end), len(vocabulary))
        log_count = np.log(number)
        weight = np.exp(np.minimum(log_count - log_max, 0) * np.float32(settings.alpha))
        begin = len(word) * chunk.thread // schedule.workers  # or all threads would be at the same contexts at a time
        loss = 0.0
        for part in (slice(begin, None), slice(begin)):
            cells = word[part], context[part], log_count[part], weight[part]
            loss += step(rows, *cells, counts.symmetric, np.float32(chunk.rate))
        cells = len(word) + (int(np.count_nonzero(word != context)) if counts.symmetric else 0)
        return Loss(loss, cells)

    def check() -> None:
        if not np.isfinite(rows.sum(dtype=np.float64)):
            raise BadInput(f"the vectors grew beyond all numbers; give a smaller rate than rate={settings.rate}")

    say = watch or (lambda record: None)
    say({"kind": "begin", "vocabulary": len(vocabulary), "words": counts.nonzeros, "threads": schedule.workers,
         "kernels": f"{TILE.width} floats a register" if TILE else "plain loops"})  # fmt: skip
    with announced(watch):
        train_chunk(Chunk(0, 0, 0, schedule.rate, schedule.rate, 0))
    size = min(_CHUNK, max(1000, -(-counts.entries // _CHUNKS)))
    borders = np.append(np.arange(0, counts.entries, size), counts.entries)
    outcome = run(train_chunk, borders, counts.nonzeros, schedule, check=check, watch=watch, stop=stop)
    check()
    say({"kind": "stopped" if outcome.stopped else "end", "words": outcome.words, "seconds": outcome.seconds,
         "loss": outcome.loss})  # fmt: skip
    word, context = word_and_context(rows, settings.dim)
    return Trained("glove", vocabulary, asdict(settings), word + context, {"rows": rows}, vocabulary.total)
