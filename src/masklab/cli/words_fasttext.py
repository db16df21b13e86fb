"""The commands about fastText: vectors from n-grams of characters, a classifier of texts, and what it answers."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from masklab.cli import common
from masklab.cli.common import Seed, lines_of_stdin, show_table
from masklab.cli.words import (
    AsJson,
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
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.word_vectors.supervised import Answer, Classifier

Shortest = Annotated[int, typer.Option(help="Characters of the shortest n-gram.", min=0)]
Longest = Annotated[int, typer.Option(help="Characters of the longest n-gram; 0: no n-grams.", min=0)]
Buckets = Annotated[int, typer.Option(help="N-grams share so many rows, by their hash.", min=0)]
Noise = Annotated[float, typer.Option(help="Noise is drawn by count to this power; 0 draws all alike.")]


@words.command()
def fasttext(
    corpus: Corpus,
    out: Out,
    model: Annotated[
        Literal["skipgram", "cbow"],
        typer.Option(help="skipgram: a word predicts those around it; cbow: they predict it."),
    ] = "skipgram",
    dim: Dim = 100,
    window: Window = 5,
    shortest: Shortest = 3,
    longest: Longest = 6,
    buckets: Buckets = 2_000_000,
    loss: Annotated[
        Literal["ns", "hs"],
        typer.Option(help="ns: against noise words (negative sampling); hs: along a tree (hierarchical softmax)."),
    ] = "ns",
    negatives: Negatives = 5,
    noise: Noise = 0.5,
    sample: Sample = 1e-4,
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
    """Word vectors by fastText: a word is the mean of its pieces, so that words never seen have a vector too.

    ```
    masklab words fasttext --corpus news.txt --out subwords
    masklab words nearest subwords unfriendliest
    masklab words fasttext --corpus news.txt --out subwords.bin --longest 4
    ```

    A `.bin` opens in the official program, too. Ctrl-C saves what is learnt; `--continue` goes on from there.
    """
    from masklab.word_vectors.fasttext import Settings, train

    settings = Settings(
        model=model, loss=loss, dim=dim, window=window, shortest=shortest, longest=longest, buckets=buckets,
        min_count=min_count, max_words=max_words, lowercase=lowercase, sample=sample, negatives=negatives, noise=noise,
        epochs=epochs, seconds=common.seconds(time) if time else None, rate=rate, threads=threads,
        deterministic=deterministic, seed=seed,
    )  # fmt: skip
    train_and_write(train, corpus, settings, out, start)


@words.command()
def supervised(
    corpus: Corpus,
    out: Annotated[
        Path, typer.Option(help="Where to write: a folder, or a .bin for fastText's own format.", metavar="PATH")
    ],
    label: Annotated[str, typer.Option(help="Words that begin so are the labels of their line.")] = "__label__",
    loss: Annotated[
        Literal["softmax", "ns", "hs", "ova"],
        typer.Option(help="softmax; ns: negative sampling; hs: a tree, for many labels; ova: several labels a line."),
    ] = "softmax",
    word_ngrams: Annotated[int, typer.Option(help="Up to so many words together, for their order.", min=1)] = 1,
    dim: Dim = 100,
    shortest: Shortest = 0,
    longest: Longest = 0,
    buckets: Buckets = 2_000_000,
    min_count: MinCount = 1,
    min_count_label: Annotated[int, typer.Option(help="Leave out labels that occur less often.", min=1)] = 1,
    negatives: Negatives = 5,
    epochs: Epochs = 5,
    time: Time = None,
    rate: Rate = 0.1,
    threads: Threads = 0,
    deterministic: Deterministic = False,
    seed: Seed = 0,
    start: Continue = None,
    test: Annotated[
        Path | None, typer.Option(help="Labelled lines that were held out: says how well it does.", metavar="FILE")
    ] = None,
) -> None:
    """Train a classifier of texts: each line is an example, its labels are words such as `__label__good`.

    ```
    masklab words supervised --corpus reviews.txt --out labels --word-ngrams 2 --test held_out.txt
    masklab words predict labels "not bad at all"
    ```

    Ctrl-C saves what is learnt; `--continue` goes on from there.
    """
    from masklab.word_vectors.formats import format_of
    from masklab.word_vectors.supervised import Classifier, Settings, train

    if format_of(out) not in ("native", "word2vec-binary"):
        raise BadInput(f"{out} would hold vectors alone, and no classifier: name a folder, or end in .bin")
    if test is not None and not test.is_file():
        raise BadInput(f"--test {test}: there is no such file")
    settings = Settings(
        loss=loss, label=label, dim=dim, word_ngrams=word_ngrams, shortest=shortest, longest=longest, buckets=buckets,
        min_count=min_count, min_count_label=min_count_label, negatives=negatives, epochs=epochs,
        seconds=common.seconds(time) if time else None, rate=rate, threads=threads, deterministic=deterministic,
        seed=seed,
    )  # fmt: skip
    train_and_write(train, corpus, settings, out, start)
    if test is not None:
        _show_score(Classifier.open(out), test, 1, 0.0, as_json=False)


@words.command()
def predict(
    model: Annotated[
        Path,
        typer.Argument(help="What `masklab words supervised` wrote, or a classifier of fastText's.", metavar="MODEL"),
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, lines of standard input.", metavar="TEXT...")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", help="So many labels, the likeliest first; -1: all.")] = 1,
    threshold: Annotated[float, typer.Option(help="Leave out labels less likely than this.")] = 0.0,
    test: Annotated[
        Path | None,
        typer.Option(help="Labelled lines: print how many the classifier gets right.", metavar="FILE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name the likeliest labels of texts, each with its chance: one line of output for each line of input.

    ```
    masklab words predict labels "not bad at all" -k 2
    masklab words predict labels < texts.txt > labels.txt
    masklab words predict labels --test held_out.txt
    ```
    """
    from masklab.word_vectors.supervised import Classifier

    classifier = Classifier.open(model)
    if test is not None:
        if texts:
            raise BadInput("give texts or --test, not both")
        _show_score(classifier, test, k, threshold, as_json)
        return
    for text, answers in _answers(classifier, texts, k, threshold):
        if as_json:
            print(json.dumps({"text": text, "labels": [answer._asdict() for answer in answers]}, ensure_ascii=False))
        else:
            print("\t".join(f"{answer.label} {answer.chance:.4f}" for answer in answers))


