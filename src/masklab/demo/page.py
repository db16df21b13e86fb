"""What the demo found: the summary, the table on screen, and the page."""

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from masklab.analysis import curves, report
from masklab.corpus.store import Store
from masklab.demo.compare import ARMS, Book, Setting, chosen
from masklab.training.run import Run

USUAL = {"casing": "each word's usual label", "package": "majority"}
PLAIN = "F1 of the labels other than plain"


def summary(store: Store, leak: float, run: Run, settings: Sequence[Setting], book: Book, linear: list[float] | None,
            examples: list[dict[str, Any]]) -> dict[str, Any]:  # fmt: skip
    """Everything that is shown, as plain values."""
    d, begin = store.description, next(r for r in run.history if r["kind"] == "begin")
    tasks: dict[str, Any] = {}
    for setting in settings:
        rows = []
        for size in setting.sizes:
            lines = {arm: chosen(book, setting, arm, size) for arm in ARMS}
            scores = {arm: [x["test"] for x in found] for arm, found in lines.items()}
            ours, theirs = (np.array(scores[arm]) for arm in ARMS)
            rows.append({
                "size": size, "scores": scores, "baseline": [x["baseline"] for x in lines["pre-trained"]],
                "rates": {arm: found[0]["rate"] for arm, found in lines.items()},
                "accuracy": {arm: [x["scores"]["accuracy"] for x in found] for arm, found in lines.items()},
                "gain": [float((ours - theirs).mean()), curves.spread((ours - theirs).tolist())],
            })  # fmt: skip
        tasks[setting.name] = {"rows": rows, "seeds": setting.seeds, "grid": list(setting.rates)}
    if linear is not None:
        tasks["package"]["linear"] = linear
    return {
        "corpus": {key: d[key] for key in ("documents", "characters", "corpus", "vocabulary", "near_duplicate_groups")}
        | {"held_out": d["parts"]["held_out"]["documents"], "tokens": d["parts"]["train"]["tokens"], "leak": leak},
        "pretraining": {
            "recipe": run.recipe.name, "parameters": begin["parameters"], "environment": begin["environment"],
            "seconds": run.result["seconds"], "steps": run.result["steps"], "tokens": run.result["tokens"],
            "held_out": run.result["held_out"], "baseline": run.result["baseline"], "seed": run.recipe.seed,
        },
        "tasks": tasks,
        "gaps": examples,
    }  # fmt: skip


def score_picture(found: dict[str, Any]) -> Figure:
    rows = found["tasks"]["casing"]["rows"]
    arms = {arm: {row["size"]: row["scores"][arm] for row in rows} for arm in ARMS}
    return curves.score_curve(arms, {row["size"]: row["baseline"] for row in rows}, baseline_name=USUAL["casing"],
                              score=PLAIN, labels="labelled passages")  # fmt: skip


