"""Turns documents into a corpus folder: keeps each text once, holds some out, trains a vocabulary, tokenises.

Preparing streams: text in memory is bounded, whatever the size of the corpus. The same input gives the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard
from tokenizers import Encoding

from masklab import files
from masklab.corpus import sentences
from masklab.corpus.duplicates import Shingles
from masklab.corpus.read import Document, without_surrogates
from masklab.corpus.store import PARTS, TEXT, Store, describe, read_block
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.train_tokenizer import SAMPLE, train_wordpiece
from masklab.corpus.units import WORD_START, code_points, word_bits
from masklab.errors import BadInput

_BLOCK = 1_000_000  # characters of text in a frame
_BATCH = 2_000_000  # characters tokenised at a time
_LONGEST = 500_000  # a longer document is tokenised in stretches, cut at a line end or a space
Progress = Callable[[str, int, int | None], None]  # stage, done, of how many (None: not known)


def prepare(
    documents: Iterable[Document | str],
    folder: str | Path,
    tokenizer: Tokenizer | str | Path | int = 8192,
    *,
    lowercase: bool = True,
    held_out: float = 0.01,
    seed: int = 0,
    keep_duplicates: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Write a corpus folder, all of it or nothing, in place of an older one of that name.

    tokenizer: one that exists (or its path), or how large a WordPiece vocabulary to train on the training part; then
    `lowercase` says how. held_out: the share of documents kept from training, near-duplicates of them included. Exact
    duplicates are dropped unless `keep_duplicates`.
    """
    path = Path(folder)
    if not 0 <= held_out < 1:
        raise BadInput(f"held_out={held_out} is no share of the documents; give a number such as 0.01")
    if path.exists() and not (path / "store.json").exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path} exists and is no prepared corpus; name another folder, or remove it first")
    if isinstance(tokenizer, str | Path):
        tokenizer = Tokenizer.from_file(tokenizer)
    tell = progress or (lambda stage, done, total: None)
    with files.atomic_folder(path) as new:
        text = _write_text(new, documents, keep_duplicates, tell)
        held = choose(text["groups"], text["digests"], held_out, seed)
        np.save(new / "held_out.npy", held)
        np.save(new / "blocks.npy", text["blocks"])
        if isinstance(tokenizer, int):
            tell("vocabulary", 0, None)
            tokenizer = train_wordpiece(_sample(new, text["blocks"], held, text["characters"]), tokenizer, lowercase)
        text |= {"held_out": held_out, "seed": seed, "tokens": f"tokens-{tokenizer.hash[:12]}"}
        _describe_text(new, text)
        _write_vocabulary(new / text["tokens"], tokenizer, text["blocks"], held, text["hash"], tell)
    return Store(path)


def add_vocabulary(store: Store, tokenizer: Tokenizer | str | Path, progress: Progress | None = None) -> Store:
    """Give a prepared corpus another vocabulary: one more tokens folder, all of it or nothing; the text stays as it is.

    The corpus, opened with that vocabulary, comes back; if it had it already, nothing is written.
    """
    if isinstance(tokenizer, str | Path):
        tokenizer = Tokenizer.from_file(tokenizer)
    path = store.path / f"tokens-{tokenizer.hash[:12]}"
    if path not in store.vocabularies:
        tell = progress or (lambda stage, done, total: None)
        blocks = np.load(store.path / "blocks.npy")
        with files.atomic_folder(path) as new:
            _write_vocabulary(
                new, tokenizer, blocks, store.held_out, store.text_description["corpus"], tell, store.path
            )
    return Store(path)


