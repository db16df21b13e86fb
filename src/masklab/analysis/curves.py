"""Pictures of what runs did: loss beside the trivial baseline and the held-out loss; score over the number of labels.

save(loss_curves(["runs/a", "runs/b"]), "loss.png")         # .png, .svg or .pdf, by the name
svg(loss_curves([run]))                                     # for a page: follows its light or dark colours
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.training.run import Run, read_log

# A page gives these names its own colours (analysis/report.py); a file gets the ones here.
INK, FAINT, GRID = "#2b2b33", "#71717c", "#e3e3e8"
SERIES = ("#2a66c8", "#c8622a", "#2a8f6a", "#8a4fb8", "#a8872a", "#b83f6a")  # told apart by colour-blind people too
_NAMES = {INK: "--ink", FAINT: "--faint", GRID: "--grid"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 10, "text.color": INK, "axes.edgecolor": FAINT, "axes.labelcolor": INK,
    "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID,
    "grid.linewidth": 0.8, "lines.solid_capstyle": "round", "svg.fonttype": "none", "figure.dpi": 150,
}  # fmt: skip

Along = Literal["seconds", "tokens", "step"]


def loss_curves(
    runs: Sequence[Run | str | Path], names: Sequence[str] = (), *, along: Along = "seconds", term: str = ""
) -> Figure:
    """Training loss (thin, smoothed), held-out loss (points) and the trivial baseline (dashed) of one run or several.

    along: what the horizontal axis counts. term: which loss; unsaid, the first that the runs have.
    """
    histories = [run.history if isinstance(run, Run) else read_log(Path(run)) for run in runs]
    if not histories or not all(histories):
        raise BadInput("no log to draw: give folders of runs that have begun (each with a log.jsonl)")
    names = names or [
        Path(run.folder or run.recipe.name).name if isinstance(run, Run) else Path(run).name for run in runs
    ]
    begin = next(r for r in histories[0] if r["kind"] == "begin")
    term = term or next(iter(begin["baseline"]))
    if term not in begin["baseline"]:
        raise BadInput(f"the run has no loss called {term!r}; it has {', '.join(begin['baseline'])}")
    figure, axes = _axes()
    last = []
    for history, name, colour in zip(histories, names, _colours(len(runs)), strict=True):
        steps = [r for r in history if r["kind"] == "step" and term in r["terms"]]
        x, y = _numbers(steps, along), np.array([r["terms"][term]["loss"] for r in steps])
        if len(x):
            axes.plot(x, _smooth(y), color=colour, lw=1.1, alpha=0.45, label="training" if len(runs) == 1 else None)
        judged = [r for r in _with_tokens(history) if r["kind"] == "held_out" and term in r["terms"]]
        x, y = _numbers(judged, along), np.array([r["terms"][term]["loss"] for r in judged])
        axes.plot(x, y, "o-", color=colour, lw=2, ms=4, label="held out" if len(runs) == 1 else name)
        last.append((x[-1], y[-1], colour))
    trivial = begin["baseline"][term]["loss"]
    axes.axhline(trivial, color=FAINT, lw=1.2, ls=(0, (4, 3)))
    word = "unigram" if term in ("masked", "hidden") else "baseline"
    axes.annotate(f"{word} {trivial:.2f}", (1, trivial), (0, 4), xycoords=("axes fraction", "data"),
                  textcoords="offset points", color=FAINT, ha="right")  # fmt: skip
    if len(runs) == 1:
        x, y, colour = last[0]
        axes.annotate(
            f"{y:.2f}", (x, y), (0, -14), textcoords="offset points", color=colour, weight="bold", ha="center"
        )
    axes.set_ylabel(f"loss, nats a {'token' if word == 'unigram' else 'label'}")
    axes.set_xlabel({"seconds": "seconds of training", "tokens": "tokens read", "step": "step"}[along])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _short(v)))
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    place = (trivial - low) / (high - low)  # the legend stands above the dashed line if there is room, else below it
    axes.legend(
        frameon=False, labelcolor=INK, loc="upper right", bbox_to_anchor=(1, 1 if place < 0.7 else place - 0.03)
    )
    return figure


class Panel(NamedTuple):
    """One loss of several runs of a kind: what `loss_panels` draws side by side."""

    title: str
    runs: Sequence[Run | str | Path]  # one line each
    term: str
    trivial: str = ""  # the term that is the trivial answer on the same batches; unsaid, the run's baseline


def loss_panels(panels: Sequence[Panel]) -> Figure:
    """Held-out loss over training time of losses that cannot share an axis, each beside its trivial answer (dashed)."""
    columns = min(3, len(panels))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.7 * columns, 2.3 * -(-len(panels) // columns)), layout="constrained")
        grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for run, colour in zip(panel.runs, _colours(len(panel.runs)), strict=True):
                history = run.history if isinstance(run, Run) else read_log(Path(run))
                judged = [r for r in history if r["kind"] == "held_out" and panel.term in r["terms"]]
                if not judged:
                    raise BadInput(f"a run of {panel.title!r} has no held-out loss called {panel.term!r}")
                x = _numbers(judged, "seconds")
                axes.plot(x, [r["terms"][panel.term]["loss"] for r in judged], "o-", color=colour, lw=1.6, ms=3)
                if panel.trivial:
                    best = [r["terms"][panel.trivial]["loss"] for r in judged]
                else:
                    best = [next(r for r in history if r["kind"] == "begin")["baseline"][panel.term]["loss"]] * len(x)
                axes.plot(x, best, color=FAINT, lw=1.2, ls=(0, (4, 3)))
            axes.set_title(panel.title, fontsize=10)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
    figure.supxlabel("seconds of training", color=INK, fontsize=10)
    figure.supylabel("nats", color=INK, fontsize=10)
    return figure


def score_curve(
    arms: Mapping[str, Mapping[int, Sequence[float]]],
    baseline: Mapping[int, Sequence[float]] | None = None,
    *,
    baseline_name: str = "baseline",
    score: str = "score",
    labels: str = "labelled examples",
) -> Figure:
    """Mean score over the number of labels, with bars of one standard deviation over the seeds; one line an arm.

    arms: {"pre-trained": {16: [0.31, 0.29, 0.33], 50: [...]}, "random weights": {...}}
    """
    figure, axes = _axes()
    lines: list[tuple[str, Mapping[int, Sequence[float]], str, Any]] = [
        (name, points, colour, "-") for (name, points), colour in zip(arms.items(), _colours(len(arms)), strict=True)
    ]
    if baseline:
        lines.append((baseline_name, baseline, FAINT, (0, (4, 3))))
    sizes = sorted({size for _, points, _, _ in lines for size in points})
    for place, (name, points, colour, style) in enumerate(lines):
        x = np.array(sorted(points), float)
        mean = np.array([np.mean(points[int(n)]) for n in x])
        deviation = np.array([spread(points[int(n)]) for n in x])
        shifted = x * (1 + 0.02 * (place - (len(lines) - 1) / 2))  # bars stand beside each other, not in each other
        axes.errorbar(shifted, mean, deviation, color=colour, lw=1.2 if style != "-" else 2, ls=style, marker="o", ms=4,
                      capsize=3, elinewidth=1.2, label=name)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    if len(sizes) == 1:
        axes.set_xlim(sizes[0] / 2, sizes[0] * 2)
    axes.set_xlabel(labels)
    axes.set_ylabel(score)
    axes.margins(x=0.06, y=0.1)
    axes.legend(frameon=False, labelcolor=INK, loc="upper left")
    return figure


def spread(scores: Sequence[float]) -> float:
    """Standard deviation over the seeds (n - 1); 0 for a single one."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def save(figure: Figure, path: str | Path) -> None:
    """Write a picture in the format that its name ends in."""
    path = Path(path)
    with mpl.rc_context(_STYLE), atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", bbox_inches="tight", facecolor="white")


def svg(figure: Figure, title: str = "") -> str:
    """The picture as an <svg> element whose colours are the page's own (CSS variables), readable by screen readers."""
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title or "masklab"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    for colour, name in _NAMES.items():
        text = text.replace(colour, f"var({name}, {colour})")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" ?', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*" ?', r"<svg \1", text, count=1)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _axes() -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained")
        return figure, figure.add_subplot()


def _colours(n: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(n)]


def _with_tokens(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every record with the tokens read so far; only some kinds count them themselves."""
    tokens, found = 0, []
    for record in history:
        tokens = record.get("tokens", tokens)
        found.append(record | {"tokens": tokens})
    return found


def _numbers(records: list[dict[str, Any]], along: str) -> np.ndarray:
    return np.array([record[along] for record in records], float)


def _smooth(y: np.ndarray, memory: float = 0.7) -> np.ndarray:
    """Running mean, so that the eye sees the trend and not the batches."""
    smooth = y.astype(float).copy()
    for i in range(1, len(y)):
        smooth[i] = memory * smooth[i - 1] + (1 - memory) * y[i]
    return smooth


def _short(value: float) -> str:
    """2500000 -> "2.5M", 90000 -> "90k", 300 -> "300"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:g}"
