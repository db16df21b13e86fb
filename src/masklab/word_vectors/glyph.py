"""Glyph vectors: skip-gram over characters that also looks at them, so that an unseen character has a vector at once.

The vector of a character is what a small convolutional network makes of its picture, plus a row of its own. The row is
left out at random while training, so that the picture alone must do as well as it can; for a character that the corpus
lacks it is all there is. The idea: Su and Lee 2017, "Learning Chinese word representations from glyphs of characters";
Meng et al. 2019, "Glyce: glyph-vectors for Chinese character representations".

Characters are few, so that pairs need not be drawn one by one. The expectation of skip-gram's loss with negative
sampling (Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization", equation 4) is computed
whole, for a batch of characters against all contexts, from counts of pairs (cooccurrences.py). The network and its
training are in glyph_model.py; this file holds what is around it and needs no torch.
"""

import tempfile
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.compiling import announced
from masklab.word_vectors.cooccurrences import count
from masklab.word_vectors.fonts import draw, find_font
from masklab.word_vectors.runner import Schedule, Watch
from masklab.word_vectors.scan import Encoded, gathered
from masklab.word_vectors.sources import Corpus, blocks
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

_POINTS = 0x110000  # code points of Unicode
_BLOCK = 1 << 22  # bytes of text at a time


@dataclass(frozen=True)
class Settings:
    font: str | None = None  # path of a font file; None looks for one on this machine
    dim: int = 100
    window: int = 5  # characters on each side; one d places away counts 1/d
    negatives: int = 5
    noise: float = 0.75  # negatives come by count to this power
    size: int = 32  # pixels of a picture's side
    own_dropout: float = 0.5  # how often a character's own row is left out
    rate: float = 2e-3  # Adam's for the network, falling linearly to 0; the rows learn ten times as fast
    epochs: int = 20  # passes over all characters
    batch: int = 128  # characters
    min_count: int = 10
    max_characters: int = 10_000
    seconds: float | None = None  # train for so long, instead of so many epochs
    threads: int = 0  # 0: all cores
    deterministic: bool = False  # one thread, the same bits every time
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "window", "negatives", "batch", "min_count", "max_characters"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: give 1 or more")
        if self.size < 8:
            raise BadInput(f"size={self.size}: pictures of less than 8 pixels a side cannot be told apart")
        if not 0 <= self.own_dropout < 1:
            raise BadInput(f"own_dropout={self.own_dropout}: give a chance from 0 to below 1")
        _ = self.schedule  # which checks the others

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.seconds, self.rate, 0.0, self.threads, self.deterministic)


def train(corpus: Corpus, settings: Settings = Settings(), *, start: Trained | None = None,
          watch: Watch | None = None, stop: Callable[[], Any] | None = None) -> Trained:  # fmt: skip
    """Read a corpus as characters and train.

    start: glyph vectors to go on from; characters of the corpus that they lack are added behind their own. watch, stop:
    as in `word2vec.train`; what the records call words are characters, each counted once an epoch.
    """
    if start is not None and (start.method, start.settings.get("dim")) != ("glyph", settings.dim):
        raise BadInput(f"the vectors to go on from are {start.method} with dim={start.settings.get('dim')}, but glyph "
                       f"with dim={settings.dim} is asked for: give the same, or start anew")  # fmt: skip
    say = watch or (lambda record: None)
    encoded = read_characters(
        corpus, settings.min_count, settings.max_characters, start.vocabulary if start else None,
        lambda text: say({"kind": "warning", "text": text}),
    )  # fmt: skip
    return train_on(encoded, settings, start=start, watch=watch, stop=stop)


