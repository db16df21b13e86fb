"""Words on a map: vectors in two dimensions, groups in colours, analogies as arrows that ought to be parallel.

save(word_map(vectors, ["king", "queen", ...]), "map.png")            # .png, .svg or .pdf, by the name
save(word_map(vectors, pairs=[("man", "woman"), ("king", "queen")]), "royal.svg")
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager

from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.word_vectors.fonts import code_points, find_font
from masklab.word_vectors.keyed import WordVectors

Method = Literal["pca", "tsne", "pairs"]
INK, FAINT = "#2b2b33", "#8b8b96"
COLOURS = ("#2a66c8", "#c8622a", "#2a8f6a", "#8a4fb8", "#a8872a", "#b83f6a", "#4a8fa8", "#6b6b75")
_RINGS = (4.5, 12, 22, 36)  # how far a word may stand from its point, in points
_ANGLES = np.radians((0, 180, 90, 270, 35, 145, 215, 325, 65, 115, 245, 295))  # and in which directions
_STYLE: dict[Any, Any] = {
    "font.size": 10, "text.color": INK, "axes.edgecolor": "#d5d5dc", "axes.labelcolor": FAINT, "axes.labelsize": 8,
    "xtick.bottom": False, "ytick.left": False, "xtick.labelbottom": False, "ytick.labelleft": False,
    "figure.dpi": 150, "svg.hashsalt": "masklab",
}  # fmt: skip


class Flat(NamedTuple):
    points: np.ndarray  # (words, 2)
    across: str  # what each axis is
    up: str


def word_map(
    vectors: WordVectors,
    words: Sequence[str] | Sequence[Sequence[str]] = (),
    *,
    pairs: Sequence[tuple[str, str]] = (),
    method: Method | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Figure:
    """Words as points in the plane, all vectors taken with length 1.

    words: a list, or several lists, each in a colour of its own. pairs: an arrow from the first word to the second of
    each; of exactly two pairs the parallelogram is drawn and where its fourth corner would have to be. method: "pca"
    (unsaid, if there are no pairs), "tsne" (needs scikit-learn; neighbourhoods are kept, distances mean little) or
    "pairs" (unsaid, if there are; across is the mean step from the first word to the second). say: is told of missing
    fonts.
    """
    groups = [[words]] if isinstance(words, str) else [[one] if isinstance(one, str) else list(one) for one in words]
    if all(len(group) == 1 for group in groups):
        groups = [[word for group in groups for word in group]] if groups else []
    colour: dict[str, str] = {}
    for place, group in enumerate(groups):
        colour |= {word: COLOURS[place % len(COLOURS)] for word in group if word not in colour}
    for pair in pairs:
        colour |= {word: COLOURS[len(groups) % len(COLOURS)] for word in pair if word not in colour}
    listed = list(colour)
    if len(listed) < 3:
        raise BadInput("name at least three words to draw: fewer make no picture")
    rows = vectors[listed]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    place = {word: i for i, word in enumerate(listed)}
    steps = np.array([[place[a], place[b]] for a, b in pairs], np.int64).reshape(-1, 2)
    flat = flatten(rows, method or ("pairs" if pairs else "pca"), steps, seed)
    with _styled(_families(listed, say)):
        return _drawn(listed, flat, [colour[word] for word in listed], steps)


def flatten(rows: np.ndarray, method: Method, steps: np.ndarray, seed: int = 0) -> Flat:
    """(words, dim) -> (words, 2). steps: (pairs, 2), the rows where each arrow begins and ends."""
    rows = rows.astype(np.float64)
    if method == "tsne":
        try:
            from sklearn.manifold import TSNE
            from threadpoolctl import threadpool_limits
        except ImportError:
            raise BadInput(
                "t-SNE needs scikit-learn: pip install 'masklab[eval]', or take --method pca, which does not"
            ) from None
        made = TSNE(2, init="pca", metric="cosine", perplexity=min(30.0, (len(rows) - 1) / 3), random_state=seed)
        with threadpool_limits(1):  # the same picture every time, and faster than many threads on so few words
            return Flat(made.fit_transform(rows).astype(np.float64), "t-SNE", "")
    rows = rows - rows.mean(0)
    if method == "pca":
        axes, shares = _main_axes(rows)
        across, up = (f"principal component {i + 1}: {share:.0%} of the variance" for i, share in enumerate(shares[:2]))
        return Flat(rows @ axes[:2].T, across, up)
    if method != "pairs":
        raise BadInput(f"there is no method {method!r} for a map; choose pca, tsne or pairs")
    if not len(steps):
        raise BadInput("method pairs needs pairs of words, such as --pair man:woman --pair king:queen")
    step = (rows[steps[:, 1]] - rows[steps[:, 0]]).mean(0)
    step /= max(float(np.linalg.norm(step)), 1e-30)
    rest = rows - np.outer(rows @ step, step)
    up = _main_axes(rest)[0][0]
    return Flat(np.stack([rows @ step, rows @ up], 1), "the mean step of the pairs", "main direction of all else")


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture; the ending of the name says which kind. The same picture gives the same bytes."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise BadInput(f"{path}: a picture's name ends in .png, .svg or .pdf")
    undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with atomic_write(path) as file, _styled():
        figure.savefig(file, format=kind, metadata=undated)


@contextmanager
def _styled(families: Sequence[str] = ("DejaVu Sans",)) -> Iterator[None]:
    style: dict[Any, Any] = _STYLE | {"font.family": families}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # `_families` says it once, with the cure
        yield


def _main_axes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions of greatest variance and their shares of it; each points to where its largest number is positive."""
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    largest = np.abs(axes).argmax(1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return axes, sizes**2 / max(float((sizes**2).sum()), 1e-30)


def _families(words: list[str], say: Callable[[str], None] | None) -> list[str]:
    """The usual font, and one behind it for the characters that it lacks."""
    usual = findfont(FontProperties(family="DejaVu Sans"))
    missing = sorted({letter for word in words for letter in word} - set(map(chr, code_points(usual).tolist())))
    if not missing:
        return ["DejaVu Sans"]
    try:
        path = find_font(missing)
    except BadInput as error:
        if say:
            say(f"some letters are drawn as empty boxes: {error}")
        return ["DejaVu Sans"]
    fontManager.addfont(path)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # its weight is never quite "normal"
    return ["DejaVu Sans", FontProperties(fname=path).get_name()]


def _drawn(words: list[str], flat: Flat, colours: list[str], steps: np.ndarray) -> Figure:
    side = float(np.clip(3.2 + 0.42 * len(words) ** 0.62, 5, 14))
    figure = Figure(figsize=(side * 1.25, side))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.04, 0.05, 0.93, 0.92))
    axes.set_xlabel(flat.across, loc="left")
    axes.set_ylabel(flat.up, loc="bottom")
    points, labels, hues, sides = flat.points, list(words), list(colours), [*steps.tolist()]
    axes.scatter(*points.T, s=16 if len(words) <= 100 else 7, c=colours, linewidths=0, zorder=3)
    if len(steps) == 2:
        (a, b), (c, d) = steps.tolist()
        points = np.vstack([points, points[c] + points[b] - points[a]])
        labels.append(f"{words[c]} − {words[a]} + {words[b]}")
        hues.append(FAINT)
        sides += [[a, c], [b, d]]
        axes.scatter(*points[-1], s=26, facecolors="none", edgecolors=FAINT, linewidths=1.1, zorder=2)
        for ends in sides[2:]:
            axes.plot(*points[ends].T, color=FAINT, lw=0.9, ls=(0, (4, 3)), zorder=1)
    for start, end in steps.tolist():
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": colours[start], "lw": 1.2, "alpha": 0.65}
        arrow |= {"shrinkA": 4, "shrinkB": 4, "mutation_scale": 11}
        axes.annotate("", tuple(points[end]), tuple(points[start]), zorder=2, arrowprops=arrow)
    axes.margins(0.1 if len(words) < 100 else 0.05)
    size = 10 if len(words) <= 40 else 8.5 if len(words) <= 120 else 7
    _label(axes, canvas.get_renderer(), labels, points, hues, size, np.array(sides, np.int64).reshape(-1, 2))
    return figure


