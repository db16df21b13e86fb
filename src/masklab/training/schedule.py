"""How far a run is at each step, and what the learning rate makes of it.

Everything that changes during a run (learning rate, masking rate, row length) is a function of its progress, 0 to 1.
Counted budgets know it exactly. A run by the clock notes, a thousand times, at which step each thousandth of its time
began; those notes are saved, so that a resumed run continues them and a repeated one takes the same numbers.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from masklab.errors import BadInput

THOUSANDTHS = 1000


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of steps, tokens (slots read), words (words read) or seconds (training time).

    The clock runs while the model trains and saves, not while it is evaluated. `milestones` are the steps at which a
    finished run by the clock passed each thousandth of its time: given them, the clock is not read at all.
    """

    steps: int | None = None
    tokens: int | None = None
    words: int | None = None
    seconds: float | None = None
    milestones: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        given = [x for x in (self.steps, self.tokens, self.words, self.seconds) if x is not None]
        if len(given) != 1 or given[0] <= 0:
            raise BadInput(
                "a budget is exactly one positive number: --steps N, --tokens N, --words N or --time 5m "
                "(budget.steps, .tokens, .words, .seconds)"
            )
        if self.milestones is not None and (self.seconds is None or len(self.milestones) != THOUSANDTHS):
            raise BadInput(
                "budget.milestones are the thousand notes of a finished run by the clock, beside its seconds"
            )

    def count(self, tokens_per_step: int, words_per_token: float) -> int | None:
        """The number of steps, or None where only the clock knows."""
        if self.milestones is not None:
            return self.milestones[-1]
        if self.steps is not None:
            return self.steps
        tokens = self.words / words_per_token if self.words is not None else self.tokens
        return None if tokens is None else math.ceil(tokens / tokens_per_step)


class Progress:
    """Progress of a run at each step; `steps` is None while only the clock knows how many there will be."""

    AHEAD = 4  # batches are built this many steps before they are used, so the clock decides only about later ones

    def __init__(self, steps: int | None, budget: Budget, milestones: list[int] | None = None):
        self.steps = steps
        self.seconds = budget.seconds
        self.milestones = list(budget.milestones) if budget.milestones is not None else milestones or []
        self.by_clock = steps is None

    def at(self, step: int) -> float:
        """0 at the first step; at most 1."""
        if self.milestones:
            return min(1.0, bisect_right(self.milestones, step) / THOUSANDTHS)
        return min(1.0, step / self.steps) if self.steps is not None else 0.0

    def note(self, step: int, elapsed: float) -> None:
        """After `step` steps have taken `elapsed` seconds: which thousandths of the time have begun."""
        if self.by_clock and self.seconds is not None:
            passed = min(THOUSANDTHS, int(elapsed / self.seconds * THOUSANDTHS))
            self.milestones += [step + self.AHEAD] * (passed - len(self.milestones))
            if len(self.milestones) == THOUSANDTHS:
                self.steps = self.milestones[-1]

    def over(self, step: int) -> bool:
        return self.steps is not None and step >= self.steps

    def begins(self, progress: float) -> int:
        """The first step whose progress is at least `progress` (which must lie in the past or be known)."""
        if self.milestones:
            passed = math.ceil(progress * THOUSANDTHS - 1e-9)
            return 0 if passed == 0 else self.milestones[passed - 1]
        return math.ceil(progress * (self.steps or 0) - 1e-9)


@dataclass(frozen=True)
class Schedule:
    """The factor on every learning rate: rises over `warmup`, then falls in one of these shapes."""

    shape: Literal["linear", "cosine", "trapezoid", "inverse root", "constant"] = "linear"
    warmup: float = 0.01  # share of the run
    decay: float = 0.3  # trapezoid: the share of the run, at its end, in which it falls

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 < self.decay <= 1 and self.warmup + self.decay <= 1):
            raise BadInput("schedule.warmup and schedule.decay are shares of the run: each below 1, together at most 1")

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            return max(progress / self.warmup, 0.02)  # the very first step already moves
        left = (1 - progress) / (1 - self.warmup)
        match self.shape:
            case "linear":
                return left
            case "cosine":
                return 0.5 - 0.5 * math.cos(math.pi * left)
            case "trapezoid":
                return min(1.0, (1 - progress) / self.decay)
            case "inverse root":  # T5's: as 1 / sqrt(step)
                return math.sqrt(max(self.warmup, 1e-3) / max(progress, self.warmup, 1e-3))
            case _:
                return 1.0


def length_at(lengths: tuple[tuple[float, int], ...], progress: float) -> tuple[float, int]:
    """The stage that holds at `progress`: ((0, 64), (0.8, 128)) at 0.9 -> (0.8, 128)."""
    return max(stage for stage in lengths if stage[0] <= progress)
