"""Brings text of any shape to the scan as blocks of bytes: files, folders, prepared corpora, lists of words.

Plain text goes on as it is; of JSON lines, tables, Parquet and the like (`corpus.formats`) the text of each record. A
line is a sentence. Bytes up to 32 (space, tab, carriage return, NUL ...) stand between words, as for word2vec.c. A
block ends between words, so that each can be read by itself.
"""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from masklab.corpus.formats import SHOWN, recognised
from masklab.corpus.layers import Layer, layers
from masklab.corpus.open_file import NotText, OpenFile, must_be_file
from masklab.corpus.read import documents
from masklab.corpus.store import TEXT, Store
from masklab.corpus.units import code_points, kinds, word_characters, word_starts
from masklab.errors import BadInput

Name = str | os.PathLike[str]
Sentences = Iterable[Sequence[str]]
Corpus = Name | Sequence[Name] | Store | Sentences
"""A file of text (also .gz .xz .bz2 .zst), a pattern, several, a folder, a prepared corpus, or lists of words."""

LONGEST_WORD = 1000  # bytes; what goes on for longer without a space is no word
_PLAIN = ("line", "blank-line", "sentence-line", "file")
_LINE = 10
_SPACE = 32


class Block(NamedTuple):
    text: bytes  # ends in white space
    ends: bool  # a file, or the list, ends here, and with it the line
    done: int  # how much of the corpus is read: bytes of the files as they lie on disk, or sentences


def blocks(corpus: Corpus, size: int, say: Callable[[str], None]) -> Iterator[Block]:
    """The corpus in blocks of about `size` bytes; `say` is told about files left out and words that had to change."""
    listed = paths(corpus)
    if listed is None:
        yield from _sentences(corpus, size, say)  # type: ignore[arg-type]
        return
    before = 0
    for path, named in listed:
        try:
            blocks = _store(path, size) if path.is_dir() else _file(path, size, say)
            yield from (block._replace(done=block.done + before) for block in blocks)
        except NotText as error:
            if named:
                raise
            say(f"left out: {error}")
        before += _bytes(path)


def paths(corpus: Corpus) -> list[tuple[Path, bool]] | None:
    """Files, and folders of prepared corpora, each with whether it was named itself; None for lists of words."""
    if isinstance(corpus, Store):
        return [(corpus.folder, True)]
    if isinstance(corpus, str | os.PathLike):
        corpus = [corpus]
    if not isinstance(corpus, list | tuple) or not any(isinstance(name, str | os.PathLike) for name in corpus):
        return None
    if not all(isinstance(name, str | os.PathLike) for name in corpus):
        raise BadInput("the corpus mixes names of files and lists of words; give one or the other")
    return [found for name in corpus for found in _found(Path(name))]  # type: ignore[arg-type]


def size_of(corpus: Corpus) -> int | None:
    """What `Block.done` goes up to; None where that is not known before the end."""
    listed = paths(corpus)
    return None if listed is None else sum(_bytes(path) for path, _ in listed)


def _found(path: Path) -> list[tuple[Path, bool]]:
    if not path.exists():
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise BadInput(f"{path} does not exist; check the name (a sentence is given as a list of words)")
        return [(found, False) for name in matches for found, _ in _found(Path(name))]
    if not path.is_dir() or _prepared(path):
        return [(path, True)]
    inside = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    inside = [(path / file, False) for file in inside if not any(part.startswith(".") for part in file.parts)]
    if not inside:
        raise BadInput(f"{path} holds no file; name a folder with text in it")
    return inside


def _prepared(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("store.json", "tokens.json"))


def _bytes(path: Path) -> int:
    if path.is_dir():
        path = (path.parent if (path / "tokens.json").exists() else path) / TEXT
    return path.stat().st_size


def _file(path: Path, size: int, say: Callable[[str], None]) -> Iterator[Block]:
    must_be_file(path)
    with OpenFile(path) as file:
        format = recognised(file).format
    if format not in _PLAIN:
        say(f"{path} is {SHOWN[format]}: the text of each record is read")
        yield from _records(path, size, say)
        return
    with OpenFile(path) as file:
        rest = b""
        while chunk := file.stream.read(size):
            cut = _after_last_space(chunk)
            if cut:
                yield Block(rest + chunk[:cut], False, file.position)
                rest = b""
            rest = (rest + chunk[cut:])[: LONGEST_WORD + 1]  # so long is too long, however it goes on
        yield Block(rest + b" ", True, file.position)


def _records(path: Path, size: int, say: Callable[[str], None]) -> Iterator[Block]:
    held, length = [], 0
    try:
        reading = documents(path, encoding_errors="replace")
        for document in reading:
            held.append(document.text)
            length += len(document.text)
            if length >= size:
                yield Block(_lines(held), False, reading.progress[0])
                held, length = [], 0
    except BadInput as error:
        field = "--field" in str(error)
        raise BadInput(f"{error}: masklab prepare {path} --field NAME --out CORPUS" if field else str(error)) from None
    if reading.counts["undecodable"]:
        say(f"{path}: {reading.counts['undecodable_bytes']:,} bytes that are not UTF-8 are now U+FFFD")
    yield Block(_lines(held), True, _bytes(path))


