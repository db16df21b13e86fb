"""Opens a file as one stream of UTF-8 bytes, whatever it is compressed with or encoded in, and refuses what is no text.

Compression is known by the first bytes, not by the name; files of several members or frames are read to their end, and
one that ends too early, or has something else after a member, is an error. Another encoding than UTF-8 is turned into
UTF-8 on the way; bytes that it cannot explain come out as the byte FF, which is never valid UTF-8, so that whoever
decodes a document meets them there and can name the place.
"""

import bz2
import codecs
import io
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard

from masklab.errors import BadInput

LONGEST = 1 << 24  # bytes; a longer line or document of plain text is parted
RECORD = 1 << 28  # bytes; a line of JSON, a row or a cell may not be longer
CONTROL = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))  # characters that no text needs, NUL among them
_CHUNK = 1 << 16
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
_SUFFIXES = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
_MARKS = {  # UTF-32 before UTF-16, with whose little-endian mark it begins
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_STRANGERS = {  # how files begin that people name by mistake: what they are, and what to do
    b"PK\x03\x04": ("a zip archive (or .docx, .xlsx, .epub)", "unpack it, or save it as plain text"),
    b"%PDF": ("PDF", "turn it into text first, such as with pdftotext"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it first"),
    b"Rar!": ("a RAR archive", "unpack it first"),
    b"\x04\x22\x4d\x18": ("lz4", "unpack it first: lz4 -d"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "save it as plain text"),
    b"{\\rtf": ("RTF", "save it as plain text"),
    b"\x89PNG": ("a picture", "name files of text"),
    b"\xff\xd8\xff": ("a picture", "name files of text"),
    b"GIF8": ("a picture", "name files of text"),
    b"SQLite format 3\0": ("an SQLite data base", "export a table as CSV: sqlite3 -csv -header"),
    b"ARROW1": ("an Arrow file", "if `datasets` saved its folder, name that: hub:FOLDER; or save it as Parquet"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "if `datasets` saved its folder, name that: hub:FOLDER"),
    b"<mediawiki": ("a MediaWiki dump", "run WikiExtractor on it and name the folder that it writes"),
    b"WARC/": ("a web archive", "extract the text of its pages first"),
}


class NotText(BadInput):
    """A file that holds no text: left out of a folder with a word in the summary, refused when it was named itself."""


class OpenFile:
    """An open file. `stream` gives its UTF-8 bytes without a byte-order mark, `position` how much of it is read.

    encoding: of the file, by Python's name; "auto" is UTF-8. A byte-order mark overrules it.
    """

    def __init__(self, path: str | Path, encoding: str = "auto", name: str = ""):
        self.path = Path(path)
        self.name = name or str(path)  # for messages
        self.compression = ""  # gzip, xz, bzip2 or zstd
        self.share = 0.0  # of a file that is not read from its beginning to its end (Parquet)
        self._disk = self.path.open("rb", buffering=0)
        try:
            self.stream = self._opened(encoding)
        except BaseException:
            self._disk.close()
            raise

    def _opened(self, encoding: str) -> "io.BufferedReader[Any]":
        raw: io.RawIOBase = self._disk
        start = self._disk.read(_CHUNK) or b""
        self._disk.seek(0)
        kind = next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None)
        promised = _SUFFIXES.get(self.path.suffix.lower())
        if promised and promised != kind and start:
            raise BadInput(
                f"{self.name}: damaged or incomplete, or not {promised} at all; fetch it again, or rename it if it is "
                f"{kind or 'not compressed'}"
            )
        if kind:
            self.compression = kind
            raw = _Members(self._disk, kind, self.name)
        stream: io.BufferedReader[Any] = io.BufferedReader(raw, _CHUNK)
        start = stream.peek(4)
        self.encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), encoding)
        if self.encoding == "auto":
            self.encoding = "utf-8"
        if codecs.lookup(self.encoding).name != "utf-8":
            decoder = codecs.getincrementaldecoder(self.encoding)("masklab-mark")
            stream = io.BufferedReader(_Mapped(stream, partial(_recoded, decoder, self.name, self.encoding)), _CHUNK)
        if stream.peek(3).startswith(codecs.BOM_UTF8):
            stream.read(3)
        start = stream.peek(_CHUNK)
        if b"\r" in start and b"\n" not in start:  # lines as old Macs end them
            stream = io.BufferedReader(_Mapped(stream, lambda chunk, _: chunk.replace(b"\r", b"\n")), _CHUNK)
        return stream

    @property
    def position(self) -> int:
        """Bytes of the file on disk that were read; for the share of the work that is done."""
        if self._disk.closed:
            return 0
        return int(self.share * self.path.stat().st_size) if self.share else self._disk.tell()

    def lines(self, counts: Counter[str] | None = None) -> Iterator[tuple[int, bytes]]:
        """Lines with their ends, numbered from 1. With `counts`, one longer than LONGEST comes in stretches.

        The stretches, cut after white space or a full stop, have one number and join to the line; each cut is counted
        as "parted". Without `counts`, a line longer than RECORD is refused.
        """
        number, held, cut, longest = 1, b"", False, LONGEST if counts is not None else RECORD
        for line in iter(partial(self.stream.readline, longest), b""):
            if cut and counts is not None:
                line = held + line
                counts["parted"] += not line.isspace()
                held, cut = b"", False
            if line.endswith(b"\n") or len(line) < longest:
                yield number, line
                number += 1
            elif counts is None:
                raise BadInput(f"{self.name}, line {number}: longer than {RECORD >> 20} MB; is the format right?")
            else:
                at, cut = _cut(line), True
                yield number, line[:at]
                held = line[at:]
        if held and counts is not None:
            counts["parted"] += not held.isspace()
            yield number, held

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stream.close()
        self._disk.close()


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file, from 1, as text without their ends."""
    with OpenFile(path) as file:
        for number, line in file.lines():
            try:
                yield number, line.rstrip(b"\r\n").decode()
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{path}, line {number}, byte {error.start + 1} of the line: not UTF-8{guesses(line)}; "
                    f"convert it: iconv -f ENCODING -t utf-8 {path} > new.txt"
                ) from None


def must_be_file(path: Path) -> None:
    if not path.exists():
        raise BadInput(f"{path} does not exist; check the name")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name the files in it, such as {path}/*.txt")
    if not path.is_file():
        raise BadInput(f"{path} is not a file; name files")
    if path.stat().st_size == 0:
        raise NotText(f"{path} is empty; name a file with text in it")


def must_be_text(name: str, start: bytes, encoding: str) -> None:
    """Refuse a file by its first bytes (decompressed, in UTF-8): archives, pictures, numbers."""
    if not start:
        raise NotText(f"{name} is empty; name a file with text in it")
    found = next((said for magic, said in _STRANGERS.items() if start.startswith(magic)), None)
    if not found and start[257:262] == b"ustar":
        found = ("a tar archive", "unpack it first: tar xf")
    if found:
        raise NotText(f"{name} is {found[0]}; {found[1]}")
    for zeros, other, order in ((start[1::2], start[::2], "le"), (start[::2], start[1::2], "be")):
        if encoding == "utf-8" and zeros.count(0) > 0.5 * len(zeros) and other.count(0) < 0.1 * len(other):
            raise NotText(f"{name} looks like UTF-16 without its mark; say --encoding utf-16-{order}")
    if len(start) - len(start.translate(None, CONTROL)) > max(8, 0.02 * len(start)):
        raise NotText(
            f"{name} is not text: many of its bytes are NUL or control characters; leave it out, or if there is text "
            f"in it: tr -d '\\000' < {name} > new.txt"
        )


def guesses(line: bytes) -> str:
    """How a line that is not UTF-8 reads in other encodings, for a person to choose from."""
    few = sum(byte > 127 for byte in line) * 4 < len(line)  # as accents are
    found = []
    for encoding in ("cp1252", "gb18030", "cp1251") if few else ("gb18030", "big5", "shift_jis", "cp1251"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(line)  # which may end within a character
        except UnicodeDecodeError:
            continue
        at = next((i for i, character in enumerate(text) if not character.isascii()), 0)
        found.append(f"--encoding {encoding} reads {text[max(0, at - 8) : at + 12].strip()!r}")
    return f" ({', '.join(found[:3])})" if found else ""


def must_be_encoding(encoding: str) -> None:
    try:
        known = encoding == "auto" or codecs.lookup(encoding)._is_text_encoding  # type: ignore[attr-defined]
    except LookupError:
        known = False
    if not known:
        raise BadInput(
            f"there is no text encoding {encoding!r}; well-known ones: utf-8, utf-16, gb18030, big5, shift_jis, "
            f"euc-kr, cp1251, cp1252, latin-1"
        )


def _cut(line: bytes) -> int:
    """Where to part a line that is too long: after the last white space, or full stop, of its second half."""
    half = len(line) // 2
    at = max(line.rfind(sign, half) + len(sign) for sign in (b" ", b"\t"))
    if at <= half:
        at = line.rfind("。".encode(), half) + 3
    if at <= half:
        at = len(line)
        while at > half and line[at - 1] & 0xC0 == 0x80:  # do not part a character
            at -= 1
        at -= line[at - 1] >= 0xC0
    return at


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error("masklab-mark", _mark)


def _recoded(decoder: codecs.IncrementalDecoder, name: str, encoding: str, chunk: bytes, last: bool) -> bytes:
    try:
        text = decoder.decode(chunk, last)
    except UnicodeError:  # other errors are marked
        raise BadInput(f"{name}: {encoding} needs a byte-order mark; say --encoding {encoding}-le (or -be)") from None
    return text.encode("utf-8", "surrogatepass").replace(b"\xed\xb3\xbf", b"\xff")


class _Mapped(io.RawIOBase):
    """A stream whose chunks go through a function of (chunk, whether it is the last, empty one)."""

    def __init__(self, stream: "io.BufferedReader[Any]", change: Callable[[bytes, bool], bytes]):
        self.stream, self.change, self.ready, self.ended = stream, change, memoryview(b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready and not self.ended:
            chunk = self.stream.read1(_CHUNK)
            self.ended = not chunk
            self.ready = memoryview(self.change(chunk, self.ended))
        size = min(len(self.ready), len(buffer))
        buffer[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size


class _Gzip:
    """zlib's object with the manners of those of bz2 and lzma. It checks lengths and sums."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(31)

    eof = property(lambda self: self.inner.eof)
    unused_data = property(lambda self: self.inner.unused_data)
    needs_input = property(lambda self: not self.inner.unconsumed_tail)

    def decompress(self, data: bytes, most: int) -> bytes:
        return self.inner.decompress(self.inner.unconsumed_tail + data, most)