def _write_vocabulary(folder: Path, tokenizer: Tokenizer, blocks: np.ndarray, held: np.ndarray, corpus: str,
                      tell: Progress, text: Path | None = None) -> None:  # fmt: skip
    """One tokens folder: files, then the description of them."""
    tokenizer.save(folder)
    parts = _write_tokens(text or folder.parent, folder, blocks, tokenizer, held, tell)
    whole = hashlib.sha256((corpus + tokenizer.hash + parts["train"]["hash"]).encode()).hexdigest()
    description = {
        "corpus": corpus,  # of which text
        "tokenizer": tokenizer.hash,
        "hash": whole,
        "vocabulary": tokenizer.size,
        "layers": ["words"],
        "units": "units.npy",
        "parts": parts,
    }
    describe(folder / "tokens.json", description, [p for p in folder.rglob("*") if p.is_file()])


def _write_text(new: Path, documents: Iterable[Document | str], keep: bool, tell: Progress) -> dict[str, Any]:
    """First pass: keep each text once, note its shingles."""
    corpus = hashlib.sha256()
    shingles = Shingles()
    known: set[bytes] = set()
    digests: list[bytes] = []
    counts = {"empty": 0, "duplicates": 0, "characters": 0}
    blocks = [(0, 0)]

    def wanted() -> Iterator[Document]:
        for given in documents:
            document = Document(given) if isinstance(given, str) else given
            text = without_surrogates(document.text).strip()
            digest = hashlib.sha256(text.encode()).digest()
            if not text:
                counts["empty"] += 1
            elif digest in known and not keep:
                counts["duplicates"] += 1
            else:
                known.add(digest)
                corpus.update(digest)
                digests.append(digest)
                counts["characters"] += len(text)
                yield document._replace(text=text)

    squeeze = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with open(new / TEXT, "wb") as file:
        for block in _blocks(wanted()):
            lines = [json.dumps(document._asdict(), ensure_ascii=False) + "\n" for document in block]
            file.write(squeeze.compress("".join(lines).encode()))
            shingles.add([document.text for document in block])
            blocks.append((shingles.documents, file.tell()))
            tell("reading", shingles.documents, None)
    if not digests:
        raise BadInput("no document has any text in it; name files with text")
    return {
        **counts, "blocks": np.array(blocks, np.int64), "groups": shingles.groups(), "hash": corpus.hexdigest(),
        "digests": digests,
    }  # fmt: skip


def _blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    held, size = [], 0
    for document in documents:
        held.append(document)
        size += len(document.text)
        if size >= _BLOCK:
            yield held
            held, size = [], 0
    if held:
        yield held


