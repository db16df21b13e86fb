"""What pre-training is worth to a model that writes: T5 on a corpus, then text to text, beside new weights.

python benchmarks/text_to_text.py STORE PAIRS.tsv ... --folder runs/pairs

PAIRS are files of two columns without header, what is read and what is to be written: classical and modern Chinese.
Both arms are tuned alike; the dev set is every tenth pair. Copying the input is the trivial answer.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from masklab import recipe as recipes
from masklab.tasks.finetune import finetune
from masklab.tasks.text_to_text import TextToText
from masklab.training.loop import train
from masklab.training.progress import Screen
from masklab.training.schedule import Budget


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("store")
    say.add_argument("pairs", nargs="+", type=Path)
    say.add_argument("--folder", type=Path, default=Path("text-to-text"))
    say.add_argument("--steps", type=int, default=3000, help="of pre-training")
    say.add_argument("--epochs", type=float, default=6)
    say.add_argument("--rates", type=float, nargs="+", default=[1.5e-3, 4e-3])
    say.add_argument("--seeds", type=int, default=3)
    say.add_argument("--dev", type=int, default=500, help="pairs to judge by, at most")
    say.add_argument("--threads", type=int, default=0)
    asked = say.parse_args()

    files = split(asked.pairs, asked.folder, asked.dev)
    made = recipes.load("t5", data=asked.store)
    made = replace(made, budget=Budget(steps=asked.steps), threads=asked.threads)
    with Screen() as screen:
        run = train(made, asked.folder / "pretrained", screen)
    if run.stopped:
        raise SystemExit(128 + run.stopped)
    model = run.model_folder
    found: dict[str, list[dict[str, float]]] = {}
    for fresh in (False, True):
        arm = "new weights" if fresh else "pre-trained"
        grid: list[float] | None = asked.rates
        rate = None
        for seed in range(asked.seeds):
            options = {"epochs": asked.epochs, "seed": seed, "fresh": fresh, "threads": asked.threads, "rate": rate}
            done = finetune(TextToText(str(files["dev"]), "1", "2"), str(model), files["train"], grid=grid, **options)
            grid, rate = None, done.rate  # the first seed has chosen
            scores = {"nats": done.run.result["held_out"]["written"]["loss"], **done.scores}
            found.setdefault(arm, []).append(scores)
            found["copied"] = [done.baseline]
            print(
                f"{arm}, seed {seed}, rate {done.rate:g}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()),
                flush=True,
            )
    for arm, runs in found.items():
        print(f"{arm}: " + ", ".join(f"{name} {mean_and_deviation([run[name] for run in runs])}" for name in runs[0]))


def split(paths: list[Path], folder: Path, dev: int) -> dict[str, Path]:
    """Every tenth pair to the dev set, up to `dev`; files without header."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines() if line.count("\t") == 1]
    lines = [line for line in dict.fromkeys(lines) if all(cell.strip() for cell in line.split("\t"))]
    held = lines[::10][:dev]
    kept = set(held)
    files = {"train": folder / "train.tsv", "dev": folder / "dev.tsv"}
    files["train"].write_text("\n".join(line for line in lines if line not in kept) + "\n", "utf-8")
    files["dev"].write_text("\n".join(held) + "\n", "utf-8")
    print(f"{len(lines) - len(held):,} pairs to train on, {len(held):,} to judge by")
    return files


def mean_and_deviation(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ({statistics.stdev(values):.3f})" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
