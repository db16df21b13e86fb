"""How far a preparation is: what it tells whoever watches, and that as a line for a person."""

import time
from collections.abc import Callable
from typing import NamedTuple


class At(NamedTuple):
    """A moment of a preparation."""

    stage: str  # "reading", "vocabulary", "tokens" ...
    documents: int  # done of this stage
    size: int  # bytes of their text
    share: float | None  # of the stage, 0 to 1; None: not known


Tell = Callable[[At], None]


class Pace:
    """Turns moments into lines: "tokens: 12,345 documents, 56 MB (43 %), 7.8 MB/s, 1:10 left"."""

    def __init__(self) -> None:
        self._stage = ""
        self._first = At("", 0, 0, None)
        self._began = 0.0

    def line(self, at: At) -> str:
        if at.stage != self._stage:
            self._stage, self._first, self._began = at.stage, at, time.monotonic()
        seconds = time.monotonic() - self._began
        said = f"{at.stage}: {at.documents:,} documents, {at.size / 1e6:,.0f} MB"
        if at.share is not None:
            said += f" ({at.share:.0%})"
        if seconds > 1:
            documents, size = at.documents - self._first.documents, at.size - self._first.size
            said += f", {documents / seconds:,.0f} documents/s, {size / seconds / 1e6:,.1f} MB/s"
            gained = (at.share or 0) - (self._first.share or 0)
            if at.share is not None and gained > 0:
                left = int(seconds * (1 - at.share) / gained)
                said += f", {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        return said
