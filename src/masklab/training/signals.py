"""Ctrl-C and SIGTERM ask a run to stop: it finishes the step, saves, and ends; a second Ctrl-C ends it at once."""

import signal
import threading
from types import FrameType


class StopRequest:
    asked: int = 0  # the signal's number

    def __enter__(self) -> "StopRequest":
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # signals go nowhere else
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