def choose(groups: np.ndarray, digests: list[bytes], share: float, seed: int) -> np.ndarray:
    """(documents,) bool: which are held out, whole groups of near-duplicates at a time.

    A group's place in the queue is a hash of the seed and its first text, so that it does not depend on the rest of the
    corpus; groups are taken from the front until the share is reached. A group larger than a tenth of the share stays
    in training, as it would be most of what is measured, unless nothing smaller exists. With two groups or more, at
    least one is held out and one is not.
    """
    held = np.zeros(len(groups), bool)
    roots, sizes = np.unique(groups, return_counts=True)
    if len(roots) < 2 or share == 0:
        return held
    queue = sorted(range(len(roots)), key=lambda i: hashlib.blake2b(b"%d" % seed + digests[roots[i]]).digest())
    budget = max(1, round(share * len(groups)))
    room, largest, taken = budget, max(1, budget // 10), []
    for i in queue:
        if sizes[i] <= min(room, largest):
            taken.append(i)
            room -= sizes[i]
        if not room:
            break
    taken = taken or [min(queue, key=lambda i: sizes[i])]
    return np.isin(groups, roots[taken[: len(roots) - 1]])


def _stored(new: Path, blocks: np.ndarray) -> Iterator[tuple[int, str]]:
    """Second pass: the numbered texts again."""
    for block in range(len(blocks) - 1):
        for number, document in enumerate(read_block(new, blocks, block), int(blocks[block, 0])):
            yield number, document.text


def _sample(new: Path, blocks: np.ndarray, held: np.ndarray, characters: int) -> Iterator[str]:
    """Training documents spread evenly over the corpus, about SAMPLE characters of them; held-out ones never."""
    share = min(1.0, SAMPLE / characters)
    for number, text in _stored(new, blocks):
        if not held[number] and int((number + 1) * share) > int(number * share):
            yield text


def _write_tokens(new: Path, folder: Path, blocks: np.ndarray, tokenizer: Tokenizer, held: np.ndarray,
                  tell: Progress) -> dict[str, Any]:  # fmt: skip
    writers = {name: _PartWriter(folder / name, tokenizer) for name in PARTS}
    total = len(held)
    for name, batch in _encoded(tokenizer, _numbered(new, blocks, held)):
        writers[name].add(*batch)
        tell("tokens", sum(writer.documents for writer in writers.values()), total)
    np.save(folder / "unigram.npy", writers["train"].unigram)
    return {name: writer.close() for name, writer in writers.items()}


def _numbered(new: Path, blocks: np.ndarray, held: np.ndarray) -> Iterator[tuple[str, list[int], list[str]]]:
    """Batches of one part's documents: (part, numbers, texts)."""
    waiting: dict[str, tuple[list[int], list[str]]] = {name: ([], []) for name in PARTS}
    size = dict.fromkeys(PARTS, 0)
    for number, text in _stored(new, blocks):
        name = PARTS[int(held[number])]
        waiting[name][0].append(number)
        waiting[name][1].append(text)
        size[name] += len(text)
        if size[name] >= _BATCH:
            yield name, *waiting[name]
            waiting[name], size[name] = ([], []), 0
    for name in PARTS:
        if waiting[name][0]:
            yield name, *waiting[name]


def _encoded(tokenizer: Tokenizer, batches: Iterable[tuple[str, list[int], list[str]]]) -> Iterator[tuple[str, tuple]]:
    """Tokenise one batch ahead of the one that is being written (the library works outside Python's lock)."""
    with ThreadPoolExecutor(1) as ahead:
        before = None
        for name, numbers, texts in batches:
            stretches = [list(_stretches(text)) for text in texts]
            future = ahead.submit(tokenizer.encodings, list(chain.from_iterable(stretches)))
            if before:
                yield before[0], (before[1], before[2], before[3].result())
            before = name, numbers, stretches, future
        if before:
            yield before[0], (before[1], before[2], before[3].result())


def _stretches(text: str) -> Iterator[str]:
    """A very long document in stretches that join to it again: one encoding of it all would take gigabytes."""
    while len(text) > _LONGEST:
        cut = text.rfind("\n", 1, _LONGEST) if "\n" in text[1:_LONGEST] else text.rfind(" ", 1, _LONGEST)
        cut = cut if cut > 0 else _LONGEST
        yield text[:cut]
        text = text[cut:]
    yield text


class _PartWriter:
    """Appends batches of one part to its files."""

    def __init__(self, folder: Path, tokenizer: Tokenizer):
        folder.mkdir()
        self.folder, self.tokenizer = folder, tokenizer
        self.ids = _Growing(folder / "ids.npy", tokenizer.dtype)
        self.units = _Growing(folder / "units.npy", np.dtype("u1"))
        self.lengths: list[np.ndarray] = []
        self.sentences: list[np.ndarray] = []
        self.numbers: list[np.ndarray] = []
        self.unigram = np.zeros(tokenizer.size, np.int64)
        self.documents = 0

    def add(self, numbers: list[int], stretches: list[list[str]], encodings: list[Encoding]) -> None:
        texts = ["".join(pieces) for pieces in stretches]
        sizes = np.array([len(encoding) for encoding in encodings])
        total = int(sizes.sum())
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), self.tokenizer.dtype, total)
        spans = np.fromiter(chain.from_iterable(chain.from_iterable(e.offsets) for e in encodings), np.int64, 2 * total)
        characters = np.cumsum([0, *(len(piece) for pieces in stretches for piece in pieces)])[:-1]
        spans = spans.reshape(-1, 2) + np.repeat(characters, sizes)[:, None]
        of_document = np.repeat(np.arange(len(texts)), [len(pieces) for pieces in stretches])
        lengths = np.bincount(of_document, sizes, len(texts)).astype(np.int64)
        first = np.cumsum(lengths) - lengths
        fresh = np.zeros(total, bool)
        fresh[first[lengths > 0]] = True
        units = word_bits(code_points("".join(texts)), spans[:, 0], spans[:, 1], fresh)
        begins = np.cumsum([0, *map(len, texts)])
        wanted = np.concatenate([np.array(sentences.starts(t)) + a for t, a in zip(texts, begins, strict=False)])
        starts = _first_tokens(wanted, spans, units, fresh)
        self.sentences.append(starts + self.ids.count)
        self.ids.add(ids)
        self.units.add(units)
        self.lengths.append(lengths)
        self.numbers.append(np.array(numbers, np.int64))
        self.unigram += np.bincount(ids, minlength=self.tokenizer.size)
        self.documents += len(texts)

    def close(self) -> dict[str, Any]:
        lengths = np.concatenate([np.zeros(1, np.int64), *self.lengths])
        sentences = np.concatenate([np.zeros(0, np.int64), *self.sentences])
        np.save(self.folder / "documents.npy", np.cumsum(lengths))
        np.save(self.folder / "sentences.npy", sentences)
        np.save(self.folder / "numbers.npy", np.concatenate([np.zeros(0, np.int64), *self.numbers]))
        hashes = self.ids.close(), self.units.close(), files.sha256(self.folder / "documents.npy")
        return {
            "documents": self.documents,
            "tokens": self.ids.count,
            "words": self.units.words,
            "sentences": len(sentences),
            "hash": hashlib.sha256("".join(hashes).encode()).hexdigest(),
        }


