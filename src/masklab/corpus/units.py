"""Marks which tokens begin a word, a phrase or an entity, and which units are real ones, for any tokenizer.

Words are found in the text, by the rules of BERT's own pre-tokenizer (Devlin et al. 2019, `tokenization.py`): white
space ends a word, a punctuation sign or a Chinese character is one by itself. So, here, is a letter of the other
scripts that are written without spaces and cannot be told apart by rules (Thai, hiragana, ...), or a sentence would be
one word. Segmented Chinese words, phrases and entities come as character spans (layers.py), between which the words
remain. Tokens are then laid over the units by their character offsets, so that WordPiece, byte-level BPE and Unigram
agree on what a unit is; a token that straddles units merges them into one.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal

import numpy as np

from masklab.errors import BadInput

# A pair of bits for each layer: this token begins a unit; it belongs to a real unit (set on every token of it). A real
# word has a letter or a digit in it. Where no phrase (entity) stands, the units of that layer are the words, not real.
WORD_START, WORD_REAL, PHRASE_START, PHRASE_REAL, ENTITY_START, ENTITY_REAL = (1 << i for i in range(6))
START = {"words": WORD_START, "phrases": PHRASE_START, "entities": ENTITY_START}
LAYERS = tuple(START)
Unit = Literal["token", "word", "phrase", "entity"]
LAYER_OF: dict[str, str] = {"word": "words", "phrase": "phrases", "entity": "entities"}

_JOINS, _ALNUM, _SPACE, _SIGN, _SINGLE, _UNSPACED = range(6)  # kinds of characters; _SINGLE: Chinese, each a word
_TABLE = 0x32000  # code points above (private use, tags) are of the last one's kind
_CHINESE = [  # the blocks of BERT's tokenization.py
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]  # fmt: skip
_NO_SPACES = [  # Thai, Lao, Burmese, Khmer, Tai Le and New Tai Lue, Tai Tham, hiragana, Burmese extensions
    (0x0E00, 0x0E7F), (0x0E80, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
    (0x3041, 0x309F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),
]  # fmt: skip


def code_points(text: str) -> np.ndarray:
    """(characters,) uint32, so that character offsets are array indices."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def kinds(code: np.ndarray) -> np.ndarray:
    """(characters,) uint8: what each character does to words."""
    return _kind_table()[np.minimum(code, _TABLE - 1)]


