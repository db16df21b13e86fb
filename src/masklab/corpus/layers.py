"""Where words, phrases or entities stand in the text: character spans, kept beside the text for every vocabulary.

    layers/NAME/          "words" (segmented ones, in place of the rules of units.py), "phrases" or "entities"
        layer.json        how they were found, counts, and the size and SHA-256 of the files
        spans.npy         (spans, 2) uint32: first character and the one after the last, in their document
        documents.npy     (documents + 1,) int64: document i has spans[documents[i]:documents[i + 1]]

A vocabulary's units.npy is made of these and can be made again, for a vocabulary that is added later too.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from masklab import files
from masklab.corpus.arrays import Growing
from masklab.corpus.store import LAYERS, Store, checked, describe, described, mapped
from masklab.errors import BadInput


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

    def of(self, document: int) -> np.ndarray:
        begin, end = self._documents[document : document + 2]
        return self._spans[begin:end].astype(np.int64)


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
