"""Turns documents into a corpus folder: keeps each text once, holds some out, trains a vocabulary, tokenises.

Everything streams. Memory is bounded, whatever the size of the corpus (docs/preparation.md has the figures); the same
input gives the same bytes, on any number of cores, and also when it was killed on the way and run again: each stage
commits how far it has come (work.py), and the corpus appears when it is finished, in place of an older one.
"""

import errno
import hashlib
import json
import platform
import resource
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from masklab import files
from masklab.corpus import sentences as sentence_rules
from masklab.corpus.arrays import reserved
from masklab.corpus.document import Document
from masklab.corpus.held_out import choose
from masklab.corpus.keep_text import Changed, groups, keep_text
from masklab.corpus.progress import At, Tell
from masklab.corpus.read import Reading, counted
from masklab.corpus.store import TEXT, VERSION, Store, describe, mapped, read_block
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.tokens import cores, write_tokens
from masklab.corpus.train_tokenizer import SAMPLE, Kind, coverage, must_be_size, train
from masklab.corpus.units import stretches
from masklab.corpus.work import Work
from masklab.errors import BadInput

_BLOCKS = 1024  # that a sample for a vocabulary is drawn from, spread over the corpus
_GROWS = {".gz": 3.2, ".xz": 4.2, ".bz2": 4.0, ".zst": 3.3, ".parquet": 2.0}  # text, from its compressed size, about
_TEXT, _SPLIT = {"text", "read", "said"}, {"text", "read", "said", "split"}
_OUTLIVES = {"the tokenizer": _SPLIT, "kind": _SPLIT, "lowercase": _SPLIT, "held_out": _TEXT, "seed": _TEXT}
_PIECE = 100_000  # characters of a text that are taken into a sample together
_OTHERS = 20_000  # texts outside the sample, to estimate how much of the corpus it covers
_DISK = 1.5  # bytes written for each byte of text, at most: compressed text 0.4, tokens 0.75, shingles and digests 0.35


def prepare(
    documents: Iterable[Document | str],
    folder: str | Path,
    tokenizer: Tokenizer | str | Path | int = 8192,
    *,
    kind: Kind = "wordpiece",
    lowercase: bool | None = None,
    held_out: float = 0.01,
    seed: int = 0,
    keep_duplicates: bool = False,
    sentences: sentence_rules.Mode | None = None,
    workers: int = 0,
    progress: Tell | None = None,
    say: Any = None,
) -> Store:
    """Write a corpus folder, in place of an older one of that name, which stays whole until then.

    tokenizer: one that exists (or its path), or how large a vocabulary to train on the training part; then `kind` and
    `lowercase` say how. held_out: the share of documents kept from training, near-duplicates of them included. Exact
    duplicates are dropped unless `keep_duplicates`. sentences: by "rules", "line" or "none" (default: "line" if the
    documents were read from files with a sentence a line). workers: processes; 0: one for each core. `progress` is
    told moments (progress.py), `say` lines for a person.

    A preparation that was stopped, in whatever way, goes on when it is called again with the same documents and
    options; with others it starts anew, and says so.
    """
    path = Path(folder)
    if not 0 <= held_out < 1:
        raise BadInput(f"held_out={held_out} is no share of the documents; give a number such as 0.01")
    if path.exists() and not (path / "store.json").exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path} exists and is no prepared corpus; name another folder, or remove it first")
    if isinstance(tokenizer, str | Path):
        tokenizer = Tokenizer.open(tokenizer)
    if isinstance(tokenizer, int):
        must_be_size(tokenizer, kind)
    mode = sentences or (documents.sentences if isinstance(documents, Reading) else "rules")
    workers = workers or cores()
    say = say or (lambda message: None)
    tell = _with_share(progress or (lambda at: None), documents)
    inputs = fingerprint(documents)
    asked = {
        "masklab's format": _versions(),
        "the input files": inputs,
        "the tokenizer": tokenizer if isinstance(tokenizer, int) else tokenizer.hash,
        "kind": kind,
        "lowercase": lowercase,
        "held_out": held_out,
        "seed": seed,
        "keep_duplicates": keep_duplicates,
        "sentences": mode,
        "group": getattr(documents, "group", ""),
    }
    with Work(path, asked, say, _OUTLIVES) as work, _room(path):
        if not work.resumed:
            _expect(path, documents, say)
        _text(work, documents, keep_duplicates, workers, inputs, tell, say)
        _split(work, held_out, seed, asked["group"], tell)
        about = _about(work, held_out, seed, mode)
        name = _vocabulary(work, work.new, work.new, tokenizer, kind, lowercase, about, tell)
        _expect_tokens(path, about)
        write_tokens(work, work.new, work.new / name, about, work.state["learned"], workers, tell)
        tell(At("checksums", about["documents"], about["bytes"], None))
        named = [work.new / file for file in (TEXT, "blocks.npy", "held_out.npy")]
        describe(work.new / "store.json", {**about, "tokens": name, **_examples(work, about)}, named)
        _note_cost(work, work.new, workers)
        work.finish()
    return Store(path)


