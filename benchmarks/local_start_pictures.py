"""Draws the pictures of docs/learning.md: what heads look at before the first step and after training, and why the
frequencies are irregular.

    python benchmarks/local_start_pictures.py STORE --run runs/bert --out docs/pictures

--run is a finished run of bert on the same corpus (`masklab pretrain bert --data STORE --out runs/bert --time 30m
model.layers=2`).
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from masklab import recipe as recipes
from masklab.analysis.curves import _STYLE, SERIES
from masklab.corpus.store import Store
from masklab.models import hub
from masklab.models.local_start import OFFSETS, waves
from masklab.models.pattern import Layout, as_torch
from masklab.objectives.rows import plain_row
from masklab.training import initial
from masklab.training.run import Run

NEAR = 8  # offsets shown to each side


def attention(folder: Path, store: Store, rows: int = 64) -> np.ndarray:
    """(heads, 2 NEAR + 1): how much of the first layer's attention goes to each offset, on average over whole rows."""
    model: Any = hub.load(folder, dropout=0.0).model
    length = model.config.max_length
    part = store.part("held_out")
    full = [row for i in range(len(part.rows(length, 2))) if (row := plain_row(part, i, length)).full][:rows]
    inputs = as_torch(type(full[0].inputs)(*map(np.stack, zip(*(row.inputs for row in full), strict=True))))
    with torch.no_grad():
        weights = model.eval()(inputs, layout=Layout("bidirectional", True), keep=("attentions",)).attentions[0].mean(0)
    return np.array([[head.diagonal(o)[NEAR:-NEAR].mean().item() for o in range(-NEAR, NEAR + 1)] for head in weights])


def starts(store: Store, name: str, changes: list[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        made = recipes.override(recipes.load(name, data=str(store.path)), changes)
        initial.write(made, Path(folder) / "start")
        return attention(Path(folder) / "start", store)


def heads(found: dict[str, np.ndarray]) -> Figure:
    """A row for each model, a column for each head of its first layer."""
    columns = max(map(len, found.values()))
    figure = Figure(figsize=(1.75 * columns, 1.15 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), columns, sharex=True, sharey=True, squeeze=False)
    offsets = np.arange(-NEAR, NEAR + 1)
    for row, (name, shares) in zip(grid, found.items(), strict=True):
        first = name == next(iter(found))
        row[0].set_ylabel(name, fontsize=8)
        for head, (axes, values) in enumerate(zip(row, shares, strict=True)):
            axes.bar(offsets, values, width=0.8, color=SERIES[head % len(SERIES)])
            axes.set_ylim(0, 1)
            axes.set_xticks([-NEAR, -4, 0, 4, NEAR])
            axes.tick_params(labelsize=7)
            if first:
                axes.set_title(f"head {head + 1}", fontsize=9)
    figure.supxlabel("slots from its own", fontsize=9)
    return figure


def frequencies(half: int = 16, length: int = 512) -> Figure:
    """How alike the sinusoids of two slots are, over their distance, for three choices of the frequencies."""
    distance, k = np.arange(length), np.arange(half)
    choices = {
        "evenly spaced": np.pi * (k + 0.5) / half,
        "multiples of the golden ratio": np.pi * (0.6180339887 * (k + 1) % 1),
        "by the root": waves(half).numpy(),
    }
    figure = Figure(figsize=(7.4, 1.9), layout="constrained")
    for axes, (name, w) in zip(figure.subplots(1, 3, sharey=True), choices.items(), strict=True):
        axes.plot(distance, np.cos(np.outer(distance, w)).mean(1), color=SERIES[0], lw=0.7)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("distance of two slots", fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--run", type=Path, help="a finished run of bert, drawn too")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args()
    store = Store(args.store)
    args.out.mkdir(parents=True, exist_ok=True)
    found = {
        "bert,\nrandom": starts(store, "bert", ["initial.kind=random", "embeddings=random"]),
        "bert,\nlocal": starts(store, "bert", []),
        **({"bert,\ntrained": attention(Run.open(args.run).model_folder, store)} if args.run else {}),
        "mpnet,\nlocal": starts(store, "mpnet", []),
        "modernbert,\nlocal": starts(store, "modernbert", []),
    }
    for name, shares in found.items():
        peaks = ", ".join(f"{int(s.argmax()) - NEAR:+d} ({s.max():.2f})" for s in shares)
        print(
            f"{name.replace(chr(10), ' ')}: {peaks}; started at {', '.join(f'{o:+d}' for o in OFFSETS[: len(shares)])}"
        )
    with mpl.rc_context(_STYLE):
        heads(found).savefig(args.out / "attention-by-offset.png", dpi=80)
        frequencies().savefig(args.out / "frequencies.png", dpi=80)


if __name__ == "__main__":
    main()
