"""Batches are built in the background, a few steps ahead; what the loop waits for them is measured and shown."""

import queue
import threading
import time
from typing import Any

from masklab.recipe import Recipe
from masklab.training.batches import Batch, micro_batches
from masklab.training.distributed import ALONE, World
from masklab.training.schedule import Progress, length_at


def batch_at(recipe: Recipe, source: Any, step: int, progress: Progress, world: World = ALONE) -> list[Batch]:
    """The micro-batches of one step of a run, as far as this process reads them: a function of (recipe, step) and of
    nothing that happened before."""
    now = progress.at(step)
    begin, length = length_at(recipe.batches.lengths, now)
    rows = recipe.batches.tokens // length
    return micro_batches(
        recipe.objective,
        source,
        seed=recipe.seed,
        first_row=(step - progress.begins(begin)) * rows,
        rows=rows,
        length=length,
        accumulate=recipe.batches.accumulate,
        progress=now,
        world=world,
    )


class Feed:
    """`next()` gives the batches of the next step; at most two steps are ready at a time."""

    def __init__(self, recipe: Recipe, source: Any, progress: Progress, first: int, world: World = ALONE):
        self.waited = 0.0
        self._ready: queue.Queue[list[Batch] | BaseException] = queue.Queue(maxsize=2)
        self._stop = threading.Event()
        arguments = (recipe, source, progress, first, world)
        self._thread = threading.Thread(target=self._work, args=arguments, daemon=True)
        self._thread.start()

    def _work(self, recipe: Recipe, source: Any, progress: Progress, step: int, world: World) -> None:
        look = getattr(source, "must_be_whole", lambda: None)  # what lies in files may be cut short under our hands
        try:
            while not self._stop.is_set():
                look()
                self._put(batch_at(recipe, source, step, progress, world))
                step += 1
        except BaseException as error:  # handed to the loop, which raises it
            self._put(error)

    def _put(self, item: list[Batch] | BaseException) -> None:
        while not self._stop.is_set():
            try:
                return self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def next(self) -> list[Batch]:
        start = time.perf_counter()
        item = self._ready.get()
        self.waited += time.perf_counter() - start
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
