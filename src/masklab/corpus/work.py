"""The half-done work of a preparation: kept in a folder of its own, so that one that was killed goes on where it was.

    .NAME.partial/        beside the corpus (or vocabulary) NAME that is being made
        progress.json     what was asked for, and how far it has come; replaced whole at every commit
        new/              what becomes NAME, files growing
        scratch/          what is needed only until then
        lock              held by the process at work

What a commit says is on disk before the commit is; what files hold beyond it was not committed, and is cut off. Disks
are slow to say that they have something, so that is waited for beside the work.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from masklab import files
from masklab.errors import BadInput

_SHARE = 0.005  # of the time may pass between two commits, which is what a kill can cost ...
_SOONEST = 0.25  # ... but they are not closer than this, in seconds


class Work:
    """`with Work(path, asked) as work:` go on from `work.state`, `commit` now and then, `finish` in the end.

    asked: what the work depends on, as JSON; work on anything else is thrown away, and `say` is told so.
    outlives: of what is asked for, what can change so that some of the work stays good: the names of that in `state`.
    """

    def __init__(self, path: Path, asked: dict[str, Any], say: Callable[[str], None] | None = None,
                 outlives: dict[str, set[str]] | None = None):  # fmt: skip
        self.path = path
        self.folder = path.with_name(f".{path.name}.partial")
        self.new, self.scratch = self.folder / "new", self.folder / "scratch"
        self.asked = json.loads(json.dumps(asked))
        self._outlives = outlives or {}
        self.state: dict[str, Any] = {}
        self.seconds = 0.0  # that earlier processes worked
        self._say = say or (lambda message: None)
        self._began = self._last = time.monotonic()
        self._lock: IO[bytes] | None = None
        self._beside = ThreadPoolExecutor(1)
        self._waiting: Future[None] | None = None

    @property
    def resumed(self) -> bool:
        return self.seconds > 0

    @property
    def elapsed(self) -> float:
        """Seconds of work, all processes together."""
        return self.seconds + time.monotonic() - self._began

    def __enter__(self) -> "Work":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise BadInput(f"{self.path} is being prepared by another process; wait for it, or stop it first") from None
        self._take_up()
        self.new.mkdir(exist_ok=True)
        self.scratch.mkdir(exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._beside.shutdown()
        if self.folder.exists():
            if not self.state:
                shutil.rmtree(self.folder)
            elif kind is not None:
                self._say(f"what is done is kept in {self.folder}: run the same again to go on, or remove it")
        assert self._lock
        self._lock.close()  # which unlocks it

    def _take_up(self) -> None:
        try:
            kept = json.loads((self.folder / "progress.json").read_text("utf-8"))
            asked, self.state, self.seconds = kept["asked"], kept["state"], kept["seconds"]
        except (OSError, ValueError, KeyError, TypeError):
            asked = None
        if not self.new.is_dir():  # it was finished, and killed before its progress was removed
            asked = None
        if asked == self.asked:
            for left in self.new.rglob(".*.tmp"):  # of files that were being written
                left.unlink()
            self._say(f"going on where an earlier preparation of {self.path} was stopped")
            return
        if asked is not None:
            changed = [name for name in self.asked if asked.get(name) != self.asked[name]]
            good = set.intersection(set(self.state), *(self._outlives.get(name, set()) for name in changed))
            if good and asked.keys() == self.asked.keys():
                self._say(
                    f"going on from what {' and '.join(changed)} does not change of the preparation that was stopped"
                )
                self.state = {name: self.state[name] for name in self.state if name in good}
                self.commit()
                return
            self._say(f"starting anew: {' and '.join(changed)} changed since the preparation that was stopped")
        self.restart()

    def restart(self) -> None:
        """Forget all that was done."""
        self.state, self.seconds = {}, 0.0
        for inside in (self.folder / "progress.json", self.new, self.scratch):
            shutil.rmtree(inside) if inside.is_dir() else inside.unlink(missing_ok=True)
        self.new.mkdir()
        self.scratch.mkdir()

    def due(self) -> bool:
        """Is it time for a commit? A kill should cost little, and so should commits."""
        if self._waiting and not self._waiting.done():
            return False
        return time.monotonic() - self._last >= max(_SOONEST, _SHARE * self.elapsed)

    def commit_soon(self, handles: list[int], **state: Any) -> None:
        """Commit when the files of these descriptors are on disk; comes back at once."""
        self.settle()

        def synced() -> None:
            for handle in handles:
                os.fsync(handle)
            self.commit(**state)

        self._waiting = self._beside.submit(synced)

    def settle(self) -> None:
        """Wait until what is to be committed soon is committed; before its files are closed."""
        waiting, self._waiting = self._waiting, None
        if waiting:
            waiting.result()

    def commit(self, **state: Any) -> None:
        """Note how far the work has come; the files that this speaks of are on disk."""
        self.state |= state
        with files.atomic_write(self.folder / "progress.json", "w") as file:
            json.dump({"asked": self.asked, "seconds": self.elapsed, "state": self.state}, file)
        self._last = time.monotonic()

    def finish(self) -> None:
        """Put the finished folder in place and remove the rest."""
        files.put_in_place(self.new, self.path)
        shutil.rmtree(self.folder, ignore_errors=True)
