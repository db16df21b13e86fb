"""First pass of a preparation: keeps each text once, compressed, and notes what is needed to find near-duplicates.

Documents come one at a time and leave in blocks of about a megabyte. Everything is appended to files, whose lengths are
committed now and then (work.py): a pass that was killed reads the documents before that place again, to see that they
are the same ones, and goes on behind them.
"""

import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import zstandard

from masklab.corpus.arrays import Growing, open_whole, reserved, write_whole
from masklab.corpus.document import Document, tidy
from masklab.corpus.duplicates import joined, sharing, shingled
from masklab.corpus.progress import At, Tell
from masklab.corpus.seen import Seen
from masklab.corpus.store import TEXT
from masklab.corpus.work import Work
from masklab.errors import BadInput

_BLOCK = 1_000_000  # characters of text in a frame, about
_FEW = 250_000  # characters looked at together for duplicates
_WORDS = 16  # in a shingle
_KEEP = 4  # one shingle in so many is noted, until there are too many
_SHINGLES = 32_000_000  # 384 MB on disk while preparing; with more, every second one is let go
_AT_ONCE = 2_000_000  # shingles sorted in memory
_AHEAD = 8_000_000  # characters of text that wait to be written, at most, or one block
_SLAB = 1 << 18  # documents looked at together
_PRIME = (1 << 61) - 1


class Changed(Exception):
    """The documents are not the ones that were read before."""


def keep_text(work: Work, documents: Iterable[Document | str], keep_duplicates: bool, threads: int, tell: Tell,
              same: bool = False) -> None:  # fmt: skip
    """Write the text and blocks.npy. same: the documents are known to be those that were read before.

    It leaves digests and shingles in the scratch folder, and counts in `work.state`.
    """
    state = work.state.get("text") or _NOTHING
    writer = _Writer(work, state)
    given = iter(documents)
    raw = _Given(state)
    if state["given"]:
        raw.skip(given, tell, same)
        if state["done"]:
            if next(given, None) is not None:
                raise Changed
            return
    seen = None if keep_duplicates else _seen(work, state["documents"])
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[list[Document], Any, dict[str, Any], Future[Any]]] = deque()
        for block, digests in _blocks(raw.batches(given), seen, raw):
            waiting.append((block, digests, raw.noted(), pool.submit(_made, block)))
            while len(waiting) > threads + 1 or (waiting and sum(each[1]["characters"] for each in waiting) > _AHEAD):
                writer.add(*waiting.popleft(), tell=tell)
        while waiting:
            writer.add(*waiting.popleft(), tell=tell)
    writer.close(raw.noted())


def _seen(work: Work, documents: int) -> Seen:
    """Knows the digests of the documents that are kept already."""
    seen = Seen(work.scratch / "seen")
    for at in range(0, documents, 1 << 18):
        count = min(1 << 18, documents - at)
        some = np.fromfile(work.scratch / "digests.npy", np.uint64, 4 * count, offset=128 + 32 * at)
        seen.add(some.reshape(-1, 4)[:, :2])
    return seen


_NOTHING: dict[str, Any] = {
    "given": 0, "chain": 0, "empty": 0, "duplicates": 0, "documents": 0, "characters": 0, "bytes": 0, "blocks": 0,
    "compressed": 0, "shingles": 0, "keep": _KEEP, "zeros": [0] * 65, "named": 0, "done": False,
}  # fmt: skip


