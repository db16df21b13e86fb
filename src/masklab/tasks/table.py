"""Reads labelled examples: tables with one example a row, and tagged text with one word a line.

Tables: TAB or comma separated, with or without a header (GLUE's CoLA has none), or JSON lines. Tagged text: CoNLL
columns, CoNLL-U, `word<TAB>tag` with a blank line after each sentence, or JSON lines with two lists. Also .gz, .xz.
Whatever is wrong with a file is said with its line, the columns it has and a cure.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from masklab.corpus.document import without_surrogates
from masklab.corpus.open_file import must_be_file, numbered_lines
from masklab.errors import BadInput

Sentence = list[tuple[str, str, int]]  # (word, tag, line) each
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


class Table(NamedTuple):
    """Labelled texts, one example an entry."""

    path: str
    texts: list[tuple[str, ...]]  # one or two texts an example
    labels: list[str]
    lines: list[int]  # where each example stands in the file, from 1


class Tagged(NamedTuple):
    """Labelled words, one sentence an entry."""

    path: str
    words: list[list[str]]
    tags: list[list[str]]
    lines: list[list[int]]  # where each word stands in the file


def read_table(path: str | Path, text: Sequence[str], label: str) -> Table:
    """The columns `text` (one or two) and `label` of a .tsv, .csv or .jsonl file.

    Columns go by the names in the header. Numbers instead of names ("4", counted from 1) mean a file without header.
    """
    path = Path(path)
    must_be_file(path)
    texts, labels, lines = [], [], []
    for line, cells in _rows(path, [*text, label]):
        if not cells[-1]:
            raise BadInput(f"{path}, line {line}: the label (column {label!r}) is empty; fill it in or remove the line")
        texts.append(tuple(cells[:-1]))
        labels.append(cells[-1])
        lines.append(line)
    if not labels:
        raise BadInput(f"{path} holds no examples, only a header; name a file with labelled rows")
    return Table(str(path), texts, labels, lines)


def read_tagged(path: str | Path, word: str = "", tag: str = "") -> Tagged:
    """The words and their tags, sentence by sentence.

    `word` and `tag` are column numbers from 1 (-1: the last), names of CoNLL-U columns, or fields of JSON lines.
    Unsaid: form and upos in CoNLL-U, "tokens" and "tags" in JSON lines, the first and the last column elsewhere.
    """
    path = Path(path)
    must_be_file(path)
    return _tagged(path, word, tag, path.stat().st_mtime_ns)


@lru_cache(maxsize=3)  # every run of a search over learning rates opens the same files
def _tagged(path: Path, word: str, tag: str, changed: int) -> Tagged:
    kind = _kind(path)
    if kind == "jsonl":
        sentences = _tagged_json(path, word or "tokens", tag or "tags")
    else:
        universal = kind == "conllu"
        names = (word or ("form" if universal else "1"), tag or ("upos" if universal else "-1"))
        sentences = _tagged_columns(path, [_column(path, name, universal) for name in names], universal)
    if not sentences:
        raise BadInput(f"{path} holds no tagged words; one word and its tag a line, a blank line after each sentence")
    words, tags, lines = ([[triple[k] for triple in sentence] for sentence in sentences] for k in range(3))
    return Tagged(str(path), words, tags, lines)  # type: ignore[arg-type]


def classes(labels: Sequence[str]) -> list[str]:
    """The different labels: whole numbers by size, others by the alphabet. ["10", "9", "9"] -> ["9", "10"]."""
    return sorted(set(labels), key=lambda x: (0, int(x), x) if x.isascii() and x.isdigit() else (1, 0, x))


def numbered(
    path: str, labels: Sequence[str], lines: Sequence[int], known: Sequence[str], trained_on: str
) -> list[int]:
    """Each label's number among the `known` ones; a label that training never saw cannot be scored."""
    index = {name: i for i, name in enumerate(known)}
    for label, line in zip(labels, lines, strict=True):
        if label not in index:
            raise BadInput(
                f"{path}, line {line}: the label {label!r} never occurs in {trained_on}, which has {shortened(known)}; "
                f"mend or remove the line, or add such an example to the training file"
            )
    return [index[label] for label in labels]