def train_on(encoded: Encoded, settings: Settings = Settings(), *, start: Trained | None = None,
             watch: Watch | None = None, stop: Callable[[], Any] | None = None) -> Trained:  # fmt: skip
    """Train on characters that are numbered already.

    Returns `vectors` (V, dim), their mean taken off, so that a cosine is not the same for all; and in `arrays` the rows
    ("own", "contexts", "bias") and the network ("network.0.weight", ...), with which `unseen` makes further vectors.
    """
    from masklab.word_vectors.glyph_model import Data, fit

    vocabulary, ids = encoded
    if start is not None and settings.font is None:
        settings = replace(settings, font=start.settings["font"])
    font = Path(settings.font) if settings.font else find_font(vocabulary.words, vocabulary.counts)
    settings = replace(settings, font=str(font.absolute()))
    pictures, drawn = draw(vocabulary.words, font, settings.size)
    if not drawn.any():
        raise BadInput(f"{font} has no character of the corpus: name another font")
    if watch is not None:
        share = vocabulary.counts[drawn].sum() / vocabulary.counts.sum()
        watch({"kind": "warning", "text": f"{font} draws {drawn.sum():,} of {len(drawn):,} characters, {share:.1%} of "
                                          "the text; the others learn from their neighbours alone"})  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="masklab-glyph-") as folder, announced(watch):
        counts = count(ids, len(vocabulary), folder, window=settings.window, threads=settings.schedule.workers)
        if not counts.entries:
            raise BadInput("no two characters of this corpus stand in one line; give lines of several characters")
        pairs = counts.read(0, counts.entries)
    arrays, vectors = fit(Data(vocabulary.counts, pairs, pictures, drawn), settings, start, watch, stop)
    read = (start.words_read if start else 0) + int(np.count_nonzero(ids >= 0))
    return Trained("glyph", vocabulary, asdict(settings), vectors, arrays, read)


def unseen(trained: Trained, characters: Sequence[str], font: str | Path | None = None) -> np.ndarray:
    """(characters, dim) float32: vectors of characters from their pictures alone.

    font: None draws with the one that was trained with. Raises BadInput for a character that the font lacks.
    """
    from masklab.word_vectors.glyph_model import look

    path = Path(trained.settings["font"] if font is None else font)
    if not path.exists():
        raise BadInput(f"{path}, with which these vectors were trained, is not there: bring it, or name another font")
    pictures, drawn = draw(characters, path, trained.settings["size"])
    if not drawn.all():
        raise BadInput(f"{path} has no character {characters[int(np.argmin(drawn))]!r}: name another font")
    return look(trained.arrays, pictures, trained.settings["dim"])


def read_characters(corpus: Corpus, min_count: int = 10, max_characters: int = 10_000,
                    vocabulary: Vocabulary | None = None,
                    say: Callable[[str], None] = lambda note: None) -> Encoded:  # fmt: skip
    """The characters of a corpus and their numbers in order, as `scan.encode` does for words; white space is left out.

    vocabulary: its characters keep their numbers, new ones come behind them. say: is told of files left out.
    """
    counts, first = np.zeros(_POINTS, np.int64), np.full(_POINTS, np.iinfo(np.int64).max)

    def read() -> Iterator[np.ndarray]:
        place = 0
        for block in blocks(corpus, _BLOCK, say):
            code = np.frombuffer(block.text.decode("utf-8", "replace").encode("utf-32-le"), np.int32)
            code = np.where(code == ord("\n"), -1, code)
            code = code[((code > 32) & (code != 0x3000)) | (code == -1)]
            if block.ends:
                code = np.append(code, np.int32(-1))
            seen = code[code >= 0]
            counts[:] += np.bincount(seen, minlength=_POINTS)
            distinct, at = np.unique(seen, return_index=True)
            first[distinct] = np.minimum(first[distinct], place + at)
            place += len(seen)
            yield code

    codes = gathered(read())
    kept = np.flatnonzero(counts >= min_count)
    kept = kept[np.lexsort((first[kept], -counts[kept]))][:max_characters]
    if not len(kept):
        raise BadInput(f"no character of the corpus occurs min_count={min_count} times; give a smaller one")
    found = Vocabulary([chr(point) for point in kept], counts[kept], int(counts.sum()))
    if vocabulary is not None:
        found, new = vocabulary.merged(found), found
        kept = np.array([ord(character) for character in new.words])
    number = np.full(_POINTS + 1, -2, np.int32)
    number[-1] = -1
    number[kept] = found.numbers([chr(point) for point in kept])
    numbers = (number[codes[i : i + _BLOCK]] for i in range(0, len(codes), _BLOCK))
    return Encoded(found, gathered(part[part > -2] for part in numbers))


def radical(character: str) -> int:
    """Under which of the 214 classical radicals a Chinese character stands (河: 85, water); 0 for other characters.

    Unicode lists the characters from U+4E00 to U+9FA5 by radical, and the radicals themselves from U+2F00 on.
    """
    return bisect(_radicals(), character) if "\u4e00" <= character <= "\u9fa5" else 0


@cache
def _radicals() -> list[str]:
    """The character that is each radical, the first of those listed under it."""
    return [unicodedata.normalize("NFKC", chr(0x2F00 + number)) for number in range(214)]
