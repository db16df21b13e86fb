"""One document as it goes through preparation: its text, where it stood, and the entities marked in it.

Offsets count characters (code points) of `text`, as Python does. Whoever changes a text must keep its length, as
`without_surrogates` does, or move the entities along.
"""

import re
from typing import Any, NamedTuple

from masklab.errors import BadInput

_HALVES = re.compile("[\ud800-\udfff]")


class Document(NamedTuple):
    text: str
    source: str = ""  # the file, or for the built-in corpus "package/module:name"
    line: int = 0  # where the document begins in that file, from 1; 0 = not from a file
    entities: tuple[tuple[int, int, str], ...] = ()  # (begin, end, type) in characters of `text`, by their begins
    group: str = ""  # such as its author, site or book: what is held out of training never divides one; "" = by itself


def without_surrogates(text: str) -> str:
    r"""JSON can spell half a character ("\ud83d" alone), which no file can hold: it becomes U+FFFD, one for one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _HALVES.sub("\ufffd", text)
    return text


def tidy(document: Document) -> Document:
    """Without half characters and the white space around the text; its entities move along."""
    whole = without_surrogates(document.text)
    text = whole.strip()
    if not document.entities or len(text) == len(whole):
        return document._replace(text=text)
    lead = len(whole) - len(whole.lstrip())
    moved = ((max(0, begin - lead), min(len(text), end - lead), kind) for begin, end, kind in document.entities)
    return document._replace(text=text, entities=tuple(span for span in moved if span[0] < span[1]))


def entities(value: Any, length: int, where: str) -> tuple[tuple[int, int, str], ...]:
    """The entity spans of a record of JSON or Parquet, over a text of `length` characters.

    Each is [begin, end], [begin, end, type], or an object with start|begin, end and label|type; `where` opens the
    message about one that is neither, or not in the text.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadInput(f"{where}: entities is {type(value).__name__}, not a list; write [[begin, end, type], ...]")
    found = []
    for given in value:
        if isinstance(given, dict):
            begin, end = given.get("start", given.get("begin")), given.get("end")
            kind = given.get("label", given.get("type", given.get("entity_group", "")))
        elif isinstance(given, list) and len(given) in (2, 3):
            begin, end, kind = (*given, "")[:3]
        else:
            begin = end = kind = None
        if not (type(begin) is int and type(end) is int and isinstance(kind, str)):
            raise BadInput(f"{where}: the entity {str(given)[:60]} is not understood; write [begin, end, type]")
        if not 0 <= begin < end <= length:
            raise BadInput(
                f"{where}: the entity {str(given)[:60]} is outside its text of {length} characters or empty; "
                f"offsets count characters from 0, the end is not included"
            )
        found.append((begin, end, kind))
    return tuple(sorted(found))


def group_of(value: Any, where: str = "", field: str = "") -> str:
    """The group that a record names: a text, or a whole number; nothing stands for none."""
    if value is None or isinstance(value, str):
        return without_surrogates(value or "").strip()
    if type(value) is int:
        return str(value)
    raise BadInput(f"{where}: field {field!r} is {type(value).__name__}; --group names one of text or whole numbers")
