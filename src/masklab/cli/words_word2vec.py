"""The commands that train word2vec: skip-gram and CBOW, on negative samples or along a tree."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from masklab.cli import common
from masklab.cli.common import Seed
from masklab.cli.words import (
    Continue,
    Corpus,
    Deterministic,
    Dim,
    Epochs,
    Lowercase,
    MaxWords,
    MinCount,
    Negatives,
    Out,
    Rate,
    Sample,
    Threads,
    Time,
    Window,
    words,
)
from masklab.cli.words_training import train_and_write

Loss = Annotated[
    Literal["ns", "hs"],
    typer.Option(help="ns: against noise words (negative sampling); hs: along a tree of words (hierarchical softmax)."),
]
Noise = Annotated[float, typer.Option(help="Noise words are drawn by count to this power; 0 draws all alike.")]


@words.command()
def skipgram(
    corpus: Corpus,
    out: Out,
    dim: Dim = 100,
    window: Window = 5,
    loss: Loss = "ns",
    negatives: Negatives = 5,
    per_pair: Annotated[
        bool,
        typer.Option("--per-pair", help="Draw noise words for each pair of words, not for each window: half as fast."),
    ] = False,
    noise: Noise = 0.75,
    sample: Sample = 1e-3,
    min_count: MinCount = 5,
    max_words: MaxWords = None,
    lowercase: Lowercase = False,
    epochs: Epochs = 5,
    time: Time = None,
    rate: Rate = 0.025,
    threads: Threads = 0,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    start: Continue = None,
) -> None:
    """Word vectors by skip-gram: each word predicts the words around it. Good for rare words.

    ```
    masklab words skipgram --corpus news.txt --out vectors
    masklab words skipgram --corpus news.txt --out vectors.vec --dim 300 --time 5m
    masklab words skipgram --corpus more.txt --continue vectors --out vectors2
    ```

    Ctrl-C saves what is learnt; `--continue` goes on from there.
    """
    _train(
        corpus, out, start, time, model="skipgram", dim=dim, window=window, loss=loss, negatives=negatives,
        shared=not per_pair, noise=noise, sample=sample, min_count=min_count, max_words=max_words, lowercase=lowercase,
        epochs=epochs, rate=rate, threads=threads, deterministic=deterministic, seed=seed,
    )  # fmt: skip


@words.command()
def cbow(
    corpus: Corpus,
    out: Out,
    dim: Dim = 100,
    window: Window = 5,
    loss: Loss = "ns",
    negatives: Negatives = 5,
    noise: Noise = 0.75,
    sample: Sample = 1e-3,
    min_count: MinCount = 5,
    max_words: MaxWords = None,
    lowercase: Lowercase = False,
    epochs: Epochs = 5,
    time: Time = None,
    rate: Rate = 0.05,
    threads: Threads = 0,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    start: Continue = None,
) -> None:
    """Word vectors by CBOW: the mean of the words around predicts the word in the middle. The fastest.

    ```
    masklab words cbow --corpus news.txt --out vectors
    masklab words cbow --corpus news.txt --out vectors.bin --window 10 --epochs 3
    ```

    Ctrl-C saves what is learnt; `--continue` goes on from there.
    """
    _train(
        corpus, out, start, time, model="cbow", dim=dim, window=window, loss=loss, negatives=negatives, noise=noise,
        sample=sample, min_count=min_count, max_words=max_words, lowercase=lowercase, epochs=epochs, rate=rate,
        threads=threads, deterministic=deterministic, seed=seed,
    )  # fmt: skip


def _train(corpus: list[Path], out: Path, start: Path | None, time: str | None, **asked: Any) -> None:
    from masklab.word_vectors.word2vec import Settings, train

    settings = Settings(seconds=common.seconds(time) if time else None, **asked)
    train_and_write(train, corpus, settings, out, start)