def add_vocabulary(
    store: Store,
    tokenizer: Tokenizer | str | Path | int,
    *,
    kind: Kind = "wordpiece",
    lowercase: bool | None = None,
    workers: int = 0,
    progress: Tell | None = None,
    say: Any = None,
) -> Store:
    """Give a prepared corpus another vocabulary: one more tokens folder; the text stays as it is.

    tokenizer, kind, lowercase, workers, progress, say: as for `prepare`. The corpus, opened with that vocabulary, comes
    back; if it had it already, nothing is written.
    """
    tell, workers = progress or (lambda at: None), workers or cores()
    about = store.text_description
    if isinstance(tokenizer, str | Path):
        tokenizer = Tokenizer.open(tokenizer)
    blocks, learned = np.load(store.path / "blocks.npy"), None
    if isinstance(tokenizer, int):
        must_be_size(tokenizer, kind)
        tell(At("vocabulary", 0, 0, None))
        tokenizer, learned = _trained(store.path, blocks, store.held_out, tokenizer, kind, lowercase, about)
    path = store.path / f"tokens-{tokenizer.hash[:12]}"
    if path not in store.vocabularies:
        asked = {"masklab's format": _versions(), "the corpus": about["corpus"], "the tokenizer": tokenizer.hash}
        with Work(path, asked, say) as work, _room(path):
            tokenizer.save(work.new)
            _expect_tokens(path, about)
            write_tokens(work, store.path, work.new, about, learned, workers, tell)
            _note_cost(work, work.new, workers)
            work.finish()
    return Store(path)


# --- the stages ------------------------------------------------------------------------------------------------------


def _text(work: Work, documents: Iterable[Document | str], keep_duplicates: bool, workers: int, inputs: Any, tell: Tell,
          say: Any) -> None:  # fmt: skip
    done = work.state.get("text", {}).get("done")
    if done and inputs:
        return  # the files have not changed since
    try:
        keep_text(work, documents, keep_duplicates, workers, tell, same=bool(inputs))
    except Changed:
        work.restart()
        if iter(documents) is documents:  # type: ignore[comparison-overlap]
            raise BadInput(
                "these are not the documents of the preparation that was stopped, whose work is now removed: run again"
            ) from None
        say("starting anew: the documents changed since the preparation that was stopped")
        keep_text(work, documents, keep_duplicates, workers, tell)
    reading = isinstance(documents, Reading)
    work.commit(read=dict(documents.counts) if reading else {}, said=documents.summary() if reading else [])


