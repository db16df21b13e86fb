"""fastText's own model files (.bin, version 12): read whatever the official program wrote, write what it opens.

The layout is that of the released program: 13 numbers of settings, the dictionary (words, then labels), the input rows
(one a word, then one a bucket), the output rows. What is written here opens in `fasttext` and in gensim.
"""

import mmap
import struct
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.word_vectors.fasttext_rows import ngrams_of
from masklab.word_vectors.formats import COMPRESSED
from masklab.word_vectors.ngrams import mean_rows
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

MAGIC = 793712314
VERSION = 12
# The settings in the order of the file, by the names that masklab gives them.
_SETTINGS = (
    *("dim", "window", "epochs", "min_count", "negatives", "word_ngrams"),
    *("loss", "model", "buckets", "shortest", "longest", "rate_update", "sample"),
)
_HEADER = struct.Struct("<12id")
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}
_BLOCK = 1 << 16  # bucket rows that are written at once


def is_bin(path: str | Path) -> bool:
    """Does this file begin as fastText's own model files do?"""
    with open(path, "rb") as file:
        return file.read(4) == struct.pack("<i", MAGIC)


def read_bin(path: str | Path) -> Trained:
    """A fastText model: method "fasttext" or "supervised", every vector equal to what the official program gives.

    The large tables stay in the file and are memory-mapped; `vectors` (words, dim) is computed from them.
    """
    return _Reader(Path(path)).trained()


