"""Where words, phrases or entities stand in the text: character spans, kept beside the text for every vocabulary.

    layers/NAME/          "words" (segmented ones, in place of the rules of units.py), "phrases" or "entities"
        layer.json        how they were found, counts, and the size and SHA-256 of the files
        spans.npy         (spans, 2) uint32: first character and the one after the last, in their document
        documents.npy     (documents + 1,) int64: document i has spans[documents[i]:documents[i + 1]]

A vocabulary's unit bytes are made of these and can be made again, for a vocabulary that is added later too.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from masklab import files
from masklab.corpus.arrays import Growing
from masklab.corpus.encode import Tokens
from masklab.corpus.store import LAYERS, Store, checked, describe, described, mapped
from masklab.corpus.units import START, code_points, unit_bits
from masklab.errors import BadInput

Progress = Callable[[str, int, int | None], None]  # stage, done, of how many (None: not known)


class Layer:
    """One kind of unit. `layer.of(7)` -> (n, 2) character offsets in document 7, sorted, disjoint."""

    def __init__(self, corpus: str | Path, name: str):
        self.name, self.folder = name, Path(corpus) / "layers" / name
        self.description = described(self.folder, "layer.json")
        checked(self.folder, self.description["files"])
        self.settings: dict[str, Any] = self.description["settings"]
        self.hash: str = self.description["hash"]
        self._spans = mapped(self.folder / "spans.npy")
        self._documents = mapped(self.folder / "documents.npy")

    def __len__(self) -> int:
        """How many units there are."""
        return len(self._spans)

    def of(self, document: int, begin: int = 0, end: int | None = None) -> np.ndarray:
        """With begin and end: in that stretch of the document, offsets counted from its begin."""
        first, last = self._documents[document : document + 2]
        if end is None:
            return self._spans[first:last].astype(np.int64)
        spans = self._spans[first:last]
        spans = spans[np.searchsorted(spans[:, 1], begin, side="right") :]
        return np.clip(spans[: np.searchsorted(spans[:, 0], end)].astype(np.int64), begin, end) - begin

    def crosses(self, document: int, place: int) -> bool:
        """Is this place inside one of them?"""
        first, last = self._documents[document : document + 2]
        at = first + int(np.searchsorted(self._spans[first:last, 0], place)) - 1  # the last that begins before it
        return bool(at >= first and self._spans[at, 1] > place)


def layers(corpus: str | Path) -> list[Layer]:
    """Those that the corpus has, in the order of LAYERS."""
    return [Layer(corpus, name) for name in LAYERS if (Path(corpus) / "layers" / name / "layer.json").exists()]


def write_layer(store: Store, name: str, spans: Iterable[np.ndarray], settings: dict[str, Any]) -> Layer:
    """Keep one (n, 2) array of sorted, disjoint character spans per document, in order; an older layer is replaced.

    settings: how they were found, for people and for the layer's hash. The units of the vocabularies are another step.
    """
    if name not in LAYERS:
        raise BadInput(f"there is no layer {name!r}; choose one of: {', '.join(LAYERS)}")
    with files.atomic_folder(store.path / "layers" / name) as new:
        found, ends = Growing(new / "spans.npy", "<u4", 2), Growing(new / "documents.npy", "<i8")
        ends.add(np.zeros(1))
        for some in spans:
            found.add(some)
            ends.add(np.array([len(found)]))
        if len(ends) != len(store) + 1:
            raise ValueError(f"spans of {len(ends) - 1} documents for a corpus of {len(store)}")
        found.close()
        ends.close()
        listed = [new / "spans.npy", new / "documents.npy"]
        whole = hashlib.sha256("".join(map(files.sha256, listed)).encode()).hexdigest()
        about = {"name": name, "corpus": store.text_description["corpus"], "settings": settings, "spans": len(found)}
        describe(new / "layer.json", {**about, "hash": whole}, listed)
    return Layer(store.path, name)


class Stretch(NamedTuple):
    """A document's text, or a part of it if it is a very long one."""

    number: int  # of the document
    begin: int  # the stretch's first character, in the document
    text: str
    last: bool  # the document ends with it


def unit_bytes(found: Tokens, of: Sequence[Stretch], fresh: np.ndarray, present: Sequence[Layer]) -> np.ndarray:
    """(tokens,) uint8, the bits of units.py, for the tokens of some stretches and the layers that their corpus has.

    fresh: (tokens,) bool, first token of a document. A unit may reach from one stretch into the next.
    """
    if not present:
        return found.words
    begins = np.cumsum([0, *(len(stretch.text) for stretch in of)])
    joined, goes_on = {}, {}
    for layer in present:
        spans = [layer.of(each.number, each.begin, each.begin + len(each.text)) for each in of]
        joined[layer.name] = np.concatenate([s + begin for s, begin in zip(spans, begins, strict=False)])
        goes_on[layer.name] = [i for i, each in enumerate(of) if layer.crosses(each.number, each.begin)]
    bits = unit_bits(code_points("".join(stretch.text for stretch in of)), found.begin, found.end, fresh, joined)
    first = np.cumsum(found.lengths) - found.lengths
    for name, those in goes_on.items():
        bits[first[[i for i in those if found.lengths[i]]]] &= ~np.uint8(START[name])
    return bits


def names_and_hashes(present: Sequence[Layer]) -> dict[str, str]:
    """What tokens.json says of its layers: {"words": "", "phrases": "5fe0..."}; plain words need no layer of spans."""
    return {"words": ""} | {layer.name: layer.hash for layer in present}