def _first_tokens(wanted: np.ndarray, spans: np.ndarray, units: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """The tokens that sentences begin with: those at or after each wanted character, if they begin a word."""
    if not len(spans):
        return np.zeros(0, np.int64)
    # a token that reaches over the character (" She", with its space) counts as at it
    token = np.searchsorted(spans[:, 1], wanted, side="right")
    token = token[token < len(spans)]
    token = token[(units[token] & WORD_START) != 0]
    return np.union1d(token, np.flatnonzero(fresh))


class _Growing:
    """A .npy file whose length is known only at the end."""

    _HEADER = 128  # what numpy writes for any one-dimensional array

    def __init__(self, path: Path, dtype: np.dtype):
        self.path, self.dtype, self.count, self.words = path, dtype, 0, 0
        self.file: IO[bytes] = path.open("wb")
        self.file.write(bytes(self._HEADER))

    def add(self, values: np.ndarray) -> None:
        self.file.write(values.astype(self.dtype, copy=False).tobytes())
        self.count += len(values)
        if self.dtype.itemsize == 1:
            self.words += int((values & WORD_START).sum())

    def close(self) -> str:
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(
            self.file,
            {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.count,)},
        )
        assert self.file.tell() == self._HEADER
        self.file.close()
        return files.sha256(self.path)


def _describe_text(new: Path, text: dict[str, Any]) -> None:
    groups = text["groups"]
    sizes = np.unique(groups, return_counts=True)[1]
    description = {
        "documents": len(groups),
        "empty": text["empty"],
        "duplicates": text["duplicates"],
        "characters": text["characters"],
        "near_duplicate_groups": int((sizes > 1).sum()),
        "largest_group": int(sizes.max()),
        "corpus": text["hash"],  # SHA-256 over the SHA-256 of each kept text, in order
        "held_out": text["held_out"],
        "seed": text["seed"],
        "tokens": text["tokens"],  # the first vocabulary
    }
    describe(new / "store.json", description, [p for p in new.iterdir() if p.is_file()])
