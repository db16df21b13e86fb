"""The shapes that text comes in: how each is recognised, and a reader for each that gives one document after another.

A reader yields (line, text, entities, group): where the document begins, its text as UTF-8 bytes that may still be
wrong (or as str, where the format had to decode it anyway), the entity spans that JSON or Parquet carries, and the
group it belongs to, if one is asked for. Memory holds a document at a time, or for Parquet a batch of rows; nothing
depends on the size of the file.
"""

import csv
import json
import re
import sys
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

from masklab.corpus import sentences
from masklab.corpus.document import entities, group_of
from masklab.corpus.open_file import LONGEST, RECORD, OpenFile, must_be_text
from masklab.errors import BadInput

Format = Literal[
    "auto", "blank-line", "line", "sentence-line", "file", "jsonl", "json", "csv", "tsv", "parquet", "wikiextractor"
]
FORMATS = get_args(Format)
SHOWN = {
    "blank-line": "documents with a blank line between them",
    "line": "one document a line",
    "sentence-line": "one sentence a line, with a blank line between documents",
    "file": "one document, the whole file",
    "jsonl": "JSON lines",
    "json": "a JSON array, or JSON objects one after another",
    "csv": "a table with commas (CSV)",
    "tsv": "a table with TABs (TSV)",
    "parquet": "Parquet",
    "wikiextractor": "articles that WikiExtractor wrote",
}
RECORDS = ("jsonl", "json", "csv", "tsv", "parquet")  # have fields or columns
PEEK = 1 << 18  # bytes that `recognised` looks at
_CHUNK = 1 << 20  # characters
_SPACE = re.compile(r"\s*")
_BYTES = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as surrogateescape writes them
Raw = tuple[int, bytes | str, tuple[tuple[int, int, str], ...], str]


class Fields(NamedTuple):
    """What is read of a record: the names of its fields, or the numbers of columns; group "" = it has none."""

    text: str
    group: str = ""


class Recognised(NamedTuple):
    format: Format
    why: str
    other: Format  # what it most likely is if the guess is wrong


def recognised(file: OpenFile) -> Recognised:
    """Tell a file's shape from its name and its first 256 KB, which are read from it."""
    start = file.stream.read(PEEK)
    complete = len(start) < PEEK
    name = re.sub(r"\.(gz|xz|bz2|zst)$", "", file.name.lower())
    if start.startswith(b"PAR1"):
        return Recognised("parquet", "it begins as Parquet files do", "line")
    must_be_text(file.name, start, file.encoding)
    first = next((line for line in start.splitlines() if line.strip()), b"").strip()
    if first.startswith(b'<doc id="'):
        return Recognised("wikiextractor", "its first line is <doc id=...>", "line")
    if name.endswith((".csv", ".tsv", ".tab")):
        found = "csv" if name.endswith(".csv") else "tsv"
        return Recognised(found, "its name ends so", "line")
    if name.endswith((".jsonl", ".ndjson")):
        return Recognised("jsonl", "its name ends so", "json")
    if _is_object(first):
        return Recognised("jsonl", "its first line is a JSON object", "json")
    if name.endswith(".json") or re.match(rb'\[\s*\{\s*"|\{\s*"[^"]*"\s*:', start.lstrip()):
        return Recognised("json", "its name ends so" if name.endswith(".json") else "it begins as JSON does", "jsonl")
    return _plain(start.decode("utf-8", "replace"), complete)


