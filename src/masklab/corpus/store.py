"""A prepared corpus on disk: the text, and beside it the token numbers that training reads, mapped into memory.

    store.json            the text: counts, hashes, the first vocabulary, and the size and SHA-256 of the text's files
    text.jsonl.zst        the documents, as JSON lines in Zstandard frames of about 1 MB (`zstd -dc` reads it)
    blocks.npy            (blocks + 1, 2) int64: first document and first byte of each frame
    held_out.npy          (documents,) bool
    layers/NAME/          units found in the text beyond plain words; see layers.py
    tokens-HASH/          one vocabulary's view of the text; there may be several
        tokens.json       counts, hashes, layers, and the size and SHA-256 of this folder's files
        tokenizer.json, tokenizer_config.json, special_tokens_map.json
        unigram.npy       (vocabulary,) int64: how often each id occurs in the training part
        train/, held_out/ ids.npy uint16|uint32, units.npy uint8, documents.npy (n + 1,), sentences.npy, numbers.npy

This file reads; prepare.py writes.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from masklab import files
from masklab.corpus import packing
from masklab.corpus.packing import Rows
from masklab.corpus.read import Document
from masklab.corpus.tokenizer import Tokenizer
from masklab.errors import BadInput

VERSION = 2
PARTS = ("train", "held_out")
LAYERS = ("words", "phrases", "entities")  # each has two bits of a unit byte: begins a unit, is a real one
TEXT = "text.jsonl.zst"
_SMALL = 1 << 20  # files up to so many bytes are checked in full on opening


class Store:
    """An opened corpus. `store.part("train")` is what training reads, `store.text(7)` what a person reads.

    path: the corpus' folder (then its first vocabulary is read), or one of the tokens-HASH folders in it.
    """

    def __init__(self, path: str | Path):
        given = Path(path)
        named = given.name if (given / "tokens.json").exists() else None
        self.path = given.parent if named else given
        if not self.path.exists():
            files.settle(self.path)
        self.text_description = described(self.path)
        self.folder = self.path / (named or self.text_description["tokens"])
        self.tokens_description = described(self.folder, "tokens.json")
        self.description = {**self.text_description, **self.tokens_description}  # of both, as one
        if self.tokens_description["corpus"] != self.text_description["corpus"]:
            raise BadInput(f"{self.folder} was made of another text than {self.path} holds; remove the tokens folder")
        checked(self.path, self.text_description["files"])
        checked(self.folder, self.tokens_description["files"])
        self.tokenizer = Tokenizer.from_file(self.folder)
        self.held_out: np.ndarray = mapped(self.path / "held_out.npy")  # (documents,) bool
        self._blocks = np.load(self.path / "blocks.npy")
        self._block = lru_cache(maxsize=4)(self._read_block)

    def __reduce__(self):  # workers open the files themselves
        return Store, (self.folder,)

    def __len__(self) -> int:
        return len(self.held_out)

    @property
    def hash(self) -> str:
        """Of the texts and the tokenizer: equal hashes, equal numbers."""
        return self.tokens_description["hash"]

    @property
    def vocabularies(self) -> list[Path]:
        """The tokens folders of this corpus, the first one first; each is a corpus to `Store` and to `--data`."""
        first = self.path / self.text_description["tokens"]
        others = {file.parent for file in self.path.glob("tokens-*/tokens.json")} - {first}
        return [first, *sorted(others)]

    def part(self, name: str = "train") -> "Part":
        if name not in PARTS:
            raise BadInput(f"a corpus has no part {name!r}; choose one of: {', '.join(PARTS)}")
        return Part(self, name)

    def document(self, number: int) -> Document:
        """The document with its source, by its number in the order of reading (duplicates and empty ones left out)."""
        if not 0 <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        block = int(np.searchsorted(self._blocks[:, 0], number, side="right")) - 1
        return self._block(block)[number - int(self._blocks[block, 0])]

    def text(self, number: int) -> str:
        return self.document(number).text

    def texts(self, part: str | None = None) -> Iterator[str]:
        """The texts of a part, or of all, in order."""
        held = None if part is None else part == "held_out"
        for block, (first, _) in enumerate(self._blocks[:-1]):
            for number, document in enumerate(self._read_block(block), int(first)):
                if held is None or self.held_out[number] == held:
                    yield document.text

    def check(self) -> tuple[int, int]:
        """Compare every file, of every vocabulary and layer, with the checksum that was written with it.

        How many files those are, and how many bytes they have together.
        """
        described_by = [self.path / "store.json", *(folder / "tokens.json" for folder in self.vocabularies)]
        described_by += sorted(self.path.glob("layers/*/layer.json"))
        count = size = 0
        for file in described_by:
            listed = described(file.parent, file.name)["files"]
            checked(file.parent, listed, small=1 << 62)
            count += len(listed) + 1
            size += sum(said["bytes"] for said in listed.values()) + file.stat().st_size
        return count, size

    def _read_block(self, block: int) -> list[Document]:
        return list(read_block(self.path, self._blocks, block))


class Part:
    """The training documents, or the held-out ones: their tokens lie one after another."""

    def __init__(self, store: Store, name: str):
        self.store, self.name = store, name
        self.folder = store.folder / name
        self.tokenizer = store.tokenizer
        described = store.tokens_description
        self.layers: list[str] = described["layers"]  # which pairs of bits `units` has: "words", "phrases", "entities"
        self.uncut = sum(1 << 2 * LAYERS.index(layer) for layer in self.layers)  # their start bits, together
        self.hash: str = described["parts"][name]["hash"]
        self.ids: np.ndarray = mapped(self.folder / "ids.npy")  # (tokens,) uint16 or uint32
        self.units: np.ndarray = mapped(self.folder / described["units"])  # (tokens,) uint8, bits of units.py
        self.documents: np.ndarray = mapped(self.folder / "documents.npy")  # (n + 1,) int64 token offsets
        self.sentences: np.ndarray = mapped(self.folder / "sentences.npy")  # (m,) int64 offsets of sentence starts
        self.numbers: np.ndarray = mapped(self.folder / "numbers.npy")  # (n,) int64: `store.text(numbers[i])`
        self._rows: dict[tuple[int, int, bool], Rows] = {}

    def __reduce__(self):
        return Part, (self.store, self.name)

    def __len__(self) -> int:
        return len(self.numbers)

    def must_be_whole(self) -> None:
        still_whole(self.ids, self.units, self.documents, self.sentences)

    @cached_property
    def unigram(self) -> np.ndarray:
        """(tokenizer.size,) int64: how often each id occurs in the *training* part, whichever part this is."""
        return np.load(self.store.folder / "unigram.npy")

    def text(self, document: int) -> str:
        return self.store.text(int(self.numbers[document]))

    def rows(self, length: int, overhead: int, packed: bool = True) -> Rows:
        """The part cut into rows; found once, then kept in the corpus' folder.

        overhead: special tokens around each piece: 2 for [CLS] x [SEP], 3 for pairs.
        """
        key = (length, overhead, packed)
        if key not in self._rows:
            self._rows[key] = self._find_rows(*key)
        return self._rows[key]

    def _find_rows(self, length: int, overhead: int, packed: bool) -> Rows:
        kind = "packed" if packed else "single"
        file = self.store.folder / f"rows-{length}-{overhead}-{kind}-{self.name}.npz"
        try:
            with np.load(file) as kept:
                if str(kept["hash"]) == self.hash:
                    return Rows(kept["pieces"], kept["offsets"], length, overhead)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            pass  # not there, or damaged: it is only a copy
        found = packing.rows(self.documents, self.units, self.sentences, length, overhead, packed, self.uncut)
        try:
            with files.atomic_write(file) as out:
                np.savez(out, pieces=found.pieces, offsets=found.offsets, hash=np.array(self.hash))
        except OSError:
            pass  # a corpus that may only be read: found again each time
        return found


# --- what reading and writing share ----------------------------------------------------------------------------------


def read_block(folder: Path, blocks: np.ndarray, block: int) -> Iterator[Document]:
    """The documents of one frame of the text. blocks: (blocks + 1, 2), as in blocks.npy."""
    begin, end = int(blocks[block, 1]), int(blocks[block + 1, 1])
    with open(folder / TEXT, "rb") as file:
        file.seek(begin)
        lines = zstandard.ZstdDecompressor().decompress(file.read(end - begin)).decode().split("\n")[:-1]
    for line in lines:
        record = json.loads(line)
        if "entities" in record:
            record["entities"] = tuple(map(tuple, record["entities"]))
        yield Document(**record)


def described(folder: Path, name: str = "store.json") -> dict[str, Any]:
    """What store.json or tokens.json says, if it is whole."""
    file = folder / name
    if not file.exists():
        raise BadInput(f"{folder} is not a prepared corpus (no {name}); make one: masklab prepare TEXT --out {folder}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        said = found.pop("checksum")
        version = found["version"]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise BadInput(f"{file} is damaged; prepare the corpus again") from None
    if version != VERSION:
        raise BadInput(f"{file} has format {version}, this masklab reads format {VERSION}; prepare the corpus again")
    if said != _checksum(found):
        raise BadInput(f"{file} is damaged or was edited; prepare the corpus again")
    return found


def describe(file: Path, description: dict[str, Any], named: list[Path]) -> None:
    """Write store.json or tokens.json: the description, and the size and SHA-256 of each of the `named` files."""
    listed = {
        path.relative_to(file.parent).as_posix(): {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
        for path in sorted(named)
    }
    description = {"version": VERSION, **description, "files": listed}
    with files.atomic_write(file, "w") as out:
        json.dump({**description, "checksum": _checksum(description)}, out, indent=1)


def checked(folder: Path, listed: dict[str, dict[str, Any]], small: int = _SMALL) -> None:
    """Refuse files that are missing, of another size or, up to `small` bytes, of another content than was written."""
    for name, said in listed.items():
        file = folder / name
        if not file.exists() or file.stat().st_size != said["bytes"]:
            raise BadInput(f"{file} is missing or cut short; prepare the corpus again")
        if said["bytes"] <= small and files.sha256(file) != said["sha256"]:
            raise BadInput(f"{file} was changed since it was prepared; prepare the corpus again")


def _checksum(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def mapped(file: Path) -> np.ndarray:
    """A .npy file as a read-only array that takes no memory of its own."""
    found = np.load(file, mmap_mode="r")
    return found.view(np.ndarray)  # plain arrays slice several times faster than np.memmap


def still_whole(*arrays: np.ndarray) -> None:
    """Refuse `mapped` arrays whose file was cut short since: the system ends a process that reads beyond its end."""
    for array in arrays:
        file = array.base
        if isinstance(file, np.memmap) and (mapping := file._mmap).size() < len(mapping):  # type: ignore[attr-defined]
            raise BadInput(f"{file.filename} was cut short while it was read; put it back, or prepare the corpus again")
