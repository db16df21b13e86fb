"""Two processes with a thread each beside one process with two threads: tokens a second, alternating rounds.

    python benchmarks/processes.py STORE                        # about 8 minutes
    python benchmarks/processes.py STORE --seconds 2 --rounds 3 --shapes 2x128

Each measurement is a run of its own by the clock, in fresh processes on the same two cores, of which the first steps
are left out. `pinned` are two processes that each keep to a core. Which of them is faster is what `usual()` in
src/masklab/training/launch.py should say.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _rounds import cores, report, rounds

from masklab.training.launch import launch

SHAPES = ("2x128", "4x256", "4x512")
SKIPPED = 3  # steps at the beginning, in which memory is found and files are read

CHILD = """
import json, os, sys
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process would repeat the same advice
from dataclasses import replace
from masklab import recipe as recipes
from masklab.training.loop import train
from masklab.training.schedule import Budget

store, layers, width, seconds, threads, out = sys.argv[1:]
changes = [f"model.layers={layers}", f"model.width={width}", f"model.heads={max(2, int(width) // 64)}",
           f"model.feed_forward={4 * int(width)}", f"threads={threads}", "evaluation.rows=16", "evaluation.every=1.0",
           "log_every=1", "embeddings=random", "batches.lengths=((0.0, 128),)", "precision=" + os.environ["PRECISION"]]
made = replace(recipes.load("mpnet", data=store, preset="tuned"), budget=Budget(seconds=float(seconds)))
run = train(recipes.override(made, changes))
if os.environ.get("RANK", "0") == "0":
    steps = [r for r in run.history if r["kind"] == "step"]
    with open(out, "w") as file:
        json.dump([(r["seconds"], r["step"] * run.recipe.batches.tokens) for r in steps], file)
"""


def rate(store: Path, shape: str, processes: int, threads: int, pin: bool, seconds: float) -> float:
    """Tokens a second of one run of so many processes."""
    layers, width = shape.split("x")
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/steps.json"
        code = launch(processes, ["-c", CHILD, str(store), layers, width, str(seconds), str(threads), out], pin=pin)
        if code:
            sys.exit(f"{processes} processes ended with {code}")
        steps = json.loads(Path(out).read_text("utf-8"))
    if len(steps) <= SKIPPED + 1:
        sys.exit(f"only {len(steps)} steps of {shape} in {seconds} s: give --seconds more")
    (began, before), (ended, after) = steps[SKIPPED], steps[-1]
    return (after - before) / (ended - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a prepared corpus")
    parser.add_argument("--seconds", type=float, default=4.0, help="of training in each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="LxD", help="layers x width")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    asked = parser.parse_args()
    os.environ["PRECISION"] = asked.precision
    with cores(2):
        for shape in asked.shapes:
            measure = partial(rate, asked.store, shape, seconds=asked.seconds)
            sides: dict[str, Callable[[], float]] = {
                "1 process, 2 threads": partial(measure, processes=1, threads=2, pin=False),
                "2 processes": partial(measure, processes=2, threads=1, pin=False),
                "2 processes, pinned": partial(measure, processes=2, threads=1, pin=True),
            }
            print(f"{shape}, mpnet tuned, {asked.precision}", flush=True)
            found = rounds(sides, asked.rounds, "tokens/s")
            for name in list(sides)[1:]:
                report({key: found[key] for key in (next(iter(sides)), name)}, name, "tokens/s")


if __name__ == "__main__":
    main()
