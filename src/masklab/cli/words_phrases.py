"""The command that finds phrases in a text and writes it with each of them as one word."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from masklab.cli.common import show_table
from masklab.cli.words import Corpus, Lowercase, Threads, corpus_as_asked, words


@words.command()
def phrases(
    corpus: Corpus,
    out: Annotated[Path, typer.Option(help="Text file to write, a sentence a line.", metavar="FILE", dir_okay=False)],
    passes: Annotated[int, typer.Option(help="Joined pairs can be joined again: 2 passes find up to 4 words.")] = 1,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Join above this; repeat it for each pass. Default: 100, or 0.5 for npmi.", metavar="SCORE"),
    ] = None,
    score: Annotated[
        Literal["mikolov", "npmi"],
        typer.Option(help="As in word2phrase, or normalised pointwise mutual information, from -1 to 1."),
    ] = "mikolov",
    min_count: Annotated[int, typer.Option(help="A pair stands in the text at least so often.")] = 5,
    discount: Annotated[
        float | None, typer.Option(help="Taken off each pair's count, so that rare ones score low. Default: min-count.")
    ] = None,
    joiner: Annotated[str, typer.Option(help="What stands between the words of a phrase; '' for nothing.")] = "_",
    lowercase: Lowercase = False,
    top: Annotated[int, typer.Option(help="Print so many phrases.", min=0)] = 20,
    list_: Annotated[
        Path | None,
        typer.Option("--list", help="Write all phrases here: phrase, count, score, pass, by tabs.", dir_okay=False),
    ] = None,
    threads: Threads = 0,
) -> None:
    """Join words that stand together more often than by chance: "new york" becomes "new_york".

    ```
    masklab words phrases --corpus news.txt --out joined.txt --passes 2 --threshold 200 --threshold 100
    masklab words skipgram --corpus joined.txt --out vectors
    ```
    """
    from masklab.files import atomic_write
    from masklab.word_vectors.phrases import Settings, lines, with_phrases

    given = None if not threshold else tuple(threshold)
    settings = Settings(passes, given, score, min_count, discount, joiner)
    console = Console(stderr=True, highlight=False)
    with console.status("reading") as status:

        def tell(stage: str, done: int, total: int | None) -> None:
            status.update(f"{stage}: {done / total:.0%}" if total else f"{stage}: {done:,}")

        encoded, found = with_phrases(
            corpus_as_asked(corpus), settings, min_count=1, lowercase=lowercase, threads=threads, folder=None,
            progress=tell, say=console.print,
        )  # fmt: skip
        status.update("writing")
        with atomic_write(out, "w", newline="\n") as file:
            file.writelines(lines(encoded))
    rows = [
        (word, count, value, number)
        for number, one in enumerate(found, 1)
        for word, count, value in zip(one.words, one.counts.tolist(), one.scores.tolist(), strict=True)
    ]
    if list_:
        with atomic_write(list_, "w", newline="\n") as file:
            file.writelines(f"{word}\t{count}\t{value:.6g}\t{number}\n" for word, count, value, number in rows)
    table = Table("phrase", "count", "score")
    for word, count, value, _ in sorted(rows, key=lambda row: -row[2])[:top]:
        table.add_row(word, f"{count:,}", f"{value:,.3f}" if score == "npmi" else f"{value:,.0f}")
    if top:
        show_table(table)
    for number, one in enumerate(found, 1):
        limit = settings.thresholds[min(number, len(settings.thresholds)) - 1]
        print(f"pass {number}: {len(one):,} phrases above {limit:g}")
    print(f"{encoded.vocabulary.total:,} words, {len(encoded.vocabulary):,} different; written to {out}")
    print(f"Next: masklab words skipgram --corpus {out} --out vectors")
