"""Measures peers in turn, round after round, so that a slow minute slows them all: medians, ratios with an interval.

rates = rounds({"gensim": theirs, "masklab": ours})  # each measures itself once and returns a rate
report(rates, "masklab")
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


def rounds(
    peers: dict[str, Callable[[], float]], rounds: int = 5, unit: str = "words/s", warm_up: bool = False
) -> dict[str, list[float]]:
    """What each peer measured in each round (more is better). Every other round goes through them backwards.

    warm_up: a round before the first whose figures are thrown away (compilation, files in the cache).
    """
    found: dict[str, list[float]] = {name: [] for name in peers}
    if warm_up:
        for measure in peers.values():
            measure()
    for number in range(rounds):
        for name in list(peers)[:: -1 if number % 2 else 1]:
            found[name].append(peers[name]())
        shown = "  ".join(f"{name} {values[-1]:,.4g}" for name, values in found.items())
        print(f"  round {number + 1} of {rounds}: {shown} {unit}", flush=True)
    return found


class Notes:
    """One JSON line for each measurement, written as it ends; what is there already is not measured again."""

    def __init__(self, path: str | None):
        self.path = path
        lines = Path(path).read_text("utf-8").splitlines() if path and os.path.exists(path) else []
        self.known = {self._key(record["what"]): record for record in map(json.loads, lines)}

    def get(self, what: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if self._key(what) not in self.known:
            record = {"what": what, **measure()}
            self.known[self._key(what)] = record
            if self.path:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
        return self.known[self._key(what)]

    @staticmethod
    def _key(what: dict[str, Any]) -> str:
        return json.dumps(what, sort_keys=True)


class Ratio(NamedTuple):
    ratio: float  # of the medians
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f}x ({self.low:.2f} to {self.high:.2f})"


def ratio(ours: list[float], theirs: list[float], draws: int = 10_000) -> Ratio:
    """How many times theirs ours is, with a 95 % interval: the same for rounds drawn with replacement (bootstrap)."""
    drawn = np.random.default_rng(0).integers(0, len(ours), (draws, len(ours)))
    several = np.median(np.array(ours)[drawn], axis=1) / np.median(np.array(theirs)[drawn], axis=1)
    low, high = np.percentile(several, [2.5, 97.5])
    return Ratio(statistics.median(ours) / statistics.median(theirs), float(low), float(high))


def report(found: dict[str, list[float]], ours: str, unit: str = "words/s") -> None:
    """The median of each peer, and how many times its rate ours is."""
    for name, values in found.items():
        beside = "" if name == ours else f"   {ours}: {ratio(found[ours], values)}"
        print(f"  {name:<28} {statistics.median(values):>14,.4g} {unit}{beside}", flush=True)


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Only so many cores for this process, and for those that it starts."""
    before = os.sched_getaffinity(0)
    if count > len(before):
        sys.exit(f"{count} cores are wanted, and this process may use {len(before)}")
    os.sched_setaffinity(0, set(sorted(before)[-count:]))  # the first core has the most to do for others
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# A process inherits the peak of the one that starts it, so a small one stands between.
_BETWEEN = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak_memory(command: list[str]) -> int:
    """Bytes that a command held at most; its output is thrown away."""
    between = [sys.executable, "-I", "-S", "-c", _BETWEEN, *command]
    code, size = map(int, subprocess.run(between, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
    if code:
        sys.exit(f"{' '.join(command)}: ended with {code}")
    return size
