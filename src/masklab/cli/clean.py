"""The command that writes a clean copy of texts, without copies and near-copies."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from masklab.cli.common import Encoding, EncodingErrors, Field, Group, TextFormat, app
from masklab.errors import BadInput


@app.command()
def clean(
    paths: Annotated[list[str], typer.Argument(help="Text, as `masklab prepare` reads it.", metavar="TEXT...")],
    out: Annotated[
        Path | None, typer.Option(help="The copy, JSON lines: a name that ends in .jsonl, .jsonl.zst or .jsonl.gz.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A table (TAB-separated) of what goes, why, and what stands for it.")
    ] = None,
    similarity: Annotated[
        float, typer.Option(help="Documents whose runs of words are alike to this degree are near-duplicates.")
    ] = 0.8,
    words: Annotated[int, typer.Option(help="How many words a run has.", min=1)] = 5,
    exact: Annotated[bool, typer.Option("--exact", help="Only equal texts go; near-duplicates stay.")] = False,
    format: TextFormat = "auto",
    field: Field = "text",
    group: Group = "",
    encoding: Encoding = "auto",
    encoding_errors: EncodingErrors = "refuse",
) -> None:
    """Write a clean copy: each text once, and of near-duplicates only the first. Or only report them.

    For example:

    ```
    masklab clean mytext.txt --out clean.jsonl.zst --report gone.tsv
    ```

    Then `masklab prepare clean.jsonl.zst`. The texts that stay are not changed.
    """
    from masklab.corpus.clean import clean as run
    from masklab.corpus.read import documents

    if out is None and report is None:
        raise BadInput(
            "say where the copy goes (--out clean.jsonl.zst) or the list of what would go (--report gone.tsv)"
        )
    say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    read = documents(paths, format, field, say.print, encoding=encoding, encoding_errors=encoding_errors, group=group)
    with say.status("reading") as status:
        done = run(lambda: read, out, None if exact else similarity,
                   words=words, report=report,
                   progress=lambda stage, count: status.update(f"{stage}: {count:,} documents"))  # fmt: skip
    for line in read.summary():
        say.print(line)
    gone = done.documents - done.kept
    print(f"{done.documents:,} documents read: {done.exact:,} equal to an earlier one, {done.near:,} near-duplicates, "
          f"{done.empty:,} empty; {done.kept:,} stay")  # fmt: skip
    share = done.kept_characters / max(1, done.characters)
    print(f"{done.kept_characters:,} of {done.characters:,} characters stay ({share:.1%})")
    if report is not None:
        print(f"What goes and why ({gone:,} documents): {report}")
    if out is not None:
        print(f"Next: masklab prepare {out}{' --group group' if group else ''} --out corpus")
