"""Files of word vectors that other programs read and write: word2vec's text and binary, fastText's .vec, GloVe's text.

word2vec: a line with the number of words and of dimensions, then a line "word number ... number" for each word, or in
the binary form the word, a space and the bytes of its float32. fastText's .vec is word2vec's text; GloVe's text is the
same without the first line. Files are read a few megabytes at a time, compressed ones too.
"""

import bz2
import gzip
import lzma
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import zstandard

from masklab.corpus.open_file import OpenFile, must_be_file
from masklab.errors import BadInput
from masklab.files import atomic_write

Format = Literal["native", "word2vec", "word2vec-binary", "glove", "fasttext"]
Undecodable = Literal["strict", "replace", "ignore"]
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_BLOCK = 1 << 23  # bytes that are read, or numbers that are written, at a time
_HEAD = 1 << 20  # bytes that `detect` looks at
_LONGEST = 1 << 14  # bytes of a word in a binary file; what is longer is no word
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_GAPS = re.compile(rb"[ \t\r]+")  # between the numbers of a line
_SPACES = re.compile("[\0-\x20\x7f]+")  # where C programs part words


class Table(NamedTuple):
    words: list[str]
    vectors: np.ndarray  # (words, dim) float32


class Detected(NamedTuple):
    format: Format
    promised: int | None  # words, where the file says how many
    dim: int


def format_of(path: str | Path) -> Format:
    """The format that a name asks for when something is written to it.

    "vectors" -> native, "v.vec" or "v.txt.gz" -> word2vec, "v.bin" -> word2vec-binary, "v.glove.txt" -> glove
    """
    name = Path(path).name
    suffix = Path(name).suffix
    if suffix in COMPRESSED:
        name = name.removesuffix(suffix)
        if not Path(name).suffix:
            raise BadInput(f"{path}: say which format is compressed, such as {name}.vec{suffix}")
    forms: dict[str, Format] = {"": "native", ".vec": "word2vec", ".txt": "word2vec", ".bin": "word2vec-binary"}
    if name.endswith((".glove.txt", ".glove")):
        return "glove"
    if Path(name).suffix not in forms:
        raise BadInput(
            f"{path}: which format is that? Name a folder, or end in .vec or .txt (word2vec text), .bin (binary), "
            f".glove.txt (no header)"
        )
    return forms[Path(name).suffix]