def _plain(start: str, complete: bool) -> Recognised:
    lines = start.strip().split("\n")
    if not complete and len(lines) > 1:
        lines.pop()  # cut short
    blank = [i for i, line in enumerate(lines) if not line.strip()]
    if blank:
        full = [line for line in lines if line.strip()][:200]
        documents = 1 + sum(b - a > 1 for a, b in pairwise([*blank, len(lines)]))
        ended = sum(sentences.starts(line + "\nX", "rules")[1:] == [len(line) + 1] and _ends(line) for line in full)
        if ended >= 0.9 * len(full) > 8 and len(lines) - len(blank) > 1.5 * documents:
            return Recognised("sentence-line", "there are blank lines, and most lines are a sentence", "blank-line")
        mean = (len(lines) - len(blank)) / documents
        why = f"there are blank lines ({mean:.1f} lines a document at first)"
        return Recognised("blank-line", why, "file" if mean > 1 else "line")
    if (
        len(lines) >= 8
        and sentences.wrapped(start) >= 0.7
        and sum(line[:1].islower() for line in lines) > len(lines) / 3
    ):
        return Recognised("file", "its lines are broken to one width and none is blank", "line")
    if len(lines) == 1 and not complete:
        return Recognised("line", "its first line is longer than 256 KB", "file")
    return Recognised("line", f"there is no blank line in its first {len(lines):,} lines", "file")


def _ends(line: str) -> bool:
    return re.search(r"[.!?。！？…؟۔।][\"'”’)\]」』）»]*\s*$", line) is not None


# --- plain text ------------------------------------------------------------------------------------------------------


