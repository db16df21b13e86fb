"""Which number format a run computes in, chosen by a short timed product and written down.

bfloat16 is the faster format on most recent machines and the slower one on others (some processors only emulate it), so
it is measured, not assumed. Weights and optimizer state are always float32.
"""

import ctypes
import os
import platform
import time
from typing import Any, Literal

import numpy as np
import torch

import masklab


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose(wish: Literal["auto", "fp32", "bf16"], where: torch.device) -> str:
    """ "bf16" if it was asked for, or measured at least a fifth faster; else "fp32"."""
    return (
        wish
        if wish != "auto"
        else "bf16"
        if _seconds(torch.bfloat16, where) * 1.2 < _seconds(torch.float32, where)
        else "fp32"
    )


def _seconds(dtype: torch.dtype, where: torch.device) -> float:
    a, b = torch.ones(1024, 512, dtype=dtype, device=where), torch.ones(512, 1024, dtype=dtype, device=where)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        (a @ b).sum().item()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def autocast(precision: str, where: torch.device) -> torch.autocast:
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")


def settle(threads: int) -> None:
    """The same sums in the same order every time: a fixed number of threads and deterministic algorithms."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or ours)
    keep_memory()
    torch.use_deterministic_algorithms(device().type == "cpu")  # on CUDA it needs an environment variable at start
    # Deterministic mode would also fill every new tensor with NaN first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_memory() -> None:
    """Let the C library keep what torch frees instead of handing it back to the system after every operation.

    Each step would otherwise fault the same pages in again: a quarter of its time for a small model on a CPU. Takes
    effect where the C library is glibc; elsewhere there is nothing to set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mmap_threshold, trim_threshold = -3, -1  # the names M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of <malloc.h>
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)


def environment(precision: str, where: torch.device) -> dict[str, Any]:
    """What must be equal for two runs to be equal to the bit."""
    return {
        "masklab": masklab.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability() if where.type == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
    }
