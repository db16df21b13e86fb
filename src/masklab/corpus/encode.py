"""Tokenises much text fast: what was met before is looked up, and only the rest goes to the `tokenizers` library.

A tokenizer cuts the text into words before anything else, and what it makes of a word does not depend on its
neighbours. So the text is cut here first, at places where that tokenizer is known to cut as well, and the same stretch
is never tokenised twice: words are few (97.5 % of English Wikipedia's were met before), which is several times faster
than tokenising them all, with the same result. A tokenizer whose cuts are not known sees each text whole.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

import numpy as np

from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.units import code_points, word_bits

LONGEST = 500_000  # characters; a longer text is tokenised in stretches, cut at a line end or a space
_KEPT = 40  # longer stretches hardly ever come again
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
        self._any_side = self._cuts not in (None, _AT_SPACE, _AT_WHITE)
        self._forget()

    def __call__(self, texts: Sequence[str]) -> Tokens:
        pieces: list[str] = []  # they join to the texts
        ends = []
        for text in texts:
            for stretch in stretches(text):
                pieces += self._cuts.findall(stretch) if self._cuts else [stretch]
            ends.append(len(pieces))
        count = len(pieces)
        entry = np.fromiter(map(self._entry.get, pieces, repeat(-1)), np.int64, count)
        extra = self._learn(pieces, entry)
        length = np.fromiter(map(len, pieces), np.int64, count)
        sizes = self._first[entry + 1] - self._first[entry]
        behind = np.cumsum(sizes)
        total = int(behind[-1]) if count else 0
        place = np.arange(total) + np.repeat(self._first[entry] - behind + sizes, sizes)
        shift = np.repeat(np.cumsum(length) - length, sizes)
        bounds = np.append(0, behind)[np.array([0, *ends])]
        found = Tokens(
            self._ids[place], self._begin[place] + shift, self._end[place] + shift, self._words[place], np.diff(bounds)
        )
        if extra:  # the long ones are not kept
            self._used -= extra
        if self._used > _ENTRIES:
            self._forget()
        return found

    def _forget(self) -> None:
        self._entry: dict[str, int] = {}
        self._used = 0  # entries; entry i has the tokens first[i] to first[i + 1]
        self._first = np.zeros(1 << 10, np.int64)
        self._ids = np.zeros(1 << 12, self.tokenizer.dtype)
        self._begin, self._end = np.zeros(1 << 12, np.int32), np.zeros(1 << 12, np.int32)
        self._words = np.zeros(1 << 12, np.uint8)

    def _learn(self, pieces: list[str], entry: np.ndarray) -> int:
        """Tokenise the pieces that have no entry (-1) and give them one; how many of the entries are not to be kept."""
        missing = np.flatnonzero(entry < 0).tolist()
        if not missing:
            return 0
        number = dict.fromkeys([pieces[i] for i in missing], 0)
        kept = [piece for piece in number if len(piece) <= _KEPT]
        together = [piece for piece in kept if self._joinable(piece)]
        alone = [piece for piece in kept if not self._joinable(piece)]
        alone += [piece for piece in number if len(piece) > _KEPT]
        new = together + alone
        ids, begin, end, words, sizes = map(
            np.concatenate, zip(self._joined(together), self._tokenised(alone), strict=True)
        )
        held, used = int(self._first[self._used]), self._used
        self._first = _room(self._first, used + len(new) + 1)
        self._first[used + 1 : used + 1 + len(new)] = held + np.cumsum(sizes)
        self._ids, self._begin, self._end, self._words = (
            _put(table, held, values)
            for table, values in ((self._ids, ids), (self._begin, begin), (self._end, end), (self._words, words))
        )
        number = dict(zip(new, range(used, used + len(new)), strict=True))
        entry[missing] = [number[pieces[i]] for i in missing]
        self._entry.update(islice(number.items(), len(kept)))
        self._used += len(new)
        return len(new) - len(kept)

    def _joinable(self, piece: str) -> bool:
        """May this piece stand between others in one text, with the same result?"""
        if self._cuts is None:
            return False
        return self._any_side or (piece[0] == " " and _PLAIN_END.search(piece) is not None)

    def _joined(self, pieces: list[str]) -> tuple[np.ndarray, ...]:
        """As `_tokenised`, for short pieces: many in one text, as each call of the library takes its time."""
        spaced = [piece if _SPACED.match(piece) else " " + piece for piece in pieces]
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
        text = "".join(pieces)
        bits = word_bits(code_points(text), begin, end, fresh)
        begin = _visible(text, begin, end)
        return ids, begin - shift, end - shift, bits, sizes


def stretches(text: str) -> Iterator[str]:
    """A very long text in stretches that join to it again: one encoding of it all would take gigabytes."""
    while len(text) > LONGEST:
        cut = text.rfind("\n", 1, LONGEST) if "\n" in text[1:LONGEST] else text.rfind(" ", 1, LONGEST)
        cut = cut if cut > 0 else LONGEST
        yield text[:cut]
        text = text[cut:]
    yield text


def _visible(text: str, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Each token's first character that is no white space; some tokenizers count the space before a word, some do not,
    and some only at the beginning of a text. A token of white space alone keeps its own."""
    letter = np.array([*map(str.isspace, text), False])
    n = len(text)
    first = np.minimum.accumulate(np.where(letter, n, np.arange(n + 1))[::-1])[::-1][begin]
    return np.where(first < end, first, begin)