def _answers(
    classifier: "Classifier", texts: list[str] | None, k: int, threshold: float
) -> Iterator[tuple[str, list["Answer"]]]:
    if not texts and sys.stdin.isatty():  # answers at once
        for text in lines_of_stdin():
            yield text, next(classifier.predict([text], k, threshold))
        return
    from itertools import tee

    asked, told = tee(texts or (line.rstrip("\n") for line in sys.stdin))
    yield from zip(told, classifier.predict(asked, k, threshold), strict=True)


def _show_score(classifier: "Classifier", test: Path, k: int, threshold: float, as_json: bool) -> None:
    from masklab.corpus.open_file import OpenFile

    with OpenFile(test) as file:
        score = classifier.test((line.decode("utf-8", "replace") for _, line in file.lines()), k, threshold)
    if as_json:
        about: dict[str, Any] = score._asdict()
        names = ("precision", "recall", "lines")
        about["labels"] = {label: dict(zip(names, row, strict=True)) for label, row in score.labels.items()}
        print(json.dumps(about, ensure_ascii=False))
        return
    if 1 < len(score.labels) <= 30:
        table = Table("label", "precision", "recall", "lines")
        for label, (precision, recall, count) in score.labels.items():
            table.add_row(label, f"{precision:.3f}", f"{recall:.3f}", f"{count:,}")
        show_table(table)
    at = "" if k == 1 else f", of {k if k > 0 else 'all'} labels"
    print(f"{score.lines:,} lines: precision {score.precision:.4f}, recall {score.recall:.4f}{at}")
