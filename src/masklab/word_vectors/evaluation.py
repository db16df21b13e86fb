"""Measures word vectors by analogies (Google's questions-words, CA8, ...) and by people's judgement of similarity.

The figures are those of gensim (`evaluate_word_analogies`, `evaluate_word_pairs`) to the last digit: the same words are
looked at, the same ones left out. Analogies: Mikolov et al. 2013, "Efficient estimation of word representations in
vector space", section 4.1. CA8: Li et al. 2018, "Analogical reasoning on Chinese morphological and semantic relations".
WordSim-353: Finkelstein et al. 2002; SimLex-999: Hill et al. 2015.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from masklab.corpus.open_file import must_be_file, numbered_lines
from masklab.errors import BadInput
from masklab.word_vectors.keyed import Method, WordVectors

AMONG = 300_000  # words that are looked at, as in gensim
_CLOSE = 1e-5  # similarities that differ by less may change places with the order of additions
_CHOICES = 5  # answers that gensim looks through


class Answer(NamedTuple):
    question: tuple[str, str, str, str]  # a is to b as c is to d
    given: str  # what the vectors say for d
    right: bool


class Section(NamedTuple):
    name: str
    answers: list[Answer]
    unknown: int  # questions with a word that has no vector
    counted: int  # of the unknown ones, as wrong

    @property
    def right(self) -> int:
        return sum(answer.right for answer in self.answers)

    @property
    def asked(self) -> int:
        return len(self.answers) + self.counted

    @property
    def questions(self) -> int:
        """All that the file has, those that could not be asked among them."""
        return len(self.answers) + self.unknown

    @property
    def accuracy(self) -> float:
        """The share that is right, of those asked; 0 if none was, as gensim has it."""
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Analogies:
    sections: list[Section]
    skipped: int  # lines that are no question

    @property
    def total(self) -> Section:
        return _together("total", self.sections)

    @property
    def halves(self) -> list[Section]:
        """Semantic and syntactic questions apart, for files whose syntactic sections are named gram...: Google's."""
        syntactic = [section for section in self.sections if section.name.startswith("gram")]
        if not syntactic or len(syntactic) == len(self.sections):
            return []
        semantic = [section for section in self.sections if not section.name.startswith("gram")]
        return [_together("semantic", semantic), _together("syntactic", syntactic)]


class Correlation(NamedTuple):
    value: float  # NaN where fewer than two pairs are known
    p: float | None  # two-sided; None without scipy


@dataclass(frozen=True)
class Pairs:
    pearson: Correlation
    spearman: Correlation
    pairs: int  # all that the file has
    unknown: int  # of these, pairs with a word that has no vector
    asked: int  # pairs that went into the figures
    skipped: int  # lines that are no pair


def evaluate(
    vectors: WordVectors,
    path: str | Path,
    *,
    among: int | None = AMONG,
    ignore_case: bool = True,
    unknown_is_wrong: bool = False,
    method: Method = "add",
    compose: bool = False,
) -> Analogies | Pairs:
    """Measure by a file of analogies or of scored pairs, whichever it is. The options are those of the two below."""
    if kind_of(path) == "analogies":
        return analogies(
            vectors, path, among=among, ignore_case=ignore_case, unknown_is_wrong=unknown_is_wrong, method=method
        )
    return pairs(
        vectors, path, among=among, ignore_case=ignore_case, unknown_is_wrong=unknown_is_wrong, compose=compose
    )