class _Given:
    """Counts the documents as they come, and remembers them all in one number."""

    def __init__(self, state: dict[str, Any]):
        self.counts = {name: state[name] for name in ("given", "chain", "empty", "duplicates")}

    def noted(self) -> dict[str, Any]:
        return dict(self.counts)

    def batches(self, given: Iterator[Document | str]) -> Iterator[tuple[list[Document], np.ndarray, list[int]]]:
        """Documents with text, their digests (n, 4) uint64, and their lengths in bytes."""
        held: list[Document] = []
        digests: list[bytes] = []
        sizes: list[int] = []
        size = 0
        for document in given:
            document, data = tidied(document)
            digest = self._note(document, data)
            if not data:
                self.counts["empty"] += 1
                continue
            held.append(document)
            digests.append(digest)
            sizes.append(len(data))
            size += len(document.text)
            if size >= _FEW or len(held) >= _FEW // 50:
                yield held, np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 4), sizes
                held, digests, sizes, size = [], [], [], 0
        if held:
            yield held, np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 4), sizes

    def skip(self, given: Iterator[Document | str], tell: Tell, same: bool) -> None:
        """Read what was read before; Changed, if it is something else, at which one need not look where it is the same.

        Looking takes longer than reading, and the files of most people have a size and a time that tell."""
        wanted = self.noted()
        if same:
            for number, _ in enumerate(given, 1):
                if number == wanted["given"]:
                    return
                if number % 1000 == 0:
                    tell(At("reading again", number, 0, None))
            raise Changed
        self.counts = {**wanted, "given": 0, "chain": 0}
        size = 0
        for document in given:
            document, data = tidied(document)
            self._note(document, data)
            size += len(data)
            if self.counts["given"] == wanted["given"]:
                break
            if self.counts["given"] % 1000 == 0:
                tell(At("reading again", self.counts["given"], size, None))
        if self.counts != wanted:
            raise Changed

    def _note(self, document: Document, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        about = zlib.crc32(repr(document[1:]).encode("utf-8", "surrogatepass"))
        self.counts["given"] += 1
        self.counts["chain"] = (self.counts["chain"] * 1_000_003 + int.from_bytes(digest[:8]) + about) % _PRIME
        return digest


def tidied(document: Document | str) -> tuple[Document, bytes]:
    """The document without white space around its text, and the text's bytes."""
    document = tidy(Document(document) if isinstance(document, str) else document)
    return document, document.text.encode()


def _blocks(
    batches: Iterator[tuple[list[Document], np.ndarray, list[int]]], seen: Seen | None, raw: _Given
) -> Iterator[tuple[list[Document], dict[str, Any]]]:
    """Blocks of documents that were not there before, with their digests and bytes; they end where a batch ends."""
    held: list[Document] = []
    digests: list[np.ndarray] = []
    size = total = 0
    for documents, found, sizes in batches:
        new = np.ones(len(documents), bool) if seen is None else seen.new(found[:, :2])
        wanted = np.flatnonzero(new).tolist()
        raw.counts["duplicates"] += len(documents) - len(wanted)
        held += [documents[i] for i in wanted]
        digests.append(found[new])
        size += sum(len(documents[i].text) for i in wanted)
        total += sum(sizes[i] for i in wanted)
        if size >= _BLOCK:
            yield held, {"digests": np.concatenate(digests), "characters": size, "bytes": total}
            held, digests, size, total = [], [], 0, 0
    if held:
        yield held, {"digests": np.concatenate(digests), "characters": size, "bytes": total}


class _Made(NamedTuple):
    frame: bytes
    hashes: np.ndarray
    document: np.ndarray  # counted from the block's first


def _made(block: list[Document]) -> _Made:
    """What can be done to a block outside Python's lock, mostly."""
    lines = "".join([json.dumps(_record(document), ensure_ascii=False) + "\n" for document in block]).encode()
    frame = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)
    del lines
    found = []
    for hashes, document in shingled((document.text for document in block), _WORDS):
        keep = hashes % np.uint64(_KEEP) == 0
        found.append((hashes[keep], document[keep]))
    hashes, document = map(np.concatenate, zip(*found, strict=True))
    return _Made(frame, hashes, document)


def _record(document: Document) -> dict[str, Any]:
    """A line of the text file: what a document has beside its text only where it has it."""
    record: dict[str, Any] = {"text": document.text}
    if document.source:
        record["source"] = document.source
    if document.line:
        record["line"] = document.line
    if document.entities:
        record["entities"] = document.entities
    if document.group:
        record["group"] = document.group
    return record


