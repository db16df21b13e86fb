"""What the commands that train word vectors share: how a run looks in the terminal, and that Ctrl-C saves.

On a terminal one line says how far, how well, how fast and how long still; elsewhere there is a line every ten
seconds.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from masklab.cli.words import corpus_as_asked, finish, start_as_asked

if TYPE_CHECKING:
    from masklab.word_vectors.trained import Trained


def train_and_write(
    train: Callable[..., "Trained"],
    corpus: list[Path],
    settings: Any,
    out: Path,
    start: Path | None,
    unit: str = "words",
) -> None:
    """`train` of a method, watched, then its result written. unit: what the run counts ("words", "pairs", ...)."""
    with Screen(unit) as screen, _asked_to_stop() as stop:
        trained = train(corpus_as_asked(corpus), settings, start=start_as_asked(start), watch=screen, stop=stop)
    if uncut(trained.vocabulary.words):
        screen.console.print(
            "Most of these words are whole stretches of Chinese, as nothing parts them. Cut it into words first: "
            "masklab prepare TEXT --out corpus; masklab units corpus --words; then --corpus corpus",
            style="yellow",
        )
    finish(trained, out)
    if screen.stopped and (out / "words.json").exists():
        print(f"Stopped early; the same command with --continue {out} goes on from here.")
    elif screen.stopped:
        print("Stopped early; what was learnt is saved.")


def uncut(words: list[str]) -> bool:
    """Are these stretches of a text written without spaces, rather than words? Few words of Chinese have 7 signs."""
    return sum(sum("一" <= c <= "鿿" for c in word) > 6 for word in words) > 0.3 * len(words)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Termination is like Ctrl-C: the run ends in good order. Yields a function that says whether it was asked for."""
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)


class Screen:
    """Watches a run: called with its records (word2vec.py says which there are)."""

    EVERY = 10.0  # seconds between plain lines

    def __init__(self, unit: str = "words"):
        self.console = Console(stderr=True, highlight=False)
        self.unit = unit
        self.status: Status | None = None
        self.stopped = False
        self.shown = time.monotonic()

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self.status = self.console.status("reading")
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        match record["kind"]:
            case "begin":
                self._line(_beginning(record, self.unit))
            case "compiling":
                self._line("Compiling for this processor: once, the next run finds it done.")
            case "progress":
                self._now(_progress(record, self.unit))
            case "warning":
                self._line(record["text"], "yellow")
            case "stopped" | "end":
                self.stopped = record["kind"] == "stopped"
                speed = f"{record['words'] / max(record['seconds'], 1e-9):,.0f} {self.unit}/s"
                done = f"{record['words']:,} {self.unit} in {_clock(record['seconds'])}"
                self._line(f"{done} · {speed} · loss {record['loss']:.3f}")
            case stage:
                share = f"{record['done'] / record['total']:.0%}" if record["total"] else f"{record['done']:,}"
                self._now(f"{stage}: {share}")

    def _now(self, text: str) -> None:
        """How things stand at the moment."""
        if self.status is not None:
            self.status.update(text)
        elif time.monotonic() - self.shown >= self.EVERY:
            self.shown = time.monotonic()
            self._line(text)

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=not self.console.is_terminal)


def _beginning(record: dict[str, Any], unit: str) -> str:
    threads = "1 thread" if record["threads"] == 1 else f"{record['threads']} threads"
    going_on = "going on where the run stopped · " if record.get("resumed") else ""
    return f"{going_on}{record['vocabulary']:,} words · {record['words']:,} {unit} · {threads} · {record['kernels']}"


def _progress(record: dict[str, Any], unit: str) -> str:
    left = f" · {_clock(record['remaining'])} left" if record["remaining"] == record["remaining"] else ""
    return (
        f"{record['progress']:.0%} · epoch {record['epoch']:.2f} · loss {record['loss']:.3f} · "
        f"{record['words_per_second']:,.0f} {unit}/s{left}"
    )


def _clock(seconds: float) -> str:
    from masklab.training.progress import clock

    return f"{seconds:.1f} s" if seconds < 10 else clock(seconds)
