"""masklab beside transformers' Trainer: same text, vocabulary, shape and clock, held-out losses by the same judge.

    python benchmarks/against_trainer.py STORE --out speed.jsonl     # tokens a second: four shapes, alternating rounds
    python benchmarks/against_trainer.py STORE --grid --out grid.jsonl     # the Trainer tuned, three seeds of its best,
                                                                           # masklab beside it, and time to equal losses

`default` is the Trainer as it comes (fp32, the class's dropout, AdamW, 8 rows a step); `best` has bfloat16, no dropout,
32 rows and, where the class has one, a head at masked positions only. Both keep documents apart, as masklab does
(--documents joined: rows of run_mlm.py, which do not). Short documents ("lines") are the corpus' sentences: the Trainer
pads each batch to its longest (`best` puts like lengths together), masklab packs them. Padding counts for nobody.
masklab's side of a speed round reads rows of 128 and masks 15 %, 4,096 slots a step.

Each side lives in a process of its own, as its users run it. Every round is written to --out as it ends; those that the
file holds are not repeated, so a run that was stopped goes on.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import _trainer
import numpy as np
import torch
from _rounds import Notes, ratio, report
from _trainer import LENGTH, Setting

from masklab import recipe as recipes
from masklab.corpus.prepare import prepare
from masklab.corpus.sentences import split
from masklab.corpus.store import Store
from masklab.recipe import Recipe
from masklab.training.loop import train
from masklab.training.schedule import Budget
from masklab.training.session import build

SLOTS = 4096  # a step, of masklab's speed rounds and of the Trainer's best
MATCHED = [5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300]  # seconds to try


def shaped(store: str, name: str, shape: str, changes: list[str]) -> Recipe:
    """The tuned preset in a shape such as "4x256"; heads of 64, but never fewer than 4."""
    layers, width = map(int, shape.split("x"))
    made = recipes.load(name, data=store, preset="tuned")
    model: Any = made.model
    size = {"layers": layers, "width": width, "heads": max(4, width // 64)}
    size["feed_forward"] = model.feed_forward * width // model.width
    return recipes.override(replace(made, model=replace(model, **size)), changes)


def our_speed(made: Recipe, seconds: float, warm_up: float) -> dict[str, Any]:
    """Tokens a second, after the warm-up, of a run that reads and asks for as much as the Trainer's."""
    run = train(
        replace(
            made,
            embeddings="random",  # its seconds come before the first step, and are no part of a rate
            budget=Budget(seconds=seconds + warm_up),
            objective=replace(made.objective, start_rate=None, rate=0.15),
            batches=replace(made.batches, tokens=SLOTS, lengths=((0.0, LENGTH),)),
            evaluation=replace(made.evaluation, every=1.0, rows=8),
            log_every=1,
        )
    )
    steps = [r for r in run.history if r["kind"] == "step"]
    marks = [(r["seconds"], r["tokens"]) for r in steps[1:] if r["seconds"] >= warm_up] or [
        (r["seconds"], r["tokens"]) for r in steps
    ]
    (began, before), (ended, after) = marks[0], marks[-1]
    environment = next(r for r in run.history if r["kind"] == "begin")["environment"]
    return {"rate": (after - before) / (ended - began), "optimizer": made.optimizer.name, "environment": environment}


def our_loss(made: Recipe, seconds: float) -> dict[str, Any]:
    """Where a whole run of the tuned preset ends; counting tokens for the first table is part of its seconds."""
    evaluation = replace(made.evaluation, every=1.0)
    result = train(replace(made, budget=Budget(seconds=seconds), evaluation=evaluation)).result
    found = {key: result[key] for key in ("tokens", "steps", "seconds")}
    score = result["held_out"]["masked"]
    return {"rate": found["tokens"] / found["seconds"], **found, "loss": score["loss"], "top1": score["accuracy"]}


def empty(made: Recipe, folder: str) -> None:
    """The same shape as a folder of transformers, for its config.json."""
    build(replace(made, embeddings="random")).write_model(Path(folder))