def _between_blank_lines(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    yield from _gathered(file, counts, blank_parts=True)


def _whole_file(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    yield from _gathered(file, counts, blank_parts=False)


def _gathered(file: OpenFile, counts: Counter[str], blank_parts: bool) -> Iterator[Raw]:
    """Lines up to a blank one, or to the end; a document that grows too long is parted at a line end."""
    held: list[bytes] = []
    began = size = 0
    cut = False
    for number, line in file.lines(Counter()):
        if not ((blank_parts or not held) and _blank(line)):
            if not held:
                counts["parted"] += cut
                began, size, cut = number, 0, False
            held.append(line)
            size += len(line)
            if size < LONGEST:
                continue
            cut = True
        elif blank_parts:
            cut = False
        if held:
            yield began, _joined(held), (), ""
            held = []
    if held:
        yield began, _joined(held), (), ""


def _blank(line: bytes) -> bool:
    """White space alone, that of Chinese text among it."""
    return line.isspace() or (line[0] > 127 and len(line) < 64 and not line.decode("utf-8", "replace").strip())


def _joined(lines: list[bytes]) -> bytes:
    text = b"".join(lines).rstrip(b"\r\n")
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text


def _one_a_line(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    for number, line in file.lines(counts):
        if not line.isspace():
            yield number, line.rstrip(b"\r\n"), (), ""


def _wikiextractor(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    """<doc id= url= title=>, the article with its title in the first line, </doc>; &amp; &lt; &gt; are undone."""
    held: list[bytes] | None = None
    began = 0
    for number, line in file.lines():
        if line.startswith(b"<doc id="):
            if held is not None:
                counts["unclosed"] += 1
                yield began, _article(held), (), ""
            held, began = [], number
        elif line.startswith(b"</doc>"):
            if held is not None:
                yield began, _article(held), (), ""
            held = None
        elif held is not None:
            held.append(line)
        elif not line.isspace():
            raise BadInput(
                f"{file.name}, line {number}: text outside of <doc ...> and </doc>; is it not of WikiExtractor? "
                f"Then say --format blank-line or another"
            )
    if held is not None:
        counts["unclosed"] += 1
        yield began, _article(held), (), ""


def _article(lines: list[bytes]) -> bytes:
    text = _joined(lines).strip(b"\n")
    return text.replace(b"&lt;", b"<").replace(b"&gt;", b">").replace(b"&amp;", b"&") if b"&" in text else text


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json_lines(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    scan = json.JSONDecoder().raw_decode
    for number, line in file.lines():
        line = line.strip()
        if not line:
            continue
        strict = True
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text, strict = line.decode("utf-8", "surrogateescape"), False
        try:
            record, end = scan(text)
            if end < len(text):
                raise json.JSONDecodeError("something follows the object", text, end)
        except (json.JSONDecodeError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise BadInput(
                f"{file.name}, line {number}: not valid JSON ({why}); each line must be one object such as "
                f'{{"{fields.text}": "..."}} (or say --format json, if objects go over several lines)'
            ) from None
        simple = strict and not fields.group and type(record) is dict and "entities" not in record
        if simple and type(record.get(fields.text)) is str:
            yield number, record[fields.text], (), ""
        else:
            yield _of_record(record, fields, file.name, number, strict)


def _of_record(record: Any, fields: Fields, name: str, line: int, strict: bool) -> Raw:
    """A record's text, entities and group. Not `strict`: surrogates stand for bytes that are not UTF-8."""
    where, field, group = f"{name}, line {line}", fields.text, ""
    if isinstance(record, str) and not fields.group:
        text, spans = record, ()
    elif not isinstance(record, dict):
        wanted = "".join(f', "{name}": "..."' for name in fields[1:] if name)
        raise BadInput(f'{where}: not a JSON object; each must be like {{"{field}": "..."{wanted}}}')
    elif field not in record or (fields.group and fields.group not in record):
        missing, option = (field, "--field") if field not in record else (fields.group, "--group")
        there = ", ".join(map(str, list(record)[:40])) or "none"
        raise BadInput(f"{where}: no field {missing!r}; the fields there are: {there}; name one of them with {option}")
    else:
        text = record[field]
        if text is None:
            text = ""
        if not isinstance(text, str):
            kind = type(text).__name__
            raise BadInput(f"{where}: field {field!r} is {kind}, not text; name another field or mend it")
        spans = entities(record["entities"], len(text), where) if "entities" in record else ()
        if fields.group:
            group = group_of(record[fields.group], where, fields.group)
    return line, text if strict else text.encode("utf-8", "surrogateescape"), spans, group


def _json_values(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    """The elements of one array, or values with only white space between them."""
    window = _Window(file)
    array = window.character() == "["
    window.at += array
    while (sign := window.character()) and not (array and sign == "]"):
        line = window.line
        value, strict = window.value()
        yield _of_record(value, fields, file.name, line, strict)
        if array and (sign := window.character()) == ",":
            window.at += 1
        elif array and sign != "]":
            raise window.wrong("a comma or ] is missing")
    if array and not sign:
        raise window.wrong("the file ends before the array is closed")
    window.at += array
    if array and window.character():
        raise window.wrong("something follows the array")


class _Window:
    """A stretch of JSON text that slides over a file, long enough for the value that is being read."""

    def __init__(self, file: OpenFile):
        self.file, self.decoder = file, getincrementaldecoder("utf-8")("surrogateescape")
        self.scan = json.JSONDecoder().raw_decode
        self.held, self.at, self.line, self.ended = "", 0, 1, False

    def more(self, size: int = _CHUNK) -> None:
        chunk = self.file.stream.read(size)
        self.ended = not chunk
        self.held, self.at = self.held[self.at :] + self.decoder.decode(chunk, self.ended), 0

    def character(self) -> str:
        """The next one that is no white space; "" at the end."""
        while True:
            match = _SPACE.match(self.held, self.at)
            assert match
            self.line += self.held.count("\n", self.at, match.end())
            self.at = match.end()
            if self.at < len(self.held) or self.ended:
                return self.held[self.at : self.at + 1]
            self.more()

    def value(self) -> tuple[Any, bool]:
        """The next value, and whether all its bytes were UTF-8."""
        size = _CHUNK
        while True:
            try:
                value, end = self.scan(self.held, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.held) - 16
                if self.ended or not cut:
                    self.line += self.held.count("\n", self.at, error.pos)
                    raise self.wrong(error.msg) from None
            except RecursionError:
                raise self.wrong("nested too deeply") from None
            else:
                text = self.held[self.at : end]
                self.line += text.count("\n")
                self.at = end
                return value, text.isascii() or not _BYTES.search(text)
            if size > RECORD:
                raise self.wrong(f"one value of more than {RECORD >> 20} MB; make an array of objects of it")
            self.more(size)
            size *= 2  # so that a long value is not scanned again too often

    def wrong(self, why: str) -> BadInput:
        return BadInput(f"{self.file.name}, line {self.line}: not valid JSON ({why}); mend it or fetch it again")


# --- tables ----------------------------------------------------------------------------------------------------------


def _comma_separated(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    start = file.stream.peek(_CHUNK).split(b"\n")[0].decode("utf-8", "replace")
    signs = [sign for sign in ",;\t|" if fields.text in _cells(start, sign)]
    sign = signs[0] if signs else max(",;\t|", key=start.count)
    yield from _quoted(file, fields, sign)


def _cells(line: str, sign: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=sign), [])]
    except csv.Error:
        return []


def _tab_separated(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    """With quotes only if every cell that begins with one, in the first rows, also ends with one, as CSV's do."""
    start = file.stream.peek(_CHUNK).splitlines()[:-1]
    opened = [cell for line in start for cell in line.split(b"\t") if cell.startswith(b'"')]
    if opened and all(len(cell) > 1 and cell.endswith(b'"') for cell in opened):
        yield from _quoted(file, fields, "\t")
        return
    place, other, columns = 0, -1, 0
    for number, line in file.lines():
        cells = line.rstrip(b"\r\n").split(b"\t")
        if columns == 0 and not line.isspace():
            names = [cell.decode("utf-8", "replace") for cell in cells]
            (place, other), header = _places(fields, names, file.name, number)
            columns = len(cells)
            if header:
                continue
        if len(cells) == columns:
            yield number, cells[place], (), "" if other < 0 else group_of(cells[other].decode("utf-8", "replace"))
        elif not line.isspace():
            raise _ragged(file.name, number, len(cells), columns, "TAB")


def _quoted(file: OpenFile, fields: Fields, sign: str) -> Iterator[Raw]:
    """Cells in quotes may hold the sign and line ends; the line is the one on which a row begins."""
    csv.field_size_limit(min(sys.maxsize, RECORD))
    place, other, columns, began = 0, -1, 0, 1

    def lines() -> Iterator[str]:
        size = last = 0
        for _, line in file.lines():
            size, last = (size + len(line), last) if began == last else (len(line), began)
            if size > RECORD:
                raise BadInput(
                    f"{file.name}, line {began}: a quote is opened and not closed in the next {size:,} bytes"
                )
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), delimiter=sign, strict=True)
    try:
        for cells in reader:
            if cells and columns == 0:
                (place, other), header = _places(fields, cells, file.name, began)
                columns = len(cells)
                cells = [] if header else cells
            if len(cells) == columns:
                group = "" if other < 0 else group_of(cells[other])
                yield began, cells[place].encode("utf-8", "surrogateescape"), (), group
            elif cells and any(cells):
                raise _ragged(file.name, began, len(cells), columns, repr(sign))
            began = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(
            f"{file.name}, line {began}: {error}; a cell with quotes in it stands in quotes, and they are written twice"
        ) from None


def _places(fields: Fields, cells: list[str], name: str, line: int) -> tuple[list[int], bool]:
    """The columns of text and group, from 0 (-1: none asked for), and whether this first row is a header.

    It is one if it has a name that is asked for.
    """
    header = [cell.strip().strip('"') for cell in cells]
    named = fields.text in header or (fields.group in header and not fields.group.isdecimal() and fields.group != "")
    found = []
    for field, option in zip(fields, ("--field", "--group"), strict=True):
        if named and field and field in header:
            found.append(header.index(field))
        elif field.isdecimal() and 1 <= int(field) <= len(cells):
            found.append(int(field) - 1)
        elif field:
            there = ", ".join(cell[:30] for cell in header[:40])
            raise BadInput(
                f"{name}, line {line}: no column {field!r}; the columns are: {there}; name one of them with {option}, "
                f"or its number (1 to {len(cells)}) if the file has no header"
            )
        else:
            found.append(-1)
    return found, named


def _ragged(name: str, line: int, found: int, columns: int, sign: str) -> BadInput:
    return BadInput(
        f"{name}, line {line}: {found} columns, but the first row has {columns}; is there a {sign} too many or too few?"
    )


def _parquet(file: OpenFile, fields: Fields, counts: Counter[str]) -> Iterator[Raw]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BadInput(f"{file.name}: reading Parquet needs pyarrow: pip install 'masklab[data]'") from None
    if file.compression:
        raise BadInput(f"{file.name}: Parquet inside of {file.compression}; unpack it first")
    try:
        with parquet.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20) as table:
            columns = wanted_columns(table.schema_arrow, fields, file.name)
            row = 1
            for batch in table.iter_batches(batch_size=256, columns=columns, use_threads=False):
                file.share = row / max(1, table.metadata.num_rows)
                yield from of_batch(batch, fields, file.name, row)
                row += len(batch)
    except (ArrowException, OSError) as error:
        why = str(error).split("\n")[0]
        raise BadInput(f"{file.name}: damaged or incomplete Parquet file ({why}); fetch it again") from None


def wanted_columns(schema: Any, fields: Fields, name: str) -> list[str]:
    """The columns of an Arrow schema that are read: the text's, the group's, and that of entities if there is one."""
    import pyarrow as pa

    for field, option in zip(fields, ("--field", "--group"), strict=True):
        if field and field not in schema.names:
            there = ", ".join(schema.names[:40])
            raise BadInput(f"{name}: no column {field!r}; the columns are: {there}; name one with {option}")
    field, group = fields
    kind = _plain_type(schema.field(field).type)
    if not _is_text(kind):
        texts = ", ".join(item.name for item in schema if "string" in str(item.type)) or "none"
        raise BadInput(f"{name}: column {field!r} is {kind}, not text; the columns of text are: {texts}")
    if group and not (_is_text(kind := _plain_type(schema.field(group).type)) or pa.types.is_integer(kind)):
        raise BadInput(f"{name}: column {group!r} is {kind}; --group names one of text or whole numbers")
    return list(
        dict.fromkeys([field, *(["entities"] if "entities" in schema.names else []), *([group] if group else [])])
    )


def _plain_type(kind: Any) -> Any:
    return getattr(kind, "value_type", kind) if str(kind).startswith("dictionary") else kind


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def of_batch(batch: Any, fields: Fields, name: str, row: int) -> Iterator[Raw]:
    """The rows of an Arrow record batch, of which the first has the number `row`; missing texts are empty."""
    import pyarrow as pa

    def column(field: str) -> Any:
        found = batch.column(field)
        return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found

    texts = column(fields.text).cast(pa.large_binary()).to_pylist()  # as bytes: one place judges whether they are UTF-8
    spans = batch.column("entities").to_pylist() if {"entities"} & {*batch.schema.names} - {*fields} else None
    groups = column(fields.group).to_pylist() if fields.group else None
    for i, text in enumerate(texts):
        text = text or b""
        where = f"{name}, row {row + i}"
        found = entities(spans[i], len(text.decode("utf-8", "replace")), where) if spans else ()
        yield row + i, text, found, group_of(groups[i], where, fields.group) if groups else ""


READERS: dict[str, Callable[[OpenFile, Fields, Counter[str]], Iterator[Raw]]] = {
    "blank-line": _between_blank_lines,
    "line": _one_a_line,
    "sentence-line": _between_blank_lines,
    "file": _whole_file,
    "jsonl": _json_lines,
    "json": _json_values,
    "csv": _comma_separated,
    "tsv": _tab_separated,
    "parquet": _parquet,
    "wikiextractor": _wikiextractor,
}


def _is_object(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
