"""The command that trains glyph vectors: of Chinese characters, from their neighbours and from how they look."""

from pathlib import Path
from typing import Annotated

import typer

from masklab.cli import common
from masklab.cli.common import Seed
from masklab.cli.words import Continue, Corpus, Deterministic, Dim, Negatives, Out, Rate, Threads, Time, Window, words
from masklab.cli.words_training import train_and_write


@words.command()
def glyph(
    corpus: Corpus,
    out: Out,
    font: Annotated[
        Path | None,
        typer.Option(help="Font file (.ttf, .otf, .ttc) that draws the characters; without it one is looked for."),
    ] = None,
    dim: Dim = 100,
    window: Window = 5,
    negatives: Negatives = 5,
    size: Annotated[int, typer.Option(help="Pixels on each side of a character's picture.", min=8)] = 32,
    min_count: Annotated[int, typer.Option(help="Leave out characters that occur less often.", min=1)] = 10,
    max_characters: Annotated[int, typer.Option(help="Keep so many, the most frequent ones.", min=1)] = 10_000,
    epochs: Annotated[int, typer.Option(help="Passes over all characters.", min=1)] = 20,
    time: Time = None,
    rate: Rate = 2e-3,
    threads: Threads = 0,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    start: Continue = None,
) -> None:
    """Vectors of characters that know what the characters look like, so that an unseen one has a vector too.

    ```
    masklab words glyph --corpus zhwiki.txt --out glyphs
    masklab words glyph --corpus zhwiki.txt --font NotoSansSC-Regular.otf --out glyphs
    masklab words nearest glyphs 鳜
    ```

    In a folder the network is kept too: the commands that use vectors then make one for any character of the font.
    """
    from masklab.word_vectors.glyph import Settings, train

    settings = Settings(
        font=None if font is None else str(font), dim=dim, window=window, negatives=negatives, size=size,
        min_count=min_count, max_characters=max_characters, epochs=epochs, rate=rate, threads=threads,
        seconds=common.seconds(time) if time else None, deterministic=deterministic, seed=seed,
    )  # fmt: skip
    train_and_write(train, corpus, settings, out, start, unit="characters")
