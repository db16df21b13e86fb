"""Reads a person's text files, whatever their shape, into one stream of documents.

Three shapes: documents with a blank line between them, one document a line, or JSON lines with a text field; each
plain or compressed (.gz, .xz). Lines are read one at a time: memory holds one document, however large the file.
"""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

from masklab.errors import BadInput

Format = Literal["auto", "blank-line", "line", "jsonl"]
_SHOWN = {
    "blank-line": "documents with a blank line between them",
    "line": "one document a line",
    "jsonl": "JSON lines",
}
_PEEK = 2000  # lines that `detect` looks at


class Document(NamedTuple):
    text: str
    source: str = ""  # the file, or for the built-in corpus "package/module:name"
    line: int = 0  # where the document begins in that file, from 1; 0 = not from a file


class Detected(NamedTuple):
    format: Format
    message: str  # one line for a person: what was found, why, and how to say otherwise


def documents(
    paths: str | Path | Iterable[str | Path],
    format: Format = "auto",
    text_field: str = "text",
    say: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """The documents of the files in order; `say` is told what was detected for each file."""
    listed = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not listed:
        raise BadInput("no text file was given; name at least one")
    if format not in ("auto", *_SHOWN):
        raise BadInput(f"there is no text format {format!r}; choose one of: auto, {', '.join(_SHOWN)}")
    for path in listed:
        _must_be_file(path)
    return (document for path in listed for document in _one_file(path, format, text_field, say))


def detect(path: str | Path) -> Detected:
    """Tell a file's shape from its name and its first lines."""
    path = Path(path)
    _must_be_file(path)
    name = path.name.removesuffix(".gz").removesuffix(".xz")
    lines = [line for _, line in islice(_lines(path), _PEEK)]
    first = next((line for line in lines if line.strip()), "")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        found, why = "jsonl", "its name ends so"
    elif first.lstrip().startswith("{") and _is_object(first):
        found, why = "jsonl", "its first line is a JSON object"
    elif "" in [line.strip() for line in "\n".join(lines).strip().split("\n")]:
        found, why = "blank-line", "there are blank lines"
    else:
        found, why = "line", f"there is no blank line in its first {len(lines):,} lines"
    other = "line" if found == "blank-line" else "blank-line"
    message = f"{path}: read as {_SHOWN[found]}, as {why} (otherwise say format={other})"
    return Detected(cast(Format, found), message)


def _one_file(path: Path, format: Format, field: str, say: Callable[[str], None] | None) -> Iterator[Document]:
    if format == "auto":
        format, message = detect(path)
        if say:
            say(message)
    reader = {"blank-line": _between_blank_lines, "line": _one_a_line, "jsonl": _json_lines}[format]
    empty = True
    for document in reader(path, field):
        empty = False
        yield document
    if empty:
        raise BadInput(f"{path} holds no text: it is empty or blank; name a file with text in it")


def _between_blank_lines(path: Path, field: str) -> Iterator[Document]:
    held: list[str] = []
    began = 0
    for number, line in _lines(path):
        if line.strip():
            if not held:
                began = number
            held.append(line)
        elif held:
            yield Document("\n".join(held), str(path), began)
            held = []
    if held:
        yield Document("\n".join(held), str(path), began)


def _one_a_line(path: Path, field: str) -> Iterator[Document]:
    for number, line in _lines(path):
        if line.strip():
            yield Document(line, str(path), number)


def _json_lines(path: Path, field: str) -> Iterator[Document]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise BadInput(
                f"{path}, line {number}: not valid JSON ({why}); each line must be one object such as "
                f'{{"{field}": "..."}}'
            ) from None
        if not isinstance(record, dict):
            raise BadInput(f'{path}, line {number}: not a JSON object; each line must be like {{"{field}": "..."}}')
        if field not in record:
            there = ", ".join(map(str, record)) or "none"
            raise BadInput(
                f"{path}, line {number}: no field {field!r}; the fields there are: {there}; name one of them"
            )
        if not isinstance(record[field], str):
            kind = type(record[field]).__name__
            raise BadInput(f"{path}, line {number}: field {field!r} is {kind}, not text; name another field or mend it")
        yield Document(without_surrogates(record[field]), str(path), number)


def without_surrogates(text: str) -> str:
    r"""JSON can spell half a character ("\ud83d" alone), which no file can hold: it becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines from 1, without their ends (or a byte-order mark)."""
    with _open(path) as file:
        try:
            for number, line in enumerate(file, 1):
                if number == 1:
                    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        raise BadInput(f"{path} is UTF-16; convert it: iconv -f utf-16 -t utf-8 {path} > new.txt")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    yield number, line.rstrip(b"\r\n").decode()
                except UnicodeDecodeError as error:
                    raise BadInput(
                        f"{path}, line {number}, byte {error.start + 1} of the line: not UTF-8; if it is Latin-1, "
                        f"convert it: iconv -f latin1 -t utf-8 {path} > new.txt"
                    ) from None
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
            raise BadInput(f"{path}: damaged or incomplete compressed file ({error}); fetch it again") from None


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if path.suffix == ".xz":
        return cast(IO[bytes], lzma.open(path))
    return path.open("rb")


def _must_be_file(path: Path) -> None:
    if not path.exists():
        raise BadInput(f"{path} does not exist; check the name")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name the files in it, such as {path}/*.txt")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty; name a file with text in it")


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False
