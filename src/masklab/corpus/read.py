"""Reads a person's text, whatever its shape, into one stream of documents, and counts all that was odd on the way.

Files, folders, patterns such as "news/*.gz", standard input and data sets of the Hugging Face hub; formats.py knows the
shapes, open_file.py compression and encodings. Every file is recognised before the first document is read, so that a
wrong name or format is said at once and not after hours. Nothing is left out without being counted.
"""

import glob
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from masklab.corpus import hub_data
from masklab.corpus.document import Document, without_surrogates
from masklab.corpus.formats import FORMATS, READERS, RECORDS, SHOWN, Fields, Format, Raw, recognised
from masklab.corpus.open_file import (
    CONTROL,
    LONGEST,
    NotText,
    OpenFile,
    guesses,
    must_be_encoding,
    must_be_file,
    must_be_text,
)
from masklab.errors import BadInput

__all__ = [
    "Detected",
    "Document",
    "FileRead",
    "Format",
    "Reading",
    "counted",
    "detect",
    "documents",
    "without_surrogates",
]

Say = Callable[[str], None]
Errors = Literal["refuse", "replace", "skip"]
_SHOW = 3  # files of each format of which examples are said
_HUB = "a data set of the hub"
_FILE = "@file"
_BYTES = re.compile("[\udc80-\udcff]")
_document: Callable[[tuple[Any, ...]], Document] = partial(tuple.__new__, Document)  # in a third of the time


class Detected(NamedTuple):
    format: Format
    message: str  # one line for a person: what was found, why, and how to say otherwise


@dataclass
class FileRead:
    """One input: what it was taken for, and what came of it."""

    name: str
    path: Path
    format: str = "auto"
    size: int = 0  # bytes on disk
    documents: int = 0
    bytes: int = 0  # of their text, in UTF-8
    left_out: str = ""  # why it was not read; "" = it was


def documents(
    paths: str | Path | Iterable[str | Path],
    format: Format = "auto",
    text_field: str = "text",
    say: Say | None = None,
    *,
    encoding: str = "auto",
    encoding_errors: Errors = "refuse",
    group: str = "",
) -> "Reading":
    """The documents of files, folders, patterns, "-" (standard input) and "hub:OWNER/NAME", in that order.

    format: of all the files; "auto" recognises each by itself. text_field: the field, column or (a table without
    header) column number that holds the text. encoding: Python's name of it; "auto" is UTF-8, or what a byte-order mark
    says. encoding_errors: documents with bytes that the encoding does not explain are refused, left out ("skip") or
    read with U+FFFD in their place. group: the field or column that says which documents belong together, or "@file":
    those of a file do. `say` is told, a line a file, what it was taken for, with three examples.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    if not listed:
        raise BadInput("no text file was given; name at least one")
    if format not in FORMATS:
        raise BadInput(f"there is no text format {format!r}; choose one of: {', '.join(FORMATS)}")
    if encoding_errors not in ("refuse", "replace", "skip"):
        raise BadInput(f"encoding_errors={encoding_errors!r}: choose one of: refuse, replace, skip")
    must_be_encoding(encoding)
    return Reading(listed, format, Fields(text_field, group), encoding, encoding_errors, say)


def detect(path: str | Path, text_field: str = "text") -> Detected:
    """Tell a file's shape from its name and its first 256 KB."""
    said: list[str] = []
    reading = documents(path, text_field=text_field, say=said.append)
    return Detected(reading.files[0].format, said[0])  # type: ignore[arg-type]


