"""The demo: pre-train on this machine's Python documentation, fine-tune, compare with random weights, write a report.

    demo(minutes=5, folder="demo-run")

Every part is kept in the folder as soon as it is done. Ctrl-C stops at any place; the same call goes on from there.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from masklab.analysis import curves, report
from masklab.corpus import builtin, duplicates
from masklab.corpus.prepare import prepare
from masklab.corpus.read import Document
from masklab.corpus.store import Store
from masklab.demo import page
from masklab.demo.compare import ARMS, Book, Setting, bag_of_words, chosen, compare
from masklab.demo.data import casing_files, package_files
from masklab.demo.gaps import gaps
from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.recipe import Recipe, load, override
from masklab.training.loop import train
from masklab.training.progress import Board, Screen, both
from masklab.training.run import Run

RECIPE = "modernbert"
HELD_OUT = 0.1  # more than the usual hundredth: labelled passages come from these documents too


def demo(
    minutes: float = 5.0,
    folder: str | Path = "demo-run",
    seed: int = 0,
    *,
    documents: Iterable[Document] | None = None,
    changes: Iterable[str] = (),
    console: Console | None = None,
) -> dict[str, Any]:
    """Run what is not in `folder` yet; the summary, which is also left there as summary.json.

    documents: another corpus than the built-in one, with sources like "package/module:name". changes: to the recipe of
    pre-training, such as "model.layers=4".
    """
    console = console or Console()
    place = Path(folder)
    _claim(place, {"minutes": minutes, "seed": seed, "changes": list(changes)})
    began = time.monotonic()
    try:
        found = _parts(place, minutes, seed, documents, changes, console)
    except KeyboardInterrupt:
        console.print(f"\nStopped. What is done is kept in {escape(str(place))}; the same command goes on from there.")
        raise
    console.print(f"\n[bold]{escape(str(place / 'report.html'))}[/] has it all, with pictures.")
    console.print(f"The model: {escape(str(place / 'pretrain' / 'model'))}  [dim](transformers opens it)[/]")
    console.print(f"[dim]{report.duration(time.monotonic() - began)} altogether[/]")
    return found


def _claim(place: Path, settings: dict[str, Any]) -> None:
    """A folder holds one demo: another one's parts are not mixed in."""
    file = place / "demo.json"
    if file.exists():
        there = json.loads(file.read_text("utf-8"))
        if there != settings:
            raise BadInput(f"{place} holds a demo with other settings ({_said(there)}); give another folder")
    elif place.exists() and any(place.iterdir()):
        raise BadInput(f"{place} is not empty and holds no demo; give another folder")
    else:
        with atomic_write(file, "w") as new:
            json.dump(settings, new)


def _said(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value)


def _parts(place: Path, minutes: float, seed: int, documents: Iterable[Document] | None, changes: Iterable[str],
           console: Console) -> dict[str, Any]:  # fmt: skip
    _stage(console, 1, "The corpus: Python's documentation on this machine")
    store, leak = _corpus(place / "corpus", documents, console)
    _stage(console, 2, f"Pre-training for {minutes:g} minute{'s' * (minutes != 1)}: recipe {RECIPE}, tuned preset")
    recipe = override(load(RECIPE, data=str(place / "corpus"), preset="tuned"),
                      [f"budget.seconds={60 * float(minutes)}", f"seed={seed}", *changes])  # fmt: skip
    run = _pretrain(recipe, place / "pretrain", console)

    _stage(console, 3, "Fine-tuning: pre-trained against random weights, learning rates tuned alike")
    settings = _settings(place, store, minutes, seed)
    book = Book(place / "fine-tuning.jsonl")
    _fine_tune(settings, run, book, console)
    linear = bag_of_words(settings[1].files, settings[1].sizes[-1], settings[1].seeds)

    _stage(console, 4, "What came of it")
    examples = gaps(run.model_folder, store, seed)
    summary = page.summary(store, leak, run, settings, book, linear, examples)
    with atomic_write(place / "summary.json", "w") as file:
        json.dump(summary, file, indent=1)
    loss, score = curves.loss_curves([run]), page.score_picture(summary)
    curves.save(loss, place / "loss.png")
    curves.save(score, place / "score.png")
    report.write(page.document(summary, loss, score), place / "report.html")
    page.show(summary, console)
    return summary


def _stage(console: Console, number: int, what: str) -> None:
    console.print(f"\n[bold cyan]{number}/4[/] [bold]{escape(what)}[/]")


