"""How far the tuned presets get in a given time: held-out loss by recipe, mean and deviation over seeds.

    python benchmarks/held_out_loss.py STORE --recipes mpnet bert modernbert --seconds 300 --seeds 3

Judge on a split that nothing was tuned on: `masklab prepare TEXT --out STORE --seed 1` holds out other documents.
"""

import argparse
from dataclasses import replace

import numpy as np

from masklab import recipe as recipes
from masklab.training.loop import train
from masklab.training.schedule import Budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--recipes", nargs="+", default=["mpnet", "bert", "modernbert"])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=512, help="held-out rows of 128")
    args = parser.parse_args()
    for name in args.recipes:
        losses: list[float] = []
        hidden: list[float] = []
        right: list[float] = []
        for seed in range(args.seeds):
            made = recipes.load(name, data=args.store)
            evaluation = replace(made.evaluation, every=1.0, rows=args.rows)
            run = train(replace(made, seed=seed, budget=Budget(seconds=args.seconds), evaluation=evaluation))
            score = run.result["held_out"]
            losses.append(score["masked"]["loss"])
            hidden.append(score["hidden"]["loss"])
            right.append(score["masked"]["accuracy"])
            print(
                f"{name} seed {seed}: {losses[-1]:.3f} nats ({hidden[-1]:.3f} on [MASK]), top-1 {right[-1]:.3f}, "
                f"{run.result['steps']} steps, {run.result['tokens'] / 1e6:.1f} M tokens; "
                f"unigram {run.result['baseline']['masked']['loss']:.3f}",
                flush=True,
            )
        deviation = [np.std(values, ddof=1) if len(values) > 1 else float("nan") for values in (losses, hidden, right)]
        print(
            f"{name}: {np.mean(losses):.3f} nats, deviation {deviation[0]:.3f}; on [MASK] {np.mean(hidden):.3f} "
            f"({deviation[1]:.3f}); top-1 {np.mean(right):.3f} ({deviation[2]:.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