def word_starts(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool: does a word, or a sign, begin here?"""
    alone = (kind >= _SIGN) & (kind != _UNSPACED)
    start = alone | (kind == _UNSPACED)
    follows = (kind[:-1] == _SPACE) | alone[:-1] | ((kind[:-1] == _UNSPACED) & (kind[1:] != _JOINS))
    start[1:] |= (kind[1:] != _SPACE) & follows
    start[:1] = kind[:1] != _SPACE
    return start


def written_starts(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool, as `word_starts` for whoever reads words as BERT does: a run of Thai is one word."""
    return word_starts(np.where(kind == _UNSPACED, _ALNUM, kind))


def word_characters(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool: part of a word, neither space nor sign."""
    return (kind != _SPACE) & (kind != _SIGN)


def letters(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool: a letter or digit."""
    return (kind == _ALNUM) | (kind == _SINGLE) | (kind == _UNSPACED)


def space(kind: np.ndarray) -> np.ndarray:
    """(characters,) bool: white space."""
    return kind == _SPACE


def chinese(code: np.ndarray) -> np.ndarray:
    """(characters,) bool: a Chinese character."""
    return kinds(code) == _SINGLE


def unspaced(code: np.ndarray) -> np.ndarray:
    """(characters,) bool: a letter of a script in which words stand without spaces between them."""
    kind = kinds(code)
    katakana = (code >= 0x30A0) & (code <= 0x30FF) & (kind == _ALNUM)
    return (kind == _SINGLE) | (kind == _UNSPACED) | katakana


def fine_starts(code: np.ndarray) -> np.ndarray:
    """(characters,) bool: where a word, a sign, or a single letter of an unspaced script begins."""
    return word_starts(np.where(unspaced(code), _UNSPACED, kinds(code)).astype(np.uint8))


def word_bits(code: np.ndarray, begin: np.ndarray, end: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """(tokens,) uint8 of WORD_START and WORD_REAL.

    code: (characters,) of a text; begin, end: (tokens,) character offsets into it; fresh: (tokens,) bool, first token
    of a document. "un ##real !" -> [3, 2, 1]
    """
    return unit_bits(code, begin, end, fresh, {})


def unit_bits(
    code: np.ndarray, begin: np.ndarray, end: np.ndarray, fresh: np.ndarray, layers: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(tokens,) uint8: the bits of words, and of each layer given by its (n, 2) sorted, disjoint character spans.

    code, begin, end, fresh: as for `word_bits`; the spans are offsets into `code` too. Spans of "words" are real words
    in place of what the rules say there. layers={"phrases": [[0, 8]]}: "New York !" -> [7 + 8, 3 + 8, 1 + 4]
    """
    if not len(begin):
        return np.zeros(0, np.uint8)
    kind = kinds(code)
    laid = _Laid(kind, code, begin, end, fresh)
    starts, real = word_starts(kind), letters(kind)
    if "words" in layers:
        starts, inside = with_spans(starts, layers["words"])
        bits = laid.bits(starts, real | inside, layers["words"])
    else:
        bits = laid.bits(starts, real)
    for place, name in enumerate(LAYERS[1:], 1):
        if name in layers:
            own, inside = with_spans(starts, layers[name])
            bits |= laid.bits(own, inside, layers[name]) << 2 * place
    return bits


def with_spans(starts: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where units begin when each span is one, and which characters are in a span; (characters,) bool both."""
    edge = np.zeros(len(starts) + 1, np.int32)
    edge[spans[:, 0]] += 1  # spans are disjoint, so no place comes twice
    edge[spans[:, 1]] -= 1
    inside = np.cumsum(edge[:-1]) > 0
    found = starts & ~inside
    found[spans[:, 0]] = True
    ends = spans[:, 1]
    found[ends[ends < len(starts)]] = True
    return found, inside


class _Laid:
    """Tokens over the characters of a text: all that does not depend on which units are asked for."""

    def __init__(self, kind: np.ndarray, code: np.ndarray, begin: np.ndarray, end: np.ndarray, fresh: np.ndarray):
        self.begin, self.end, self.fresh = begin, end, fresh
        n = len(kind)
        # the first visible character at or after each one: byte-level and Unigram tokens carry their leading space
        visible = np.minimum.accumulate(np.where(kind != _SPACE, np.arange(n), n)[::-1])[::-1]
        self.first = np.append(visible, n)[begin]
        self.blank = self.first >= end
        self.before_end = np.concatenate([[0], end[:-1]])
        # bytes of one character, or of one that the normaliser expanded
        self.shares = begin < self.before_end
        # Unigram may cut " city" into " " and "city": one word. A line end is never part of the next word.
        newline = np.append(code, 0)[begin] == 10
        after_blank = np.concatenate([[False], (self.blank & ~newline)[:-1]])
        self.joined = after_blank & (begin == self.before_end) & (self.first == begin)

    def bits(self, starts: np.ndarray, real: np.ndarray, spans: np.ndarray | None = None) -> np.ndarray:
        """(tokens,) uint8: 1 where a unit begins, 2 on all tokens of a unit with a real character in it."""
        # did a unit begin since the last token? (normalisers drop characters, so not always at this token's own first)
        begun = np.concatenate([[0], np.cumsum(np.append(starts, False))])
        at_unit = begun[self.first + 1] > begun[np.minimum(self.before_end, self.first)]
        blank = self.blank
        if spans is not None and len(spans):  # a blank token between two words of one unit is inside it
            after = np.searchsorted(spans[:, 0], self.begin)  # spans that begin before the token
            blank = blank & ~((after > 0) & (spans[np.maximum(after - 1, 0), 1] > self.begin))
        start = (blank | at_unit) & ~self.shares & ~self.joined | self.fresh
        counted = np.concatenate([[0], np.cumsum(real)])
        has = counted[self.end] > counted[self.begin]
        unit = np.cumsum(start) - 1
        has = np.logical_or.reduceat(has, np.flatnonzero(start))[unit]
        return (start + 2 * has).astype(np.uint8)


def start_bit(unit: str, layers: Iterable[str], data: str = "STORE") -> int:
    """The bit that says where a unit ("word", "phrase", "entity") begins, if the corpus has that layer."""
    name = LAYER_OF[unit]
    if name not in layers:
        raise BadInput(f"{data} has no layer of {name}; add it first: masklab units {data} --{name}")
    return START[name]


def longest_first(spans: np.ndarray) -> np.ndarray:
    """Sorted, disjoint (n, 2): of spans that overlap the longest wins, of equally long ones the first.

    [[0, 2], [1, 5], [4, 6]] -> [[1, 5]]; what only touches does not overlap
    """
    if not len(spans):
        return np.zeros((0, 2), np.int64)
    spans = np.unique(np.asarray(spans, np.int64), axis=0)
    while True:  # groups of spans that overlap in a chain; most are alone and stay
        begin, end = spans.T
        group = np.cumsum(np.append(True, begin[1:] >= np.maximum.accumulate(end)[:-1])) - 1
        if group[-1] + 1 == len(spans):
            return spans
        order = np.lexsort((begin, begin - end, group))
        winner = spans[order[np.unique(group[order], return_index=True)[1]]]  # (groups, 2)
        lost = (begin < winner[group, 1]) & (winner[group, 0] < end) & (spans != winner[group]).any(1)
        spans = spans[~lost]


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


def stretches(text: str, most: int) -> Iterator[str]:
    """A long text in stretches that join to it again, each cut before a line end or a space, if there is one."""
    at = 0
    while len(text) - at > most:
        cut = text.rfind("\n", at + 1, at + most)
        cut = cut if cut > 0 else text.rfind(" ", at + 1, at + most)
        cut = cut if cut > 0 else at + most
        yield text[at:cut]
        at = cut
    yield text[at:] if at else text


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
    for low, high in _NO_SPACES:
        table[low : high + 1][table[low : high + 1] == _ALNUM] = _UNSPACED
    return table
