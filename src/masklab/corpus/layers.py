"""Where words, phrases or entities stand in the text: character spans, kept beside the text for every vocabulary.

    layers/NAME/          "words" (segmented ones, in place of the rules of units.py), "phrases" or "entities"
        layer.json        how they were found, counts, and the size and SHA-256 of the files
        spans.npy         (spans, 2) uint32: first character and the one after the last, in their document
        documents.npy     (documents + 1,) int64: document i has spans[documents[i]:documents[i + 1]]

A vocabulary's unit bytes are made of these and can be made again, for a vocabulary that is added later too.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masklab import files
from masklab.corpus.arrays import Growing
from masklab.corpus.encode import Encoder, Tokens
from masklab.corpus.store import LAYERS, PARTS, Part, Store, checked, describe, described, mapped
from masklab.corpus.units import WORD_START, code_points, unit_bits
from masklab.errors import BadInput

_BATCH = 2_000_000  # characters laid over at a time
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


def unit_bytes(found: Tokens, texts: Sequence[str], numbers: Sequence[int], present: Sequence[Layer]) -> np.ndarray:
    """(tokens,) uint8, the bits of units.py, for the tokens of some texts and the layers that their corpus has.

    numbers: which documents of the corpus the texts are.
    """
    if not present:
        return found.words
    begins = np.cumsum([0, *map(len, texts)])[:-1]
    joined = {
        layer.name: np.concatenate([layer.of(number) + begin for number, begin in zip(numbers, begins, strict=True)])
        for layer in present
    }
    fresh = np.zeros(len(found.ids), bool)
    fresh[(np.cumsum(found.lengths) - found.lengths)[found.lengths > 0]] = True
    return unit_bits(code_points("".join(texts)), found.begin, found.end, fresh, joined)


def names_and_hashes(present: Sequence[Layer]) -> dict[str, str]:
    """What tokens.json says of its layers: {"words": "", "phrases": "5fe0..."}; plain words need no layer of spans."""
    return {"words": ""} | {layer.name: layer.hash for layer in present}


def lay(store: Store, progress: Progress | None = None) -> Store:
    """Bring the unit bytes of every vocabulary of a corpus up to its layers; those that are stay as they are.

    Each vocabulary gets new files beside the old ones, then a new tokens.json, and only then are the old ones removed:
    whatever happens on the way, it is whole. The corpus, opened anew, comes back.
    """
    present = layers(store.path)
    for folder in store.vocabularies:
        one = Store(folder)
        if one.tokens_description.get("layer_hashes", {"words": ""}) != names_and_hashes(present):
            _lay_one(one, present, progress or (lambda stage, done, total: None))
    return Store(store.folder)


def _lay_one(store: Store, present: Sequence[Layer], tell: Progress) -> None:
    hashes = names_and_hashes(present)
    name = f"units-{hashlib.sha256(''.join(hashes.values()).encode()).hexdigest()[:12]}.npy" if present else "units.npy"
    about, encoder = dict(store.tokens_description), Encoder(store.tokenizer)
    checked(store.folder, about["files"], small=1 << 62)  # they are described anew: damage must not pass for a change
    about["parts"] = dict(about["parts"])
    for part in map(store.part, PARTS):
        made = Growing(part.folder / name, "u1")
        words, done = 0, 0
        for numbers, texts, lengths in _documents(part):
            found = encoder(texts)
            if not np.array_equal(found.lengths, lengths):
                raise BadInput(
                    f"{part.folder} was not made of this text by its tokenizer.json; prepare the corpus again"
                )
            units = unit_bytes(found, texts, numbers, present)
            made.add(units)
            words += int(np.count_nonzero(units & WORD_START))
            done += len(texts)
            tell(f"units of {store.folder.name}", done, len(part))
        made.sync()
        made.close()
        listed = [part.folder / file for file in ("ids.npy", name, "documents.npy")]
        whole = hashlib.sha256("".join(map(files.sha256, listed)).encode()).hexdigest()
        about["parts"][part.name] = {**about["parts"][part.name], "words": words, "hash": whole}
    whole = about["corpus"] + about["tokenizer"] + about["parts"]["train"]["hash"]
    about |= {"layers": list(hashes), "layer_hashes": hashes, "units": name,
              "hash": hashlib.sha256(whole.encode()).hexdigest()}  # fmt: skip
    named = {file for file in about.pop("files") if Path(file).name[:5] != "units"} | {f"{p}/{name}" for p in PARTS}
    describe(store.folder / "tokens.json", about, [store.folder / file for file in named])
    for file in [*store.folder.glob("*/units*.npy"), *store.folder.glob("rows-*.npz")]:
        if file.name != name:  # rows were cut by the old units
            file.unlink()


def _documents(part: Part) -> Iterator[tuple[list[int], list[str], np.ndarray]]:
    """Batches of a part's documents: their numbers, texts, and lengths in tokens."""
    lengths = np.diff(part.documents)
    numbers: list[int] = []
    texts: list[str] = []
    first, size = 0, 0
    for i, number in enumerate(part.numbers.tolist()):
        numbers.append(number)
        texts.append(part.text(i))
        size += len(texts[-1])
        if size >= _BATCH or i == len(part) - 1:
            yield numbers, texts, lengths[first : i + 1]
            numbers, texts, first, size = [], [], i + 1, 0