def show(found: dict[str, Any], console: Console) -> None:
    """The filled gaps and the short tables, on the screen."""
    for example in found["gaps"]:
        guesses = "  ".join(f"[{'green' if w == example['word'] else 'dim'}]{escape(w)} {p:.2f}[/]"
                            for w, p in example["guesses"])  # fmt: skip
        console.print(f"{escape(example['before'])}\\[[bold]{example['word']}[/]]{escape(example['after'])}")
        console.print(f"   {guesses}")
    console.print()
    for name, title in (("casing", f"Restoring case and punctuation: {PLAIN}"),
                        ("package", "Which package a docstring is from: accuracy, modules held out")):  # fmt: skip
        header, rows, best = _rows(found, name)
        table = Table(*header, title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for row, strong in zip(rows, best, strict=True):
            close = [cell.replace(" ± ", "±") for cell in row]  # fits 80 columns
            table.add_row(*(f"[bold]{cell}[/]" if i == strong else cell for i, cell in enumerate(close)))
        console.print(table)
        console.print()


def _rows(found: dict[str, Any], name: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows and the place of the best score in each row."""
    task = found["tasks"][name]
    linear = task.get("linear")
    header = ["labels", *ARMS, "gain", USUAL[name], *(["TF-IDF + linear"] if linear else [])]
    rows, best = [], []
    for row in task["rows"]:
        columns = [row["scores"][arm] for arm in ARMS] + [row["baseline"]] + ([linear] if linear else [])
        place = int(np.argmax([np.mean(c) for c in columns]))
        cells = [_mean(c) for c in columns]
        rows.append([f"{row['size']:,}", *cells[:2], _signed(*row["gain"]), *cells[2:]])
        best.append(place + 1 if place < 2 else place + 2)
    return header, rows, best


def document(found: dict[str, Any], loss: Figure, score: Figure) -> str:
    """The whole page."""
    c, p, tasks = found["corpus"], found["pretraining"], found["tasks"]
    held_out, trivial = p["held_out"]["masked"], p["baseline"]["masked"]
    hidden, by_frequency = p["held_out"]["hidden"]["accuracy"], p["baseline"]["hidden"]["accuracy"]
    seeds = tasks["casing"]["seeds"]
    gain = max((r for r in tasks["casing"]["rows"] if r["size"] <= 150), key=lambda r: r["gain"][0], default=None)
    lead = (
        f"A {p['recipe']} of {p['parameters'] / 1e6:.1f} M parameters read {p['tokens'] / 1e6:.1f} M tokens of this "
        f"machine's Python documentation in {report.duration(p['seconds'])}, then learned two tasks beside the same "
        f"model with random weights."
    )
    figures = [
        (f"{held_out['loss']:.2f}", f"nats a token on held-out text; unigram {trivial['loss']:.2f}"),
        (f"{hidden:.0%}", f"of its [MASK] tokens guessed; unigram {by_frequency:.0%}"),
    ]
    if gain:
        figures.append((_signed(*gain["gain"]), f"F1 with {gain['size']} labelled passages, against random weights"))
    fair = (
        f"Both arms try the learning rates {', '.join(f'{r:g}' for r in tasks['casing']['grid'])} at every size; the "
        f"one that is best on a dev file is taken, scores are from a test file. Mean and standard deviation of {seeds} "
        f"draws of the labelled examples; the gain's deviation is of the paired differences."
    )
    winner = _winner(found)
    return report.page(
        "First light: a model pre-trained on this machine",
        report.text(lead, "lead"),
        report.numbers(figures),
        report.heading("Pre-training"),
        report.picture(
            curves.svg(loss, "loss while pre-training"),
            "Loss on the training rows and on documents that are held out, beside the unigram model, which knows how "
            "frequent every token is and nothing else.",
        ),
        report.heading("Restoring case and punctuation"),
        report.text(
            "The words of a passage come lower-cased and without signs; each asks how it was written (lower, Capital, "
            "UPPER) and which sign followed it. Passages are cut anywhere, so their ends give nothing away. Most "
            "words are plain, so the score is F1 over all other labels."
        ),
        report.picture(curves.svg(score, "score over labels"), "Bars: one standard deviation over the draws."),
        report.table(*_rows(found, "casing")),
        report.text(fair, "note"),
        report.heading("Which package is this docstring from?"),
        report.text(f"Accuracy on modules of which no labelled example was seen; {winner}."),
        report.table(*_rows(found, "package")),
        report.text(
            "All read the first 80 words of a docstring (the models, the first 128 tokens). TF-IDF + linear: words and "
            "word pairs into a linear support vector machine, its C chosen on the dev file.", "note",
        ),
        report.heading("Fill in the word"),
        report.text(
            "Held-out sentences, and the words hidden in them, were taken by lot; the model's five best guesses."
        ),
        report.gaps(found["gaps"]),
        report.heading("Take the model along"),
        report.code(
            'from transformers import pipeline\n\nfill = pipeline("fill-mask", "pretrain/model")\n'
            'fill("Raises ValueError [MASK] the input is invalid.")'
        ),
        report.heading("How it was made"),
        report.pairs([
            ("documents", f"{c['documents']:,} ({c['characters'] / 1e6:.1f} M characters)"),
            ("held out", f"{c['held_out']:,} documents, near-copies together"),
            ("leak", f"{c['leak']:.2%} of the held-out 16-word runs stand in the training text"),
            ("corpus hash", c["corpus"]),
            ("vocabulary", f"{c['vocabulary']:,} pieces, lower-cased"),
            ("steps", f"{p['steps']:,}, seed {p['seed']}"),
            *((key, str(value)) for key, value in p["environment"].items()),
            ("system", platform.platform(terse=True)),
        ]),
        report.text(
            "All labelled passages, and the docstrings that are scored, come from documents that pre-training never "
            "saw; labelled passages share no eight words in a row with a test passage.", "note",
        ),
    )  # fmt: skip


def _winner(found: dict[str, Any]) -> str:
    """ "pre-trained is best (0.71), TF-IDF + linear next (0.65)"."""
    header, rows, _ = _rows(found, "package")
    means = [
        (float(cell.split(" ")[0]), name) for name, cell in zip(header[1:], rows[-1][1:], strict=True) if name != "gain"
    ]
    (first, a), (second, b), *_ = sorted(means, key=lambda x: -x[0])
    return f"{a} is best ({first:.3f}), {b} next ({second:.3f})"


def _mean(scores: Sequence[float]) -> str:
    """[0.5, 0.6] -> "0.550 ± 0.071"."""
    return f"{np.mean(scores):.3f}" + (f" ± {curves.spread(scores):.3f}" if len(scores) > 1 else "")


def _signed(mean: float, deviation: float) -> str:
    return f"{mean:+.3f}" + (f" ± {deviation:.3f}" if deviation else "")