def side() -> ProcessPoolExecutor:
    """A process of its own that waits for work."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def of_sentences(store: Store, folder: Path, megabytes: float = 10) -> Store:
    """A corpus whose documents are the first sentences of another, with the same vocabulary."""
    texts = itertools.accumulate(
        store.texts("train"), lambda sum_text, text: (sum_text[0] + len(text), text), initial=(0, "")
    )
    wanted = (text for _, text in itertools.takewhile(lambda pair: pair[0] < megabytes * 1e6, texts))
    lines = (line for text in wanted for part in text.split("\n") for line in split(part))
    return prepare(lines, folder, store.folder, keep_duplicates=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--recipe", default="bert", help="which of masklab's recipes: its class is the Trainer's too")
    parser.add_argument(
        "--change", nargs="+", default=[], help="changes to masklab's recipe, e.g. optimizer.name=adamw"
    )
    parser.add_argument("--seconds", type=float, help="of each round (8), or of each run with --grid (300)")
    parser.add_argument("--threads", type=int, default=0, help="of both sides; 0: all cores")
    parser.add_argument("--out", help="file of JSON lines that keeps every round; what it holds is not repeated")
    parser.add_argument(
        "--documents", default="isolated", choices=["joined", "isolated", "single"], help="the Trainer's rows, as above"
    )
    parser.add_argument("--shapes", nargs="+", default=["2x128", "4x256", "4x512", "4x256-lines"], help="of the table")
    parser.add_argument("--lines", action="store_true", help="only short documents, one a line, at 4 x 256")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=float, default=2, help="seconds of each round that the rate leaves out")
    parser.add_argument("--peers", nargs="+", default=["default", "best"], choices=["default", "best"])
    parser.add_argument("--grid", action="store_true", help="tune the Trainer, compare held-out losses")
    parser.add_argument("--shape", default="2x128", help="with --grid")
    parser.add_argument("--lr", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3], help="the Trainer's")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32], help="rows of 128 a step")
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0])
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=["bf16", "fp32"])
    parser.add_argument("--seeds", type=int, default=3, help="of the winner and of masklab (the grid has one)")
    args = parser.parse_args()
    print(
        f"{args.recipe}, {args.threads or len(os.sched_getaffinity(0))} threads, torch {torch.__version__}", flush=True
    )
    args.change = [*args.change, f"threads={args.threads}"]
    with side() as theirs, side() as ours, tempfile.TemporaryDirectory() as folder:
        (grid if args.grid else speed)(args, theirs, ours, Path(folder))


def speed(args: argparse.Namespace, theirs: ProcessPoolExecutor, ours: ProcessPoolExecutor, folder: Path) -> None:
    notes, seconds = Notes(args.out), args.seconds or 8
    shapes = ["4x256-lines"] if args.lines else args.shapes
    lines = of_sentences(Store(args.store), folder / "lines") if any("lines" in shape for shape in shapes) else None
    jobs: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {}
    for shape in shapes:
        of_lines = "lines" in shape
        store = str(lines.path if of_lines and lines else args.store)
        made = shaped(store, args.recipe, shape.removesuffix("-lines"), args.change)
        empty(made, str(folder / shape))
        settings = {"default": Setting(), "best": Setting(32, 1e-3, bf16=True, dropout=0.0, sparse=True)}
        for peer in args.peers:
            setting = replace(settings[peer], documents=args.documents)
            if of_lines:
                setting = replace(setting, documents="single", grouped=peer == "best")
            jobs[shape, f"Trainer {peer}"] = _trainer_job(theirs, store, str(folder / shape), setting, args, seconds)
        jobs[shape, "masklab"] = lambda made=made: ours.submit(our_speed, made, seconds, args.warm_up).result()
    found: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in jobs}
    for number in range(args.rounds):
        for shape, peer in list(jobs)[:: -1 if number % 2 else 1]:
            what = {"shape": shape, "peer": peer, "round": number, "seconds": seconds, "recipe": args.recipe,
                    "store": Store(args.store).hash, "documents": args.documents, "change": args.change}  # fmt: skip
            found[shape, peer].append(notes.get(what, jobs[shape, peer]))
            rate = found[shape, peer][-1]["rate"]
            print(f"  round {number + 1} of {args.rounds}: {shape} {peer} {rate:,.0f} tokens/s", flush=True)
    for shape in shapes:
        rates = {peer: [r["rate"] for r in values] for (of, peer), values in found.items() if of == shape}
        names = {peer: found[shape, peer][0]["optimizer"] for peer in rates}
        print(f"{shape} ({', '.join(f'{peer}: {optimizer}' for peer, optimizer in names.items())})")
        report(rates, "masklab", "tokens/s")


def _trainer_job(side: ProcessPoolExecutor, store: str, folder: str, setting: Setting, args: argparse.Namespace,
                 seconds: float) -> Callable[[], dict[str, Any]]:  # fmt: skip
    def measure() -> dict[str, Any]:
        options = {"seconds": seconds + args.warm_up, "warm_up": args.warm_up, "threads": args.threads}
        return side.submit(_trainer.run, store, folder, setting, **options).result()._asdict()

    return measure


def grid(args: argparse.Namespace, theirs: ProcessPoolExecutor, ours: ProcessPoolExecutor, folder: Path) -> None:
    notes, seconds = Notes(args.out), args.seconds or 300
    made = shaped(args.store, args.recipe, args.shape, args.change)
    empty(made, str(folder / "shape"))
    same = {"seconds": seconds, "shape": args.shape, "recipe": args.recipe, "store": Store(args.store).hash,
            "threads": args.threads}  # fmt: skip

    def tried(setting: Setting, seed: int) -> dict[str, Any]:
        options = {"seconds": seconds, "seed": seed, "threads": args.threads, "judged_at": (1.0,)}

        def measure() -> dict[str, Any]:
            return side_result(
                theirs.submit(_trainer.run, args.store, str(folder / "shape"), setting, **options).result()
            )

        record = notes.get({"peer": "Trainer", "setting": vars(setting), "seed": seed, **same}, measure)
        about = (
            f"lr {setting.lr:g}, {setting.rows} rows, dropout {setting.dropout:g}, {'bf16' if setting.bf16 else 'fp32'}"
        )
        print(f"  Trainer {about}, seed {seed}: {_line(record)}", flush=True)
        return record

    losses: dict[Setting, float] = {}
    for lr, rows, dropout, precision in itertools.product(args.lr, args.batch, args.dropout, args.precision):
        setting = Setting(rows, lr, precision == "bf16", dropout, True, args.documents)
        losses[setting] = tried(setting, 0)["loss"]
    best = min(losses, key=losses.__getitem__)
    rates = {s.lr for s in losses}
    while len(args.lr) > 1 and best.lr in (min(rates), max(rates)):  # at the edge of the grid: look beyond it
        further = replace(best, lr=best.lr * (2 if best.lr == max(rates) else 0.5))
        losses[further] = tried(further, 0)["loss"]
        rates.add(further.lr)
        best = min(losses, key=losses.__getitem__)
    peers = [tried(best, seed) for seed in range(args.seeds)]

    def own(budget: float, seed: int) -> dict[str, Any]:
        what = {"peer": "masklab", "seed": seed, "change": args.change, **same, "seconds": budget}
        record = notes.get(what, lambda: ours.submit(our_loss, replace(made, seed=seed), budget).result())
        print(f"  masklab, {budget:g} s, seed {seed}: {_line(record)}", flush=True)
        return record

    whole = [own(seconds, seed) for seed in range(args.seeds)]
    target = float(np.mean([r["loss"] for r in peers]))
    reached: list[dict[str, Any]] = []
    for budget in [b for b in MATCHED if b < seconds]:
        if own(budget, 0)["loss"] <= target:
            several = [own(budget, seed) for seed in range(args.seeds)]
            if np.mean([r["loss"] for r in several]) <= target:
                reached = several
                break
    known = _trainer.unigram(args.store)
    print(f"unigram: {known.loss:.3f} nats, top-1 {known.accuracy:.3f}")
    print(f"Trainer's best ({best}): {_several(peers)}")
    print(f"masklab {args.recipe}: {_several(whole)}")
    if reached:
        tokens = np.mean([r["tokens"] for r in peers]) / np.mean([r["tokens"] for r in reached])
        rate = ratio([r["rate"] for r in reached], [r["rate"] for r in peers])
        time = np.mean([r["seconds"] for r in peers]) / np.mean([r["seconds"] for r in reached])
        print(
            f"to the Trainer's loss of {seconds:g} s: {_several(reached)}; {tokens:.1f}x fewer tokens, {rate} tokens a "
            f"second: {time:.1f}x in time"
        )
    else:
        print(f"masklab reached the Trainer's loss in no budget below {seconds:g} s")


def side_result(result: _trainer.Result) -> dict[str, Any]:
    """A judged run of the Trainer, with tokens over all its seconds for a rate, as masklab's."""
    *_, loss, top1 = result.curve[-1]
    return result._asdict() | {"rate": result.tokens / result.seconds, "loss": loss, "top1": top1}


def _line(r: dict[str, Any]) -> str:
    return (
        f"{r['loss']:.3f} nats, top-1 {r['top1']:.3f}; {r['steps']:,} steps, {r['tokens'] / 1e6:.2f} M tokens in "
        f"{r['seconds']:.0f} s"
    )


def _several(records: list[dict[str, Any]]) -> str:
    losses, right = ([r[key] for r in records] for key in ("loss", "top1"))
    deviation = f" +- {np.std(losses, ddof=1):.3f}" if len(losses) > 1 else ""
    tokens, seconds = (np.mean([r[key] for r in records]) for key in ("tokens", "seconds"))
    nats = f"{np.mean(losses):.3f}{deviation} nats, top-1 {np.mean(right):.3f}"
    return f"{nats}, {tokens / 1e6:.2f} M tokens in {seconds:.0f} s"


if __name__ == "__main__":
    main()