def analogies(
    vectors: WordVectors,
    path: str | Path,
    *,
    among: int | None = AMONG,
    ignore_case: bool = True,
    unknown_is_wrong: bool = False,
    method: Method = "add",
) -> Analogies:
    """Answer every question "a is to b as c is to d" of a file, and count how often d is found.

    among: the first so many words are candidates, and a question with another word is unknown. ignore_case: of words
    that differ in case alone the first stands for all. unknown_is_wrong: unknown questions count as answered wrong
    instead of being left out (gensim's dummy4unknown). method: "add" (3CosAdd, as gensim) or "mul" (3CosMul).
    """
    asked, skipped = read_analogies(path)
    known = _known(vectors, among, ignore_case)
    spelled = str.upper if ignore_case else str
    numbers = [[[known.get(spelled(word), -1) for word in question] for question in some] for _, some in asked]
    flat = np.array([row for some in numbers for row in some if min(row) >= 0], np.int64).reshape(-1, 4)
    found, scores = vectors.answers(flat[:, :3], _CHOICES + 4, method, among)
    choose = _Chooser(vectors, spelled, among, method)
    given = map(choose, flat.tolist(), found.tolist(), scores.tolist())
    sections = []
    for (name, some), places in zip(asked, numbers, strict=True):
        answers, unknown = [], 0
        for question, row in zip(some, places, strict=True):
            if min(row) < 0:
                unknown += 1
                continue
            word = next(given)
            answers.append(Answer(question, word, spelled(word) == spelled(question[3])))
        sections.append(Section(name, answers, unknown, unknown if unknown_is_wrong else 0))
    return Analogies(sections, skipped)


class _Chooser:
    """Takes the best word that is none of the question's, in whatever case, out of the five best, as gensim does.

    A matrix product adds up in another order than the product of a matrix and a vector. Where that might decide, the
    question is asked once more, alone and in gensim's own steps.
    """

    def __init__(self, vectors: WordVectors, spelled: Callable[[str], str], among: int | None, method: Method):
        self.vectors, self.spelled, self.among, self.method = vectors, spelled, among, method

    def __call__(self, question: list[int], found: list[int], scores: list[float]) -> str:
        words = self.vectors.words
        a, b, c, _ = question
        without = {self.spelled(words[i]) for i in (a, b, c)}
        ranked = [i for i in found if i not in (a, b, c)]
        score = dict(zip(found, scores, strict=True))
        free = [i for i in ranked if self.spelled(words[i]) not in without]
        if self.method == "add" and len(free) > 1 and score[free[0]] - score[free[1]] < _CLOSE:
            ranked = self.alone(a, b, c)
        ranked = ranked[:_CHOICES]
        return words[next((i for i in ranked if self.spelled(words[i]) not in without), ranked[-1])] if ranked else ""

    def alone(self, a: int, b: int, c: int) -> list[int]:
        vectors, norms = self.vectors.vectors[: self.among], self.vectors.norms[: self.among]
        unit = [vectors[i] / norms[i] for i in (a, b, c)]
        wanted = ((unit[1] + unit[2]) - unit[0]).astype(np.float64) / 3
        wanted = (wanted * (1 / np.sqrt(np.dot(wanted, wanted)))).astype(np.float32)
        away = -(np.dot(vectors, wanted) / norms)
        best = np.argpartition(away, _CHOICES + 3)[: _CHOICES + 3] if len(away) > _CHOICES + 3 else np.arange(len(away))
        return [i for i in best[np.argsort(away[best])].tolist() if i not in (a, b, c)]


def pairs(
    vectors: WordVectors,
    path: str | Path,
    *,
    among: int | None = AMONG,
    ignore_case: bool = True,
    unknown_is_wrong: bool = False,
    compose: bool = False,
) -> Pairs:
    """Correlate the similarity of pairs of words with that which people gave them.

    unknown_is_wrong: a pair with an unknown word gets similarity 0 instead of being left out (gensim's dummy4unknown).
    compose: unknown words get the vector that fastText makes from their letters. Other options: as of `analogies`.
    """
    asked, skipped = read_pairs(path)
    if compose and vectors.unseen is None:
        raise BadInput("these vectors have none for unseen words; only a fastText model (a folder or .bin) makes them")
    known = _known(vectors, among, ignore_case)
    spelled = str.upper if ignore_case else str
    people, ours, unknown = [], [], 0
    for a, b, score in asked:
        places = [known.get(spelled(word)) for word in (a, b)]
        words = [word if i is None else vectors.words[i] for word, i in zip((a, b), places, strict=True)]
        if None in places:
            unknown += 1
        if None not in places or compose:
            ours.append(vectors.similarity(*words))
        elif unknown_is_wrong:
            ours.append(0.0)
        else:
            continue
        people.append(score)
    return Pairs(*_correlations(np.array(people), np.array(ours)), len(asked), unknown, len(people), skipped)