def _label(axes: Axes, renderer: RendererAgg, labels: list[str], points: np.ndarray, colours: list[str], size: float,
           sides: np.ndarray) -> None:  # fmt: skip
    """Every word beside its point, where it covers least: other words above all, then points, then lines.

    sides: (lines, 2), the points where each line begins and ends. Words are placed one after the other, those in the
    thick of it first; each tries places all around and farther and farther away. One that comes to stand away from its
    point is tied to it with a line of its own.
    """
    axes.autoscale_view()
    pixel = float(axes.figure.dpi) / 72
    at = axes.transData.transform(points)
    dots = np.column_stack([at - 2.5 * pixel, at + 2.5 * pixel])
    along = np.linspace(0, 1, 100)[:, None, None]
    crossed = (at[sides[:, 0]] + along * (at[sides[:, 1]] - at[sides[:, 0]])).reshape(-1, 2)
    inside = axes.get_window_extent(renderer).extents
    crowd = (np.linalg.norm(at[:, None] - at[None], axis=2) < 60 * pixel).sum(1)
    taken = np.empty((0, 4))
    for i in np.argsort(-crowd, kind="stable").tolist():
        text = axes.text(0, 0, labels[i], size=size, color=colours[i], va="bottom", ha="left", zorder=4)
        half = np.array(text.get_window_extent(renderer).size) / 2
        others = np.delete(dots, i, 0)
        best, cost, far = np.zeros(4), np.inf, 0.0
        for ring, away in enumerate(_RINGS):
            for angle in _ANGLES:
                toward = np.array([np.cos(angle), np.sin(angle)])
                middle = at[i] + away * pixel * toward + half * np.clip(1.6 * toward, -1, 1)
                box = np.concatenate([middle - half, middle + half])
                outside = np.maximum([*(inside[:2] - box[:2]), *(box[2:] - inside[2:])], 0).max()
                covers = 3 * _covered(box, taken, pixel) + 1.5 * _covered(box, others, 0)
                covers += 2 * pixel * half[1] * _hits(box, crossed, pixel) + 1e3 * float(outside)
                price = covers + (0.24 * ring + (0.08 if angle else 0)) * half[0] * half[1]
                if price < cost:
                    best, cost, far = box, price, away
            if cost < 0.3 * (ring + 1) * half[0] * half[1]:
                break
        taken = np.vstack([taken, best])
        back = axes.transData.inverted().transform
        text.set_position(tuple(back(best[:2])))
        if far > _RINGS[1]:
            axes.plot(*np.array([points[i], back(np.clip(at[i], best[:2], best[2:]))]).T, color=colours[i], lw=0.5,
                      alpha=0.6, zorder=1)  # fmt: skip


def _covered(box: np.ndarray, boxes: np.ndarray, gap: float) -> float:
    """How much of the boxes (n, 4) one box covers, in square pixels; `gap` pixels around it should be free too."""
    sides = np.minimum(box[2:] + 2 * gap, boxes[:, 2:]) - np.maximum(box[:2] - 2 * gap, boxes[:, :2])
    return float(np.prod(np.maximum(sides, 0), axis=1).sum())


def _hits(box: np.ndarray, dots: np.ndarray, gap: float) -> int:
    """How many points lie in a box, or nearer to it than `gap`."""
    return int(((dots > box[:2] - gap) & (dots < box[2:] + gap)).all(1).sum())
