"""The commands that train: pretrain, resume, finetune, and the demonstration; and the list of recipes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Column, Table

from masklab.cli.common import (
    Changes,
    Data,
    Processes,
    Seed,
    app,
    budget_as_asked,
    in_processes,
    mean_and_deviation,
    mixed,
    number,
    recipe_as_asked,
    score_table,
    show_table,
)
from masklab.errors import BadInput
from masklab.training.launch import begun_with, launched, usual
from masklab.training.launch import number as process

if TYPE_CHECKING:
    from masklab.recipe import Recipe
    from masklab.training.proposal import Proposal
    from masklab.training.run import Run

USUAL = "modernbert"  # where only a time is given: the encoder that learns most in it (docs/learning.md)


@app.command()
def pretrain(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe's name (`masklab recipes`) or your own .py file's path; with --time it may be left out.",
            metavar="RECIPE",
        ),
    ] = "",
    changes: Changes = None,
    data: Data = "",
    out: Annotated[Path, typer.Option(help="Folder of the run; one that holds this run is continued.")] = ...,  # type: ignore[assignment]
    mix: Annotated[
        list[str] | None,
        typer.Option(
            help="Read another corpus too, for this share of the rows (without a share: by its size). Repeatable.",
            metavar="STORE[=SHARE]",
        ),
    ] = None,
    smoothing: Annotated[
        float | None, typer.Option(help="Shares by size go as tokens ** this: 0.3 to 0.7 lifts small languages.")
    ] = None,
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
    processes: Processes = None,
) -> None:
    """Train a model from random weights on a prepared corpus.

    For example:

    ```
    masklab pretrain --data corpus --out runs/first --time 30m
    masklab pretrain bert --data corpus --out runs/bert --time 5m
    masklab pretrain mpnet --data corpus --out runs/small --steps 2000 model.layers=4 seed=3
    masklab pretrain --again runs/first --out runs/same
    masklab pretrain bert --data domain --mix general=0.1 --out runs/domain --time 5m
    masklab pretrain bert --data corpus --out runs/large --processes 4
    ```

    With --time a tuned recipe gets the layers, width, rows and batch that suit the time on this machine, and says why
    (in one process; `model.*` and `batches.*` of your own are kept). Ctrl-C saves and stops; `masklab resume` goes on
    as if nothing had happened.
    """
    in_processes(context, processes or usual())
    from masklab.recipe import override
    from masklab.training.run import Run

    changes, proposal = changes or [], None
    if again is not None:
        if "=" in recipe:
            recipe, changes = "", [recipe, *changes]
        if recipe or steps or tokens or words or time or mix or smoothing is not None:
            raise BadInput("--again takes recipe, corpora and length from the run; name none of them")
        made = override(Run.open(again).again(), [*([f"data={data}"] if data else []), *changes])
    else:
        if time and (not recipe or "=" in recipe):
            recipe, changes = USUAL, [*([recipe] if recipe else []), *changes]
        if not recipe or "=" in recipe:
            raise BadInput("name a recipe, e.g. `masklab pretrain bert ...`; `masklab recipes` lists them")
        made = recipe_as_asked(recipe, data, preset, budget_as_asked(steps, tokens, words, time), changes)
        made = mixed(made, mix or [], smoothing)
        if time and not any(change.startswith(("model.", "start=")) for change in changes):
            made, proposal = _proposed(made, out, any(change.startswith("batches.") for change in changes))
    _train(made, out, proposal)


@app.command()
def resume(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The run's folder (--out of pretrain).", metavar="RUN")],
    processes: Processes = None,
) -> None:
    """Go on with a run that was stopped, as if it never had been; in as many processes as before, unless you say.

    For example:

    ```
    masklab resume runs/first
    ```
    """
    in_processes(context, processes or begun_with(folder))
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
        Literal["classify", "tag", "text"],
        typer.Option(help="A class for each text, a label for each word, or (t5) a text that is written."),
    ] = "classify",
    text: Annotated[str, typer.Option(help="Column of the text (tag: of the words): name, or number from 1.")] = "",
    text2: Annotated[str, typer.Option(help="Column of the second text, for pairs.")] = "",
    label: Annotated[str, typer.Option(help="Column of the label (text: of what is to be written).")] = "",
    prefix: Annotated[str, typer.Option(help="Text: put before every input, e.g. `translate to German: `.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the run and its model.")] = None,
    lr: Annotated[str, typer.Option(help="Learning rate; of several (commas) the best.", show_default="by size")] = "",
    epochs: Annotated[float, typer.Option(help="How often each example is read.")] = 3.0,
    seeds: Annotated[int, typer.Option(help="So many runs with different seeds: mean and deviation.", min=1)] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The control: same shape and vocabulary, weights that know nothing.")
    ] = False,
) -> None:
    """Teach a pre-trained model a task: one or two texts -> a class, a label for every word, or (t5) text -> text.

    For example:

    ```
    masklab finetune runs/first --train train.tsv --dev dev.tsv --text sentence --label label --out runs/cola
    masklab finetune runs/first --task tag --train train.conllu --dev dev.conllu --seeds 3
    masklab finetune runs/writer --task text --train train.tsv --dev dev.tsv --text en --label de --out runs/to-german
    ```

    Run it again with --fresh to see what the pre-training was worth.
    """
    from masklab.analysis.opened import model_folder
    from masklab.models import hub, own
    from masklab.tasks.classify import Classify
    from masklab.tasks.finetune import finetune as run
    from masklab.tasks.tag import Tag
    from masklab.tasks.tag_features import TagFeatures
    from masklab.tasks.text_to_text import TextToText
    from masklab.training.progress import Screen

    if task == "text":
        objective: Any = TextToText(str(dev), text or "text", label or "label", prefix)
    elif task == "classify":
        objective = Classify(str(dev), (text or "text", *([text2] if text2 else [])), label or "label")
    else:
        letters = own.is_own(hub.read_settings(model_folder(model)))  # elmo: its layers are mixed for a tagger
        objective = TagFeatures(str(dev), text, label) if letters else Tag(str(dev), text, label)
    grid = [number(rate, "--lr") for rate in lr.split(",")] if lr else None
    found = []
    for seed in range(seeds):
        folder = None if out is None else out if seeds == 1 else out / f"seed-{seed}"
        with Screen(baseline="unigram" if task == "text" else "majority") as screen:
            options: Any = {"epochs": epochs, "seed": seed, "fresh": fresh}
            if found:  # the first seed has chosen the learning rate
                grid, options["rate"] = None, found[0].rate
            found.append(run(objective, model_folder(model), train, folder, grid=grid, watch=screen, **options))
    table = Table("score", "held out" + (f", {seeds} seeds" if seeds > 1 else ""), "(trivial)")
    for name in found[0].scores:
        values = [f.scores[name] for f in found]
        trivial = found[0].baseline.get(name)
        table.add_row(name, mean_and_deviation(values), "" if trivial is None else f"{trivial:.3f}")
    show_table(table)
    print(f"learning rate {', '.join(f'{f.rate:g}' for f in found)}")
    if found[0].cut:
        print(f"{found[0].cut:,} examples were too long and lost their end")
    if out is not None:
        print(f"written to {out}")


@app.command()
def init(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of your own .py file.", metavar="RECIPE")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the model.", metavar="FOLDER")],
    changes: Changes = None,
    local: Annotated[
        bool, typer.Option("--local", help="Heads look at their neighbours from the first step (docs/learning.md).")
    ] = False,
    data: Annotated[
        str,
        typer.Option(
            help="A prepared corpus: its vocabulary, and with --local token vectors from counts.",
            metavar="STORE",
        ),
    ] = "",
    tokenizer: Annotated[
        str, typer.Option(help="Or a vocabulary alone: a tokenizer.json, a folder with one, or a hub name.")
    ] = "",
    preset: Annotated[
        Literal["paper", "tuned"] | None,
        typer.Option(help="Whose shape: the paper's, or the small tuned one.", show_default="the recipe's own"),
    ] = None,
) -> None:
    """Write a new, untrained model as a folder from which transformers' Trainer, or any other tool, can start.

    For example:

    ```
    masklab init bert --local --data corpus start
    masklab init bert --local --tokenizer bert-base-uncased --preset paper start
    masklab init mpnet --local --data corpus start model.layers=4 model.width=256 model.feed_forward=1024
    ```

    Without --local the weights are random, as the class draws them. The folder's README.md says how to train it.
    """
    from masklab.models import hub
    from masklab.training import initial

    if bool(data) == bool(tokenizer):
        raise BadInput("a model needs a vocabulary: give --data STORE or --tokenizer FILE, one of them")
    first = [f"initial.kind={'local' if local else 'random'}"]
    if local and data:
        first.append("embeddings=cooccurrence")
    else:
        first += ["embeddings=random", "initial.embedding_std=None"]  # the presets' deviation is for counted vectors
    made = recipe_as_asked(recipe, data, preset, None, [*first, *(changes or [])], needs_data=False)
    initial.write(made, folder, tokenizer)
    what = "local start" if local else "random start"
    if made.embeddings == "cooccurrence":
        what += ", token vectors from counts"
    print(f"{folder}: {what}. {hub.opened_by(folder).replace('`', '')}")
    print(f"How to train it: {folder / 'README.md'}")


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
    show_table(table)
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


def _proposed(recipe: "Recipe", folder: Path, keep_batches: bool) -> "tuple[Recipe, Proposal | None]":
    """A tuned recipe in the shape that its time allows. The folder's own run keeps the shape that it was given."""
    from dataclasses import replace

    from masklab.models.config import Config
    from masklab.training.proposal import FILE, propose
    from masklab.training.run import Run

    if (folder / FILE).exists():
        saved = Run.open(folder).recipe
        return replace(recipe, model=saved.model, batches=saved.batches), None
    if recipe.preset != "tuned" or not isinstance(recipe.model, Config) or launched():
        return recipe, None  # each of several processes would time itself, and propose another shape
    found = propose(recipe, keep_batches)
    for line in found.said:
        print(line)
    return found.recipe, found


def _train(recipe: "Recipe", folder: Path, proposal: "Proposal | None" = None) -> None:
    from masklab.training.loop import train
    from masklab.training.progress import Board, Screen, both

    def note(record: dict[str, Any]) -> None:
        if proposal and record["kind"] == "begin":  # the run's folder is there from now on
            proposal.save(folder)

    with Screen() as screen:
        run = train(recipe, folder, both(screen, Board(folder), note))
    if run.stopped:
        if process() == 0:  # of several processes one speaks
            print(f"Go on with: masklab resume {folder}", file=sys.stderr)
        raise typer.Exit(128 + run.stopped)
    _report(run)


def _report(run: "Run") -> None:
    from masklab.models import hub

    r = run.result
    show_table(score_table(r["held_out"], r["baseline"]))
    print(f"{r['steps']:,} steps, {r['tokens']:,} tokens, {r['words']:,} words in {r['seconds']:.0f} s")
    print(f"The model is in {run.model_folder}. {hub.opened_by(run.model_folder).replace('`', '')}")
