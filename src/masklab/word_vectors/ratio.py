"""The table from which GloVe follows: how much more often a word stands near `ice` than near `steam`.

Pennington et al. 2014, section 3 and table 1. P(k | ice) is the share of k among the neighbours of ice. A word that
goes with ice and not with steam has a large ratio P(k | ice) / P(k | steam), one that goes with steam a small one.
Those that go with both, or with neither, are near 1: ratios tell relevant words from others better than the shares do.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors.cooccurrences import count_rows
from masklab.word_vectors.scan import encode
from masklab.word_vectors.sources import Corpus
from masklab.word_vectors.vocabulary import Vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EVEN = np.log(1.5)  # the logarithm of a ratio that is nearly 1
_FEW = 3  # a word that stands less often near either cannot be said to go with both


@dataclass(frozen=True)
class Ratios:
    """Of each word k: how often it stands near the first and the second word, which share that is, and their ratio."""

    first: str
    second: str
    words: list[str]
    counts: np.ndarray  # (2, words) float64
    shares: np.ndarray  # (2, words) float64: P(k | first), P(k | second)

    @property
    def ratios(self) -> np.ndarray:
        """(words,) float64: inf where k never stands near the second, nan where it stands near neither."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.shares[0] / self.shares[1]


def ratios(corpus: Corpus, first: str, second: str, words: list[str] | None = None, *, window: int = 10,
           by_distance: bool = False, min_count: int = 5, lowercase: bool = False, each: int = 4,
           threads: int = 0) -> Ratios:  # fmt: skip
    """Count the neighbours of two words in a corpus, up to `window` places to each side.

    words: of which k; None chooses `each` of those that tell the two apart most surely, and of those that go with both.
    by_distance: a neighbour d places away counts 1/d, as in training, not 1.
    """
    vocabulary, ids = encode(corpus, min_count=min_count, lowercase=lowercase, threads=threads)
    for word in (first, second, *(words or [])):
        if word not in vocabulary:
            raise BadInput(f"{word!r} does not stand {min_count} times in the corpus; "
                           "take another word, more text or a smaller min_count")  # fmt: skip
    pair = vocabulary.numbers([first, second])
    rows = count_rows(ids, len(vocabulary), pair.tolist(), window=window, by_distance=by_distance)
    totals = rows.sum(axis=1, keepdims=True)
    for word, total in zip((first, second), totals.ravel(), strict=True):
        if not total:
            raise BadInput(f"{word!r} has no neighbours: each time it is alone in its line")
    chosen = vocabulary.numbers(words) if words else telling(rows, vocabulary, each, pair)
    return Ratios(first, second, [vocabulary.words[k] for k in chosen], rows[:, chosen], rows[:, chosen] / totals)


def telling(rows: np.ndarray, vocabulary: Vocabulary, each: int, pair: np.ndarray) -> np.ndarray:
    """(up to 3 * each,) numbers: words that go with the first, with the second, with both.

    A word goes with one if its share there is larger than the other share, and larger than in the text at large. Both
    logarithms of ratios are taken at the lower end of what the counts allow (half a count added, two standard errors
    off), and the smaller one is what the word is judged by. A word that goes with both stands surely more often near
    each than in the text at large, at least a few times, and the ratio is nearly 1.
    """
    seen = rows + 0.5
    shares = seen / rows.sum(axis=1, keepdims=True)
    ratio = np.log(shares[0] / shares[1])
    doubt = 2 * np.sqrt((1 / seen).sum(axis=0))
    usual = np.log(shares / ((vocabulary.counts + 0.5) / vocabulary.counts.sum()))
    near = usual - 2 / np.sqrt(seen)
    both = (usual * np.sqrt(seen)).min(axis=0)
    scores = np.minimum(ratio - doubt, near[0]), np.minimum(-ratio - doubt, near[1]), both
    allowed = ratio > 0, ratio < 0, (np.abs(ratio) < _EVEN) & (rows.min(axis=0) >= _FEW)
    picked = []
    for score, good in zip(scores, allowed, strict=True):
        order = np.argsort(-score, kind="stable")
        good[pair] = False  # that ice stands near ice says nothing
        picked += [k for k in order[good[order]].tolist() if k not in picked][:each]
    return np.array(picked, np.int64)


def picture(found: Ratios) -> "Figure":
    """The table with a bar for each ratio, on a logarithmic scale: to the right of 1 what goes with the first word.

    A word that never stands near one of the two has a bar to the edge.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from masklab.word_vectors.pictures import COLOURS, FAINT, INK

    ratio, (first, second) = found.ratios, COLOURS[:2]
    known = np.isfinite(ratio) & (ratio > 0)
    edge = 1.6 * max(2.0, *np.maximum(ratio[known], 1 / ratio[known])) if known.any() else 10.0
    with mpl.rc_context({"font.size": 10, "text.color": INK, "svg.hashsalt": "masklab", "svg.fonttype": "path"}):
        figure = Figure(figsize=(8, 1.1 + 0.34 * len(found.words)), dpi=150)
        axes = figure.add_axes((0.47, 0.55 / figure.get_figheight(), 0.44, 1 - 1.1 / figure.get_figheight()))
        axes.set(xscale="log", xlim=(1 / edge, edge), ylim=(len(found.words) - 0.4, -0.6), yticks=[])
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set_color("#d5d5dc")
        axes.tick_params(colors=FAINT, labelsize=8, which="both")
        axes.axvline(1, color="#d5d5dc", lw=1, zorder=1)
        side = axes.get_yaxis_transform()
        names = [f"P(k | {word})" for word in (found.first, found.second)]
        heads = (-0.98, "k", "left"), (-0.42, names[0], "right"), (-0.05, names[1], "right"), (1.18, "ratio", "right")
        for x, text, align in heads:
            axes.text(x, -1, text, transform=side, ha=align, va="center", color=FAINT, size=9)
        for place, (word, shares, value) in enumerate(zip(found.words, found.shares.T, ratio, strict=True)):
            cells = (-0.98, word, "left"), (-0.42, f"{shares[0]:.1e}", "right"), (-0.05, f"{shares[1]:.1e}", "right")
            for x, text, align in (*cells, (1.18, "" if np.isnan(value) else f"{value:.3g}", "right")):
                axes.text(x, place, text, transform=side, ha=align, va="center")
            if not np.isnan(value):
                end = min(max(value, 1 / edge), edge)
                axes.barh(place, end - 1, left=1, height=0.55, color=first if value > 1 else second, zorder=2)
        scale = f"←  goes with {found.second}        {' / '.join(names)}        goes with {found.first}  →"
        axes.set_xlabel(scale, color=FAINT, size=8)
    return figure
