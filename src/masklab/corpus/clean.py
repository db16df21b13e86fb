"""Writes a clean copy of a collection of texts: each text once, and of near-duplicates only the first.

The documents are read twice: once to find out who is like whom (minhash.py), once to copy what stays. Nothing is
rewritten inside a document, and every one that goes can be listed, with the one that stands for it.
"""

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zstandard

from masklab import files
from masklab.corpus.document import Document, without_surrogates
from masklab.corpus.minhash import Signatures
from masklab.corpus.units import batched
from masklab.errors import BadInput

_BATCH = 2_000_000  # characters at a time
_NAMES = (".jsonl", ".ndjson", ".jsonl.zst", ".ndjson.zst", ".jsonl.gz", ".ndjson.gz")


class Cleaned(NamedTuple):
    documents: int  # read
    empty: int
    exact: int  # equal to an earlier one, to the letter
    near: int  # like an earlier one
    kept: int
    characters: int  # in those read
    kept_characters: int


def clean(
    documents: Callable[[], Iterable[Document]],
    out: str | Path | None,
    similarity: float | None = 0.8,
    *,
    words: int = 5,
    report: str | Path | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Cleaned:
    """Copy what is worth keeping to `out`, JSON lines (.jsonl, or .jsonl.zst, .jsonl.gz); None: only count and report.

    documents: called twice, must give the same documents. similarity: of the sets of runs of so many `words`, from
    which on a document is a near-duplicate; None: only equal texts go. report: a table of what went and why.
    """
    if similarity is not None and not 0.3 <= similarity <= 1:
        raise BadInput(f"similarity {similarity}: near-duplicates are alike to between 0.3 and 1, usually 0.8")
    if out is not None and not str(out).endswith(_NAMES):
        raise BadInput(f"{out}: the copy is JSON lines; give a name that ends in .jsonl, .jsonl.gz or .jsonl.zst")
    tell = progress or (lambda stage, done: None)
    signatures = Signatures(words)
    digests = bytearray()
    read = 0
    grouped = False

    def texts_of(given: Iterable[Document]) -> Iterator[str]:
        nonlocal grouped
        for document in given:
            grouped |= document.group != ""
            yield _text(document)

    for texts in batched(texts_of(documents()), _BATCH):
        digests += b"".join([hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts])
        if similarity is not None:
            signatures.add(texts)
        read += len(texts)
        tell("comparing", read)
    exact = _first_copies(np.frombuffer(digests, np.uint64).reshape(-1, 2))
    group, like = exact, np.ones(read, np.float32)
    if similarity is not None:
        group, like = signatures.near(similarity)
        group = np.minimum(group, exact)
    counts = dict.fromkeys(Cleaned._fields, 0)
    with ExitStack() as stack:
        write = stack.enter_context(_writer(out)) if out is not None else None
        table = stack.enter_context(_table(report)) if report is not None else None
        stands: dict[int, str] = {}  # where the document is that stands for others
        leads = set(group[group != np.arange(read)].tolist())
        number = -1
        for number, document in enumerate(documents()):
            if number >= read:
                break
            text = _text(document)
            where = f"{document.source}:{document.line}"
            why = ""
            if not text:
                why = "empty"
            elif exact[number] != number:
                why = "exact"
            elif group[number] != number:
                why = "near"
            counts[why or "kept"] += 1
            counts["characters"] += len(text)
            if not why:
                counts["kept_characters"] += len(text)
                if write:
                    write(json.dumps(_record(document, text, grouped), ensure_ascii=False) + "\n")
                if number in leads and table:
                    stands[number] = where
            elif table:
                lead = int(group[number])
                by = "" if why == "empty" else stands.get(lead, f"document {lead + 1}")
                table.writerow([where, why, by, "" if why == "empty" else f"{like[number]:.2f}" if why == "near" else
                                "1.00", text[:80].replace("\n", " ")])  # fmt: skip
            if number % 1000 == 0:
                tell("copying", number)
        if number + 1 != read:
            raise BadInput("the texts changed while they were read; run it again")
    return Cleaned(**{**counts, "documents": read})


def _first_copies(digests: np.ndarray) -> np.ndarray:
    """(documents,) the first document with the same digest (two numbers each): [a, b, a] -> [0, 1, 0]."""
    order = np.lexsort(digests.T)
    fresh = np.append(True, (np.diff(digests[order].view(np.int64), axis=0) != 0).any(1))[: len(order)]
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]  # lexsort is stable: the first comes first
    return first


def _text(document: Document) -> str:
    return without_surrogates(document.text).strip()


def _record(document: Document, text: str, grouped: bool) -> dict[str, Any]:
    """What the copy keeps: the text as it was, the entities marked in it, its group, and where it came from."""
    begin = len(document.text) - len(document.text.lstrip())
    record: dict[str, Any] = {"text": text, "source": document.source, "line": document.line}
    if document.entities:
        record["entities"] = [[a - begin, b - begin, kind] for a, b, kind in document.entities]
    if grouped:
        record["group"] = document.group
    return record


@contextmanager
def _writer(out: str | Path) -> Any:
    """A function that writes a string to a file, compressed as its name says."""
    path = Path(out)
    with files.atomic_write(path) as raw:
        if path.suffix == ".zst":
            inner: Any = zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(raw, closefd=False)
        elif path.suffix == ".gz":
            inner = gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=4, mtime=0)
        else:
            inner = raw
        yield lambda text: inner.write(text.encode())
        if inner is not raw:
            inner.close()


@contextmanager
def _table(report: str | Path) -> Any:
    with files.atomic_write(report, "w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["document", "why", "stands for it", "similarity", "begins"])
        yield table
