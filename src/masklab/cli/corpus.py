"""The commands that make a corpus of text, give it another vocabulary, and check its files."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from masklab.cli.common import Encoding, EncodingErrors, Field, Group, Seed, TextFormat, app
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.corpus.progress import At

_EVERY = 10.0  # seconds between lines of progress where no line can be written over
Kind = Literal["wordpiece", "bpe", "unigram", "character"]
Vocabulary = Annotated[int, typer.Option(help="Entries of the vocabulary to train.")]
Kinds = Annotated[
    Kind,
    typer.Option(help="The vocabulary's family: BERT's WordPiece, RoBERTa's byte-level BPE, Unigram, or characters."),
]
Given = Annotated[
    str | None,
    typer.Option(help="Instead of training one: a tokenizer.json, the folder of a model or corpus, or a hub name."),
]
Case = Annotated[
    bool | None,
    typer.Option("--lowercase/--cased", help="Whether the vocabulary tells A from a (default: as its family does)."),
]
Workers = Annotated[int, typer.Option(help="Processes, each about 250 MB; 0: one for each core.", min=0)]


@app.command()
def prepare(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, patterns, - (standard input), hub:OWNER/NAME; also .gz .xz .bz2 .zst.",
            metavar="TEXT...",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write the corpus to.")] = ...,  # type: ignore[assignment]
    builtin: Annotated[
        bool, typer.Option("--builtin", help="Take Python's own documentation on this machine.")
    ] = False,
    vocabulary: Vocabulary = 8192,
    kind: Kinds = "wordpiece",
    tokenizer: Given = None,
    lowercase: Case = None,
    format: TextFormat = "auto",
    field: Field = "text",
    encoding: Encoding = "auto",
    encoding_errors: EncodingErrors = "refuse",
    sentences: Annotated[
        Literal["rules", "line", "none"] | None,
        typer.Option(help="How sentences are found (default: line for files with a sentence a line, else rules)."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of documents kept from training, to judge by.")] = 0.01,
    group: Group = "",
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep equal documents.")] = False,
    workers: Workers = 0,
    seed: Seed = 0,
) -> None:
    """Turn text into a corpus that training reads: vocabulary, tokens, words, sentences, a held-out part.

    For example:

    ```
    masklab prepare news.txt more.jsonl.gz --out corpus --vocabulary 8192
    ```

    Documents are separated by blank lines, or stand one a line, or are rows of JSON lines, tables or Parquet. If it is
    stopped, the same command goes on where it was.
    """
    from masklab.corpus import builtin as python_documentation
    from masklab.corpus.prepare import prepare as run
    from masklab.corpus.prepare import summary
    from masklab.corpus.read import documents

    if bool(paths) == builtin:
        raise BadInput("name text files, or say --builtin for the Python documentation on this machine; not both")
    if builtin and group:
        raise BadInput("--group names a field of files with records, and --builtin has none; leave it out")
    with _shown() as (say, tell):
        if builtin:
            read: Any = python_documentation.documents()
        else:
            read = documents(
                paths or [], format, field, say, encoding=encoding, encoding_errors=encoding_errors, group=group
            )
        store = run(
            read, out, tokenizer or vocabulary, kind=kind, lowercase=lowercase, held_out=held_out, seed=seed,
            keep_duplicates=keep_duplicates, sentences=sentences, workers=workers, progress=tell, say=say,
        )  # fmt: skip
        for line in store.description["read_as"]:
            say(line)
    examples = store.description["examples"]
    print("Sentences, to see whether they are:")
    for sentence in examples["sentences"]:
        print(f"  {sentence}")
    print("Documents:")
    for document in examples["documents"]:
        where = f" ({document['source']}:{document['line']})" if document["line"] else ""
        begins = " ".join(document["begins"].split())
        print(f"  {begins[:100]}{'…' if document['characters'] > 100 else ''}{where}")
    for line in summary(store):
        print(line)
    print(f"Next: masklab pretrain bert --data {out} --out runs/first --time 5m")


@app.command()
def tokenize(
    data: Annotated[Path, typer.Argument(help="Folder of a prepared corpus (`masklab prepare`).", metavar="STORE")],
    vocabulary: Vocabulary = 8192,
    kind: Kinds = "wordpiece",
    tokenizer: Given = None,
    lowercase: Case = None,
    workers: Workers = 0,
) -> None:
    """Give a prepared corpus another vocabulary; the text is not copied, and layers of units are laid anew.

    For example:

    ```
    masklab tokenize corpus --kind unigram --vocabulary 16000
    ```

    The new folder in the corpus is what other commands take as `--data` to use it.
    """
    from masklab.corpus.prepare import add_vocabulary, summary
    from masklab.corpus.store import Store

    with _shown() as (say, tell):
        before = (store := Store(data)).vocabularies
        store = add_vocabulary(
            store, tokenizer or vocabulary, kind=kind, lowercase=lowercase, workers=workers, progress=tell, say=say
        )
    if store.folder in before:
        print(f"this corpus has that vocabulary already: {store.folder}")
        return
    for line in summary(store):
        print(line)
    print(f"Next: masklab pretrain bert --data {store.folder} --out runs/other --time 5m")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Folder of a prepared corpus (`masklab prepare`).", metavar="STORE")],
) -> None:
    """Compare every file of a corpus with the checksums that were written with it.

    For example:

    ```
    masklab check corpus
    ```
    """
    from masklab.corpus.store import Store

    store = Store(data)
    with Console(stderr=True).status("checking"):
        count, size = store.check()
    print(f"{count} files, {size / 1e6:,.1f} MB: all as they were written")


@contextmanager
def _shown() -> Iterator[tuple[Callable[[str], None], "Callable[[At], None]"]]:
    """Two functions: one says a line, one shows progress, on a line that is written over if the terminal can do so."""
    from masklab.corpus.progress import Pace

    console, pace = Console(stderr=True, highlight=False), Pace()
    said = time.monotonic()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if sys.stderr.isatty():
        with console.status("reading") as status:
            yield say, lambda at: status.update(pace.line(at))
        return

    def tell(at: "At") -> None:
        nonlocal said
        line = pace.line(at)
        if time.monotonic() - said > _EVERY:
            said = time.monotonic()
            say(line)

    yield say, tell