class _Zstandard:
    """The same for zstd, which gives at once all that a chunk holds; windows of up to 2 GB (zstd --long=31)."""

    needs_input = True

    def __init__(self) -> None:
        self.inner = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    eof = property(lambda self: self.inner.eof)
    unused_data = property(lambda self: self.inner.unused_data)

    def decompress(self, data: bytes, most: int) -> bytes:
        return self.inner.decompress(data)


_OBJECTS: dict[str, tuple[Callable[[], Any], int]] = {  # and how many bytes to feed at a time
    "gzip": (_Gzip, _CHUNK),
    "xz": (lzma.LZMADecompressor, _CHUNK),
    "bzip2": (bz2.BZ2Decompressor, _CHUNK),
    "zstd": (_Zstandard, 1 << 13),  # text of one letter shrinks to a 10,000th
}


class _Members(io.RawIOBase):
    """The contents of a compressed file, member after member. Zeros after a member are padding."""

    def __init__(self, disk: io.FileIO, kind: str, name: str):
        self.disk, self.kind, self.name = disk, kind, name
        self.new, self.feed = _OBJECTS[kind]
        self.inner, self.ready, self.given = self.new(), memoryview(b""), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            while not self.ready:
                data = b""
                if self.inner.eof:
                    data = self.inner.unused_data.lstrip(b"\0")
                    while not data and (more := self.disk.read(self.feed)):
                        data = more.lstrip(b"\0")
                    if not data:
                        return 0
                    self.inner = self.new()
                elif self.inner.needs_input:
                    data = self.disk.read(self.feed)
                    if not data:
                        raise EOFError("it ends too early")
                self.ready = memoryview(self.inner.decompress(data, 1 << 20))
        except (EOFError, OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
            raise BadInput(
                f"{self.name}: damaged or incomplete {self.kind} file, good up to {self.given:,} bytes of text "
                f"({error}); fetch it again or leave it out"
            ) from None
        size = min(len(self.ready), len(buffer))
        buffer[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        self.given += size
        return size
