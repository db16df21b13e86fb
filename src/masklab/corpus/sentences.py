"""Finds where sentences begin: after an ended line, after . ! ? before a capital, and after 。！？.

A line end inside a document always ends a sentence (headings and list items have no full stop). The rules know the
common English abbreviations and initials; "U.S. Army" and "e.g. This" are kept whole, at the price of a missed end now
and then.
"""

import re
from itertools import pairwise

# what may end a sentence, with the quotes and brackets that close after it, and the space up to the next one; it begins
# with a set of characters, which the regular expression engine finds quickly
_ENDS = re.compile(r"[.!?。！？\n][.!?。！？]*[\"'”’)\]」』）]*\s*")
_OPENERS = "\"'“‘([{"
_INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")  # J (J. Smith), U.S, e.g
_KNOWN = (
    "mr mrs ms dr prof sr jr st mt ft rev hon gen col maj capt lt sgt cmdr adm gov sen rep pres fr messrs "
    "vs etc cf al ca approx est fig figs eq eqs sec no nos vol vols pp ed eds trans ch inc ltd co corp bros dept univ "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun"
)
_ABBREVIATIONS = frozenset(_KNOWN.split())


def starts(text: str) -> list[int]:
    """Character offsets of the sentences' first characters, in order.

    starts("Dr. Who came. He left!  Why?") -> [0, 14, 24]
    """
    first = len(text) - len(text.lstrip())
    if first == len(text):
        return []
    found = [first]
    for match in _ENDS.finditer(text, first):
        after = match.end()
        if after < len(text) and _ends_here(text, match):
            found.append(after)
    return found


def split(text: str) -> list[str]:
    """The sentences themselves, without the white space between them.

    split("So it is.\\nIs it?") -> ["So it is.", "Is it?"]
    """
    edges = [*starts(text), len(text)]
    return [text[a:b].rstrip() for a, b in pairwise(edges)]


def _ends_here(text: str, match: re.Match[str]) -> bool:
    """Is this the end of a sentence?"""
    ended = match.group()
    if "\n" in ended or (not ended.isascii() and any(sign in ended for sign in "。！？")):
        return True
    if not ended[-1].isspace():  # 3.5, example.org
        return False
    following = text[match.end()]
    if following.islower():
        return False
    if not ended.startswith(".") or ended.startswith(".."):
        return True
    begin = max(text.rfind(" ", 0, match.start()), text.rfind("\n", 0, match.start())) + 1
    word = text[begin : match.start()].lstrip(_OPENERS)
    if word.lower() in _ABBREVIATIONS:
        # "No. 5" and "fig. 3" go on; "He said no. Then" ends
        return word in ("no", "co", "sun", "sat", "mon", "mar", "jan") and not following.isdigit()
    return word == "I" or not _INITIALS.fullmatch(word)