class _Reader:
    """Walks through the mapped bytes; whatever ends too early is the same complaint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise BadInput(f"{path} is no file; name a fastText model (.bin)")
        self.at = 0
        size = path.stat().st_size
        with path.open("rb") as file:
            self.bytes: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""

    def unpack(self, form: str | struct.Struct) -> tuple[Any, ...]:
        form = struct.Struct("<" + form) if isinstance(form, str) else form
        try:
            values = form.unpack_from(self.bytes, self.at)
        except struct.error:
            raise self.short() from None
        self.at += form.size
        return values

    def short(self) -> BadInput:
        return BadInput(
            f"{self.path} ends too early ({len(self.bytes):,} bytes): it is damaged; fetch or write it again"
        )

    def trained(self) -> Trained:
        if self.unpack("i") != (MAGIC,):
            raise BadInput(f"{self.path} is no fastText model (.bin), or one from before 2017; train it again")
        (version,) = self.unpack("i")
        if not 11 <= version <= VERSION:
            raise BadInput(
                f"{self.path}: version {version} of fastText's format; versions 11 and {VERSION} are read here"
            )
        settings: dict[str, Any] = dict(zip(_SETTINGS, self.unpack(_HEADER), strict=True))
        del settings["rate_update"]
        if settings["model"] not in _MODELS or settings["loss"] not in _LOSSES or settings["dim"] < 1:
            raise BadInput(f"{self.path}: its settings make no sense; it is damaged, fetch or write it again")
        settings["model"] = _MODELS[settings["model"]]
        settings["loss"] = _LOSSES[settings["loss"]]
        if version == 11 and settings["model"] == "supervised":
            settings["longest"] = 0  # supervised models of that version had no character n-grams, whatever they say
        entries, words, labels, tokens, pruned = self.unpack("iiiqq")
        if min(words, labels) < 0 or words + labels != entries:
            raise BadInput(f"{self.path}: its dictionary makes no sense; it is damaged, fetch or write it again")
        listed = self.entries(entries)
        if pruned >= 0 or self.unpack("?")[0]:
            raise BadInput(
                f"{self.path} is quantised (.ftz): its rows are only approximate and cannot be opened here; "
                f"give the .bin that it was made from"
            )
        rows = self.matrix(settings["dim"])
        if self.unpack("?")[0]:
            raise BadInput(f"{self.path}: its output rows are quantised; give the .bin that it was made from")
        output = self.matrix(settings["dim"])
        if len(rows) != words + settings["buckets"]:
            raise BadInput(
                f"{self.path}: {len(rows):,} rows, but {words:,} words and {settings['buckets']:,} buckets; damaged"
            )
        spelled = [word for word, _ in listed[:words]]
        shown = [word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for word in spelled]
        vocabulary = Vocabulary(shown, np.array([count for _, count in listed[:words]], np.int64), tokens)
        arrays = {
            "words": rows[:words],
            "buckets": rows[words:],
            "bucket_numbers": np.arange(settings["buckets"], dtype=np.int32),
            "output": output,
        }
        method = "fasttext"
        if settings["model"] == "supervised":
            method = settings.pop("model")
            settings["label"] = "__label__"  # the file does not say
            settings["labels"] = [name for name, _ in listed[words:]]
            arrays["label_counts"] = np.array([n for _, n in listed[words:]], np.int64)
        else:
            settings.pop("word_ngrams")
        vectors = mean_rows(rows[:words], rows[words:], ngrams_of(settings).table(spelled))
        return Trained(method, vocabulary, settings, vectors, arrays, tokens)

    def entries(self, n: int) -> list[tuple[str, int]]:
        """(word, count) of the dictionary: each a word, a zero byte, 8 bytes of count, 1 byte of kind."""
        listed = []
        for _ in range(n):
            end = self.bytes.find(b"\0", self.at)
            if end < 0 or end + 10 > len(self.bytes):
                raise self.short()
            (count,) = _COUNT.unpack_from(self.bytes, end + 1)
            listed.append((self.bytes[self.at : end].decode("utf-8", "surrogateescape"), count))
            self.at = end + 10
        return listed

    def matrix(self, dim: int) -> np.ndarray:
        rows, columns = self.unpack("qq")
        if columns != dim or rows < 0:
            raise BadInput(f"{self.path}: rows of {columns} numbers, but its settings say {dim}; it is damaged")
        if self.at + rows * columns * 4 > len(self.bytes):
            raise self.short()
        found = np.frombuffer(self.bytes, "<f4", rows * columns, self.at).reshape(rows, columns)
        self.at += found.nbytes
        return found


_COUNT = struct.Struct("<q")


def write_bin(trained: Trained, path: str | Path) -> None:
    """Write a model that masklab trained with n-grams, or a classifier, as the official program would.

    A bucket that none of the training words touched is a row of zeros there: it was never trained.
    """
    if trained.method not in ("fasttext", "supervised"):
        raise BadInput(f"{path}: fastText's .bin holds fasttext and supervised models, not {trained.method}; use .vec")
    if Path(path).suffix in COMPRESSED:
        raise BadInput(f"{path}: fastText opens no compressed model; leave off {Path(path).suffix}")
    labels: list[str] = trained.settings.get("labels", [])
    with atomic_write(path) as file:
        file.write(struct.pack("<ii", MAGIC, VERSION))
        file.write(_HEADER.pack(*_numbers(trained)))
        counts = trained.vocabulary.counts.tolist()
        words = trained.vocabulary.words
        file.write(
            struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), trained.vocabulary.total, -1)
        )
        _write_entries(file, words, counts, 0, path)
        if labels:
            _write_entries(file, labels, trained.arrays["label_counts"].tolist(), 1, path)
        buckets, dim = trained.settings["buckets"], trained.settings["dim"]
        file.write(struct.pack("<?qq", False, len(words) + buckets, dim))
        _write_rows(file, trained.arrays["words"])
        row_of = np.full(buckets, -1, np.int32)
        row_of[trained.arrays["bucket_numbers"]] = np.arange(len(trained.arrays["bucket_numbers"]), dtype=np.int32)
        for start in range(0, buckets, _BLOCK):
            rows = row_of[start : start + _BLOCK]
            block = np.zeros((len(rows), dim), np.float32)
            block[rows >= 0] = trained.arrays["buckets"][rows[rows >= 0]]
            _write_rows(file, block)
        output = trained.arrays["output"]
        targets = len(labels) if trained.method == "supervised" else len(words)
        file.write(struct.pack("<?qq", False, targets, dim))
        _write_rows(file, output)
        _write_rows(file, np.zeros((targets - len(output), dim), np.float32))  # a tree has one node less than leaves


def _write_entries(file: IO[bytes], names: list[str], counts: list[int], kind: int, path: str | Path) -> None:
    for name, count in zip(names, counts, strict=True):
        spelled = name.encode("utf-8", "surrogateescape")
        if b"\0" in spelled:
            raise BadInput(f"{path}: the word {name!r} holds a zero byte, which ends a word in this format; use .vec")
        file.write(spelled + b"\0" + struct.pack("<qb", count, kind))


def _write_rows(file: IO[bytes], rows: np.ndarray) -> None:
    for start in range(0, len(rows), _BLOCK):
        file.write(cast(Any, np.ascontiguousarray(rows[start : start + _BLOCK], "<f4")).data)


def _numbers(trained: Trained) -> list[Any]:
    """The header's values, in the order of `_SETTINGS`."""
    settings = trained.settings
    loss = {name: number for number, name in _LOSSES.items()}[settings["loss"]]
    kind = "supervised" if trained.method == "supervised" else settings["model"]
    model = {name: number for number, name in _MODELS.items()}[kind]
    fixed = {
        "loss": loss,
        "model": model,
        "word_ngrams": settings.get("word_ngrams", 1),
        "rate_update": 100,  # the official default; nothing here uses it
        "window": settings.get("window", 5),
        "sample": settings.get("sample", 1e-4),
        # Readers drop words below min_count, and training that went on may have kept some.
        "min_count": min(settings["min_count"], *(trained.vocabulary.counts.min(initial=2**31 - 1),)),
    }
    return [fixed[name] if name in fixed else settings[name] for name in _SETTINGS]
