"""The command that looks a prepared corpus over."""

from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from masklab.cli.common import app

_MARK = {"good": ("●", "green"), "look": ("▲", "yellow"), "bad": ("✖", "red")}


@app.command()
def doctor(
    data: Annotated[str, typer.Argument(help="Folder of a prepared corpus (`masklab prepare`).", metavar="STORE")],
    steps: Annotated[int, typer.Option(help="Steps of learning one batch by heart; 0 leaves that out.", min=0)] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON instead.")] = False,
) -> None:
    """Look a corpus over before hours are spent on it: copies, leaks, vocabulary, lengths, languages, a first lesson.

    For example:

    ```
    masklab doctor corpus
    ```

    Each line says what to do about it; the exit code is 1 if something is bad.
    """
    import dataclasses
    from json import dumps

    from masklab.analysis.doctor import examine

    with Console(stderr=True).status("reading") as status:
        found = examine(data, steps, status.update)
    if json:
        print(dumps([dataclasses.asdict(finding) for finding in found], indent=1, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        for finding in found:
            mark, colour = _MARK[finding.level]
            lines = Table.grid(padding=(0, 1))
            lines.add_column(width=1)
            lines.add_column(width=15)
            lines.add_column(overflow="fold")
            lines.add_row(Text(mark, colour), Text(finding.name, "bold"), finding.value)
            lines.add_row("", "", Text(finding.advice, "dim" if finding.level == "good" else colour))
            console.print(lines)
            for line in finding.picture:
                console.print(Padding(Text(line, "cyan"), (0, 0, 0, 2)), no_wrap=True, crop=True)
    if any(finding.level == "bad" for finding in found):
        raise typer.Exit(1)
