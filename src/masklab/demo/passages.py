"""Finds plain prose in documentation, between its tables, parameter lists and code, and cuts it into passages."""

import re

_PROSE = re.compile(r"[A-Z][a-z]*[ ,]")  # begins with a capitalised word
_CODE = re.compile(r">>>|\.\. |::|==|--|[{}<>|=\\]|\w\(|^\s*[-*+] ")


def prose(text: str, least: int = 5, most: int = 120) -> list[str]:
    """The paragraphs of a document that read as prose, each on one line.

    prose("Sorts a list in place.\\n\\n>>> x.sort()\\n\\nThe sort is stable,\\nas equal items keep their order.")
    -> ["Sorts a list in place.", "The sort is stable, as equal items keep their order."]
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = paragraph.split()
        if not least <= len(words) <= most or any(line[:1].isspace() for line in paragraph.split("\n")[1:]):
            continue
        line = " ".join(words)
        plain = sum(word.strip(",.:;?!()'\"`").isalpha() for word in words)
        if _PROSE.match(line) and line[-1] in ".?!" and not _CODE.search(line) and plain >= 0.85 * len(words):
            found.append(line)
    return found


def windows(words: list[str], size: int = 24, edge: int = 3) -> list[tuple[int, int]]:
    """Stretches [a, b) of a text, cut wherever they fill up, not where sentences end: their ends tell nothing.

    The first and last `edge` words of the text are left out, and stretches shorter than half of `size`.
    windows(60 words) -> [(3, 27), (27, 51)]
    """
    last = len(words) - edge
    cut = [(a, min(a + size, last)) for a in range(edge, last, size)]
    return [(a, b) for a, b in cut if b - a >= size // 2]
