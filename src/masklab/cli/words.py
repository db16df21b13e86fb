"""The group `masklab words`: static word vectors. What its commands share: options, and where a result is written.

The commands stand in files of their own, one a topic (`words_*.py`); each adds its commands to `words`.
"""

import shlex
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from masklab.cli.common import app
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.word_vectors.trained import Trained

words = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(words, name="words")


@words.callback()
def group() -> None:
    """Word vectors: train them, open those of others, look at them, measure them.

    ```
    masklab words skipgram --corpus mytext.txt --out vectors
    masklab words nearest vectors king
    ```
    """


def _writable(out: Path) -> Path:
    """Refuse a name that nothing can be written to before hours of training, not after them."""
    from masklab.word_vectors.formats import format_of

    format_of(out)
    if out.is_dir() and any(out.iterdir()) and not (out / "words.json").exists():
        raise BadInput(f"{out} is a folder with other files in it; name a new one, or a file such as {out}.vec")
    return out


# Options that several methods take. A method with other defaults writes them behind the type: `window: Window = 15`.
Corpus = Annotated[
    list[Path],
    typer.Option(
        help="Text, a sentence or paragraph a line (.gz, .xz, .bz2 and .zst too), a folder of such files, "
        "a prepared corpus, or - for standard input; repeat it for several.",
        metavar="PATH",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        help="Where to write: a folder (continued and opened fastest), or by ending .vec or .txt (word2vec text), "
        ".bin (binary), .glove.txt (no header); .gz may follow.",
        metavar="PATH",
        callback=_writable,
    ),
]
Dim = Annotated[int, typer.Option(help="Length of each vector.", min=1)]
Epochs = Annotated[int, typer.Option(help="Passes over the corpus.", min=1)]
Window = Annotated[int, typer.Option(help="Words on each side that count as context, at most.", min=1)]
MinCount = Annotated[int, typer.Option(help="Leave out words that occur less often.", min=1)]
MaxWords = Annotated[int | None, typer.Option(help="Keep so many words, the most frequent ones.", min=1)]
Lowercase = Annotated[bool, typer.Option("--lowercase", help="Read every word in lower case.")]
Sample = Annotated[float, typer.Option(help="Words more frequent than this are thinned out; 0 keeps all.", min=0)]
Negatives = Annotated[int, typer.Option(help="Noise words drawn for each real one.", min=1)]
Rate = Annotated[float, typer.Option(help="Learning rate at the beginning.", min=0)]
Threads = Annotated[int, typer.Option(help="Threads; 0 takes all cores.", min=0)]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="One thread, and the same bits every time on one machine.")
]
Time = Annotated[str | None, typer.Option(help="Stop after this time instead, such as 90s or 5m.", metavar="TIME")]
Continue = Annotated[
    Path | None,
    typer.Option(
        "--continue",
        help="Go on from this folder of vectors (or fastText .bin); new words are added.",
        metavar="FOLDER",
    ),
]

# What the commands that use vectors take.
Vectors = Annotated[
    Path,
    typer.Argument(help="A folder of vectors, or a word2vec, GloVe or fastText file (.gz too).", metavar="VECTORS"),
]
Limit = Annotated[int | None, typer.Option(help="Open the first so many words only.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


def corpus_as_asked(paths: list[Path]) -> Path | list[Path]:
    """What `encode` and every `train` take: one path as it is, several as a list. Streams become files."""
    paths = [_kept(path) if str(path) == "-" or path.is_fifo() else path for path in paths]
    return paths[0] if len(paths) == 1 else paths


_KEPT: list[Any] = []  # temporary files, gone with the process


def _kept(path: Path) -> Path:
    """What comes through standard input or a pipe, such as <(zcat file.gz), in a file: some read a corpus twice."""
    file = tempfile.NamedTemporaryFile(prefix="masklab-")  # noqa: SIM115
    _KEPT.append(file)
    with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as stream:
        shutil.copyfileobj(stream, file, 1 << 20)
    file.flush()
    return Path(file.name)


def start_as_asked(folder: Path | None) -> "Trained | None":
    """The vectors to go on from (`--continue`)."""
    if folder is None:
        return None
    from masklab.word_vectors.fasttext_files import is_bin, read_bin
    from masklab.word_vectors.trained import Trained

    return read_bin(folder) if folder.is_file() and is_bin(folder) else Trained.load(folder)


def warn(text: str) -> None:
    """For what a library function says on the way."""
    print(f"masklab: {text}", file=sys.stderr)


def finish(trained: "Trained", out: Path) -> None:
    """Write what was trained in the format that the name asks for, and say what can be done with it."""
    from masklab.word_vectors.keyed import WordVectors

    WordVectors.from_trained(trained).save(out, say=warn)
    count, dim = trained.vectors.shape
    print(f"{count:,} words, vectors of {dim}, from {trained.words_read:,} words read; written to {out}")
    name, word = shlex.quote(str(out)), trained.vocabulary.words[min(100, count - 1)]
    supervised = trained.method == "supervised"
    print(f"Next: masklab words {f'predict {name} TEXT' if supervised else f'nearest {name} {shlex.quote(word)}'}")
