"""Where a larger model overtakes a smaller one: losses by steps, speeds by the clock, and the time at which they cross.

    python benchmarks/shapes.py STORE --out shapes.jsonl --steps 500 1000 2000 4000 8000 16000

Each shape is trained by the tuned preset for each number of steps (a whole run each: what counts is the loss after the
rate has fallen), which a busy machine does not disturb, and timed for a few seconds, which it does: time on a quiet
one. Between the steps that were trained, losses are read off straight lines over the logarithm of the time. What the
rule of training/proposal.py would need to be: tokens for each parameter of the larger shape where it takes the lead.
What --out holds is not repeated.
"""

import argparse
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from _rounds import Notes
from against_trainer import shaped

from masklab.corpus.store import Store
from masklab.recipe import Recipe
from masklab.training.loop import train
from masklab.training.proposal import tokens_per_second
from masklab.training.schedule import Budget
from masklab.training.session import fitted


def learned(made: Recipe, steps: int) -> dict[str, Any]:
    run = train(replace(made, budget=Budget(steps=steps), evaluation=replace(made.evaluation, every=1.0)))
    return {"tokens": run.result["tokens"], "loss": run.result["held_out"]["masked"]["loss"]}


def crossing(small: list[tuple[float, float]], large: list[tuple[float, float]]) -> float | None:
    """The first time from which on the larger shape's loss is lower; each is [(seconds, nats), ...], by seconds."""
    times = np.geomspace(max(small[0][0], large[0][0]), min(small[-1][0], large[-1][0]), 2000)
    behind = [float(np.interp(np.log(t), *_columns(large)) - np.interp(np.log(t), *_columns(small))) for t in times]
    if times[0] >= times[-1] or behind[-1] >= 0:
        return None
    ahead = [i for i, value in enumerate(behind) if value >= 0]
    return float(times[ahead[-1] + 1 if ahead else 0])


def _columns(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.log([x for x, _ in points]), np.array([y for _, y in points])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--recipe", default="modernbert")
    parser.add_argument("--shapes", nargs="+", default=["2x128", "4x128", "4x256"], help="each larger than the last")
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8000], help="of 2,048 tokens")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", help="file of JSON lines that keeps every run")
    args = parser.parse_args()
    notes = Notes(args.out)
    store = Store(args.store)
    points: dict[str, list[tuple[float, float]]] = {}
    made = {shape: shaped(args.store, args.recipe, shape, [f"threads={args.threads}"]) for shape in args.shapes}
    rates = {}
    for shape, recipe in made.items():
        what = {"recipe": args.recipe, "shape": shape, "store": store.hash, "threads": args.threads}
        rates[shape] = notes.get(what, lambda recipe=recipe: {"rate": tokens_per_second(recipe)})["rate"]
        print(f"{shape}: {rates[shape]:,.0f} tokens a second", flush=True)
    for steps in sorted(args.steps):
        for shape, recipe in made.items():
            what = {"recipe": args.recipe, "shape": shape, "store": store.hash, "steps": steps}
            found = notes.get(what, lambda recipe=recipe, steps=steps: learned(recipe, steps))
            seconds = found["tokens"] / rates[shape]
            points.setdefault(shape, []).append((seconds, found["loss"]))
            print(
                f"{shape}: {found['loss']:.3f} nats after {found['tokens'] / 1e6:.2f} M tokens, {seconds:,.0f} s",
                flush=True,
            )
    for small, large in pairwise(args.shapes):
        when = crossing(points[small], points[large])
        if when is None:
            print(f"{large} has not overtaken {small} in {min(points[s][-1][0] for s in (small, large)):,.0f} s")
            continue
        model: Any = made[large].model
        each = when * rates[large] / fitted(model, model, store.tokenizer).parameters()
        print(f"{large} overtakes {small} after {when:,.0f} s, {each:.1f} tokens for each of its parameters")


if __name__ == "__main__":
    main()
