"""Marks which tokens begin a word, and which words are real ones (not punctuation), for any tokenizer.

Words are found in the text, by the rules of BERT's own pre-tokenizer (Devlin et al. 2019, `tokenization.py`): white
space ends a word, a punctuation sign or a Chinese character is one by itself. Tokens are then laid over the words by
their character offsets, so that WordPiece, byte-level BPE and Unigram agree on what a word is; a token that straddles
words merges them into one unit.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

WORD_START = 1  # this token begins a word
WORD_REAL = 2  # this token belongs to a word with a letter or a digit in it (set on every token of the word)

_JOINS, _ALNUM, _SPACE, _SIGN, _SINGLE = range(5)  # kinds of characters; _SINGLE: Chinese, each a word
_TABLE = 0x32000  # code points above (private use, tags) are of the last one's kind
_CHINESE = [  # the blocks of BERT's tokenization.py
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]  # fmt: skip


def code_points(text: str) -> np.ndarray:
    """(characters,) uint32, so that character offsets are array indices."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def kinds(code: np.ndarray) -> np.ndarray:
    """(characters,) uint8: what each character does to words."""
    return _kind_table()[np.minimum(code, _TABLE - 1)]


def word_starts(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool: does a word, or a sign, begin here?"""
    alone = kind >= _SIGN
    start = alone.copy()
    start[1:] |= (kind[1:] != _SPACE) & ((kind[:-1] == _SPACE) | alone[:-1])
    start[:1] = kind[:1] != _SPACE
    return start


def word_characters(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool: part of a word, neither space nor sign."""
    return (kind != _SPACE) & (kind != _SIGN)


def word_bits(code: np.ndarray, begin: np.ndarray, end: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """(tokens,) uint8 of WORD_START and WORD_REAL.

    code: (characters,) of a text; begin, end: (tokens,) character offsets into it; fresh: (tokens,) bool, first token
    of a document. "un ##real !" -> [3, 2, 1]
    """
    if not len(begin):
        return np.zeros(0, np.uint8)
    kind = kinds(code)
    n = len(kind)
    # the first visible character at or after each one: byte-level and Unigram tokens carry their leading space
    visible = np.minimum.accumulate(np.where(kind != _SPACE, np.arange(n), n)[::-1])[::-1]
    visible = np.append(visible, n)
    first = visible[begin]
    blank = first >= end
    before_end = np.concatenate([[0], end[:-1]])
    # did a word begin since the last token? (normalisers drop characters, so not always at this token's own first)
    begun = np.concatenate([[0], np.cumsum(np.append(word_starts(kind), False))])
    at_word = begun[first + 1] > begun[np.minimum(before_end, first)]
    shares = (begin < before_end) & ~blank  # bytes of one character, or of one the normaliser expanded
    # Unigram may cut " city" into " " and "city": one word. A line end is never part of the next word.
    newline = np.append(code, 0)[begin] == 10
    joined = np.concatenate([[False], (blank & ~newline)[:-1]]) & (begin == before_end) & (first == begin)
    start = (blank | at_word) & ~shares & ~joined | fresh
    letters = np.concatenate([[0], np.cumsum((kind == _ALNUM) | (kind == _SINGLE))])
    real = letters[end] > letters[begin]
    unit = np.cumsum(start) - 1
    real = np.logical_or.reduceat(real, np.flatnonzero(start))[unit]
    return (start * WORD_START + real * WORD_REAL).astype(np.uint8)


def batched(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Lists of texts of about so many characters, for numpy to work on at once."""
    held, size = [], 0
    for text in texts:
        held.append(text)
        size += len(text) + 1
        if size >= characters:
            yield held
            held, size = [], 0
    if held:
        yield held


@lru_cache(maxsize=1)
def _kind_table() -> np.ndarray:
    table = np.full(_TABLE, _JOINS, np.uint8)
    for point in range(_TABLE - 1):
        character = chr(point)
        if character.isspace():
            table[point] = _SPACE
        elif character.isalnum():
            table[point] = _ALNUM
        elif unicodedata.category(character)[0] == "P" or (point < 128 and character.isprintable()):
            table[point] = _SIGN
    for low, high in _CHINESE:
        table[low : high + 1] = _SINGLE
    return table