def _correlations(x: np.ndarray, y: np.ndarray) -> tuple[Correlation, Correlation]:
    """Pearson's and Spearman's."""
    if len(x) < 2 or len(set(x)) < 2 or len(set(y)) < 2:
        return Correlation(math.nan, None), Correlation(math.nan, None)
    try:
        from scipy import stats
    except ImportError:
        return Correlation(_pearson(x, y), None), Correlation(_pearson(ranks(x), ranks(y)), None)
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    return (
        Correlation(float(pearson.statistic), float(pearson.pvalue)),  # type: ignore[attr-defined]
        Correlation(float(spearman.statistic), float(spearman.pvalue)),  # type: ignore[attr-defined]
    )


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, from 1; equal ones share the mean of theirs: [5, 3, 5] -> [2.5, 1, 2.5]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def kind_of(path: str | Path) -> Literal["analogies", "pairs"]:
    """Sections that begin with a colon, or lines of four words: analogies. Lines of two words and numbers: pairs."""
    lines = [line for _, line in _lines(path)][:50]
    four = sum(len(fields := line.split()) == 4 and not any(map(_is_number, fields)) for line in lines)
    return "analogies" if any(line.startswith(":") for line in lines) or 2 * four > len(lines) else "pairs"


def read_analogies(path: str | Path) -> tuple[list[tuple[str, list[tuple[str, str, str, str]]]], int]:
    """Sections (": name") and their lines of four words, and how many lines were neither. CA8 is written so too."""
    sections: list[tuple[str, list[tuple[str, str, str, str]]]] = []
    skipped, first = 0, 0
    for number, line in _lines(path):
        if line.startswith(":"):
            sections.append((line[1:].strip(), []))
            continue
        if not sections:
            sections.append((Path(path).stem, []))  # a file without sections is one
        words = line.split()
        if len(words) == 4:
            sections[-1][1].append((words[0], words[1], words[2], words[3]))
        else:
            skipped, first = skipped + 1, first or number
    if not any(some for _, some in sections):
        where = f", line {first}: not four words" if skipped else " holds no questions"
        raise BadInput(f"{path}{where}; write lines 'a b c d' (a is to b as c is to d) under section lines ': name'")
    return sections, skipped


def read_pairs(path: str | Path) -> tuple[list[tuple[str, str, float]], int]:
    """Lines of two words and people's score, and how many lines were none; fields parted by TAB, comma, ; or spaces.

    Of several numbers the first is taken, or the column that a header calls SimLex999. Lines that begin with # are
    comments.
    """
    found: list[tuple[str, str, float]] = []
    column: int | None = None
    skipped, first = 0, 0
    for place, (number, line) in enumerate(_lines(path)):
        sign = next((sign for sign in "\t,;" if sign in line), None)
        fields = [field.strip() for field in line.split(sign)]
        numbers = [i for i, field in enumerate(fields) if i > 1 and _is_number(field)]
        if place == 0 and not numbers:  # the header
            column = fields.index("SimLex999") if "SimLex999" in fields else None
        elif numbers and all(fields[:2]) and (column is None or column in numbers):
            found.append((fields[0], fields[1], float(fields[numbers[0] if column is None else column])))
        else:
            skipped, first = skipped + 1, first or number
    if not found:
        where = f", line {first}: not two words and a number" if skipped else " holds no pairs"
        raise BadInput(f"{path}{where}; write lines 'word TAB word TAB score'")
    return found, skipped


def _lines(path: str | Path) -> Iterable[tuple[int, str]]:
    must_be_file(Path(path))
    lines = ((number, line.strip()) for number, line in numbered_lines(path))
    return ((number, line) for number, line in lines if line and not line.startswith("#"))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _known(vectors: WordVectors, among: int | None, ignore_case: bool) -> dict[str, int]:
    """The number of each word that may be asked about; of several that differ in case alone, the first."""
    words = vectors.words[:among]
    numbers = range(len(words) - 1, -1, -1)
    return {words[i].upper() if ignore_case else words[i]: i for i in numbers}


def _together(name: str, sections: Sequence[Section]) -> Section:
    answers = [answer for section in sections for answer in section.answers]
    return Section(name, answers, sum(s.unknown for s in sections), sum(s.counted for s in sections))
