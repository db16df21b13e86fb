"""Runs a word-vector kernel over the text in chunks, on all cores, with a falling learning rate and a clock.

Threads share the tables and write to them without locks (Niu et al. 2011, "Hogwild!"): word rows are many, so they
seldom meet; at the few rows that every step needs, where they would, each has a copy (hot_rows.py). The kernels hold no
interpreter lock; Python only hands out chunks, a few hundred a second at most.

With one thread the chunks come in order and the result has the same bits every time, however fast the machine is;
with a time budget the learning rate follows the clock, so that cannot be.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from masklab.errors import BadInput

Watch = Callable[[dict[str, Any]], None]
PICTURE = 0.2  # seconds between two progress records


class Chunk(NamedTuple):
    """A stretch of the corpus in one of its epochs; the learning rate falls linearly from one end to the other."""

    begin: int
    end: int
    place: int  # of `begin`, counted through all epochs: what random numbers depend on
    rate: float
    rate_end: float
    thread: int  # which of the threads works on it: each has scratch memory of its own


class Loss(NamedTuple):
    """What a chunk's loss was: a sum over so many examples that the kernel looked at."""

    total: float
    examples: float


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, on how many threads. `seconds` replaces `epochs`."""

    epochs: int = 5
    seconds: float | None = None
    rate: float = 0.025
    rate_end: float = 1e-4
    threads: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise BadInput(f"epochs={self.epochs}: give 1 or more passes over the corpus")
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds={self.seconds}: give a time above 0, or None to count epochs")
        if not self.rate > 0 or not 0 <= self.rate_end <= self.rate:
            raise BadInput(f"rate={self.rate}, rate_end={self.rate_end}: the rate falls from a number above 0")
        if self.threads < 0:
            raise BadInput(f"threads={self.threads}: give a number of threads, or 0 for all cores")
        if self.deterministic and self.threads > 1:
            raise BadInput(f"deterministic is one thread: leave out threads={self.threads}, or deterministic")
        if self.deterministic and self.seconds is not None:
            raise BadInput("deterministic runs cannot follow the clock: give epochs instead of seconds")

    @property
    def workers(self) -> int:
        if self.deterministic:
            return 1
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or cores


@dataclass
class Outcome:
    chunks: int  # finished, counted from the run's first one, all epochs through
    words: int  # read by this call
    seconds: float
    stopped: bool  # before the end that was planned
    loss: float  # mean over the last tenth or so of what was read


def run(
    train: Callable[[Chunk], Loss],
    borders: np.ndarray,
    words: int,
    schedule: Schedule,
    *,
    first: int = 0,
    check: Callable[[], None] | None = None,
    watch: Watch | None = None,
    stop: Callable[[], Any] | None = None,
) -> Outcome:
    """Call `train` on every chunk of every epoch, each on some thread.

    `borders` (chunks + 1,) says where chunks begin and end; an epoch has `words` words. The run starts at chunk
    `first` (of all epochs), to go on with one that was stopped. `check` is called once an epoch and may raise. `stop`
    is asked all the time; when it says yes, or at Ctrl-C, the chunks in hand are finished and the run ends.
    """
    chunks = len(borders) - 1
    length = int(borders[-1])
    last = np.inf if schedule.seconds else schedule.epochs * chunks
    began = time.monotonic()
    state = _State(first, chunks)
    ended = threading.Event()

    def passed(items: float) -> float:
        """Progress from 0 to 1 when so many items of all epochs are done."""
        if schedule.seconds:
            return min(1.0, (time.monotonic() - began) / schedule.seconds)
        return items / (schedule.epochs * length)

    def rate(progress: float) -> float:
        return schedule.rate + (schedule.rate_end - schedule.rate) * progress

    def work(thread: int) -> None:
        try:
            while not ended.is_set() and (number := state.take(last)) is not None:
                if schedule.seconds and passed(0) >= 1:
                    state.give_back()
                    break
                epoch, chunk = divmod(number, chunks)
                begin, end = int(borders[chunk]), int(borders[chunk + 1])
                place = epoch * length + begin
                loss = train(Chunk(begin, end, place, rate(passed(place)), rate(passed(place + end - begin)), thread))
                if state.finish(loss, (end - begin) / length * words) and check is not None:
                    check()
        except BaseException as error:
            state.error = error
        finally:
            with state.lock:
                state.running -= 1
                if state.running == 0:
                    ended.set()

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(schedule.workers)]
    state.running = len(threads)
    stopped = False
    for thread in threads:
        thread.start()
    try:
        while not stopped:
            try:
                if ended.wait(PICTURE):
                    break
                stopped = bool(stop and stop())
                if watch is not None:
                    watch(state.record(passed, began, borders, schedule))
            except KeyboardInterrupt:
                stopped = True
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if state.error is not None:
        raise state.error
    return Outcome(state.next, round(state.words), time.monotonic() - began, stopped, state.mean_loss)


class _State:
    """What the threads share: which chunk is next, and how things stand."""

    def __init__(self, first: int, chunks: int):
        self.lock = threading.Lock()
        self.next = first
        self.done = first
        self.chunks = chunks
        self.words = 0.0
        self.mean_loss = float("nan")
        self.running = 0
        self.error: BaseException | None = None

    def take(self, last: float) -> int | None:
        with self.lock:
            if self.next >= last or self.error is not None:
                return None
            self.next += 1
            return self.next - 1

    def give_back(self) -> None:
        with self.lock:
            self.next -= 1

    def finish(self, loss: Loss, words: float) -> bool:
        """Count a chunk as done; is it the last of an epoch?"""
        with self.lock:
            self.done += 1
            self.words += words
            if loss.examples:
                mean = loss.total / loss.examples
                keep = 1 - 1 / min(self.done, max(2, self.chunks / 10))
                self.mean_loss = mean if np.isnan(self.mean_loss) else keep * self.mean_loss + (1 - keep) * mean
            return self.done % self.chunks == 0

    def record(self, passed: Callable[[float], float], began: float, borders: np.ndarray, schedule: Schedule) -> Any:
        epoch, chunk = divmod(self.done, self.chunks)
        items = epoch * int(borders[-1]) + int(borders[chunk])
        progress, elapsed = passed(items), time.monotonic() - began
        return {
            "kind": "progress",
            "progress": progress,
            "epoch": items / int(borders[-1]),
            "words": round(self.words),
            "words_per_second": self.words / elapsed,
            "loss": self.mean_loss,
            "rate": schedule.rate + (schedule.rate_end - schedule.rate) * progress,
            "remaining": elapsed * (1 - progress) / progress if progress else float("nan"),
        }


def borders_of(ids: np.ndarray, size: int = 20_000) -> np.ndarray:
    """Cut the ids of a corpus into chunks of about `size`, after the end of a sentence (-1) where one is near.

    >>> borders_of(np.array([4, 5, -1, 6, -1, 7, -1]), size=2)
    array([0, 3, 5, 7])
    """
    size = max(1, size)
    borders = [0]
    while borders[-1] + size < len(ids):
        at = borders[-1] + size - 1
        ends = np.flatnonzero(ids[at : at + size] < 0)
        borders.append(at + 1 + (int(ends[0]) if len(ends) else 0))
    if borders[-1] < len(ids):
        borders.append(len(ids))
    return np.array(borders)