def shortened(names: Sequence[str], most: int = 12) -> str:
    """["a", "b"] -> "a, b"; long lists end in how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _kind(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".xz").lower()
    endings = {
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "jsonl",
        ".csv": "csv",
        ".tsv": "tsv",
        ".conllu": "conllu",
    }
    return next((kind for ending, kind in endings.items() if name.endswith(ending)), "")


def _rows(path: Path, wanted: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, the wanted cells) of every row."""
    kind = _kind(path)
    if not kind:
        first = next((line for _, line in numbered_lines(path) if line.strip()), "")
        kind = "jsonl" if first.lstrip().startswith("{") else "tsv" if "\t" in first else "csv"
    if kind == "jsonl":
        for line, record in _records(path):
            yield line, [_field(path, line, record, name) for name in wanted]
        return
    rows = (
        _comma_separated(path)
        if kind == "csv"
        else ((n, line.split("\t")) for n, line in numbered_lines(path) if line.strip())
    )
    sign = "comma" if kind == "csv" else "TAB"
    if all(name.isdigit() for name in wanted):
        places, header = [int(name) - 1 for name in wanted], []
    else:
        line, header = next(rows, (1, []))
        places = [_named(path, line, header, name) for name in wanted]
    for line, cells in rows:
        if (header and len(cells) != len(header)) or (not header and max(places) >= len(cells)):
            expected = f"the header has {len(header)}" if header else f"column {max(places) + 1} is asked for"
            raise BadInput(
                f"{path}, line {line}: {len(cells)} columns ({sign} separated), but {expected}; "
                f"is there a {sign} too many or too few in this line?"
            )
        yield line, [cells[place].strip() for place in places]


def _comma_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Quoted cells may hold commas and line ends; the line is the one on which a row begins."""
    began = 1
    reader = csv.reader((line + "\n" for _, line in numbered_lines(path)), strict=True)
    try:
        for cells in reader:
            if cells:
                yield began, cells
            began = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{path}, line {began}: {error}; a quote inside a quoted cell is written twice") from None


def _named(path: Path, line: int, header: list[str], name: str) -> int:
    stripped = [cell.strip() for cell in header]
    if name in stripped:
        return stripped.index(name)
    raise BadInput(
        f"{path}, line {line}: no column {name!r}; the header has: {shortened(stripped)}. "
        f"Name these, or columns by number (1 to {len(header)}) if the file has no header"
    )


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise BadInput(
                f'{path}, line {number}: not a JSON object; each line is one, like {{"text": "...", "label": "..."}}'
            )
        yield number, record


def _field(path: Path, line: int, record: dict[str, Any], name: str) -> str:
    value = _value(path, line, record, name)
    if value is None or isinstance(value, list | dict):
        raise BadInput(
            f"{path}, line {line}: field {name!r} is {json.dumps(value)[:40]}, not a text; mend it or name another"
        )
    return without_surrogates(value if isinstance(value, str) else json.dumps(value))


def _value(path: Path, line: int, record: dict[str, Any], name: str) -> Any:
    if name not in record:
        raise BadInput(
            f"{path}, line {line}: no field {name!r}; the fields there are: {shortened(list(record))}; name one of them"
        )
    return record[name]


def _tagged_json(path: Path, word: str, tag: str) -> list[Sentence]:
    sentences = []
    for line, record in _records(path):
        words, tags = (_value(path, line, record, name) for name in (word, tag))
        if not isinstance(words, list) or not isinstance(tags, list) or len(words) != len(tags):
            raise BadInput(f"{path}, line {line}: {word!r} and {tag!r} must be two lists of equal length")
        if words:
            pairs = zip(words, tags, strict=True)
            sentences.append([(without_surrogates(str(w)), without_surrogates(str(t)), line) for w, t in pairs])
    return sentences


def _column(path: Path, name: str, universal: bool) -> int:
    """ "2" -> 1, "-1" -> -1, and in CoNLL-U "form" -> 1."""
    if universal and name.lower() in CONLLU:
        return CONLLU.index(name.lower())
    try:
        number = int(name)
    except ValueError:
        names = f" or one of {', '.join(CONLLU)}" if universal else ""
        raise BadInput(f"{path}: column {name!r} of tagged text is a number from 1 (-1: the last){names}") from None
    if number == 0:
        raise BadInput(f"{path}: columns are counted from 1 (-1 is the last)")
    return number - 1 if number > 0 else number


def _tagged_columns(path: Path, columns: list[int], universal: bool) -> list[Sentence]:
    sentences: list[Sentence] = [[]]
    needed = max(2, *(column + 1 if column >= 0 else -column for column in columns))
    for number, line in numbered_lines(path):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if sentences[-1]:
                sentences.append([])
            continue
        if universal and line.startswith("#"):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        if universal and ("-" in cells[0] or "." in cells[0]):
            continue  # "3-4 don't" spans the words 3 and 4; "5.1" is a word that was left out
        if len(cells) < needed:
            raise BadInput(
                f"{path}, line {number}: {len(cells)} column{'s' * (len(cells) != 1)} ({line[:40]!r}), but {needed} "
                f"are needed; each line holds a word and its tag, separated by a TAB or spaces"
            )
        word, tag = (cells[column].strip() for column in columns)
        if not word or not tag:
            raise BadInput(f"{path}, line {number}: no {'tag' if word else 'word'} here ({line[:40]!r}); fill it in")
        sentences[-1].append((word, tag, number))
    return [sentence for sentence in sentences if sentence]
