"""How far the tuned presets get in a given time: held-out loss by recipe, mean and deviation over seeds.

    python benchmarks/held_out_loss.py STORE --recipes mpnet bert modernbert --seconds 300 --seeds 3
    python benchmarks/held_out_loss.py STORE --recipes modernbert --seconds 1800 --propose --out runs/30m

Judge on a split that nothing was tuned on: `masklab prepare TEXT --out STORE --seed 1` holds out other documents. Every
loss term is printed beside its trivial score. Nats are per token asked for, of recipes with the same vocabulary; those
of elmo are per word, of another vocabulary, and only to be compared with their own unigram.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from masklab import recipe as recipes
from masklab.analysis import curves
from masklab.recipe import Recipe
from masklab.training.loop import train
from masklab.training.proposal import propose
from masklab.training.run import Run
from masklab.training.schedule import Budget

TRAINED = ("masked", "boundary", "replaced", "written", "forward", "backward")  # the terms worth a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--recipes", nargs="+", default=["mpnet", "bert", "modernbert"])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=512, help="held-out rows of 128 (or the recipe's own length)")
    parser.add_argument("--every", type=float, default=1.0, help="judge at each such part of a run: 0.1 is a curve")
    parser.add_argument("--propose", action="store_true", help="in the shape that pretrain proposes for so much time")
    parser.add_argument("--out", type=Path, help="folder that keeps the runs (those it holds already are not repeated)"
                        " and curves.png")  # fmt: skip
    args = parser.parse_args()
    runs: dict[str, list[Run]] = {}
    for name in args.recipes:
        shape: dict[str, Any] = {}  # proposed once: all seeds have it
        losses: dict[str, list[float]] = {}
        right: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            made = recipes.load(name, data=args.store)
            evaluation = replace(made.evaluation, every=args.every, rows=args.rows)
            made = replace(made, seed=seed, budget=Budget(seconds=args.seconds), evaluation=evaluation)
            folder = args.out / f"{name}-{seed}" if args.out else None
            if args.propose and not shape:
                shape = proposed(made, folder)
            run = train(replace(made, **shape), folder)
            runs.setdefault(name, []).append(run)
            trivial = run.result["baseline"]
            rate = run.result["tokens"] / run.result["seconds"]
            said = []
            for term, score in run.result["held_out"].items():
                losses.setdefault(term, []).append(score["loss"])
                said.append(f"{term} {score['loss']:.3f} nats")
                if term in trivial:
                    said[-1] += f" (trivial {trivial[term]['loss']:.3f})"
                if score["accuracy"] is not None:
                    right.setdefault(term, []).append(score["accuracy"])
                    said[-1] += f", top-1 {score['accuracy']:.3f}"
            print(
                f"{name} seed {seed}: {'; '.join(said)}; {run.result['steps']} steps, "
                f"{run.result['tokens'] / 1e6:.1f} M tokens, {rate:,.0f} a second",
                flush=True,
            )
            for record in run.history:
                if record["kind"] == "held_out" and args.every < 1:
                    values = "; ".join(f"{term} {score['loss']:.3f}" for term, score in record["terms"].items())
                    print(f"  {record['seconds']:6.0f} s: {values}", flush=True)
        for term, values in losses.items():
            top = f"; top-1 {mean_and_deviation(right[term])}" if term in right else ""
            print(f"{name} {term}: {mean_and_deviation(values)} nats{top}", flush=True)

    if args.out:
        curves.save(curves.loss_panels(panels(runs)), args.out / "curves.png")


def panels(runs: dict[str, list[Run]]) -> list[curves.Panel]:
    """One for each loss that is trained on; ELECTRA's detective stands beside the answer "always original"."""
    found = []
    for name, some in runs.items():
        for term in (t for t in some[0].result["held_out"] if t in TRAINED):
            trivial = "always original" if term == "replaced" else ""
            found.append(curves.Panel(f"{name}: {term}", list(some), term, trivial))
    return found


def proposed(made: Recipe, folder: Path | None) -> dict[str, Any]:
    """Model and batches for the recipe's time; a run that is kept already has them."""
    if folder and (folder / "recipe.json").exists():
        made = Run.open(folder).recipe
    else:
        found = propose(made)
        print("\n".join(found.said), flush=True)
        made = found.recipe
    return {"model": made.model, "batches": made.batches}


def mean_and_deviation(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