def _corpus(folder: Path, documents: Iterable[Document] | None, console: Console) -> tuple[Store, float]:
    """The prepared store, and how much of its held-out text stands in its training text too."""
    if not (folder / "store.json").exists():
        with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"),
                      TimeElapsedColumn(), console=console, transient=True) as bar:  # fmt: skip
            task = bar.add_task("reading", total=None)
            prepare(
                builtin.documents() if documents is None else documents,
                folder,
                8192,
                held_out=HELD_OUT,
                progress=lambda at: bar.update(
                    task, description=at.stage, completed=at.documents, total=at.share and at.documents / at.share
                ),
            )
    store = Store(folder)
    measured = folder.with_name("leak.json")
    if not measured.exists():
        with console.status("measuring the leak"):
            share = duplicates.leak(store.texts("train"), store.texts("held_out"))
        with atomic_write(measured, "w") as file:
            json.dump(share, file)
    leak = json.loads(measured.read_text("utf-8"))
    d, parts = store.description, store.description["parts"]
    console.print(
        f"{d['documents']:,} documents, {d['characters'] / 1e6:.1f} M characters, {parts['train']['tokens'] / 1e6:.1f} "
        f"M tokens of {d['vocabulary']:,} kinds to train on; corpus {d['corpus'][:16]}"
    )
    console.print(
        f"{parts['held_out']['documents']:,} documents are held out, near-copies together: {leak:.2%} of their 16-word "
        f"runs occur in the training text"
    )
    return store, leak


def _pretrain(recipe: Recipe, folder: Path, console: Console) -> Run:
    run = Run.open(folder) if (folder / "result.json").exists() else None
    if run is None:
        with Screen(console) as screen:
            run = train(recipe, folder, both(screen, Board(folder)))
        if run.stopped:
            raise KeyboardInterrupt
    held_out, trivial = run.result["held_out"]["masked"], run.result["baseline"]["masked"]
    hidden, by_frequency = run.result["held_out"]["hidden"], run.result["baseline"]["hidden"]
    console.print(f"held-out loss {held_out['loss']:.2f} nats a token (unigram {trivial['loss']:.2f})")
    console.print(
        f"{hidden['accuracy']:.0%} of the \\[MASK] tokens guessed (unigram {by_frequency['accuracy']:.0%}), after "
        f"{run.result['tokens'] / 1e6:.1f} M tokens"
    )
    return run


def _settings(place: Path, store: Store, minutes: float, seed: int) -> tuple[Setting, Setting]:
    """What is compared: the whole curve with three seeds, or less of it in the short form."""
    short = minutes < 3
    sizes, seeds = ((16, 150, 1000), 2) if short else ((16, 50, 150, 400, 1000), 3)
    rates = (1e-3, 2e-3) if short else (7e-4, 1.5e-3, 3e-3)
    passages = casing_files(store, place / "casing", seed, most=sizes[-1])
    docstrings = package_files(store, place / "package", seed)
    sizes = tuple(size for size in sizes if size <= passages.examples) or (passages.examples,)
    return (
        Setting("casing", passages, sizes, seeds, rates, score="f1_rare", epochs=8, least=100),
        Setting(
            "package", docstrings, (min(400, docstrings.examples),), seeds, rates, score="accuracy", epochs=8, least=100
        ),
    )


def _fine_tune(settings: tuple[Setting, Setting], run: Run, book: Book, console: Console) -> None:
    environment = next(r for r in run.history if r["kind"] == "begin")["environment"]
    with Progress(TextColumn("{task.fields[name]:8}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
                  TextColumn("{task.description}"), console=console, transient=True) as bar:  # fmt: skip
        for setting in settings:
            task = bar.add_task("", total=setting.runs(), name=setting.name)
            lines = compare(setting, run.model_folder, run.recipe.initial, environment["precision"], run.recipe.threads,
                            book, lambda what, task=task: bar.update(task, description=what))  # fmt: skip
            for _ in lines:
                bar.advance(task)
    for setting in settings:
        for size in setting.sizes:
            means = [
                sum(x["test"] for x in lines) / len(lines) for lines in (chosen(book, setting, a, size) for a in ARMS)
            ]
            console.print(
                f"{setting.name}, {size:,} labelled: "
                + ", ".join(f"{arm} {mean:.3f}" for arm, mean in zip(ARMS, means, strict=True))
            )