def _key(group: str) -> int:
    """A number for a group's name; 0: no group."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "little") or 1 if group else 0


class _Writer:
    """Appends blocks to the files of the text, and commits."""

    def __init__(self, work: Work, state: dict[str, Any]):
        self.work, self.state = work, dict(state)
        new, scratch, documents = work.new, work.scratch, state["documents"]
        self.text = open_whole(new / TEXT, bool(state["compressed"]))
        self.text.truncate(state["compressed"])
        self.text.seek(state["compressed"])
        self.blocks = Growing(new / "blocks.npy", "<i8", 2, state["blocks"] + 1 if state["blocks"] else 0)
        self.digests = Growing(scratch / "digests.npy", "<u8", 4, documents)
        self.hashes = Growing(scratch / "hashes.npy", "<u8", None, state["shingles"])
        self.of = Growing(scratch / "documents.npy", "<u4", None, state["shingles"])
        self.named = Growing(scratch / "named.npy", "<u8", None, documents)
        if not state["blocks"]:
            self.blocks.add(np.zeros((1, 2)))

    def add(self, block: list[Document], found: dict[str, Any], given: dict[str, Any], made: "Future[_Made]", *,
            tell: Tell) -> None:  # fmt: skip
        state, (frame, hashes, document) = self.state, made.result()
        write_whole(self.text, frame)
        keep = hashes % np.uint64(state["keep"]) == 0
        hashes, document = hashes[keep], document[keep]
        self.hashes.add(hashes)
        self.of.add(document + state["documents"])
        self._thin(hashes)
        self.digests.add(found["digests"])
        named = np.array([_key(document.group) for document in block], np.uint64)
        self.named.add(named)
        state |= given
        for name, more in (("documents", len(block)), ("characters", found["characters"]), ("bytes", found["bytes"]),
                           ("compressed", len(frame)), ("blocks", 1), ("shingles", len(hashes)),
                           ("named", int(np.count_nonzero(named)))):  # fmt: skip
            state[name] += more
        self.blocks.add(np.array([[state["documents"], state["compressed"]]]))
        tell(At("reading", state["documents"], state["bytes"], None))
        if self.work.due():
            self._commit()

    def _thin(self, hashes: np.ndarray) -> None:
        """When more shingles are noted than may be, every second one counts no more."""
        low = np.bitwise_count((hashes & (~hashes + np.uint64(1))) - np.uint64(1))  # zeros at the end of each
        self.state["zeros"] = (np.array(self.state["zeros"]) + np.bincount(low, minlength=65)).tolist()
        while sum(self.state["zeros"][self.state["keep"].bit_length() - 1 :]) > _SHINGLES:
            self.state["keep"] *= 2

    def _commit(self) -> None:
        handles = [file.handle for file in (self.blocks, self.digests, self.hashes, self.of, self.named)]
        self.work.commit_soon([self.text.fileno(), *handles], text=dict(self.state))

    def close(self, given: dict[str, Any]) -> None:
        self.work.settle()
        self.state |= {**given, "done": True}
        if not self.state["documents"]:
            raise BadInput("no document has any text in it; name files with text")
        os.fsync(self.text.fileno())
        self.text.close()
        for file in (self.blocks, self.digests, self.hashes, self.of, self.named):
            file.close()
        self.work.commit(text=self.state)


def groups(work: Work) -> dict[str, Any]:
    """Find what must stay together: documents with a stretch of text in common, and those of one named group.

    Written into the scratch folder: roots.npy (documents,) the first document of each one's group, and sizes.npy
    (documents,) how many have it for their first. Returned are counts.
    """
    total = work.state["text"]["documents"]
    roots = reserved(work.scratch / "roots.npy", "<u4", (total,))
    sizes = reserved(work.scratch / "sizes.npy", "<u4", (total,))
    for at in range(0, total, _SLAB):
        roots[at : at + _SLAB] = np.arange(at, min(at + _SLAB, total))
    found: dict[str, Any] = {}
    if work.state["text"]["named"]:
        found = _join_named(np.load(work.scratch / "named.npy", mmap_mode="r"), roots)
    pairs = _alike(work)
    near = np.unique(pairs[:, 0], return_counts=True)[1]
    if len(pairs):
        ids, first = joined(roots[pairs].astype(np.int64))
        for at in range(0, total, _SLAB):
            some = roots[at : at + _SLAB]
            place = np.minimum(np.searchsorted(ids, some), len(ids) - 1)
            some[:] = np.where(ids[place] == some, first[place], some)
    largest = 0
    for at in range(0, total, _SLAB):
        np.add.at(sizes, roots[at : at + _SLAB], 1)
    for at in range(0, total, _SLAB):
        largest = max(largest, int(sizes[at : at + _SLAB].max()))
    return {**found, "near": len(near), "largest_near": int(near.max(initial=1)), "largest": largest}


def _join_named(named: np.ndarray, roots: np.ndarray) -> dict[str, Any]:
    """Set the root of each document of a named group to the first of its group.

    Names are sorted some millions at a time, as shingles are.
    """
    parts = 1 << max(0, len(named) // _AT_ONCE).bit_length()
    count, largest, example = 0, 0, 0
    for part in range(parts):
        keys, numbers = [], []
        for at in range(0, len(named), _SLAB):
            some = named[at : at + _SLAB]
            wanted = np.flatnonzero((some != 0) & (_first_bits(some, parts) == part))
            keys.append(some[wanted])
            numbers.append(wanted + at)
        key, number = np.concatenate(keys), np.concatenate(numbers)
        _, first, which, each = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        roots[number] = number[first][which]
        count += len(first)
        if len(each) and each.max() > largest:
            largest, example = int(each.max()), int(number[first[each.argmax()]])
    return {"named": count, "largest_named": largest, "example": example}


def _alike(work: Work) -> np.ndarray:
    """(n, 2): for each document that shares a stretch of text with others, the first of them, and it.

    Shingles are sorted some millions at a time: those with the same first bits, one after the other.
    """
    hashes = np.load(work.scratch / "hashes.npy", mmap_mode="r")
    document = np.load(work.scratch / "documents.npy", mmap_mode="r")
    keep, total = work.state["text"]["keep"], len(hashes)
    parts = 1 << max(0, total // _AT_ONCE).bit_length()
    pairs = np.zeros((0, 2), np.int64)
    for part in range(parts):
        some = []
        for at in range(0, total, 1 << 20):
            h = hashes[at : at + (1 << 20)]
            wanted = (h % np.uint64(keep) == 0) & (_first_bits(h, parts) == part)
            some.append((h[wanted], document[at : at + (1 << 20)][wanted].astype(np.int64)))
        if some:
            found = sharing(np.concatenate([h for h, _ in some]), np.concatenate([d for _, d in some]))
            ids, roots = joined(np.concatenate([pairs, found]))
            pairs = np.stack([roots, ids], 1)
    return pairs


def _first_bits(hashes: np.ndarray, parts: int) -> np.ndarray:
    return (hashes >> np.uint64(65 - parts.bit_length())) if parts > 1 else np.zeros(len(hashes), np.uint64)
