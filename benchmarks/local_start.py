"""What a local start is worth: the Trainer's own curve with and without it, and masklab's, piece by piece.

    python benchmarks/local_start.py STORE --out start.jsonl --picture curves.png
    python benchmarks/local_start.py STORE --pieces --out pieces.jsonl     # masklab's bert with one thing changed

Everything is counted in steps, so a busy machine changes nothing but the waiting; what --out holds is not repeated. The
Trainer trains BertForMaskedLM with AdamW, bfloat16 and no dropout on masklab's packed rows of 128; its starts are
folders that `masklab init` wrote. A CPU is enough for 2 layers of 128; --shape 12x768 wants a GPU, which is used where
there is one.
"""

import argparse
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import _trainer
import numpy as np
import torch
from _rounds import Notes

from masklab import recipe as recipes
from masklab.corpus.store import Store
from masklab.models import local_start
from masklab.recipe import Recipe
from masklab.training import initial, precision
from masklab.training.loop import train
from masklab.training.schedule import Budget

# name: (changes to the recipe that `masklab init` writes down, whether the card's four lines protect it)
STARTS: dict[str, tuple[list[str], bool]] = {
    "random": (["initial.kind=random", "embeddings=random", "initial.embedding_std=None"], False),
    "local": (["embeddings=random", "initial.embedding_std=None"], False),
    "local, protected": (["embeddings=random", "initial.embedding_std=None"], True),
    "local, words counted": ([], False),
    "local, words counted, protected": ([], True),
}
LONG = ["model.max_length=512", "batches.lengths=((0.0, 512),)"]
RELEASED = {"protected for half the steps": 0.5, "protected for a tenth": 0.1, "protected for a fiftieth": 0.02}
PIECES: dict[str, list[str]] = {
    "as it is": [],
    **{name: [] for name in RELEASED},
    "nothing protected": ["initial.protect=False"],
    "random start": ["initial.kind=random"],
    "two heads of 64 dimensions": ["model.heads=2"],
    "eight heads of 16 dimensions": ["model.heads=8"],
    "two local heads": ["initial.local_heads=2"],
    "first layer alone": ["initial.later_heads=0"],
    "both layers whole": ["initial.later_heads=4"],
    "half as high": ["initial.amplitude=1.5"],
    "twice as high": ["initial.amplitude=6.0"],
    "AdamW": ["optimizer.name=adamw", "optimizer.lr=4e-3"],
    "AdamW, random start": ["optimizer.name=adamw", "optimizer.lr=4e-3", "initial.kind=random"],
    "rows of 512": LONG,
    "rows of 512, random start": [*LONG, "initial.kind=random"],
    "four layers": ["model.layers=4"],
    "four layers, random start": ["model.layers=4", "initial.kind=random"],
}
Curve = list[tuple[float, float]]  # millions of tokens, held-out nats


def shaped(store: str, shape: str, changes: list[str]) -> Recipe:
    layers, width = map(int, shape.split("x"))
    size = [f"model.layers={layers}", f"model.width={width}", f"model.feed_forward={4 * width}",
            f"model.heads={max(4, width // 64)}"]  # fmt: skip
    return recipes.override(recipes.load("bert", data=store), [*size, *changes])


def trainer(args: argparse.Namespace, start: str, seed: int) -> dict[str, Any]:
    """The Trainer's curve from one start."""
    changes, protect = STARTS[start]
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "start"
        initial.write(shaped(args.store, args.shape, [*changes, f"seed={seed}"]), there)
        result = _trainer.run(
            args.store,
            str(there),
            _trainer.Setting(rows=16, lr=args.lr, bf16=True, dropout=0.0),
            steps=args.steps,
            seed=seed,
            threads=args.threads,
            judged_at=np.linspace(0, 1, args.points + 1)[1:].tolist(),
            started=True,
            prepare=protected_by_card(there) if protect else None,
        )
    return {"curve": [(tokens / 1e6, nats) for _, tokens, nats, _ in result.curve]}


def protected_by_card(folder: Path) -> Any:
    """The last four lines of the card's code, as somebody would copy them."""
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)[0]
    lines = "\n".join(code.strip().split("\n")[-4:])
    return lambda model: exec(f"import torch\n{lines}", {"model": model})


