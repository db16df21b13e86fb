"""The command that turns text into a corpus."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from masklab.cli.common import Seed, app
from masklab.errors import BadInput


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
    from masklab.corpus.prepare import prepare as run

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
