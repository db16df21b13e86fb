"""Restoring case and punctuation: any text, lower-cased and stripped of its signs, labels itself for a tagger.

Each word asks two things at once: how it was written (lower, Capital, UPPER) and which sign followed it (none , . : ?).
Fifteen labels, "lower" to "UPPER?", learned as per-word tags; word order matters, so a bag of words cannot do it.

    derive("See PEP 8, please.")            -> ["see", "pep", "8", "please"], ["Capital", "UPPER", "lower,", "lower."]
    restore(["see", "pep"], ["Capital", "UPPER."]) -> "See PEP."
"""

from functools import lru_cache

CASES = ("lower", "Capital", "UPPER")
SIGNS = ("", ",", ".", ":", "?")
LABELS = [case + sign for case in CASES for sign in SIGNS]
USUAL = "lower"  # the label of a plain word
_SIGN_OF = {",": ",", ";": ",", ".": ".", "!": ".", "…": ".", ":": ":", "?": "?"}


def derive(text: str) -> tuple[list[str], list[str]]:
    """The words of a text as a tagger sees them, and the labels that it must restore.

    Words are what stands between spaces, without the signs around them; signs inside (don't, os.path) stay. Of the
    signs after a word the first that has a label counts, others (brackets, quotes) are lost. A word of mixed case
    (iPhone, ValueError) counts by its first letter. Spaces and lone signs ("-", ">>>") vanish.
    """
    words, labels = [], []
    for token in text.split():
        inside = [i for i, character in enumerate(token) if character.isalnum()]
        if not inside:
            continue
        word, after = token[inside[0] : inside[-1] + 1], token[inside[-1] + 1 :]
        words.append(lowered(word))
        labels.append(case(word) + next((_SIGN_OF[c] for c in after if c in _SIGN_OF), ""))
    return words, labels


def restore(words: list[str], labels: list[str]) -> str:
    """The text that the labels describe; `restore(*derive(text)) == text` for text that is written in them."""
    return " ".join(_written(word, label) for word, label in zip(words, labels, strict=True))


def case(word: str) -> str:
    """ "PEP" -> "UPPER", "Python", "ValueError", "I" -> "Capital", "iPhone", "3.14" -> "lower"."""
    letters = [c for c in word if _other(c)]
    if len(letters) > 1 and all(map(_is_upper, letters)):
        return "UPPER"
    return "Capital" if letters and _is_upper(letters[0]) else "lower"


def lowered(text: str) -> str:
    """Lower case, letter by letter; letters without an exact counterpart (ß) stay as they are."""
    return "".join(_other(c) if _is_upper(c) else c for c in text)


def _written(word: str, label: str) -> str:
    style = next(style for style in CASES if label.startswith(style))
    if style == "UPPER":
        word = "".join(c if _is_upper(c) else _other(c) or c for c in word)
    elif style == "Capital":
        first = next((i for i, c in enumerate(word) if _other(c)), None)
        if first is not None and not _is_upper(word[first]):
            word = word[:first] + _other(word[first]) + word[first + 1 :]
    return word + label[len(style) :]


@lru_cache(maxsize=4096)
def _other(letter: str) -> str:
    """The same letter in the other case, or "" if there is no single letter that leads back: "a" -> "A", "ß" -> ""."""
    other = letter.lower() if letter != letter.lower() else letter.upper()
    back = other.upper() if other == letter.lower() else other.lower()
    return other if len(other) == 1 and other != letter and back == letter else ""


def _is_upper(letter: str) -> bool:
    return bool(_other(letter)) and letter.lower() != letter