@contextmanager
def released(after: int) -> Iterator[None]:
    """Runs in here protect their positions for so many steps only."""
    start = local_start._sinusoid_start

    def started(model: Any, *rest: Any) -> None:
        start(model, *rest)
        tables, kept = model.embeddings, model.config.head_size // 2 * 2
        tables.positions.weight.requires_grad_(True)
        for table, until in ((tables.positions, None), (tables.tokens, kept), (tables.segments, kept)):
            table.weight._post_accumulate_grad_hooks = None  # those that protect to the end
            table.weight.register_post_accumulate_grad_hook(_Until(after, until))

    with patch.object(local_start, "_sinusoid_start", started):
        yield


class _Until:
    """No gradient for the first dimensions of a table (None: all), for so many steps."""

    def __init__(self, steps: int, dimensions: int | None):
        self.left, self.dimensions = steps, dimensions

    def __call__(self, table: torch.Tensor) -> None:
        self.left -= 1
        if self.left >= 0 and table.grad is not None:
            table.grad[:, : self.dimensions] = 0


def pieces(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """masklab's curve with one piece changed."""
    made = shaped(args.store, args.shape, [*PIECES[name], f"seed={seed}", f"threads={args.threads}"])
    evaluation = replace(made.evaluation, every=1 / args.points)
    with released(int(RELEASED[name] * args.steps)) if name in RELEASED else nullcontext():
        run = train(replace(made, budget=Budget(steps=args.steps), evaluation=evaluation))
    judged = [r for r in run.history if r["kind"] == "held_out" and r["step"]]
    tokens = made.batches.tokens / 1e6
    return {"curve": [(r["step"] * tokens, r["terms"]["masked"]["loss"]) for r in judged]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--pieces", action="store_true", help="masklab's bert with one thing changed at a time")
    parser.add_argument("--only", nargs="+", help="of the starts or pieces, these")
    parser.add_argument("--shape", default="2x128")
    parser.add_argument("--steps", type=int, default=1500, help="of 2,048 tokens")
    parser.add_argument("--points", type=int, default=10, help="of each curve")
    parser.add_argument("--lr", type=float, default=1e-3, help="the Trainer's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", help="file of JSON lines that keeps every run")
    parser.add_argument("--picture", help="draw the curves into this file (.svg, .png)")
    args = parser.parse_args()
    precision.settle(args.threads)
    notes, measure = Notes(args.out), pieces if args.pieces else trainer
    same = {"store": Store(args.store).hash, "shape": args.shape, "steps": args.steps, "points": args.points}
    if not args.pieces:
        same["lr"] = args.lr
    found: dict[str, list[Curve]] = {}
    for seed in range(args.seeds):
        for name in args.only or (PIECES if args.pieces else STARTS):
            record = notes.get(
                {"run": name, "seed": seed, **same}, lambda name=name, seed=seed: measure(args, name, seed)
            )
            found.setdefault(name, []).append(record["curve"])
            print(f"  seed {seed}, {name}: {' '.join(f'{nats:.2f}' for _, nats in record['curve'])}", flush=True)
    known = _trainer.unigram(args.store)
    print(f"unigram: {known.loss:.3f} nats")
    for name, curves in found.items():
        ends = [curve[-1][1] for curve in curves]
        deviation = f" +- {np.std(ends, ddof=1):.3f}" if len(ends) > 1 else ""
        print(f"{name:<34} {np.mean(ends):.3f}{deviation} nats after {curves[0][-1][0]:.2f} M tokens")
    if args.picture:
        draw(found, known.loss, Path(args.picture))


def draw(found: dict[str, list[Curve]], unigram: float, file: Path) -> None:
    """A line for each start, the mean of its seeds, and a band from the lowest to the highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, curves in found.items():
        tokens = [x for x, _ in curves[0]]
        nats = np.array([[y for _, y in curve] for curve in curves])
        (line,) = axes.plot(tokens, nats.mean(0), label=name)
        axes.fill_between(tokens, nats.min(0), nats.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlim(left=0)
    axes.axhline(unigram, color="grey", linestyle=":", linewidth=1)
    axes.annotate("unigram", (0, unigram), (4, 3), textcoords="offset points", color="grey", fontsize=8)
    axes.set_xlabel("million tokens read")
    axes.set_ylabel("held-out nats")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
