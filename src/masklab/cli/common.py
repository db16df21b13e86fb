"""What the commands share: the application itself, how bad input ends, options that several take, tables."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from masklab.errors import BadInput
from masklab.files import explained
from masklab.training.launch import LOST, ProcessLost, launch, launched, speaks

if TYPE_CHECKING:
    from masklab.recipe import Recipe


class Commands(TyperGroup):
    """Bad input is one line and exit code 2; Ctrl-C is exit code 130; a traceback is always a fault of masklab's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = list(args)  # as they came, for processes that run the same
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BadInput as error:
            fail(str(error), 2)
        except ProcessLost as error:
            fail(str(error), LOST)
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except OSError as error:
            if error.errno is None or isinstance(error, BrokenPipeError):
                raise
            fail(explained(error), 2)


def fail(message: str, code: int) -> None:
    if speaks():
        print(f"masklab: {message}", file=sys.stderr)
    raise typer.Exit(code)


def in_processes(context: typer.Context, processes: int) -> None:
    """Run this very command in so many processes and end; go on if it is one alone, or is one of them."""
    if processes > 1 and not launched():
        raise typer.Exit(launch(processes, ["-m", "masklab", *context.find_root().obj]))


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
Processes = Annotated[
    int | None,
    typer.Option(
        help="So many processes of this machine share each step (docs/many-processes.md).",
        min=1,
        show_default="as measured faster",
    ),
]
Seed = Annotated[int, typer.Option(help="Another number, another run.")]
TextFormat = Annotated[
    Literal[
        "auto", "blank-line", "line", "sentence-line", "file", "jsonl", "json", "csv", "tsv", "parquet", "wikiextractor"
    ],
    typer.Option("--format", help="How documents stand in the files; auto looks and says what it found."),
]
Field = Annotated[
    str,
    typer.Option("--field", "--column", help="Field or column with the text; its number in a table without header."),
]
Group = Annotated[
    str,
    typer.Option(
        "--group",
        help="Field or column, such as author, site or book: the documents of one are held out together or not at all. "
        "@file: each file is one.",
        metavar="FIELD",
    ),
]
Encoding = Annotated[
    str,
    typer.Option("--encoding", help="Of the files, such as gb18030; auto: UTF-8, or what a byte-order mark says."),
]
EncodingErrors = Annotated[
    Literal["refuse", "replace", "skip"],
    typer.Option(
        "--encoding-errors", help="Bytes of another encoding: replaced by U+FFFD, or the document is skipped, counted."
    ),
]


def recipe_as_asked(
    name: str, data: str, preset: str | None, budget: Any, changes: list[str], needs_data: bool = True
) -> "Recipe":
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
    if needs_data and not made.data:
        raise BadInput("no corpus: give --data and the folder that `masklab prepare` made")
    return made


def mixed(recipe: "Recipe", mix: list[str], smoothing: float | None) -> "Recipe":
    """With more corpora: ["general=0.1", "german"] -> general for a tenth of the rows, german by its size."""
    from dataclasses import replace

    found: list[tuple[str, float | None]] = []
    for text in mix:
        name, sign, share = text.rpartition("=")
        found.append((name, number(share, "--mix")) if sign else (text, None))
    if smoothing is not None and not any(share is None for _, share in found):
        raise BadInput("--smoothing divides by size, so it wants a --mix STORE without a share")
    return replace(recipe, mix=tuple(found), **({} if smoothing is None else {"smoothing": smoothing}))


def budget_as_asked(steps: int | None, tokens: str | None, words: str | None, time: str | None) -> Any:
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


def number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{option} {text}: write a number such as 3e-4") from None


def score_table(scores: dict[str, Any], trivial: dict[str, Any]) -> Table:
    table = Table("held out", "nats", "(trivial)", "right", "(trivial)", "asked")
    for name, score in scores.items():
        beside = trivial[name]
        table.add_row(name, f"{score['loss']:.3f}", f"{beside['loss']:.3f}", _share(score["accuracy"]),
                      _share(beside["accuracy"]), f"{score['count']:,}")  # fmt: skip
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def mean_and_deviation(values: list[float]) -> str:
    """[0.5] -> "0.500", [0.4, 0.6] -> "0.500 ± 0.141"."""
    from statistics import mean, stdev

    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def show_table(table: Table) -> None:
    from rich import box

    table.box = box.SIMPLE_HEAD
    for column in table.columns:
        column.overflow = "fold"  # on a narrow terminal a figure goes on below, none is lost
    Console(highlight=False, markup=False, emoji=False).print(table)


def lines_of(path: Path) -> Iterable[str]:
    return (line for line in path.read_text("utf-8").splitlines() if line.strip())


def lines_of_stdin() -> Iterable[str]:
    if sys.stdin.isatty():
        print("One text a line; Ctrl-D ends.", file=sys.stderr)
    return (line.rstrip("\n") for line in sys.stdin if line.strip())