def detect(path: str | Path) -> Detected:
    """Tell a file's format from how it begins, whatever its name; BadInput when it holds no word vectors."""
    path = Path(path)
    if path.is_dir():
        return Detected("native", None, 0)
    must_be_file(path)
    with open(path, "rb") as file:
        begins = file.read(4)
    if begins == b"\xba\x16\x4f\x2f":  # 793712314, little-endian
        return Detected("fasttext", None, 0)
    if begins[:1] == b"\x80":
        raise BadInput(
            f"{path} is a pickle (gensim's own `save`), which could run any program; open it in gensim and write it "
            f"with save_word2vec_format"
        )
    if begins == b"PK\x03\x04":
        raise BadInput(f"{path} is a zip archive; unpack it and name the file in it: unzip {path}")
    with OpenFile(path) as file:
        head = file.stream.read(_HEAD)
    first, newline, rest = head.partition(b"\n")
    if not first.strip():
        raise BadInput(f"{path} holds no word vectors: its first line is blank")
    header = re.fullmatch(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*", first) if newline else None
    if header:
        count, dim = int(header[1]), int(header[2])
        if not 0 < dim < 1 << 20 or not count:
            raise BadInput(f"{path}, line 1: {count} words of {dim} numbers cannot be; fetch or write the file again")
        line, newline, _ = rest.lstrip(b"\r\n").partition(b"\n")
        fields = line.split()
        whole = bool(newline) or len(head) < _HEAD
        numbers = fields[max(1, len(fields) - dim) :] if whole else fields[1:-1]
        text = bool(numbers) and all(_NUMBER.fullmatch(field) for field in numbers)
        return Detected("word2vec" if text else "word2vec-binary", count, dim)
    lines = [line.split() for line in head.split(b"\n")[: 100 if len(head) < _HEAD else -1]]
    lengths = Counter(len(fields) for fields in lines[:100] if fields)
    dim = (lengths.most_common(1)[0][0] if lengths else 1) - 1
    if dim < 1 or not all(_NUMBER.fullmatch(field) for field in lines[0][-dim:]):
        raise BadInput(
            f"{path} holds no word vectors: its first line is neither 'WORDS DIMENSIONS' nor 'word number number ...'"
        )
    return Detected("glove", None, dim)


def read(
    path: str | Path,
    *,
    limit: int | None = None,
    undecodable: Undecodable = "strict",
    say: Callable[[str], None] | None = None,
) -> Table:
    """The words and vectors of a word2vec or GloVe file, compressed or not; the format is told from its bytes.

    limit: only so many from the beginning. undecodable: what to do with words that are not UTF-8, as `bytes.decode`
    has it. say: is told what was left out. Of a word that is there twice the first is taken, as gensim does.
    """
    path = Path(path)
    found = detect(path)
    if found.promised is not None and found.format == "word2vec-binary":
        smallest = 4 * found.dim + 1
        if path.suffix not in COMPRESSED and found.promised * smallest > path.stat().st_size:
            raise BadInput(
                f"{path}, line 1: it promises {found.promised:,} words of {found.dim:,} numbers, which is more than "
                f"{path.stat().st_size:,} bytes hold; the file is incomplete: fetch it again"
            )
    many = {"word2vec": _read_text, "glove": _read_text, "word2vec-binary": _read_binary}
    if found.format not in many:
        raise BadInput(f"{path} is neither a word2vec nor a GloVe file; open it with WordVectors.open")
    with OpenFile(path) as file:
        words, vectors = many[found.format](file.stream, path, found, limit, undecodable)
    if not words:
        raise BadInput(f"{path} holds no words; fetch or write it again")
    with np.errstate(invalid="ignore"):
        finite = bool(np.isfinite(vectors.sum(dtype=np.float64)))
    if not finite and say:
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        say(f"{path}: not every number is finite, first in the vector of {words[row]!r}; its training went wrong")
    return _without_doubles(path, words, vectors, say)


class _Rows:
    """Rows that come in blocks, in one array that grows; a header's promise makes room but is not relied on."""

    def __init__(self, dim: int, expected: int | None):
        self.array = np.empty((min(expected or 1 << 12, max(1, (1 << 28) // dim)), dim), np.float32)
        self.count = 0

    def add(self, block: np.ndarray) -> None:
        if self.count + len(block) > len(self.array):
            grown = max(self.count + len(block), self.count + self.count // 2)
            self.array.resize((grown, self.array.shape[1]), refcheck=False)  # moves pages, copies nothing
        self.array[self.count : self.count + len(block)] = block
        self.count += len(block)

    def finished(self) -> np.ndarray:
        self.array.resize((self.count, self.array.shape[1]), refcheck=False)
        return self.array


def _read_text(
    file: IO[bytes], path: Path, found: Detected, limit: int | None, undecodable: Undecodable
) -> tuple[list[str], np.ndarray]:
    from masklab.word_vectors.decimals import FINE, parse

    number = 1  # of the line that comes next
    if found.promised is not None:
        file.readline()
        number = 2
    wanted = min(x for x in (limit, found.promised, 1 << 62) if x is not None)
    words: list[str] = []
    rows = _Rows(found.dim, None if wanted == 1 << 62 else wanted)
    for block in _lines(file, path):
        count = block.count(b"\n")
        out = np.empty((count, found.dim), np.float32)
        spans = np.empty((count, 4), np.int64)
        states = np.empty(count, np.uint8)
        parse(np.frombuffer(block, np.uint8), found.dim, out, spans, states)
        there = states == FINE
        for i in np.flatnonzero(~there).tolist():
            where = f"{path}, line {number + i}"
            there[i] = _second_look(block, spans[i].tolist(), int(states[i]), out[i], where)
        if len(words) + np.count_nonzero(there) > wanted:
            if wanted == found.promised:
                late = int(np.flatnonzero(there)[wanted - len(words)])
                raise BadInput(
                    f"{path}, line {number + late}: more words than the {wanted:,} that line 1 promises; mend line 1"
                )
            there[np.flatnonzero(there)[wanted - len(words) :]] = False
        places = spans[there, :2].tolist()
        try:
            words += [block[a:b].decode() for a, b in places]
        except UnicodeDecodeError:
            at = number + np.flatnonzero(there)
            words += [_decoded(block[a:b], f"{path}, line {at[i]}", undecodable) for i, (a, b) in enumerate(places)]
        rows.add(out[there] if not there.all() else out)
        number += count
        if limit is not None and len(words) >= limit:
            break
    else:
        if found.promised is not None and len(words) < wanted:
            raise BadInput(
                f"{path}: it ends after {len(words):,} of the {found.promised:,} words that line 1 promises; it is "
                f"incomplete: fetch it again, or mend line 1"
            )
    return words, rows.finished()


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Blocks of whole lines, the last one ended too."""
    held = b""
    while chunk := file.read(_BLOCK):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield held + chunk[:cut]
            held = chunk[cut:]
        elif len(held) > 1 << 28:
            raise BadInput(f"{path}: a line without end; this is no text file of word vectors")
        else:
            held += chunk
    if held:
        yield held + b"\n"


def _second_look(block: bytes, span: list[int], state: int, row: np.ndarray, where: str) -> bool:
    """A line that `parse` left: blank ones are passed over (False), odd numbers are read here, the rest is refused."""
    from masklab.word_vectors.decimals import LONG, NAMELESS, ODD

    start, _, numbers, end = span
    if state == ODD:
        for column, text in enumerate(_GAPS.split(block[numbers:end])):
            if not _NUMBER.fullmatch(text):
                raise BadInput(f"{where}: {text.decode(errors='replace')!r} is not a number; mend or delete the line")
            row[column] = float(text)
        return True
    if state == NAMELESS:
        raise BadInput(f"{where}: {len(row)} numbers without a word before them; mend or delete the line")
    if state == LONG:
        raise BadInput(f"{where}: more than the {len(row)} numbers that the first lines have; mend or delete the line")
    line = block[start:end].split()
    if line:
        raise BadInput(
            f"{where}: {len(line) - 1} numbers, not {len(row)} as in the first lines; mend or delete the line"
        )
    return False


def _read_binary(
    file: IO[bytes], path: Path, found: Detected, limit: int | None, undecodable: Undecodable
) -> tuple[list[str], np.ndarray]:
    file.readline()
    assert found.promised is not None
    count = min(found.promised, limit or found.promised)
    width = 4 * found.dim
    words: list[str] = []
    rows = _Rows(found.dim, count)
    buffer, at = b"", 0
    while len(words) < count:
        more = file.read(max(_BLOCK, width))
        buffer = buffer[at:] + more
        view = memoryview(buffer)
        at = 0
        names: list[bytes] = []
        pieces: list[memoryview] = []
        while len(words) + len(names) < count:
            space = buffer.find(b" ", at, at + _LONGEST)
            if space < 0 and len(buffer) - at >= _LONGEST:
                raise BadInput(
                    f"{path}, word {len(words) + len(names) + 1:,}: no end of it in {_LONGEST:,} bytes; the file is "
                    f"damaged, or its vectors have not {found.dim} float32 each: fetch it again"
                )
            if space < 0 or space + 1 + width > len(buffer):
                break
            names.append(buffer[at:space].lstrip(b"\n"))  # word2vec.c ends each vector with a new line, gensim does not
            pieces.append(view[space + 1 : space + 1 + width])
            at = space + 1 + width
        if not more and not names:
            raise BadInput(
                f"{path}: it ends after {len(words):,} of the {found.promised:,} words that line 1 promises; it is "
                f"incomplete: fetch it again"
            )
        rows.add(np.frombuffer(b"".join(pieces), "<f4").reshape(-1, found.dim))
        try:
            words += [name.decode() for name in names]
        except UnicodeDecodeError:
            words += [
                _decoded(name, f"{path}, word {len(words) + i:,}", undecodable) for i, name in enumerate(names, 1)
            ]
    if count == found.promised and (buffer[at:] + file.read(_BLOCK)).strip():
        raise BadInput(
            f"{path}: there is more in it than the {count:,} words of {found.dim} numbers that line 1 promises; it is "
            f"damaged: fetch it again"
        )
    return words, rows.finished()


def _decoded(name: bytes, where: str, undecodable: Undecodable) -> str:
    try:
        return name.decode(errors=undecodable)
    except UnicodeDecodeError:
        raise BadInput(
            f"{where}: {name.decode(errors='backslashreplace')!r} is not UTF-8 (word2vec cuts long words in the middle "
            f"of a letter); write the file anew: masklab words convert FILE NEW --undecodable replace"
        ) from None


def _without_doubles(path: Path, words: list[str], vectors: np.ndarray, say: Callable[[str], None] | None) -> Table:
    first = dict(zip(reversed(words), range(len(words) - 1, -1, -1), strict=True))  # the first of equals is set last
    if len(first) == len(words):
        return Table(words, vectors)
    kept = sorted(first.values())
    if say:
        double = next(word for place, word in enumerate(words) if first[word] != place)
        say(f"{path}: {len(words) - len(kept):,} words are there twice, such as {double!r}; the first of each is taken")
    return Table([words[i] for i in kept], vectors[kept])


def write(
    path: str | Path,
    words: Sequence[str],
    vectors: np.ndarray,
    form: Format | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Write a word2vec or GloVe file, compressed if the name ends so; gensim and the C programs open it.

    vectors: (words, dim); numbers are written so that they read back as the same float32. form: unsaid, by the name.
    White space inside a word would end it, so each becomes "_"; `say` is told of that.
    """
    form = form or format_of(path)
    if form not in ("word2vec", "word2vec-binary", "glove"):
        raise BadInput(f"{path}: {form} is not a file of words and vectors alone; end the name in .vec, .txt or .bin")
    if len(words) != len(vectors) or vectors.ndim != 2:
        raise ValueError(f"{len(words)} words, but vectors of shape {vectors.shape}")
    names = [without_spaces(word).encode("utf-8", "replace") for word in words]
    changed = [word for word in words if without_spaces(word) != word]
    if changed and say:
        say(f"{path}: {len(changed):,} words have white space in them, written as _, such as {changed[0]!r}")
    step = max(1, _BLOCK // vectors.shape[1])
    with _compressed(path) as file:
        if form != "glove":
            file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
        for start in range(0, len(words), step):
            block = np.ascontiguousarray(vectors[start : start + step], "<f4")
            some = names[start : start + step]
            file.write(_as_bytes(some, block) if form == "word2vec-binary" else _as_text(some, block))


def without_spaces(word: str) -> str:
    """ "New York" -> "New_York": no file of words can tell white space inside a word from that behind it."""
    return _SPACES.sub("_", word) or "_"


def _as_bytes(names: list[bytes], block: np.ndarray) -> bytes:
    raw, width = memoryview(block.tobytes()), 4 * block.shape[1]
    parts: list[Any] = []
    for i, name in enumerate(names):
        parts += (name, b" ", raw[i * width : (i + 1) * width], b"\n")
    return b"".join(parts)


def _as_text(names: list[bytes], block: np.ndarray) -> bytes:
    from masklab.word_vectors.decimals import FINE, render

    joined = b"".join(names)
    ends = np.cumsum([len(name) for name in names])
    text = np.empty(len(joined) + 17 * block.size + len(names), np.uint8)
    stops, states = np.empty(len(names), np.int64), np.empty(len(names), np.uint8)
    render(np.frombuffer(joined, np.uint8), ends, block, text, stops, states)
    if (states == FINE).all():
        return text[: stops[-1]].tobytes()
    starts = np.append(0, stops[:-1])
    return b"".join(
        text[starts[i] : stops[i]].tobytes()
        if states[i] == FINE
        else names[i] + b" " + " ".join(map(str, block[i])).encode() + b"\n"
        for i in range(len(names))
    )


@contextmanager
def _compressed(path: str | Path) -> Iterator[IO[bytes]]:
    """A file that appears when it is whole, compressed as its name says; the same bytes for the same content."""
    with atomic_write(path) as file:
        openers: dict[str, Callable[[], Any]] = {
            ".gz": lambda: gzip.GzipFile("", "wb", 6, file, mtime=0),
            ".bz2": lambda: bz2.BZ2File(file, "wb"),
            ".xz": lambda: lzma.LZMAFile(file, "wb"),  # noqa: SIM115
            ".zst": lambda: zstandard.ZstdCompressor().stream_writer(file, closefd=False),
        }
        if Path(path).suffix in openers:
            with openers[Path(path).suffix]() as inner:
                yield inner
        else:
            yield file


def read_counts(path: str | Path) -> dict[str, int]:
    """How often each word stood in the text: lines "word count", as word2vec's -save-vocab and GloVe write them."""
    counts: dict[str, int] = {}
    must_be_file(Path(path))
    with OpenFile(path) as file:
        for number, line in file.lines():
            word, _, count = line.decode(errors="replace").rstrip().replace("\t", " ").rpartition(" ")
            if not count.isascii() or not count.isdigit():
                raise BadInput(f"{path}, line {number}: not 'word count'; mend or delete the line")
            counts[word] = int(count)
    return counts