class Reading:
    """Documents to iterate over, as often as wanted; each pass counts afresh.

    files: every input with its format, documents and bytes. counts: of this pass, so far:
      documents, bytes (of text, in UTF-8), empty (left out),
      undecodable (documents with bytes that are not of the encoding; replaced or left out), undecodable_bytes,
      half_characters (documents in which JSON spelt half a character, now U+FFFD), damaged (U+FFFD found in the text),
      nul and control (characters; kept), parted (cuts in documents longer than 16 MB), unclosed (<doc> without </doc>).
    """

    def __init__(self, paths: list[str | Path], format: Format, fields: Fields, encoding: str, errors: Errors,
                 say: Say | None):  # fmt: skip
        self.field, self.group = fields
        self.encoding, self.errors = encoding, errors
        self._fields = fields._replace(group="") if self.group == _FILE else fields
        self.counts: Counter[str] = Counter()
        self._say = say or (lambda message: None)
        self._spools: list[Any] = []  # temporary files, which vanish with this object
        self._open: OpenFile | None = None
        self._done = 0
        self._named: set[int] = set()
        files: dict[str, FileRead] = {}
        for file, named in (one for path in paths for one in self._expanded(path)):
            kept = files.setdefault(os.path.realpath(file.path), file)  # once, however often it is named or linked
            if named:
                self._named.add(id(kept))
        self.files = list(files.values())
        said = Counter[str]()
        for file in self.read:
            self._recognise(file, format, said)
        self.counts = Counter()

    @property
    def read(self) -> list[FileRead]:
        """The inputs that are read, those left out not among them."""
        return [file for file in self.files if not file.left_out]

    @property
    def progress(self) -> tuple[int, int]:
        """(bytes on disk that were read, bytes there are), for a time still to go; data sets of the hub count none."""
        return self._done + (self._open.position if self._open else 0), sum(file.size for file in self.read)

    @property
    def sentences(self) -> Literal["line", "rules"]:
        """How sentences are best found: by lines where every file has one a line, else by rules."""
        return "line" if {file.format for file in self.read} == {"sentence-line"} else "rules"

    def __iter__(self) -> Iterator[Document]:
        self.counts.clear()
        self._done = 0
        for file in self.files:
            file.documents = file.bytes = 0
        for file in self.read:
            yield from self._of_file(file)
            if not file.documents and id(file) in self._named:
                raise self._without_text(file)
            self._done += file.size
        if not self.counts["documents"]:
            raise BadInput(f"there is no text in the {len(self.files):,} files that were found; {self._reasons()}")

    def summary(self) -> list[str]:
        """What was read and what was odd, in lines for a person."""
        counts, found = self.counts, []
        for format in dict.fromkeys(file.format for file in self.read):
            files = [file for file in self.read if file.format == format]
            texts, size = sum(file.documents for file in files), sum(file.bytes for file in files)
            what = SHOWN.get(format, _HUB)
            found.append(f"{counted(len(files), 'file')}: {what}; {counted(texts, 'document')}, {size:,} bytes of text")
        left = [file for file in self.files if file.left_out]
        if left:
            found.append(f"{counted(len(left), 'file')} left out: {self._reasons()}")
        if counts["empty"]:
            found.append(f"{counted(counts['empty'], 'empty document')} left out")
        if counts["undecodable"]:
            done = "left out" if self.errors == "skip" else f"{counted(counts['undecodable_bytes'], 'byte')} now U+FFFD"
            found.append(f"{counted(counts['undecodable'], 'document')} with bytes of another encoding: {done}")
        if counts["half_characters"]:
            found.append(f"{counted(counts['half_characters'], 'document')} with half a character, now U+FFFD")
        if counts["damaged"]:
            found.append(f"{counts['damaged']:,} U+FFFD in the text: it was damaged before it came here")
        if counts["nul"] or counts["control"]:
            found.append(f"{counts['nul']:,} NUL and {counts['control']:,} other control characters, kept")
        if counts["parted"]:
            found.append(f"{counted(counts['parted'], 'cut')} in documents longer than {LONGEST >> 20} MB")
        if counts["unclosed"]:
            found.append(f"{counted(counts['unclosed'], 'article')} without </doc>: was the file cut short?")
        return found

    # --- which files ---

    def _expanded(self, given: str | Path) -> Iterator[tuple[FileRead, bool]]:
        """The inputs that a name stands for, and whether it names each itself."""
        if str(given) == "-":
            if sys.stdin.isatty():
                self._say("reading what is typed here; Ctrl-D ends")
            yield self._spooled(sys.stdin.buffer, "standard input"), True
            return
        if str(given).startswith("hub:"):
            yield FileRead(str(given), Path(str(given)), "hub"), True
            return
        path = Path(given).expanduser()
        if path.is_dir():
            yield from ((_file(found), False) for found in _walk(path))
        elif path.is_fifo() or path.is_char_device():  # such as <(zcat file.gz)
            with path.open("rb") as source:
                yield self._spooled(source, str(path)), True
        elif path.exists() or not glob.has_magic(str(path)):
            must_be_file(path)
            yield _file(path), True
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            if not matches:
                raise BadInput(f"{given} matches no file; check the name")
            for match in map(Path, matches):
                if match.is_file():
                    yield _file(match), False

    def _spooled(self, source: IO[bytes], name: str) -> FileRead:
        """A stream kept in a temporary file, as it is looked at before it is read; gone with this object."""
        spool = tempfile.NamedTemporaryFile(prefix="masklab-")  # noqa: SIM115
        shutil.copyfileobj(source, spool, 1 << 20)
        spool.flush()
        self._spools.append(spool)
        return FileRead(name, Path(spool.name), size=os.path.getsize(spool.name))

    # --- what they are ---

    def _recognise(self, file: FileRead, format: Format, said: Counter[str]) -> None:
        """Set the file's format, or why it is left out; say it, with examples for the first few files of a format."""
        if file.format == "hub":
            why = other = ""
        else:
            try:
                found, why, other = self._looked_at(file, format)
            except NotText as error:
                if id(file) in self._named:
                    raise
                file.left_out = str(error).removeprefix(f"{file.name} ").split(";")[0]
                return
            file.format = found
            if self._fields.group and found not in RECORDS:
                raise BadInput(
                    f"{file.name}: read as {SHOWN[found]}, so there is no field {self.group!r}; say --group @file if "
                    f"the documents of a file belong together, or give JSON lines, a table or Parquet"
                )
        said[file.format] += 1
        told = f"{file.name}: {_as_what(file.format, why, other)}"
        if said[file.format] > _SHOW:
            if said[file.format] == _SHOW + 1:
                self._say(f"{told}; further files like it are only counted")
            return
        texts = [document.text for document in islice(self._of_file(file), 3)]
        if texts:
            self._say(f"{told}. It begins: {' | '.join(f'“{first_words(text)}”' for text in texts)}")
        elif id(file) in self._named:
            raise self._without_text(file)
        else:
            file.left_out = "holds no text"

    def _looked_at(self, file: FileRead, format: Format) -> tuple[Format, str, str]:
        if not file.size:
            raise NotText(f"{file.name} is empty; name a file with text in it")
        with OpenFile(file.path, self.encoding, file.name) as opened:
            if format == "auto":
                return recognised(opened)
            if format != "parquet":
                must_be_text(file.name, opened.stream.peek(1), opened.encoding)
            return format, "", ""

    # --- their documents ---

    def _of_file(self, file: FileRead) -> Iterator[Document]:
        if file.format == "hub":
            yield from self._counted(file, hub_data.rows(file.name, self._fields))
            return
        with OpenFile(file.path, self.encoding, file.name) as opened:
            self._open = opened
            try:
                yield from self._counted(file, READERS[file.format](opened, self._fields, self.counts))
            finally:
                self._open = None

    def _counted(self, file: FileRead, raws: Iterable[Raw]) -> Iterator[Document]:
        counts, name = self.counts, file.name
        same = name if self.group == _FILE else ""
        number = size = 0
        try:
            for line, data, entities, group in raws:
                if isinstance(data, str):
                    text = data
                    try:
                        data = text.encode()
                    except UnicodeEncodeError:
                        counts["half_characters"] += 1
                        counts["damaged"] += text.count("\ufffd")  # which counts those that were there before
                        text = without_surrogates(text)
                        counts["damaged"] -= text.count("\ufffd")
                        data = text.encode()
                else:
                    try:
                        text = data.decode()
                    except UnicodeDecodeError as error:
                        text = self._undecodable(file, line, data, error)
                        if text is None:
                            continue
                        data = text.encode()
                if not text or text.isspace():
                    counts["empty"] += 1
                    continue
                odd = len(data) - len(data.translate(None, CONTROL))
                if odd:
                    nul = data.count(0)
                    counts["nul"] += nul
                    counts["control"] += odd - nul
                if "\ufffd" in text:
                    counts["damaged"] += text.count("\ufffd")
                number += 1
                size += len(data)
                yield _document((text, name, line, entities, same or group))
        finally:
            counts["documents"] += number
            counts["bytes"] += size
            file.documents += number
            file.bytes += size

    def _undecodable(self, file: FileRead, line: int, data: bytes, error: UnicodeDecodeError) -> str | None:
        if self.errors == "refuse":
            raise BadInput(
                f"{file.name}, {self._where(line, data, error)}; say the right --encoding, or "
                f"--encoding-errors replace (U+FFFD in its place) or skip (leaves the document out)"
            )
        self.counts["undecodable"] += 1
        if self.errors == "skip":
            return None
        text, bad = _BYTES.subn("\ufffd", data.decode("utf-8", "surrogateescape"))
        self.counts["undecodable_bytes"] += bad
        self.counts["damaged"] -= bad  # which counts those that were there before
        return text

    def _where(self, line: int, data: bytes, error: UnicodeDecodeError) -> str:
        """Line and byte of the first byte that cannot be decoded, and what may help to see why."""
        encoding = self._open.encoding.upper() if self._open else "UTF-8"
        begin = data.rfind(b"\n", 0, error.start) + 1
        line += data.count(b"\n", 0, begin)
        if encoding == "UTF-8":
            where = f"line {line}, byte {error.start - begin + 1} of the text there: not UTF-8"
            if error.end == len(data) and error.reason == "unexpected end of data":
                return f"{where}, it ends within a character: was it cut short?"
            if not data[begin : error.start].isascii():
                return f"{where}, which what stands before it is: damaged, or put together from several files?"
            return where + guesses(data[begin if error.start - begin < 2000 else error.start :][:4000].split(b"\n")[0])
        text = data[begin : error.start].decode()[-30:]
        return f"line {line}, after {text!r}: not {encoding}"

    def _without_text(self, file: FileRead) -> BadInput:
        skipped = " that can be decoded" if self.counts["undecodable"] else ""
        return BadInput(f"{file.name} holds no text{skipped}: it is empty or blank; name a file with text in it")

    def _reasons(self) -> str:
        left = [f"{file.name} ({file.left_out})" for file in self.files if file.left_out]
        return ", ".join(left[:5]) + (f" and {len(left) - 5:,} more" if len(left) > 5 else "")


