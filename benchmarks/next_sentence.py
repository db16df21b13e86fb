"""What next sentence prediction gives: BERT with and without it, same text, same seconds, several seeds.

    python benchmarks/next_sentence.py STORE --seconds 120 --seeds 3

Printed: the held-out loss on hidden words of both (judged on the same rows: packed, no pairs), and how often the pairs
are told apart (chance 0.5). RoBERTa (Liu et al. 2019, section 4.2) found that leaving it out costs nothing.
"""

import argparse
from dataclasses import replace

import numpy as np

from masklab import recipe as recipes
from masklab.corpus.store import Store
from masklab.training.evaluation import Pretrainer, evaluate, held_out_batches
from masklab.training.loop import train
from masklab.training.precision import autocast, device
from masklab.training.schedule import Budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=512)
    args = parser.parse_args()
    held_out = Store(args.store).part("held_out")
    losses: dict[bool, list[float]] = {False: [], True: []}
    told: list[float] = []
    for seed in range(args.seeds):
        for pairs in (False, True):
            made = recipes.load("bert", data=args.store, next_sentence=pairs)
            run = train(replace(made, seed=seed, budget=Budget(seconds=args.seconds)))
            masked = made.objective.masked if pairs else made.objective
            batches = held_out_batches(masked, held_out, made.batches.length, args.rows, made.batches.tokens)
            assert run.pretrainer is not None
            judged = Pretrainer(run.pretrainer.model, run.pretrainer.heads, masked)
            losses[pairs].append(evaluate(judged, batches, autocast("bf16", device()))["masked"].loss)
            if pairs:
                told.append(run.result["held_out"]["next"]["accuracy"])
        print(
            f"seed {seed}: without {losses[False][-1]:.3f}, with {losses[True][-1]:.3f}, pairs {told[-1]:.3f}",
            flush=True,
        )
    for pairs, values in losses.items():
        name = "with" if pairs else "without"
        print(f"{name:8} next sentence: {np.mean(values):.3f} nats, deviation {np.std(values, ddof=1):.3f}")
    print(f"pairs told apart: {np.mean(told):.3f}, deviation {np.std(told, ddof=1):.3f} (chance 0.500)")


if __name__ == "__main__":
    main()
