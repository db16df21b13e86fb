"""The commands: each reads its options, makes one call into the library, and prints what came of it.

Nothing heavy is imported before a command runs, so that `--help` is there at once.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperGroup

import masklab
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.recipe import Recipe
    from masklab.training.run import Run


class Commands(TyperGroup):
    """Bad input is one line and exit code 2; Ctrl-C is exit code 130; a traceback is always a fault of masklab's."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BadInput as error:
            _fail(str(error), 2)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            _fail(f"{error.filename}: {error.strerror}", 2)


def _fail(message: str, code: int) -> None:
    print(f"masklab: {message}", file=sys.stderr)
    raise typer.Exit(code)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[str, typer.Option(help="Folder of a prepared corpus (`masklab prepare`).", metavar="STORE")]
Changes = Annotated[
    list[str] | None,
    typer.Argument(
        help="Changes, e.g. `model.layers=6 seed=3`; `masklab recipes NAME` lists all names.",
        metavar="NAME=VALUE",
    ),
]
Seed = Annotated[int, typer.Option(help="Another number, another run.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"masklab {masklab.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Pre-train language representations on your own text, and open the result in transformers.

    A first model in three commands:

    ```
    masklab prepare mytext.txt --out corpus
    masklab pretrain bert --data corpus --out runs/first --time 5m
    masklab fill runs/first "The cat sat on the _."
    ```
    """


@app.command()
def prepare(
    paths: Annotated[list[Path] | None, typer.Argument(help="Text files; .gz and .xz too.", metavar="TEXT...")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write the corpus to.")] = ...,  # type: ignore[assignment]
    builtin: Annotated[
        bool, typer.Option("--builtin", help="Take Python's own documentation on this machine.")
    ] = False,
    vocabulary: Annotated[int, typer.Option(help="Entries of the WordPiece vocabulary to train.")] = 8192,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Use this tokenizer.json (or a model's folder) instead of training one.")
    ] = None,
    lowercase: Annotated[
        bool, typer.Option("--lowercase/--cased", help="Whether the vocabulary tells A from a.")
    ] = True,
    format: Annotated[
        Literal["auto", "blank-line", "line", "jsonl"],
        typer.Option(help="How documents stand in the files; auto looks and says what it found."),
    ] = "auto",
    field: Annotated[str, typer.Option(help="The field of JSON lines that holds the text.")] = "text",
    held_out: Annotated[float, typer.Option(help="Share of documents kept from training, to judge by.")] = 0.01,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep equal documents.")] = False,
    seed: Seed = 0,
) -> None:
    """Turn text files into a corpus that training reads: vocabulary, tokens, words, sentences, a held-out part.

    For example:

    ```
    masklab prepare news.txt more.jsonl.gz --out corpus --vocabulary 8192
    ```

    Documents are separated by blank lines, or stand one a line, or are JSON lines.
    """
    from masklab.corpus import builtin as python_documentation
    from masklab.corpus.read import documents
    from masklab.corpus.store import prepare as run

    if bool(paths) == builtin:
        raise BadInput("name text files, or say --builtin for the Python documentation on this machine; not both")
    say = Console(stderr=True, highlight=False)
    read = python_documentation.documents() if builtin else documents(paths or [], format, field, say=say.print)
    with say.status("reading") as status:

        def tell(stage: str, done: int, total: int | None) -> None:
            status.update(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))

        store = run(read, out, tokenizer or vocabulary, lowercase=lowercase, held_out=held_out, seed=seed,
                    keep_duplicates=keep_duplicates, progress=tell)  # fmt: skip
    d = store.description
    train, kept = d["parts"]["train"], d["parts"]["held_out"]
    print(f"{d['documents']:,} documents, {d['characters']:,} characters; "
          f"{d['duplicates']:,} duplicates and {d['empty']:,} empty ones left out")  # fmt: skip
    print(f"{train['tokens']:,} tokens to train on ({train['words']:,} words, {train['sentences']:,} sentences); "
          f"documents held out: {kept['documents']:,}, with {kept['tokens']:,} tokens")  # fmt: skip
    print(f"vocabulary of {d['vocabulary']:,}; corpus {d['corpus'][:16]}; written to {out}")
    print(f"Next: masklab pretrain bert --data {out} --out runs/first --time 5m")


@app.command()
def pretrain(
    recipe: Annotated[
        str,
        typer.Argument(help="A recipe's name (`masklab recipes`) or the path of your own .py file.", metavar="RECIPE"),
    ] = "",
    changes: Changes = None,
    data: Data = "",
    out: Annotated[Path, typer.Option(help="Folder of the run; one that holds this run is continued.")] = ...,  # type: ignore[assignment]
    preset: Annotated[
        Literal["paper", "tuned"] | None,
        typer.Option(help="The paper's own numbers, or those that measured better.", show_default="the recipe's own"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="How long: so many steps.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Or so many tokens read, e.g. `50M`.")] = None,
    words: Annotated[str | None, typer.Option(help="Or so many words read, e.g. `10M`.")] = None,
    time: Annotated[str | None, typer.Option(help="Or so long by the clock: `90s`, `5m`, `2h`.")] = None,
    again: Annotated[
        Path | None, typer.Option(help="Repeat this finished run step for step; name no recipe then.", metavar="RUN")
    ] = None,
) -> None:
    """Train a model from random weights on a prepared corpus.

    For example:

    ```
    masklab pretrain bert --data corpus --out runs/first --time 5m
    masklab pretrain mpnet --data corpus --out runs/small --steps 2000 model.layers=4 seed=3
    masklab pretrain --again runs/first --out runs/same
    ```

    Ctrl-C saves and stops; `masklab resume` goes on as if nothing had happened.
    """
    from masklab.recipe import override
    from masklab.training.run import Run

    changes = changes or []
    if again is not None:
        if "=" in recipe:
            recipe, changes = "", [recipe, *changes]
        if recipe or steps or tokens or words or time:
            raise BadInput("--again takes recipe and length from the run; name neither")
        made = override(Run.open(again).again(), [*([f"data={data}"] if data else []), *changes])
    else:
        if not recipe or "=" in recipe:
            raise BadInput("name a recipe, e.g. `masklab pretrain bert ...`; `masklab recipes` lists them")
        made = _recipe(recipe, data, preset, _budget(steps, tokens, words, time), changes)
    _train(made, out)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The run's folder (--out of pretrain).", metavar="RUN")],
) -> None:
    """Go on with a run that was stopped, as if it never had been.

    For example:

    ```
    masklab resume runs/first
    ```
    """
    from masklab.analysis.opened import open_run
    from masklab.training.run import Run

    run = Run.open(folder)
    if run.result:
        print(f"{folder} is finished already.")
        _report(run)
    else:
        _train(open_run(folder).recipe, folder)


@app.command()
def finetune(
    model: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="MODEL")],
    train: Annotated[Path, typer.Option(help="Labelled examples: .tsv, .csv, .jsonl, or CoNLL columns for tags.")],
    dev: Annotated[Path, typer.Option(help="Labelled examples to judge by.")],
    task: Annotated[
        Literal["classify", "tag"], typer.Option(help="A class for each text, or a label for each word.")
    ] = "classify",
    text: Annotated[str, typer.Option(help="Column of the text (tag: of the words): name, or number from 1.")] = "",
    text2: Annotated[str, typer.Option(help="Column of the second text, for pairs.")] = "",
    label: Annotated[str, typer.Option(help="Column of the label.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the run and its model.")] = None,
    lr: Annotated[str, typer.Option(help="Learning rate; of several (commas) the best.", show_default="by size")] = "",
    epochs: Annotated[float, typer.Option(help="How often each example is read.")] = 3.0,
    seeds: Annotated[int, typer.Option(help="So many runs with different seeds: mean and deviation.", min=1)] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The control: same shape and vocabulary, weights that know nothing.")
    ] = False,
) -> None:
    """Teach a pre-trained model a task: one or two texts -> a class, or a label for every word.

    For example:

    ```
    masklab finetune runs/first --train train.tsv --dev dev.tsv --text sentence --label label --out runs/cola
    masklab finetune runs/first --task tag --train train.conllu --dev dev.conllu --seeds 3
    ```

    Run it again with --fresh to see what the pre-training was worth.
    """
    from masklab.analysis.opened import model_folder
    from masklab.tasks.classify import Classify
    from masklab.tasks.finetune import finetune as run
    from masklab.tasks.tag import Tag
    from masklab.training.progress import Screen

    if task == "classify":
        objective: Any = Classify(str(dev), (text or "text", *([text2] if text2 else [])), label or "label")
    else:
        objective = Tag(str(dev), text, label)
    grid = [_number(rate, "--lr") for rate in lr.split(",")] if lr else None
    found = []
    for seed in range(seeds):
        folder = None if out is None else out if seeds == 1 else out / f"seed-{seed}"
        with Screen(baseline="majority") as screen:
            options: Any = {"epochs": epochs, "seed": seed, "fresh": fresh}
            if found:  # the first seed has chosen the learning rate
                grid, options["rate"] = None, found[0].rate
            found.append(run(objective, model_folder(model), train, folder, grid=grid, watch=screen, **options))
    table = Table("score", "held out" + (f", {seeds} seeds" if seeds > 1 else ""), "(trivial)")
    for name in found[0].scores:
        values = [f.scores[name] for f in found]
        trivial = found[0].baseline.get(name)
        table.add_row(name, _mean(values), "" if trivial is None else f"{trivial:.3f}")
    _show(table)
    print(f"learning rate {', '.join(f'{f.rate:g}' for f in found)}")
    if found[0].cut:
        print(f"{found[0].cut:,} examples were too long and lost their end")
    if out is not None:
        print(f"written to {out}")


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="RUN_OR_MODEL")],
    data: Annotated[
        str, typer.Option(help="Judge by the held-out part of this corpus, or by this labelled file.")
    ] = "",
    rows: Annotated[int | None, typer.Option(help="So many rows of it.", show_default="as the run did")] = None,
) -> None:
    """Measure a model on text that it never saw, under masks that never change, beside the trivial score.

    For example:

    ```
    masklab evaluate runs/first
    masklab evaluate runs/first --data another-corpus
    ```
    """
    from masklab.analysis.judge import judge

    scores, trivial = judge(what, data, rows)
    _show(_scores({n: s._asdict() for n, s in scores.items()}, {n: s._asdict() for n, s in trivial.items()}))


@app.command()
def fill(
    model: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="MODEL")],
    texts: Annotated[
        list[str] | None, typer.Argument(help='Texts with "_" or "[MASK]" in them; else one a line from stdin.')
    ] = None,
    top: Annotated[int, typer.Option(help="So many words for each gap.", min=1)] = 5,
) -> None:
    """Say what a model finds likely in the gaps of a text.

    For example:

    ```
    masklab fill runs/first "Raises ValueError _ the input is invalid."
    echo "The [MASK] sat on the mat." | masklab fill runs/first --top 10
    ```
    """
    from masklab.analysis.fill import fill as run
    from masklab.analysis.fill import filled
    from masklab.analysis.opened import open_model

    opened = open_model(model)
    for text in texts or _stdin():
        gaps = run(opened, text, top)
        print(filled(text, gaps))
        for gap in gaps:
            print("   " + "   ".join(f"{choice.text} {choice.probability:.2f}" for choice in gap))


@app.command()
def embed(
    model: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="MODEL")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="Texts; else one a line from --file or stdin.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file with one text a line.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .npy file for the vectors; else JSON lines are printed.")] = None,
) -> None:
    """Turn texts into vectors (mean of the last states, as sentence-transformers computes it).

    For example:

    ```
    masklab embed runs/first "one text" "another" > vectors.jsonl
    masklab embed runs/first --file texts.txt --out vectors.npy
    ```
    """
    import json

    import numpy as np

    from masklab.analysis.embed import embed as run
    from masklab.files import atomic_write

    listed = texts or (list(_lines(file)) if file else list(_stdin()))
    vectors = run(model, listed)
    if out is None:
        for text, vector in zip(listed, vectors, strict=True):
            print(json.dumps({"text": text, "vector": [round(float(x), 6) for x in vector]}, ensure_ascii=False))
    else:
        with atomic_write(out) as open_file:
            np.save(open_file, vectors)
        print(f"{vectors.shape[0]:,} vectors of {vectors.shape[1]} written to {out}")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A run's folder, or a recipe with --data.", metavar="RUN_OR_RECIPE")],
    changes: Changes = None,
    data: Data = "",
    step: Annotated[int, typer.Option(help="Which step, from 0.", min=0)] = 0,
    rows: Annotated[int, typer.Option(help="So many rows of it.", min=1)] = 2,
    html: Annotated[Path | None, typer.Option(help="Write a page for the browser instead.")] = None,
) -> None:
    """Show the very batch that training reads at a step: pieces, masks, answers, segments, who sees whom.

    For example:

    ```
    masklab show bert --data corpus
    masklab show runs/first --step 100 --html batch.html
    ```
    """
    from masklab.analysis.opened import is_run, open_run
    from masklab.analysis.show import show as run
    from masklab.files import atomic_write
    from masklab.recipe import override

    if is_run(what):
        opened = open_run(what, data)
        opened.recipe = override(opened.recipe, changes or [])
        look = run(opened, step)
    else:
        look = run(_recipe(what, data, None, None, changes or []), step)
    if html is None:
        look.print(Console(highlight=False), rows)
    else:
        with atomic_write(html, "w") as file:
            file.write(look.page(max(rows, 8)))
        print(f"written to {html}")


@app.command()
def recipes(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="One recipe, with all its numbers and how its parameters are counted.")
    ] = "",
) -> None:
    """List the recipes: what each is, which class opens its model, how many parameters it has.

    For example:

    ```
    masklab recipes
    masklab recipes bert
    ```
    """
    from masklab.analysis import catalogue

    if name:
        print(catalogue.details(name))
        return
    table = Table("recipe", "preset", "opens as", "layers x width", Column("parameters", justify="right"))
    about = {}
    for entry in catalogue.entries():
        about[entry.name] = entry.about
        table.add_row(entry.name, entry.preset, entry.opens, entry.shape, f"{entry.parameters / 1e6:,.1f}M")
    for each, text in about.items():
        print(f"{each}: {text.partition(': ')[2] or text}")
    _show(table)
    print(catalogue.note())


@app.command()
def demo(
    minutes: Annotated[float, typer.Option(help="How long to pre-train.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo-run"),
    seed: Seed = 0,
) -> None:
    """Pre-train on the Python documentation of this machine, fine-tune, compare, and write a report.

    For example:

    ```
    masklab demo --minutes 1
    ```
    """
    from masklab.demo import main as run

    run.demo(minutes, out, seed)


# --- what several commands share ------------------------------------------------------------------------------------


def _recipe(name: str, data: str, preset: str | None, budget: Any, changes: list[str]) -> "Recipe":
    """The recipe as the options make it. A change that names an argument of the recipe's function is given to it."""
    import ast
    import inspect
    from dataclasses import replace

    from masklab.recipe import load, module, override

    takes = inspect.signature(module(name).recipe).parameters
    arguments: dict[str, Any] = {"data": data} | ({"preset": preset} if preset else {})
    for change in changes:
        argument, sign, text = change.partition("=")
        if sign and argument in takes:
            try:
                arguments[argument] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                arguments[argument] = text
    made = load(name, **arguments)
    if budget is not None:
        made = replace(made, budget=budget)
    made = override(made, [change for change in changes if change.partition("=")[0] not in takes])
    if not made.data:
        raise BadInput("no corpus: give --data and the folder that `masklab prepare` made")
    return made


def _budget(steps: int | None, tokens: str | None, words: str | None, time: str | None) -> Any:
    from masklab.training.schedule import Budget

    if steps is tokens is words is time is None:
        return None
    return Budget(
        steps=steps,
        tokens=None if tokens is None else count(tokens, "--tokens"),
        words=None if words is None else count(words, "--words"),
        seconds=None if time is None else seconds(time),
    )


def seconds(text: str) -> float:
    """ "90s" -> 90, "5m" -> 300, "1h30m" -> 5400."""
    if not re.fullmatch(r"(\d+(\.\d+)?[smh])+", text):
        raise BadInput(f"--time {text}: write a number and a unit, such as 90s, 5m or 1h30m")
    return sum(float(n) * {"s": 1, "m": 60, "h": 3600}[unit] for n, unit in re.findall(r"([\d.]+)([smh])", text))


def count(text: str, option: str) -> int:
    """ "250k" -> 250000, "10M" -> 10000000, "1.5G" -> 1500000000."""
    found = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)([kMG]?)", text)
    if not found:
        raise BadInput(f"{option} {text}: write a number such as 250000, 250k or 10M")
    return round(float(re.sub("[_,]", "", found[1])) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]])


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{option} {text}: write a number such as 3e-4") from None