def first_words(text: str, most: int = 60) -> str:
    """The beginning of a text on one line. first_words("To be,\\n or not", 8) -> "To be, or…"."""
    start = " ".join(text.lstrip()[: 4 * most].split())
    return start if len(start) <= most else start[:most].rstrip() + "…"


def _file(path: Path) -> FileRead:
    if path.is_file():
        return FileRead(str(path), path, size=path.stat().st_size)
    why = "is a prepared corpus" if path.is_dir() else "is a link to nothing" if path.is_symlink() else "is no file"
    return FileRead(str(path), path, left_out=why)


def _walk(folder: Path) -> list[Path]:
    """The files of a folder and those below it, in order; names that begin with a dot are not looked at.

    Prepared corpora among them, and what is no file, are there too, to be counted.
    """
    names = set(os.listdir(folder))
    if "store.json" in names:
        raise BadInput(f"{folder} is a prepared corpus; name the text that it was made from")
    if {"dataset_info.json", "state.json"} <= names or "dataset_dict.json" in names:
        raise BadInput(f"{folder} was saved by `datasets`; read it as hub:{folder}")
    found, seen = [], set[str]()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        if "store.json" in files:
            found.append(Path(place))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in files if not name.startswith(".")]
    if not any(path.is_file() for path in found):
        raise BadInput(f"{folder} holds no files; name another folder")
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def _as_what(format: str, why: str, other: str) -> str:
    told = f"read as {SHOWN.get(format, _HUB)}"
    return told + (f", as {why} (otherwise say --format {other})" if why else "")


def counted(count: int, what: str) -> str:
    """(1, "file") -> "1 file", (2000, "file") -> "2,000 files"."""
    return f"{count:,} {what}{'s' * (count != 1)}"