def _split(work: Work, share: float, seed: int, by: str, tell: Tell) -> None:
    if "split" in work.state:
        return
    text = work.state["text"]
    if by and not text["named"]:
        raise BadInput(f"no document has anything in {by!r}, which --group names; name another field, or leave it out")
    total = text["documents"]
    tell(At("holding out", total, text["bytes"], None))
    found = groups(work)
    roots, sizes, named = (mapped(work.scratch / f"{name}.npy") for name in ("roots", "sizes", "named"))
    digests = np.memmap(work.scratch / "digests.npy", np.uint8, "r", 128, (total, 32)).view(np.ndarray)
    held = reserved(work.new / "held_out.npy", bool, (total,))
    chosen = choose(digests, roots, sizes, share, seed)
    held[chosen] = True
    held.flush()
    files.sync(work.new / "held_out.npy")
    split: dict[str, Any] = {"near_duplicate_groups": found["near"], "largest_group": found["largest_near"]}
    if text["named"]:
        split["groups"] = {
            "by": by or "group",
            "count": found["named"],
            "held_out": len(np.setdiff1d(named[chosen], [0])),
            "without": total - text["named"],  # documents
            "largest": _document(work.new, found["example"]).group,
            "documents_of_largest": found["largest_named"],
            "largest_with_near_duplicates": found["largest"],  # documents, of one group or of several that share copies
        }
    work.commit(split=split)


def _about(work: Work, share: float, seed: int, mode: str) -> dict[str, Any]:
    """What store.json says of the text."""
    text, digests = work.state["text"], hashlib.sha256()
    with open(work.scratch / "digests.npy", "rb") as file:
        file.seek(128)
        while some := file.read(1 << 20):
            digests.update(some)
    read = work.state["read"]
    return {
        "documents": text["documents"],
        "characters": text["characters"],
        "bytes": text["bytes"],  # of text, in UTF-8
        "given": text["given"],  # documents, before any was left out
        "empty": text["empty"] + read.get("empty", 0),
        "duplicates": text["duplicates"],
        **work.state["split"],
        "read": read,  # what was odd in the files, by read.py's names
        "read_as": work.state["said"],  # the same for a person, and what the files were taken for
        "corpus": digests.hexdigest(),  # SHA-256 over the SHA-256 of each kept text, in order
        "held_out": share,
        "seed": seed,
        "sentences_by": mode,
    }


def _vocabulary(work: Work, corpus: Path, new: Path, tokenizer: Tokenizer | int, kind: Kind, lowercase: bool | None,
                about: dict[str, Any], tell: Tell) -> str:  # fmt: skip
    """The name of the tokens folder, with a tokenizer saved in it."""
    if "vocabulary" not in work.state:
        for old in new.glob("tokens-*"):  # of a vocabulary that is not wanted any more
            shutil.rmtree(old)
        learned = None
        if isinstance(tokenizer, int):
            tell(At("vocabulary", 0, 0, None))
            blocks, held = np.load(corpus / "blocks.npy"), mapped(corpus / "held_out.npy")
            tokenizer, learned = _trained(corpus, blocks, held, tokenizer, kind, lowercase, about)
        name = f"tokens-{tokenizer.hash[:12]}"
        tokenizer.save(new / name)
        work.commit(vocabulary=name, learned=learned)
    return work.state["vocabulary"]


