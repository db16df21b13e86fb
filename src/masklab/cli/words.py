"""The group `masklab words`: static word vectors. What its commands share: options, progress, how a result is written.

The commands stand in files of their own, one a topic (`words_*.py`); each adds its commands to `words`.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console

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
        "or a prepared corpus; repeat it for several.",
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
        "--continue", help="Go on from this folder of vectors; new words of the corpus are added.", metavar="FOLDER"
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
    """What `encode` and every `train` take: one path as it is, several as a list."""
    return paths[0] if len(paths) == 1 else paths


def start_as_asked(folder: Path | None) -> "Trained | None":
    """The vectors to go on from (`--continue`)."""
    if folder is None:
        return None
    from masklab.word_vectors.trained import Trained

    return Trained.load(folder)


class _Train(Protocol):
    """Every method's `train`."""

    def __call__(self, corpus: Any, settings: Any, /, *, start: Any, watch: Any, stop: Any) -> "Trained": ...


def train_and_write(train: _Train, corpus: list[Path], settings: Any, start: Path | None, out: Path) -> None:
    """What every command that trains does: show how it goes, keep what is learnt when it is stopped, write it."""
    from masklab.training.signals import StopRequest

    going_on = start_as_asked(start)
    with StopRequest() as request, Screen() as screen:
        trained = train(
            corpus_as_asked(corpus), settings, start=going_on, watch=screen, stop=lambda: bool(request.asked)
        )
    finish(trained, out)


class Screen:
    """How training goes: one line that stays in place on a terminal, a plain line every ten seconds anywhere else."""

    EVERY = 10.0

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.status = self.console.status("starting")
        self.shown = time.monotonic()

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        """Take one of the records that every `train` sends to its watcher."""
        from masklab.training.progress import clock

        match record["kind"]:
            case "begin":
                again = "going on where it stopped; " if record.get("resumed") else ""
                how = f"threads: {record['threads']}" + (f"; {record['kernels']}" if "kernels" in record else "")
                self._line(f"{again}{record['vocabulary']:,} words get vectors; {how}")
            case "compiling":
                self._line("compiling for this processor; that is done once and kept")
            case "warning":
                self._line(record["text"])
            case "progress":
                if record["progress"]:
                    speed, left = f"{record['words_per_second']:,.0f} words/s", f"{clock(record['remaining'])} left"
                    self._passing(f"{record['progress']:.0%} · loss {record['loss']:.4f} · {speed} · {left}")
            case "stopped":
                self._line("stopped; what is learnt by now is kept")
            case "end":
                self._line(f"trained in {clock(record['seconds'])}")
            case stage:
                done, total = record["done"], record["total"]
                self._passing(f"{stage}: {done / total:.0%}" if total else f"{stage}: {done:,}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False)

    def _passing(self, text: str) -> None:
        if self.console.is_terminal:
            self.status.update(text)
        elif time.monotonic() - self.shown >= self.EVERY:
            self.shown = time.monotonic()
            self._line(text)


def warn(text: str) -> None:
    """For what a library function says on the way."""
    print(f"masklab: {text}", file=sys.stderr)


def finish(trained: "Trained", out: Path) -> None:
    """Write what was trained in the format that the name asks for, and say what can be done with it."""
    from masklab.word_vectors.formats import format_of, write

    form = format_of(out)
    if form == "native":
        trained.save(out)
    elif form == "word2vec-binary" and trained.method in ("fasttext", "supervised"):
        from masklab.word_vectors.fasttext_files import write_bin

        write_bin(trained, out)
    else:
        write(out, trained.vocabulary.words, trained.vectors, form)
    count, dim = trained.vectors.shape
    print(f"{count:,} words, vectors of {dim}, from {trained.words_read:,} words read; written to {out}")
    name, word = shlex.quote(str(out)), next(iter(trained.vocabulary.words[5:]), "WORD")
    supervised = trained.method == "supervised"
    print(f"Next: masklab words {f'predict {name} TEXT' if supervised else f'nearest {name} {shlex.quote(word)}'}")
