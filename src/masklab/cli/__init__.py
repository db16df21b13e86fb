"""The commands: each reads its options, makes one call into the library, and prints what came of it.

Nothing heavy is imported before a command runs, so that `--help` is there at once.
"""

# ruff: noqa: E402, F401 (files of commands are imported for what they add)
from typing import Annotated

import typer

import masklab
from masklab.cli.common import app
from masklab.training.launch import behave, launched


def _version(wanted: bool) -> None:
    if wanted:
        print(f"masklab {masklab.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Pre-train language representations on your own text, and open the result in transformers.

    A first model in three commands:

    ```
    masklab prepare mytext.txt --out corpus
    masklab pretrain bert --data corpus --out runs/first --time 5m
    masklab fill runs/first "The cat sat on the _."
    ```
    """


# Importing a file of commands adds them to `app`, in the order in which `--help` lists them.
from masklab.cli import (
    clean,
    corpus,
    doctor,
    train,
    units,
    use,
    words,
    words_bpe,
    words_fasttext,
    words_glove,
    words_glyph,
    words_phrases,
    words_use,
    words_word2vec,
)


def main() -> None:
    if launched():
        behave()
    app()