def _train(recipe: "Recipe", folder: Path) -> None:
    from masklab.training.loop import train
    from masklab.training.progress import Board, Screen, both

    with Screen() as screen:
        run = train(recipe, folder, both(screen, Board(folder)))
    if run.stopped:
        print(f"Go on with: masklab resume {folder}", file=sys.stderr)
        raise typer.Exit(128 + run.stopped)
    _report(run)


def _report(run: "Run") -> None:
    r = run.result
    _show(_scores(r["held_out"], r["baseline"]))
    print(f"{r['steps']:,} steps, {r['tokens']:,} tokens, {r['words']:,} words in {r['seconds']:.0f} s")
    print(f"The model is in {run.model_folder}; transformers and sentence-transformers open it as it is.")


def _scores(scores: dict[str, Any], trivial: dict[str, Any]) -> Table:
    table = Table("held out", "nats", "(trivial)", "right", "(trivial)", "asked")
    for name, score in scores.items():
        beside = trivial[name]
        table.add_row(name, f"{score['loss']:.3f}", f"{beside['loss']:.3f}", _share(score["accuracy"]),
                      _share(beside["accuracy"]), f"{score['count']:,}")  # fmt: skip
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _mean(values: list[float]) -> str:
    """[0.5] -> "0.500", [0.4, 0.6] -> "0.500 ± 0.141"."""
    from statistics import mean, stdev

    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _show(table: Table) -> None:
    from rich import box

    table.box = box.SIMPLE_HEAD
    for column in table.columns:
        column.overflow = "fold"  # on a narrow terminal a figure goes on below, none is lost
    Console(highlight=False).print(table)


def _lines(path: Path) -> Iterable[str]:
    return (line for line in path.read_text("utf-8").splitlines() if line.strip())


def _stdin() -> Iterable[str]:
    if sys.stdin.isatty():
        print("One text a line; Ctrl-D ends.", file=sys.stderr)
    return (line.rstrip("\n") for line in sys.stdin if line.strip())


def main() -> None:
    app()
