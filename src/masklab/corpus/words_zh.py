"""Finds Chinese words, which no space separates: rjieba cuts, a person's own dictionary has its say.

A prefix dictionary and the likeliest path through it, unknown words by a hidden Markov model (jieba and its port to
Rust). Only words of two or more characters with a Chinese one among them are spans; everything else is left to the
rules of units.py. Traditional characters are read as simplified ones for the cutting, if asked; the text stays.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masklab.corpus.entities import Gazetteer
from masklab.corpus.units import chinese, code_points, longest_first
from masklab.corpus.word_items import BETWEEN, by_text
from masklab.errors import BadInput

_LINE = re.compile(r"(.+?)(?: (\d+))?(?: ([a-zA-Z]+))?")  # jieba's dictionaries: word, frequency, part of speech
_SEEN = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbfa-zA-Z0-9+#&._%-]+")  # what rjieba keeps together at all


class ChineseWords:
    """`ChineseWords()(texts)` -> one (n, 2) array of character offsets for each text, sorted, disjoint.

    dictionary: a file in jieba's form, `word [frequency] [part of speech]` a line; without a frequency the word gets
    the one that keeps it whole. simplify: cut traditional characters as their simplified ones (needs opencc).
    """

    def __init__(self, dictionary: str | Path | None = None, simplify: bool = False):
        try:
            import rjieba
        except ImportError:
            raise BadInput("Chinese words need rjieba: pip install 'masklab[zh]'") from None
        self._convert = _converter() if simplify else None
        self._jieba = rjieba.Jieba()
        self._single: dict[str, str] = {}
        self.left_out: list[str] = []  # words of the dictionary that are no Chinese words
        self._own: Gazetteer | None = None
        if dictionary is not None:
            self._learn(read_dictionary(dictionary))

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        joined = BETWEEN.join(texts)
        code = code_points(joined)
        is_chinese = chinese(code)
        if not is_chinese.any():
            return [np.zeros((0, 2), np.int64)] * len(texts)
        words = self._jieba.cut(joined if self._convert is None else self._simplified(joined))
        end = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        begin = np.append(0, end[:-1])
        counted = np.append(0, np.cumsum(is_chinese))
        keep = (end - begin > 1) & (counted[end] > counted[begin])
        spans = np.stack([begin[keep], end[keep]], 1)
        found = by_text(spans, texts)
        if self._own is not None:
            found = [longest_first(np.concatenate(two)) for two in zip(found, self._own(texts), strict=True)]
        return found

    def _learn(self, entries: list[tuple[str, int | None, str | None]]) -> None:
        unseen = []
        for word, frequency, tag in entries:
            if len(word) < 2 or not chinese(code_points(word)).any():
                self.left_out.append(word)
            elif _SEEN.fullmatch(word):
                self._jieba.add_word(word if self._convert is None else self._simplified(word), frequency, tag)
            else:
                unseen.append(word)  # 列奥纳多·达·芬奇: rjieba would cut at the dots
        if unseen:
            self._own = Gazetteer(unseen)

    def _simplified(self, text: str) -> str:
        """As long as the text, so that offsets hold: a line that comes out longer or shorter is read by characters."""
        assert self._convert is not None
        whole = self._convert(text)
        if len(whole) == len(text):
            return whole
        lines = text.split("\n")
        converted = [self._convert(line) for line in lines]
        return "\n".join(
            new if len(new) == len(old) else "".join(map(self._one, old))
            for old, new in zip(lines, converted, strict=True)
        )

    def _one(self, character: str) -> str:
        if character not in self._single:
            assert self._convert is not None
            found = self._convert(character)
            self._single[character] = found if len(found) == 1 else character
        return self._single[character]


def read_dictionary(path: str | Path) -> list[tuple[str, int | None, str | None]]:
    """(word, frequency, part of speech) of each line."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path} does not exist; name a dictionary with a word a line")
    found = []
    try:
        for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
            line = " ".join(line.split())
            if line:
                word, frequency, tag = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]
                if frequency is not None and len(frequency) > 12:
                    raise BadInput(f"{path}, line {number}: {frequency} is no frequency; write a smaller number")
                found.append((word, None if frequency is None else int(frequency), tag))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8; convert it: iconv -f gb18030 -t utf-8 {path} > new.txt") from None
    if not found:
        raise BadInput(f"{path} holds no word; write one a line")
    return found


def traditional_share(texts: Sequence[str]) -> float | None:
    """What share of the Chinese characters are written otherwise in simplified text; None without opencc."""
    try:
        convert = _converter()
    except BadInput:
        return None
    changed = seen = 0
    for text in texts:
        code, simple = code_points(text), code_points(convert(text))
        if len(code) == len(simple):
            changed += int((code != simple).sum())
            seen += int(chinese(code).sum())
    return changed / max(1, seen)


def _converter() -> Any:
    try:
        import opencc
    except ImportError:
        raise BadInput(
            "reading traditional characters as simplified ones needs opencc: pip install 'masklab[zh]'"
        ) from None
    return opencc.OpenCC("t2s").convert
