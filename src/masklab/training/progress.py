"""Who watches a run: the screen a person looks at, and TensorBoard. Both are called with the loop's records.

    train(recipe, "runs/first", watch=both(Screen(), Board("runs/first")))

Records are dictionaries with a "kind": begin, step, held_out, checkpoint, stopped, end or warning (docs/files.md); the
run's own folder keeps every one of them in log.jsonl.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Record = dict[str, Any]


def both(*watchers: Callable[[Record], None]) -> Callable[[Record], None]:
    """One watcher that tells them all."""

    def tell(record: Record) -> None:
        for watcher in watchers:
            watcher(record)

    return tell


class Screen:
    """Three lines that stay in place on a terminal; a plain line every ten seconds anywhere else.

    `baseline` is what the trivial score is called: the unigram model for masked words, the majority for classes.
    """

    EVERY = 10.0  # seconds between plain lines
    FRAME = 0.2  # and between pictures on a terminal
    MEMORY = 0.8  # of the running mean of the loss, so that it can be read

    def __init__(self, console: Console | None = None, baseline: str = "unigram"):
        self.console = console or Console(stderr=True)
        self.baseline = baseline
        self.live: Live | None = None
        self.losses: list[float] = []
        self.scores: dict[str, Any] = {}
        self.trivial: dict[str, Any] = {}
        self.held_out = ""
        self.shown = -1e9

    def __call__(self, record: Record) -> None:
        match record["kind"]:
            case "begin":
                self._begin(record)
            case "step":
                self._step(record)
            case "held_out":
                self.held_out = self._compare("held out", record["terms"])
                self._line(f"step {record['step']:,}: {self.held_out}")
                if self.live and not self.losses:
                    self.live.update(Text("the first steps", "dim"), refresh=True)
            case "checkpoint":
                self._line(f"step {record['step']:,}: checkpoint saved")
            case "warning":
                self._line(record["text"], "yellow")
            case "stopped":
                self._close()
                by = signal.Signals(record["signal"]).name
                self._line(f"Stopped by {by} at step {record['step']:,}; everything is saved.", "yellow")
            case "end":
                self._close()

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()  # whatever ended the run, the cursor comes back

    def _begin(self, record: Record) -> None:
        self.trivial = record["baseline"]
        length = f"{record['steps']:,} steps" if record["steps"] else "by the clock"
        where = record["environment"]
        self._line(
            f"{record['parameters']:,} parameters, {length}, {where.get('device', 'cpu')}, {where['precision']}, "
            f"attention {where.get('attention', 'auto')}, {'compiled, ' * where.get('compiled', False)}"
            f"{where['threads']} threads"
        )
        if record["resumed"]:
            same = "bit for bit as if it had never stopped" if record["same_bits"] else (
                "continues, not bit-identical (the machine or a library changed, or sums on this GPU have no order)"
            )  # fmt: skip
            self._line(f"Going on at step {record['step']:,}: {same}.")
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()
            self.live.update(Text("measuring the held-out loss before the first step", "dim"), refresh=True)

    def _step(self, record: Record) -> None:
        for name, term in record["terms"].items():
            before = self.scores.get(name, term)["loss"]
            self.scores[name] = {"loss": self.MEMORY * before + (1 - self.MEMORY) * term["loss"]}
        self.losses.append(next(iter(self.scores.values()))["loss"])
        now = time.monotonic()
        if now - self.shown < (self.FRAME if self.live else self.EVERY):
            return
        self.shown = now
        speed = f"{record['tokens_per_second']:,.0f} tokens/s"
        waiting = f"{record['waiting']:.0%} waiting for data"
        if record.get("skipped"):
            waiting += f", {record['skipped']} steps skipped (fp16 overflowed)"
        left = f"{clock(record['remaining'])} left"
        place = f"step {record['step']:,} ({record['progress']:.0%})"
        loss = self._compare("loss", self.scores)
        if self.live is None:
            self._line(" · ".join([place, loss, speed, waiting, left]))
            return
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(place, ProgressBar(1.0, record["progress"]), left)
        room = max(8, self.console.width - len(loss) - 3)
        curve = Text.assemble((loss, "bold"), "  ", (sparkline(self.losses, min(40, room)), "cyan"))
        curve.no_wrap = len(loss) + 10 < self.console.width
        details = Text(" · ".join(x for x in (self.held_out, speed, waiting) if x), "dim")
        self.live.update(Group(bar, curve, details), refresh=True)

    def _compare(self, label: str, terms: dict[str, Any]) -> str:
        """ "loss 4.02 (unigram 7.08), next 0.61 (0.69)": each term beside its trivial score."""
        parts = []
        for name, term in terms.items():
            trivial = self.trivial.get(name)
            word = label if not parts else name
            first = f"{self.baseline} " if not parts else ""
            beside = f" ({first}{trivial['loss']:.2f})" if trivial else ""
            parts.append(f"{word} {term['loss']:.2f}{beside}")
        return ", ".join(parts)

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=not self.console.is_terminal)

    def _close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


class Board:
    """TensorBoard scalars in `folder`/tensorboard: `tensorboard --logdir runs` shows all runs beside each other.

    A run that goes on at an earlier step than was written hides what will be written again.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder) / "tensorboard"
        self.writer: Any = None

    def __call__(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "begin":  # not earlier: a new run wants to find its folder empty
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=record["step"] + 1)
        if kind in ("step", "held_out"):
            self._scalars(record)
        if kind in ("stopped", "end"):
            self.writer.close()

    def _scalars(self, record: Record) -> None:
        part = "train" if record["kind"] == "step" else "held_out"
        for name, term in record["terms"].items():
            for what in ("loss", "accuracy"):
                if term.get(what) is not None:
                    self.writer.add_scalar(f"{part}/{name}/{what}", term[what], record["step"])
        for name, score in record.get("baseline", {}).items():
            self.writer.add_scalar(f"{part}/{name}/baseline", score["loss"], record["step"])
        for name in ("norm", "factor", "tokens_per_second", "waiting"):
            if name in record:
                self.writer.add_scalar(f"run/{name}", record[name], record["step"])
        if part == "held_out":
            self.writer.flush()


def clock(seconds: float) -> str:
    """75 -> "1:15"; 3700 -> "1:01:40"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def sparkline(values: list[float], width: int) -> str:
    """[3, 2, 1], 3 -> "█▅▁": the course of a number in one line."""
    if not values:
        return ""
    picked = [values[i * len(values) // min(width, len(values))] for i in range(min(width, len(values)) - 1)]
    picked.append(values[-1])
    low, high = min(picked), max(picked)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (v - low) / (high - low or 1))] for v in picked)
