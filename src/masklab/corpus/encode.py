"""Tokenises much text fast: what was met before is looked up, and only the rest goes to the `tokenizers` library.

A tokenizer cuts the text into words before anything else, and what it makes of a word does not depend on its
neighbours. So the text is cut here first, at places where that tokenizer is known to cut as well, and the same stretch
is never tokenised twice: words are few (97.5 % of English Wikipedia's were met before), which is several times faster
than tokenising them all, with the same result. A tokenizer whose cuts are not known sees each text whole.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, compress
from typing import Any, NamedTuple

import numpy as np

from masklab.corpus.met import LONGEST, Met, put
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.units import code_points, kinds, space, stretches, word_bits

STRETCH = 500_000  # characters; a longer text is tokenised in stretches: one encoding of it all would take gigabytes
_AT_ONCE = 250_000  # characters worked on together: what numpy makes of them stays in the processor's cache
_TOGETHER = 1000  # short stretches tokenised as one text
_ENTRIES = 400_000  # stretches remembered, about 100 MB; all are forgotten when there are more


class Tokens(NamedTuple):
    """The tokens of several texts, one text after the other."""

    ids: np.ndarray  # (tokens,) of the tokenizer's dtype
    begin: np.ndarray  # (tokens,) int64: the first visible character, counted through all the texts
    end: np.ndarray  # (tokens,) int64: the character behind the last
    words: np.ndarray  # (tokens,) uint8: WORD_START and WORD_REAL by the rules of units.py
    lengths: np.ndarray  # (texts,) int64: tokens of each text


class Encoder:
    """`Encoder(tokenizer)(texts)` -> Tokens. One object keeps what it has met, so use it for many batches."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._cuts = cuts(tokenizer)
        self._forget()

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """The tokens of the texts, found for some hundred thousand characters at a time."""
        found = [_nothing(self.tokenizer)]
        owner, held, size, begun = [], [], 0, 0
        for number, text in enumerate(texts):
            for stretch in stretches(text, STRETCH):
                if size and size + len(stretch) > _AT_ONCE:
                    found.append(self._some(held, begun))
                    held, size, begun = [], 0, begun + size
                if stretch:
                    owner.append(number)
                    held.append(stretch)
                    size += len(stretch)
        if held:
            found.append(self._some(held, begun))
        ids, begin, end, words, lengths = map(np.concatenate, zip(*found, strict=True))
        return Tokens(ids, begin, end, words, np.bincount(owner, lengths, len(texts)).astype(np.int64))

    def _some(self, texts: list[str], begun: int) -> Tokens:
        """Tokens of texts, none empty, before which there were so many characters."""
        text = "".join(texts)
        code = code_points(text)
        bounds = np.cumsum([0, *map(len, texts)])
        starts = np.zeros(len(code) + 1, bool)
        starts[bounds] = True
        starts = starts[:-1]
        if self._cuts:
            starts |= self._cuts.inside(code, bounds)
        start = np.flatnonzero(starts)
        length = np.diff(start, append=len(code))
        hashes, entry = self._met.find(code, start, length)
        missing = np.flatnonzero(entry < 0)
        if len(missing):
            a, b = start[missing], start[missing] + length[missing]
            pieces = [text[i:j] for i, j in zip(a.tolist(), b.tolist(), strict=True)]
            entry[missing] = self._learn(pieces, hashes[missing])
        sizes = self._first[entry + 1] - self._first[entry]
        behind = np.cumsum(sizes)
        place = np.arange(behind[-1]) + np.repeat(self._first[entry] - behind + sizes, sizes)
        shift = np.repeat(start + begun, sizes)
        upto = np.append(0, behind)[np.searchsorted(start, bounds)]
        found = Tokens(
            self._ids[place], self._begin[place] + shift, self._end[place] + shift, self._words[place], np.diff(upto)
        )
        if self._met.count > _ENTRIES:
            self._forget()
        return found

    def _forget(self) -> None:
        self._met = Met()  # piece i of these has the tokens first[i] to first[i + 1]
        self._first = np.zeros(1 << 10, np.int64)
        self._ids = np.zeros(1 << 12, self.tokenizer.dtype)
        self._begin, self._end = np.zeros(1 << 12, np.int32), np.zeros(1 << 12, np.int32)
        self._words = np.zeros(1 << 12, np.uint8)

    def _learn(self, pieces: list[str], hashes: np.ndarray) -> list[int]:
        """Tokenise pieces that were not met: the place of each in the tables. Long ones stay there until the next."""
        number = dict(zip(pieces, range(len(pieces)), strict=True))
        short = [piece for piece in number if len(piece) <= LONGEST]
        together, alone = self._parted(short)
        kept = together + alone
        new = kept + [piece for piece in number if len(piece) > LONGEST]
        ids, begin, end, words, sizes = map(
            np.concatenate, zip(self._joined(together), self._tokenised(new[len(together) :]), strict=True)
        )
        used = self._met.count
        held = int(self._first[used])
        self._first = put(self._first, used + 1, held + np.cumsum(sizes))
        self._ids, self._begin, self._end, self._words = (
            put(table, held, values)
            for table, values in ((self._ids, ids), (self._begin, begin), (self._end, end), (self._words, words))
        )
        self._met.add(kept, hashes[[number[piece] for piece in kept]])
        number = dict(zip(new, range(used, used + len(new)), strict=True))
        return [number[piece] for piece in pieces]

    def _parted(self, pieces: list[str]) -> tuple[list[str], list[str]]:
        """Those that may stand between others in one text with the same result, and those that may not."""
        if self._cuts is None:
            return [], pieces
        if self._cuts.plain is None:
            return pieces, []
        joins = [piece[0] == " " and _PLAIN_END.search(piece) is not None for piece in pieces]
        return [*compress(pieces, joins)], [piece for piece, yes in zip(pieces, joins, strict=True) if not yes]

    def _joined(self, pieces: list[str]) -> tuple[np.ndarray, ...]:
        """As `_tokenised`, for short pieces: many in one text, as each call of the library takes its time."""
        spaced = [piece if piece[0] in _SPACES else " " + piece for piece in pieces]
        groups = ["".join(spaced[at : at + _TOGETHER]) for at in range(0, len(spaced), _TOGETHER)]
        ids, begin, end, bits, sizes = self._tokenised(groups)
        lengths = np.fromiter(map(len, groups), np.int64, len(groups))
        shift = np.repeat(np.cumsum(lengths) - lengths, sizes)
        own = np.fromiter(map(len, spaced), np.int64, len(spaced))
        edge = np.cumsum(own)
        owner = np.searchsorted(edge, begin + shift, side="right")
        shift -= (edge - np.fromiter(map(len, pieces), np.int64, len(pieces)))[owner]
        return ids, begin + shift, end + shift, bits, np.bincount(owner, minlength=len(pieces))

    def _tokenised(self, pieces: list[str]) -> tuple[np.ndarray, ...]:
        """ids, begin, end, word bits of the pieces' tokens, offsets from each piece's start, and (pieces,) sizes."""
        encodings = self.tokenizer.encodings(pieces)
        sizes = np.fromiter(map(len, encodings), np.int64, len(encodings))
        total = int(sizes.sum())
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), self.tokenizer.dtype, total)
        spans = np.fromiter(chain.from_iterable(chain.from_iterable(e.offsets) for e in encodings), np.int64, 2 * total)
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        shift = np.repeat(np.cumsum(lengths) - lengths, sizes)
        begin, end = spans[::2] + shift, spans[1::2] + shift
        fresh = np.zeros(total, bool)
        fresh[(np.cumsum(sizes) - sizes)[sizes > 0]] = True
        code = code_points("".join(pieces))
        bits = word_bits(code, begin, end, fresh)
        begin = _visible(code, begin, end)
        return ids, begin - shift, end - shift, bits, sizes