def _room(table: np.ndarray, size: int) -> np.ndarray:
    """The table, or a copy with room for at least `size`."""
    if size <= len(table):
        return table
    larger = np.zeros(max(size, 2 * len(table)), table.dtype)
    larger[: len(table)] = table
    return larger


def _put(table: np.ndarray, at: int, values: np.ndarray) -> np.ndarray:
    table = _room(table, at + len(values))
    table[at : at + len(values)] = values
    return table


# --- where a tokenizer may be relied on to cut -----------------------------------------------------------------------

_WHITE = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACED = re.compile(f"[{_WHITE}]")
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# A space after one of these is a cut to every tokenizer below: letters and digits (but for a few whose compatibility
# form has a space in it) and the usual signs, which no normaliser drops or turns into white space.
_PLAIN = r"0-9A-Za-z!-/:-@\[-`{-~\u00c0-\u0236\u0386-\u0481\u04d0-\u052f\u05d0-\u05ea\u0620-\u063f\u0641-\u064a"
_PLAIN += r"\u0904-\u0939\u1e00-\u1eff\u2010-\u2016\u2018-\u2027\u2030-\u203d\u203f-\u205e\u3001-\u3029\u3041-\u3096"
_PLAIN += r"\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff5e"
_PLAIN_END = re.compile(rf"[{_PLAIN}]\Z")
_AT_SPACE = re.compile(rf" *[^ ]+(?:(?<![{_PLAIN}]) +[^ ]+)*| +")
_AT_WHITE = re.compile(rf"[{_WHITE}]*[^{_WHITE}]+(?:(?<![{_PLAIN}])[{_WHITE}]+[^{_WHITE}]+)*|[{_WHITE}]+")
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT4 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {  # patterns of which no match has white space behind a visible character, but for line ends
    _GPT2,
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _GPT4,
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _GPT4.replace("{1,3}", ""),
    r" ?\p{Han}+| ?(?:(?!\p{Han})[^\s\p{P}\p{S}])+| ?[\p{P}\p{S}]|\s+",
}


def cuts(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """A pattern whose matches, side by side, are stretches of text that this tokenizer treats one by one; None: it is
    not known where it cuts."""
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
        return re.compile(f"[{_WHITE}]*(?:[{single}]|[^{_WHITE}{single}]+)|[{_WHITE}]+")
    if not all(_local(step) for step in steps):
        return None
    parts = _flat(before, "pretokenizers")
    if any(part.get("add_prefix_space") for part in parts + _flat(made["post_processor"], "processors")):
        return None  # the first word's offsets are not those of the others
    kinds = [step["type"] for step in parts]
    splits = [step["pattern"].get("Regex") for step in parts if step["type"] == "Split"]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return _AT_WHITE
    if kinds == ["WhitespaceSplit", "Metaspace"]:
        return _AT_WHITE
    if kinds == ["Metaspace"] and parts[0].get("split", True):
        return _AT_SPACE
    if kinds in (["Split", "ByteLevel"], ["Split", "Metaspace"]) and splits[0] in _SPLITS:
        return _AT_SPACE if parts[0]["behavior"] == "Isolated" and not parts[0]["invert"] else None
    return None


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