def _after_last_space(chunk: bytes) -> int:
    """Where the last word of a chunk begins, which the next chunk may go on with; 0 if it holds no space."""
    codes = np.frombuffer(chunk, np.uint8)
    for begin in range(len(codes) - 256, -256, -256):  # hardly ever far from the end
        found = np.flatnonzero(codes[max(0, begin) : begin + 256] <= _SPACE)
        if len(found):
            return max(0, begin) + int(found[-1]) + 1
    return 0


def _store(path: Path, size: int) -> Iterator[Block]:
    """The training documents of a prepared corpus, in lower case if its tokenizer reads so; a text's lines are kept.

    The words are those of its layer of words, if it has one (segmented Chinese), else those of `corpus.units`: a
    Chinese character is a word. Punctuation is left out.
    """
    store = Store(path)
    segmented = next((layer for layer in layers(store.path) if layer.name == "words"), None)
    normalizer = store.tokenizer.inner.normalizer
    lowers = normalizer is not None and normalizer.normalize_str("A") == "a"
    numbers = np.flatnonzero(~store.held_out)
    held, length = [], 0
    for number, text in zip(numbers.tolist(), store.texts("train"), strict=True):
        held.append(_in_words(text, number, segmented))
        length += len(held[-1])
        if length >= size:
            done = _bytes(path) * (number + 1) // len(store)
            yield Block(_lines(held, lowers), True, done)
            held, length = [], 0
    yield Block(_lines(held, lowers), True, _bytes(path))


def _in_words(text: str, number: int, segmented: Layer | None) -> str:
    """The text with a space before each word and in place of each sign: "Ja, 你好" -> " Ja   你 好"."""
    code = code_points(text)
    kind = kinds(code)
    starts = word_starts(kind)
    if segmented is not None:
        begin, end = segmented.of(number).T
        depth = np.zeros(len(code) + 1, np.int64)
        np.add.at(depth, begin, 1)
        np.add.at(depth, end, -1)
        starts &= np.cumsum(depth)[:-1] == 0
        starts[begin] = True
        starts[end[end < len(code)]] = True
    shown = np.where(word_characters(kind) | (code == _LINE), code, _SPACE).astype(np.uint32)
    return np.insert(shown, np.flatnonzero(starts), _SPACE).tobytes().decode("utf-32-le", "surrogatepass")


def _lines(texts: list[str], lowers: bool = False) -> bytes:
    text = "\n".join([*texts, ""])
    return (text.lower() if lowers else text).encode("utf-8", "surrogatepass")


def _sentences(sentences: Sentences, size: int, say: Callable[[str], None]) -> Iterator[Block]:
    """Lists of words, joined to lines. White space inside a word becomes "_": in a file it would end the word."""
    held: list[Sequence[str]] = []
    length = number = mended = 0
    for number, sentence in enumerate(sentences, 1):
        if isinstance(sentence, str):
            raise BadInput(f"sentence {number} is a text, {sentence[:30]!r}; give lists of words, such as text.split()")
        try:
            length += sum(map(len, sentence)) + len(sentence)
        except TypeError:
            raise BadInput(f"sentence {number} is no list of words: {str(sentence)[:60]}") from None
        held.append(sentence)
        if length >= size:
            text, changed = _joined(held, number)
            mended += changed
            yield Block(text, False, number)
            held, length = [], 0
    text, changed = _joined(held, number)
    if mended + changed:
        say(f"{mended + changed:,} words had white space in them, which is now _ (New York -> New_York)")
    yield Block(text, True, number)


def _joined(sentences: list[Sequence[str]], last: int) -> tuple[bytes, int]:
    """[["a", "b"], ["c d"]] -> (b"a b\nc_d\n", 1)."""
    try:
        text = _lines([" ".join(sentence) for sentence in sentences])
    except TypeError:
        first = last - len(sentences) + 1
        raise BadInput(f"sentences {first} to {last} hold something that is no word (str)") from None
    spaces = np.count_nonzero(np.frombuffer(text, np.uint8) <= _SPACE)
    if spaces == sum(max(1, len(sentence)) for sentence in sentences):
        return text, 0
    stripped = [[word.strip(_STRIPPED) for word in sentence] for sentence in sentences]
    changed = sum(bool(_WHITE.search(word)) for words in stripped for word in words)
    return _lines([" ".join(map(one_word, words)) for words in stripped]), changed


def one_word(word: str) -> str:
    """ "New York" -> "New_York"."""
    return _WHITE.sub("_", word)


_STRIPPED = "".join(map(chr, range(_SPACE + 1)))
_WHITE = re.compile(f"[{_STRIPPED}]+")
