"""Goes through a corpus and finds a layer of units: segmented words, phrases, or entities; and tells what it found.

A span function is `spans(texts, words) -> one (n, 2) array of character offsets per text`, sorted and disjoint; `words`
are the spans of the segmented words of each text, or None. Memory holds a few batches of text, whatever the size of the
corpus.
"""

import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from masklab.corpus.entities import Gazetteer, read_names
from masklab.corpus.layers import Layer, Progress, layers, write_layer
from masklab.corpus.phrases import SAMPLE, Phrase, PhraseFinder, Thresholds, phrases
from masklab.corpus.store import Store
from masklab.corpus.units import longest_first
from masklab.corpus.words_zh import ChineseWords, traditional_share
from masklab.errors import BadInput
from masklab.files import sha256

Spans = Callable[[list[str], list[np.ndarray] | None], list[np.ndarray]]
BATCH = 500_000  # characters
_SPELLINGS = 200_000  # different ones that are counted at a time; then those met once are forgotten
_LETTERS = 6 * SAMPLE  # characters from which phrases are counted
_NOTHING = {
    ("words", "rjieba"): "there is no Chinese word in it; words of other languages are marked already",
    ("phrases", "npmi"): "no words stand together so often; say a smaller --least or --npmi",
    ("phrases", "list"): "none of the phrases of the list occurs in it; check the list",
    ("entities", "list"): "none of the names of the list occurs in it; check the list, or say --ignore-case",
    ("entities", "tagger"): "the tagger found no entity in it; train it longer, or on text that is more like it",
    ("entities", "documents"): 'no document carries entities; JSON lines do: {"text": "...", "entities": [[begin, end, '
    "type], ...]}; or give a list: --entities=FILE",
}


@dataclass
class Found:
    """What came of looking for one kind of unit."""

    layer: Layer
    characters: int  # of the corpus
    covered: int = 0  # of them inside a unit
    spellings: Counter[str] = field(default_factory=Counter)  # the most frequent are right, rare ones may be missing
    types: Counter[str] = field(default_factory=Counter)
    phrases: list[Phrase] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # lines for the person who asked


def words(
    store: Store, dictionary: str | Path | None = None, simplify: bool = False, workers: int = 1,
    progress: Progress | None = None,
) -> Found:  # fmt: skip
    """Chinese words in place of single characters; see words_zh.py."""
    make = partial(ChineseWords, dictionary, simplify)
    made = make()  # bad input is said here, not in another process
    settings = {"by": "rjieba", "dictionary": _named(dictionary), "simplify": simplify}
    if workers > 1 and store.text_description["characters"] > 4 * BATCH:
        with pool(make, workers) as processes:
            found = _write(store, "words", ahead(processes, _batches(store, None), workers), settings, progress)
    else:
        found = _write(store, "words", _each(lambda texts, _: made(texts), _batches(store, None)), settings, progress)
    if made.left_out:
        some = ", ".join(made.left_out[:5])
        found.notes.append(f"{len(made.left_out):,} entries are no Chinese words of two characters or more: {some}")
    share = None if simplify else traditional_share(list(islice(store.texts(), 200)))
    if share is not None and share > 0.02:
        found.notes.append(f"{share:.0%} of the Chinese characters are traditional: --simplify cuts them better")
    return found