def _visible(code: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Each token's first character that is no white space; some tokenizers count the space before a word, some do not,
    and some only at the beginning of a text. A token of white space alone keeps its own."""
    blank = np.append(space(kinds(code)), False)
    n = len(code)
    first = np.minimum.accumulate(np.where(blank, n, np.arange(n + 1))[::-1])[::-1][begin]
    return np.where(first < end, first, begin)


def _nothing(tokenizer: Tokenizer) -> Tokens:
    none = np.zeros(0, np.int64)
    return Tokens(none.astype(tokenizer.dtype), none, none, none.astype(np.uint8), none)


# --- where a tokenizer may be relied on to cut -----------------------------------------------------------------------

_WHITE = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACES = frozenset(re.findall(f"[{_WHITE}]", "".join(map(chr, range(0x3001)))))
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# A space after one of these is a cut to every tokenizer below: letters and digits (but for a few whose compatibility
# form has a space in it) and the usual signs, which no normaliser drops or turns into white space.
_PLAIN = r"0-9A-Za-z!-/:-@\[-`{-~\u00c0-\u0236\u0386-\u0481\u04d0-\u052f\u05d0-\u05ea\u0620-\u063f\u0641-\u064a"
_PLAIN += r"\u0904-\u0939\u1e00-\u1eff\u2010-\u2016\u2018-\u2027\u2030-\u203d\u203f-\u205e\u3001-\u3029\u3041-\u3096"
_PLAIN += r"\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff5e"
_PLAIN_END = re.compile(rf"[{_PLAIN}]\Z")
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT4 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {  # patterns of which no match has white space behind a visible character, but for line ends
    _GPT2,
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _GPT4,
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _GPT4.replace("{1,3}", ""),
    r" ?\p{Han}+| ?(?:(?!\p{Han})[^\s\p{P}\p{S}])+| ?[\p{P}\p{S}]|\s+",
}


class Cuts(NamedTuple):
    """Where a tokenizer cuts: (0x110000,) bool each, by code point.

    Pieces begin with white space, if there is any. Where there is none, they begin before and behind a `single` sign.
    White space is a cut only behind a `plain` character, if those are given, or at the end of the text.
    """

    white: np.ndarray
    single: np.ndarray | None = None
    plain: np.ndarray | None = None

    def inside(self, code: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """(characters,) bool: the pieces' first characters, not counting where texts begin.

        code: (characters,) of texts, none empty; bounds: (texts + 1,) their first characters, and the end.
        """
        white = self.white[code]
        run = white.copy()
        run[1:] &= ~white[:-1]
        run[bounds[:-1]] = white[bounds[:-1]]
        if self.plain is None:
            assert self.single is not None
            single = self.single[code]
            found = run | single
            found[1:] |= single[:-1]
            found[1:] &= ~white[:-1]
            return found
        found = run.copy()
        found[1:] &= self.plain[code[:-1]]
        last = bounds[1:] - 1
        last = last[white[last]]  # of texts that end in white space: where does that begin?
        if len(last):
            found[np.maximum.accumulate(np.where(run, np.arange(len(code)), 0))[last]] = True
        return found


def cuts(tokenizer: Tokenizer) -> Cuts | None:
    """Where a text may be cut into stretches that this tokenizer treats one by one; None: it is not known."""
    made: dict[str, Any] = json.loads(tokenizer.inner.to_str())
    before, model = made["pre_tokenizer"], made["model"]
    steps = _flat(made["normalizer"], "normalizers")
    # an entry that was added to the vocabulary is found in the text before all else, spaces in it or not
    if before is None or model.get("dropout") or any(not added["special"] for added in made["added_tokens"]):
        return None
    if before["type"] == "BertPreTokenizer":
        if [step["type"] for step in steps] != ["BertNormalizer"]:
            return None
        single = _signs(tokenizer) + (_CHINESE if steps[0]["handle_chinese_chars"] else "")
        return Cuts(_those(_WHITE), single=_those(single))
    if not all(_local(step) for step in steps):
        return None
    parts = _flat(before, "pretokenizers")
    if any(part.get("add_prefix_space") for part in parts + _flat(made["post_processor"], "processors")):
        return None  # the first word's offsets are not those of the others
    kinds = [step["type"] for step in parts]
    splits = [step["pattern"].get("Regex") for step in parts if step["type"] == "Split"]
    at_white, at_space = (Cuts(_those(white), plain=_those(_PLAIN)) for white in (_WHITE, " "))
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return at_white
    if kinds == ["WhitespaceSplit", "Metaspace"]:
        return at_white
    if kinds == ["Metaspace"] and parts[0].get("split", True):
        return at_space
    if kinds in (["Split", "ByteLevel"], ["Split", "Metaspace"]) and splits[0] in _SPLITS:
        return at_space if parts[0]["behavior"] == "Isolated" and not parts[0]["invert"] else None
    return None


@lru_cache(maxsize=8)
def _those(characters: str) -> np.ndarray:
    """(0x110000,) bool: is it in the brackets of a regular expression? None is of those beyond U+FFFF."""
    found = np.zeros(0x110000, bool)
    found[[match.start() for match in re.finditer(f"[{characters}]", "".join(map(chr, range(1 << 16))))]] = True
    return found


def _flat(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [each for inner in step[inside] for each in _flat(inner, inside)]
    return [step]


def _local(step: dict[str, Any]) -> bool:
    """Does this normaliser do the same to two stretches, the second of which begins with a space, as to their join?"""
    kind = step["type"]
    if kind == "Replace":
        given = step["pattern"]
        if "Regex" in given:
            return given["Regex"] in (r"\s+", " {2,}", r" +") and step["content"] == " "
        return not any(letter.isspace() for letter in given["String"] + step["content"])
    if kind == "BertNormalizer":
        return not step["handle_chinese_chars"]  # it puts spaces around them
    if kind == "Strip":
        return not step["strip_left"]
    return kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "Precompiled")


def _signs(tokenizer: Tokenizer) -> str:
    """The punctuation that this tokenizer sets apart, for the inside of a regular expression's brackets."""
    found = []
    normalise, split = tokenizer.inner.normalizer.normalize_str, tokenizer.inner.pre_tokenizer.pre_tokenize_str
    for point in [*range(0x21, 0x7F), *range(0xA1, 0x3000), *range(0x3001, 0x3100), *range(0xFE10, 0xFF66)]:
        sign = chr(point)
        if not sign.isalnum() and (point < 0x7F or unicodedata.category(sign)[0] == "P"):
            seen = [piece for piece, _ in split(normalise(f"a{sign}a"))]
            if len(seen) == 3 and len(seen[1]) == 1 and seen[0] == seen[2] == "a":
                found.append(re.escape(sign))
    return "".join(found)
