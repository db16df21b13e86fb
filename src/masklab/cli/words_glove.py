"""The commands about counts of pairs of words: GloVe, which trains on them, and the table of ratios behind it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklab.cli import common
from masklab.cli.common import Seed
from masklab.cli.words import (
    AsJson,
    Continue,
    Corpus,
    Deterministic,
    Dim,
    Lowercase,
    MaxWords,
    MinCount,
    Out,
    Rate,
    Threads,
    Time,
    Window,
    corpus_as_asked,
    words,
)
from masklab.cli.words_training import train_and_write
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.word_vectors.ratio import Ratios

Flat = Annotated[bool, typer.Option("--flat", help="Every neighbour counts 1; else one d places away counts 1/d.")]


@words.command()
def glove(
    corpus: Corpus,
    out: Out,
    dim: Dim = 100,
    window: Window = 15,
    left: Annotated[bool, typer.Option("--left", help="Count the words to the left alone.")] = False,
    flat: Flat = False,
    x_max: Annotated[float, typer.Option(help="Counts from here on weigh 1 ...")] = 100,
    alpha: Annotated[float, typer.Option(help="... and smaller ones (count / x-max) to this power.")] = 0.75,
    min_count: MinCount = 5,
    max_words: MaxWords = None,
    lowercase: Lowercase = False,
    memory: Annotated[
        float, typer.Option(help="Gigabytes for counting; what does not fit goes through the disk.", metavar="GB")
    ] = 0.5,
    epochs: Annotated[int, typer.Option(help="Passes over the counts.", min=1)] = 25,
    time: Time = None,
    rate: Rate = 0.05,
    threads: Threads = 0,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    start: Continue = None,
) -> None:
    """Word vectors by GloVe: their products are the logarithms of how often words stand near each other.

    ```
    masklab words glove --corpus news.txt --out vectors
    masklab words glove --corpus news.txt --out vectors.glove.txt --dim 300 --x-max 10 --epochs 50
    ```

    Ctrl-C saves what is learnt. For a text of some million words the authors take an x-max of 10.
    """
    from masklab.word_vectors.glove import Settings, train

    settings = Settings(
        dim, window, not left, not flat, x_max, alpha, rate, epochs, min_count, max_words, lowercase, memory,
        common.seconds(time) if time else None, threads, deterministic, seed,
    )  # fmt: skip
    train_and_write(train, corpus, settings, out, start, unit="pairs")


@words.command()
def ratio(
    first: Annotated[str, typer.Argument(help="A word, such as ice.")],
    second: Annotated[str, typer.Argument(help="Another, such as steam.")],
    others: Annotated[
        list[str] | None, typer.Argument(help="Whose shares are shown; without them, the most telling ones.")
    ] = None,
    *,
    corpus: Corpus,
    window: Window = 10,
    by_distance: Annotated[
        bool, typer.Option("--by-distance", help="A neighbour d places away counts 1/d, as in training; else 1.")
    ] = False,
    min_count: MinCount = 5,
    lowercase: Lowercase = False,
    each: Annotated[int, typer.Option(help="Choose so many words for either, and for both.", min=1)] = 4,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the table too: .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    threads: Threads = 0,
    json: AsJson = False,
) -> None:
    """Which words tell two words apart: how often they stand near the one and near the other, in your text.

    ```
    masklab words ratio ice steam solid gas water fashion --corpus news.txt
    masklab words ratio ice steam --corpus news.txt --picture ratios.png
    ```

    P(k | ice) is the share of k among all the words near ice. The ratio P(k | ice) / P(k | steam) is far above 1 for
    words that go with ice, far below for those that go with steam, near 1 for those that go with both or with neither.
    """
    from masklab.word_vectors.ratio import picture as drawn
    from masklab.word_vectors.ratio import ratios

    if picture is not None and picture.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise BadInput(f"{picture}: a picture's name ends in .png, .svg or .pdf")
    found = ratios(corpus_as_asked(corpus), first, second, others, window=window, by_distance=by_distance,
                   min_count=min_count, lowercase=lowercase, each=each, threads=threads)  # fmt: skip
    _print(found, json)
    if picture is not None:
        from masklab.word_vectors.pictures import save

        save(drawn(found), picture)
        print(f"drawn in {picture}")


def _print(found: "Ratios", json: bool) -> None:
    rows = zip(found.words, found.counts.T.tolist(), found.shares.T.tolist(), found.ratios.tolist(), strict=True)
    if json:
        from json import dumps

        for word, counts, shares, ratio in rows:
            known = ratio if 0 < ratio < float("inf") else None  # JSON has no infinity
            print(dumps({"word": word, "counts": counts, "shares": shares, "ratio": known}, ensure_ascii=False))
        return
    from rich.table import Table

    a, b = found.first, found.second
    table = Table("k", f"P(k | {a})", f"P(k | {b})", "ratio", "near", "counts")
    for word, counts, shares, ratio in rows:
        side = "both alike" if 2 / 3 < ratio < 1.5 else a if ratio > 1 else b if ratio < 1 else ""
        table.add_row(word, *(f"{share:.2e}" for share in shares), f"{ratio:.3g}", side,
                      " : ".join(f"{number:,.4g}" for number in counts))  # fmt: skip
    common.show_table(table)
