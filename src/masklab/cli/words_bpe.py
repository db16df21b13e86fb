"""The commands for byte-pair encoding: train it, apply it, look at its merges one after the other."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from masklab.cli.common import lines_of_stdin, show_table
from masklab.cli.words import Corpus, Lowercase, corpus_as_asked, words

bpe = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
words.add_typer(bpe, name="bpe")

File = Annotated[Path, typer.Argument(help="A tokenizer.json, or a folder that holds one.", metavar="FILE")]


@bpe.callback()
def group() -> None:
    """Byte-pair encoding: words in pieces, the most frequent neighbours joined first.

    ```
    masklab words bpe train --corpus mytext.txt --out bpe.json --merges 2000
    masklab words bpe apply bpe.json "the lowest of the newer ones"
    masklab words bpe merges bpe.json --word lowest
    ```
    """


@bpe.command()
def train(
    corpus: Corpus,
    out: Annotated[Path, typer.Option(help="File to write: a tokenizer.json.", metavar="FILE", dir_okay=False)],
    merges: Annotated[int, typer.Option(help="How many pairs to join.", min=1)] = 1000,
    over_bytes: Annotated[
        bool, typer.Option("--bytes", help="Join bytes, as GPT-2 does: then there is no unknown letter.")
    ] = False,
    lowercase: Lowercase = False,
) -> None:
    """Learn merges from a text.

    ```
    masklab words bpe train --corpus mytext.txt --out bpe.json --merges 2000
    ```
    """
    from masklab.word_vectors import bpe

    with Console(stderr=True).status("learning"):
        learned = bpe.train(corpus_as_asked(corpus), merges, over_bytes=over_bytes, lowercase=lowercase)
    bpe.save(learned, out)
    found = bpe.merges(learned)
    print(f"{len(found):,} merges, {learned.get_vocab_size():,} pieces; written to {out}")
    if len(found) < merges:
        print(f"no pair was left that occurs twice, so there are fewer than the {merges:,} merges asked for")
    print(f"Next: masklab words bpe merges {out}")


@bpe.command()
def apply(
    file: File,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, lines of standard input.", metavar="TEXT...")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print numbers instead of pieces.")] = False,
) -> None:
    """Cut texts into pieces: one line each, with a space between.

    ```
    masklab words bpe apply bpe.json "the lowest of the newer ones"
    masklab words bpe apply bpe.json < mytext.txt > pieces.txt
    ```
    """
    from masklab.word_vectors import bpe

    tokenizer = bpe.load(file)
    lines = iter(texts or lines_of_stdin())
    while some := list(islice(lines, 1000)):
        for encoding in tokenizer.encode_batch(some, add_special_tokens=False):
            print(*(encoding.ids if ids else encoding.tokens))


@bpe.command()
def merges(
    file: File,
    word: Annotated[str | None, typer.Option(help="Show how this word comes together.")] = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Count in this text how often each pair stood there when it was joined.", metavar="PATH"),
    ] = None,
    first: Annotated[int, typer.Option(help="Show so many merges.", min=1)] = 20,
) -> None:
    """Look at the merges, step by step.

    ```
    masklab words bpe merges bpe.json --corpus mytext.txt
    masklab words bpe merges bpe.json --word lowest
    ```
    """
    from masklab.word_vectors import bpe

    tokenizer = bpe.load(file)
    pairs = bpe.merges(tokenizer)
    if word is not None:
        for letters in bpe.cut(tokenizer, word):
            for number, pieces in enumerate(bpe.spelling(letters, pairs)):
                print(f"{number:>4}  {' '.join(pieces)}")
        return
    shown = pairs[:first]
    if corpus:
        with Console(stderr=True).status("counting"):
            found = list(bpe.steps(bpe.count(tokenizer, corpus_as_asked(corpus)), shown))
        table = Table("merge", "pair", "becomes", "times", "for example")
        for number, step in enumerate(found, 1):
            becomes = "".join(step.pair)
            examples = ", ".join(_around(becomes, pieces) for pieces in islice(step.words, 3))
            table.add_row(str(number), " ".join(step.pair), becomes, f"{step.times:,}", examples)
    else:
        table = Table("merge", "pair", "becomes")
        for number, pair in enumerate(shown, 1):
            table.add_row(str(number), " ".join(pair), "".join(pair))
    show_table(table)
    if len(pairs) > first:
        print(f"the first {first:,} of {len(pairs):,} merges; more with --first")


def _around(piece: str, pieces: tuple[str, ...], sides: int = 9) -> str:
    """The pieces of a word; of a very long one (Chinese without spaces) only those near the piece."""
    at = pieces.index(piece)
    first, last = max(0, at - sides), at + sides + 1
    return "…" * (first > 0) + "·".join(pieces[first:last]) + "…" * (last < len(pieces))
