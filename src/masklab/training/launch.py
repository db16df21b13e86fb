"""Several processes of one command on this machine: started, told of Ctrl-C, and ended together. Needs no torch.

What torchrun does for several machines, for one, with an end that says what happened. Each process gets RANK,
LOCAL_RANK, WORLD_SIZE and LOCAL_WORLD_SIZE, as torchrun's do, and the name of a file to meet in.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

MEETING = "MASKLAB_MEETING"  # the environment variable that names the file
LOST = 75  # the exit code of a process that ended because another one did: try again (EX_TEMPFAIL of sysexits.h)
GRACE = 20.0  # seconds that the others have to end by themselves when one has failed


class ProcessLost(Exception):
    """Another process of the run has ended, so that this one cannot go on. What was saved is whole."""


def usual() -> int:
    """How many processes train where nobody says: the one place that decides it.

    One, whose threads share the cores: on two cores that was the faster in every shape (docs/many-processes.md).
    """
    return 1


def number() -> int:
    """Which process this is, from 0, however it was started."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def launched() -> bool:
    """Is this one of several processes?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def speaks() -> bool:
    """May this process say what went wrong? Of several the first that asks or, before they have met, number 0."""
    found = sys.modules.get("masklab.training.distributed")
    met = launched() and found is not None and found.join.cache_info().currsize
    return found.join().speaks() if found is not None and met else number() == 0


def launch(processes: int, command: Sequence[str], pin: bool = False) -> int:
    """Run `command` so many times at once; the exit code of the first that failed by itself, or 0.

    SIGINT and SIGTERM are passed on, once each. If one process fails the others have a moment, then they are ended. A
    process that a signal killed is named. pin: each keeps to its own share of the cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if pin else []
    share = max(1, len(cores) // processes)
    with tempfile.TemporaryDirectory(prefix="masklab-") as folder:
        everyone = []
        for rank in range(processes):
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes,
                           MEETING: f"{folder}/meeting"}  # fmt: skip
            everyone.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    env={**os.environ, **{name: str(value) for name, value in environment.items()}},
                    start_new_session=True,  # so that a terminal's Ctrl-C comes once, from here
                )
            )
            if cores:
                os.sched_setaffinity(everyone[-1].pid, set(cores[rank * share : (rank + 1) * share]))

        def pass_on(number: int, _: object) -> None:
            for process in everyone:
                if process.poll() is None:
                    process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return _wait(everyone)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _wait(everyone: list[subprocess.Popen[bytes]]) -> int:
    """Until all have ended, by themselves or, some time after a first failure, by us."""
    code: int = 0
    since = 0.0
    while True:
        codes = [process.poll() for process in everyone]
        if not code and any(codes):
            rank, code = next((rank, found) for rank, found in enumerate(codes) if found)
            since = time.monotonic()
            if code < 0:
                print(f"masklab: process {rank} was ended by {signal.Signals(-code).name}", file=sys.stderr)
        if None not in codes:
            if code == LOST:
                code = next((found for found in codes if found and found != LOST), LOST)
            return 128 - code if code < 0 else code
        late = time.monotonic() - since - GRACE if code else 0.0
        if late > 0:
            for process in everyone:
                process.kill() if late > GRACE else process.terminate()
        time.sleep(0.05 if late <= 0 else 1.0)


def behave() -> None:
    """What one of several processes does first: only the first one prints, and none outlives the one that launched it.

    Errors are printed by whoever `speaks`. The system itself sends SIGTERM when the launcher dies (on Linux alone).
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each would repeat the same advice
    if number():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if MEETING in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def begun_with(folder: Path) -> int:
    """How many processes a run was last trained by, from its log; 1 if it is finished, as usual if there is no log."""
    if (folder / "result.json").exists():
        return 1
    log = folder / "log.jsonl"
    lines = log.read_text("utf-8", "replace").splitlines() if log.is_file() else []
    begins = [json.loads(line) for line in lines if line.startswith('{"kind": "begin"') and line.endswith("}")]
    return begins[-1]["environment"].get("processes", 1) if begins else usual()