def _trained(corpus: Path, blocks: np.ndarray, held: np.ndarray, size: int, kind: Kind, lowercase: bool | None,
             about: dict[str, Any]) -> tuple[Tokenizer, dict[str, Any]]:  # fmt: skip
    """A vocabulary learned from training documents, and from how much of the text."""
    count = len(blocks) - 1
    wanted = np.unique(np.linspace(0, count - 1, min(_BLOCKS, count)).round().astype(np.int64))
    share = min(1.0, SAMPLE / (about["characters"] * len(wanted) / count))
    sample = list(_sample(corpus, blocks, wanted, held, share))
    learned: dict[str, Any] = {"kind": kind, "characters": sum(map(len, sample))}
    if share < 1:
        others = islice(_sample(corpus, blocks, wanted[:: max(1, len(wanted) // 32)], held, share, False), _OTHERS)
        learned["coverage"] = coverage(sample, others)._asdict()
    return train(sample, size, kind, lowercase), learned


def _sample(corpus: Path, blocks: np.ndarray, wanted: np.ndarray, held: np.ndarray, share: float,
            inside: bool = True) -> Iterator[str]:  # fmt: skip
    """Texts, or stretches of long ones, spread evenly over the wanted blocks, a share of them (or the others);
    held-out ones never."""
    at = 0
    for block in wanted.tolist():
        for number, document in enumerate(read_block(corpus, blocks, block), int(blocks[block, 0])):
            for text in stretches(document.text, _PIECE):
                if not held[number] and (int((at + 1) * share) > int(at * share)) == inside:
                    yield text
                at += 1


# --- around them -----------------------------------------------------------------------------------------------------


def fingerprint(documents: Any) -> list[Any] | None:
    """What tells without reading them whether files are still the same; None: only reading them again can tell."""
    if not isinstance(documents, Reading) or any(not file.path.is_file() for file in documents.read):
        return None
    if any(file.name != str(file.path) for file in documents.read):  # standard input, in a file that will be gone
        return None
    times = [[file.name, file.size, file.path.stat().st_mtime_ns, file.format] for file in documents.read]
    return [documents.field, documents.encoding, documents.errors, times]


def _versions() -> list[Any]:
    """On what the bytes of a corpus depend, beside its text and options."""
    import tokenizers
    import zstandard

    return [VERSION, tokenizers.__version__, zstandard.ZSTD_VERSION, np.__version__, platform.python_version()]


def _with_share(tell: Tell, documents: Any) -> Tell:
    """Adds how much of the files was read, where that is known."""

    def told(at: At) -> None:
        if at.share is None and at.stage.startswith("reading") and isinstance(documents, Reading):
            done, total = documents.progress
            at = at._replace(share=min(1.0, done / total) if total else None)
        tell(at)

    return told


def _expect(path: Path, documents: Any, say: Any) -> None:
    """Say what the corpus will take, and refuse what cannot fit, before hours of work."""
    if not isinstance(documents, Reading):
        return
    sizes = [file.size * _GROWS.get(file.path.suffix, 1.0) for file in documents.read]
    text = sum(sizes)
    free = _free(path)
    say(f"about {_size(text)} of text, for which {_size(_DISK * text)} of disk are needed; {_size(free)} are free")
    if _DISK * text > free:
        raise BadInput(
            f"{path} needs about {_size(_DISK * text)} for {_size(text)} of text, and {_size(free)} are free there; "
            f"name a folder on a larger disk"
        )


def _expect_tokens(path: Path, about: dict[str, Any]) -> None:
    need, free = about["bytes"] * 3 / 5, _free(path)  # 3 bytes a token, and at most one for 5 bytes of text
    if need > free:
        raise BadInput(
            f"{path} needs another {_size(need)} for its tokens, and {_size(free)} are free there; make room and run "
            f"the same again to go on"
        )


def _free(path: Path) -> int:
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return shutil.disk_usage(there).free


@contextmanager
def _room(path: Path) -> Iterator[None]:
    """A full disk, or one that fails, is bad input with a cure."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno == errno.ENOENT:  # a text that is not there any more
            raise
        files.named(error, path)
        raise BadInput(f"{files.explained(error)}; then run the same again, which goes on where it stopped") from None


def _size(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:,.0f} {units[0]}" if units[0] == "bytes" else f"{count:,.1f} {units[0]}"


def _examples(work: Work, about: dict[str, Any]) -> dict[str, Any]:
    """Ten sentences and three documents, for a person to see whether the text is what it should be."""
    blocks = np.load(work.new / "blocks.npy")
    total, count = about["documents"], len(blocks) - 1
    shown = []
    for number in sorted({total * i // 4 for i in (1, 2, 3)}):
        document = _document(work.new, number)
        text = document.text
        shown.append({"source": document.source, "line": document.line, "characters": len(text), "begins": text[:300]})
    spread = sorted({count * i // 10 for i in range(10)})
    texts = (document.text for block in spread for document in islice(read_block(work.new, blocks, block), 20))
    return {"examples": {"documents": shown, "sentences": sentence_rules.examples(texts, about["sentences_by"])}}


def _document(folder: Path, number: int) -> Document:
    blocks = np.load(folder / "blocks.npy")
    block = int(np.searchsorted(blocks[:, 0], number, side="right")) - 1
    return next(islice(read_block(folder, blocks, block), number - int(blocks[block, 0]), None))


def _note_cost(work: Work, folder: Path, workers: int) -> None:
    """Time and memory, which differ from run to run: beside the corpus, not in what describes it."""
    unit = 1 if sys.platform == "darwin" else 1024
    ours, theirs = (
        resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cost = {
        "seconds": round(work.elapsed, 1),
        "stopped_and_resumed": work.resumed,
        "workers": workers,
        "peak_memory": ours + workers * theirs,  # bytes, at most: of this process and the largest worker, times workers
        "versions": dict(zip(("format", "tokenizers", "zstd", "numpy", "python"), _versions(), strict=True)),
    }
    with files.atomic_write(folder / "preparation.json", "w") as file:
        json.dump(cost, file, indent=1)


def summary(store: Store) -> list[str]:
    """What was prepared, in lines for a person."""
    d, parts = store.description, store.description["parts"]
    own = store.folder / "preparation.json"  # of a vocabulary that was added later
    cost = json.loads((own if own.exists() else store.path / own.name).read_text("utf-8"))
    tokens = sum(part["tokens"] for part in parts.values())
    words = sum(part["words"] for part in parts.values())
    found = sum(part["sentences"] for part in parts.values())
    lines = [
        f"{counted(d['documents'], 'document')}, {_size(d['bytes'])} of text; left out: "
        f"{counted(d['duplicates'], 'duplicate')}, {d['empty']:,} empty",
        f"{counted(words, 'word')}, {counted(found, 'sentence')}, {tokens:,} tokens of {d['vocabulary']:,} kinds: "
        f"{d['bytes_per_token']:.2f} bytes a token, {d['unknown']:.3%} [UNK]",
    ]
    if coverage := (d.get("learned") or {}).get("coverage"):
        lines.append(
            f"the vocabulary was learned from {d['learned']['characters'] / 1e6:.0f} M characters, which have "
            f"{coverage['characters']:.2%} of the corpus' characters and {coverage['words']:.1%} of its words"
        )
    kept, near = parts["held_out"], d["near_duplicate_groups"]
    lines.append(
        f"held out: {counted(kept['documents'], 'document')}, {counted(kept['tokens'], 'token')}; "
        f"{counted(near, 'group')} of near-duplicates, the largest of {d['largest_group']:,}, each on one side"
    )
    if groups := d.get("groups"):
        without = f"; {counted(groups['without'], 'document')} of none" if groups["without"] else ""
        lines.append(
            f"{counted(groups['count'], 'group')} by {groups['by']}, the largest, {_named(groups)}, of "
            f"{groups['documents_of_largest']:,}; {groups['held_out']:,} of them held out, each on one side{without}"
        )
    lines += split_warnings(d)
    lines.append(f"corpus {d['corpus'][:16]}, {cost['seconds']:,.0f} s, {_size(cost['peak_memory'])} of memory at most")
    return lines


def split_warnings(d: dict[str, Any]) -> list[str]:
    """What is wrong with the held-out part of a described corpus, and what to do about it."""
    total, groups, kept = d["documents"], d.get("groups"), d["parts"]["held_out"]["documents"]
    together = groups["largest_with_near_duplicates"] if groups else d["largest_group"]
    if not d["held_out"] or total < 2:
        return []
    if groups and groups["documents_of_largest"] > total / 2:
        return [
            f"{groups['documents_of_largest'] / total:.0%} of the documents have one {groups['by']}, {_named(groups)}: "
            f"{'what is held out is unlike them' if kept else 'nothing can be held out'}; name a field that divides "
            f"finer (--group), or none"
        ]
    if together > total / 2:
        return [
            f"{together / total:.0%} of the documents hang together by passages that they share: "
            f"{'what is held out is unlike them' if kept else 'nothing can be held out'}; drop near-duplicates first: "
            f"masklab clean TEXT --out clean.jsonl.zst"
        ]
    if groups and abs(kept - d["held_out"] * total) > max(1, d["held_out"] * total / 2):
        return [
            f"{kept / total:.1%} of the documents are held out, not {d['held_out']:.1%}, as groups by {groups['by']} "
            f"are large; say another --held-out, or name a field that divides finer (--group)"
        ]
    return []


def _named(groups: dict[str, Any]) -> str:
    name = groups["largest"]
    return f"“{name[:60]}{'…' if len(name) > 60 else ''}”"