def find_phrases(
    store: Store, listed: str | Path | None = None, thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> Found:  # fmt: skip
    """Phrases of a list (a phrase a line), or by statistics of the training documents; see phrases.py."""
    segmented = _segmented(store)
    if listed is not None:
        chosen: list[Phrase] = []
        finder = PhraseFinder(name for name, _ in read_names(listed))
        settings: dict[str, Any] = {"by": "list", "list": _named(listed)}
    else:
        asked = thresholds or Thresholds()
        chosen = phrases(_sample(store, segmented), asked)
        finder = PhraseFinder(phrase.text for phrase in chosen)
        settings = {"by": "npmi", "least": asked.least, "npmi": asked.npmi, "longest": asked.longest}
    found = _write(store, "phrases", _each(finder, _batches(store, segmented)), settings, progress)
    found.phrases = chosen
    return found


def entities(
    store: Store, names: str | Path | None = None, ignore_case: bool = False, progress: Progress | None = None
) -> Found:
    """Entities of a gazetteer (a name a line, a TAB and its type), or those that the documents came with."""
    if names is None:
        types: Counter[str] = Counter()
        found = _write(store, "entities", _marked(store, types), {"by": "documents"}, progress)
    else:
        gazetteer = Gazetteer(read_names(names), case=not ignore_case)
        types = gazetteer.seen
        settings = {"by": "list", "list": _named(names), "ignore_case": ignore_case}
        found = _write(store, "entities", _each(gazetteer, _batches(store, _segmented(store))), settings, progress)
    found.types = types
    return found


def by_function(
    store: Store, name: str, spans: Spans, settings: dict[str, Any], progress: Progress | None = None
) -> Found:
    """A layer of whatever a function finds, such as a tagger; settings: what it was, for people."""
    return _write(store, name, _each(spans, _batches(store, _segmented(store))), settings, progress)


def _write(
    store: Store, name: str, found: Iterable[tuple[Sequence[str], list[np.ndarray]]], settings: dict[str, Any],
    progress: Progress | None,
) -> Found:  # fmt: skip
    about = Found(None, store.text_description["characters"])  # type: ignore[arg-type]

    def counted() -> Iterator[np.ndarray]:
        done = 0
        for texts, spans in found:
            for text, some in zip(texts, spans, strict=True):
                about.spellings.update([" ".join(text[a:b].split()) for a, b in some.tolist()])
                about.covered += int((some[:, 1] - some[:, 0]).sum())
                yield some
            if len(about.spellings) > _SPELLINGS:
                about.spellings = Counter({spelling: n for spelling, n in about.spellings.items() if n > 1})
            done += len(texts)
            if progress:
                progress(name, done, len(store))
        if not about.covered:  # an older layer stays
            raise BadInput(f"{store.path}: {_NOTHING[name, settings['by']]}")

    about.layer = write_layer(store, name, counted(), settings)
    return about


def _batches(store: Store, segmented: Layer | None) -> Iterator[tuple[list[str], list[np.ndarray] | None]]:
    """Texts in order, with the spans of their segmented words."""
    texts: list[str] = []
    first, size = 0, 0
    for number, text in enumerate(store.texts()):
        texts.append(text)
        size += len(text)
        if size >= BATCH or number == len(store) - 1:
            yield texts, None if segmented is None else [segmented.of(i) for i in range(first, number + 1)]
            texts, first, size = [], number + 1, 0


def _each(
    spans: Spans, batches: Iterable[tuple[list[str], list[np.ndarray] | None]]
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    return ((texts, spans(texts, words)) for texts, words in batches)


def _marked(store: Store, types: Counter[str]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """The entities that the documents came with; of those that overlap the longest."""
    for number in range(len(store)):
        document = store.document(number)
        kind = {_trimmed(document.text, begin, end): kind for begin, end, kind in document.entities}
        kind.pop((0, 0), None)
        spans = longest_first(np.array(list(kind), np.int64).reshape(-1, 2))
        types.update(kind[begin, end] for begin, end in spans.tolist())
        yield [document.text], [spans]


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """Without the white space around it; (0, 0) if nothing is left."""
    inside = text[begin:end]
    begin += len(inside) - len(inside.lstrip())
    return (begin, begin + len(inside.strip())) if inside.strip() else (0, 0)


def _sample(store: Store, segmented: Layer | None) -> Iterator[tuple[str, np.ndarray | None]]:
    """Training documents spread evenly over the corpus, about _LETTERS characters of them."""
    share = min(1.0, _LETTERS / max(1, store.text_description["characters"]))
    for number, text in enumerate(store.texts()):
        if not store.held_out[number] and int((number + 1) * share) > int(number * share):
            yield text, None if segmented is None else segmented.of(number)


def _segmented(store: Store) -> Layer | None:
    return next((layer for layer in layers(store.path) if layer.name == "words"), None)


def _named(file: str | Path | None) -> dict[str, str] | None:
    """How a layer remembers the file that it was made with."""
    if file is None:
        return None
    if not Path(file).is_file():
        raise BadInput(f"{file} does not exist; check the name")
    return {"file": Path(file).name, "sha256": sha256(file)}


# --- several processes: rjieba holds Python's lock -------------------------------------------------------------------

_finder: Callable[[list[str]], list[np.ndarray]] | None = None  # of a worker process


def pool(make: Callable[[], Any], workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (make,))


def _begin(make: Callable[[], Any]) -> None:
    global _finder
    _finder = make()


def _find(texts: list[str]) -> list[np.ndarray]:
    assert _finder is not None
    return _finder(texts)


def ahead(
    pool: ProcessPoolExecutor, batches: Iterable[tuple[list[str], Any]], workers: int
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """In order, with two batches for each process on their way."""
    waiting: deque[tuple[list[str], Any]] = deque()
    for texts, _ in batches:
        waiting.append((texts, pool.submit(_find, texts)))
        if len(waiting) > 2 * workers:
            texts, future = waiting.popleft()
            yield texts, future.result()
    for texts, future in waiting:
        yield texts, future.result()
