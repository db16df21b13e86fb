"""What ELMo's layers are worth to a tagger, beside word vectors of the same text and beside the same network untrained.

    masklab pretrain elmo --data STORE --out runs/elmo --time 15m
    python benchmarks/elmo_features.py runs/elmo --train train.conllu --dev dev.conllu

The tagger is the same in all arms (each layer brought to deviation 1, a mixture, a two-way LSTM); only what it is given
differs: `elmo` all layers of the trained network, `random` those of the same network with new weights, `vectors`
skip-gram vectors trained here on the run's own corpus (or --vectors FILE). No arm trains what it is given. Printed: the
held-out accuracy by seed, mean and deviation, and how much of each layer the taggers took. About five minutes on one
core; --sentences and --epochs shorten it.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from masklab.analysis.opened import model_folder
from masklab.models import hub
from masklab.recipe import Batches, Evaluation, Recipe
from masklab.tasks.tag_features import TagFeatures
from masklab.training.loop import train
from masklab.training.optim import Optimizer
from masklab.training.run import Run
from masklab.training.schedule import Budget, Schedule
from masklab.word_vectors import word2vec

LENGTH = 64


def arm(name: str, args: argparse.Namespace, start: Path, vectors: str, seed: int) -> Run:
    """One tagger, trained; `seed` draws its weights, and the labelled sentences too."""
    task = TagFeatures(args.dev, args.word, args.tag, args.sentences, seed, vectors if name == "vectors" else "")
    rows = len(task.examples(task.open(args.train, "train"), LENGTH))
    at_once = max(1, min(8, rows // 8))
    made = Recipe(
        name=f"tagger on {name}",
        model=replace(hub.load(start).config, dropout=0.0),
        objective=task,
        data=args.train,
        start=str(start),
        fresh=name == "random",
        budget=Budget(steps=round(args.epochs * rows / at_once)),
        batches=Batches(at_once * LENGTH, 1, ((0.0, LENGTH),)),
        schedule=Schedule("linear", warmup=0.1),
        optimizer=Optimizer(lr=args.rate),
        evaluation=Evaluation(every=1.0, rows=100_000),
        seed=seed,
        threads=args.threads,
    )
    return train(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run of the recipe elmo")
    parser.add_argument("--train", required=True)
    parser.add_argument("--dev", required=True)
    parser.add_argument("--word", default="")
    parser.add_argument("--tag", default="")
    parser.add_argument("--vectors", default="", help="word vectors to use instead of training some")
    parser.add_argument("--sentences", type=int, default=500, help="labelled ones, drawn anew for each seed")
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    start = model_folder(args.run)
    with tempfile.TemporaryDirectory() as scratch:
        vectors = args.vectors
        if not vectors:
            made = word2vec.train(Run.open(args.run).recipe.data, word2vec.Settings(threads=args.threads))
            vectors = f"{scratch}/vectors"
            made.save(vectors)
            print(f"skip-gram: {len(made.vocabulary):,} words of {made.vectors.shape[1]} numbers", flush=True)
        found: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            for name in ("elmo", "random", "vectors"):
                run = arm(name, args, start, vectors, seed)
                assert run.pretrainer is not None
                score, trivial = (run.result[k]["tag"]["accuracy"] for k in ("held_out", "baseline"))
                shares = run.pretrainer.heads["tag"].mix.shares.tolist()  # type: ignore[union-attr, operator]
                taken = ", ".join(f"{share:.2f}" for share in shares)
                found.setdefault(name, []).append(score)
                print(f"seed {seed} {name:8} {score:.4f}   (usual tag {trivial:.4f})   layers {taken}", flush=True)
    for name, values in found.items():
        deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
        print(f"{name:8} {np.mean(values):.4f} +- {deviation:.4f}")


if __name__ == "__main__":
    main()
