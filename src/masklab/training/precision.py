"""How a run computes: number format, attention kernel, compiled or not; measured when it begins and written down.

bfloat16 is the faster format on most recent machines and the slower one on others (some processors only emulate it), so
it is measured, not assumed; so are the attention kernels. GPUs without bfloat16 have float16, whose narrow range wants
gradients scaled (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2). Weights and optimizer state are
always float32. docs/kernels.md tells what is chosen when.
"""

import ctypes
import math
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

import masklab
from masklab.errors import BadInput
from masklab.models.attention import Kernel, fastest
from masklab.models.config import Config
from masklab.models.pattern import Layout
from masklab.models.transformer import Model
from masklab.training.flops import DTYPES, peak

Precision = Literal["auto", "fp32", "bf16", "fp16"]
WORTH_COMPILING = 300.0  # seconds of a run by the clock: a GPU's compiler takes up to a minute of it


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose(wish: Precision, where: torch.device) -> str:
    """The wish; of "auto", bf16 (fp16 on GPUs without) if products measure at least a fifth faster in it, else fp32."""
    if wish != "auto":
        return wish
    half = "bf16"
    if where.type == "cuda" and torch.cuda.get_device_capability(where) < (8, 0):
        half = "fp16"
    return half if peak(where, half, 0.05) > 1.2 * peak(where, "fp32", 0.05) else "fp32"


def choose_attention(
    wish: Kernel, shape: Any, kind: Any, precision: str, where: torch.device, *, rows: int, length: int
) -> Kernel:
    """The wish; of "auto", the kernel that measures fastest on packed rows of this many slots (`attention.fastest`).

    kind: of the objective's pattern. What is measured is a micro-batch of `rows`.
    """
    if wish in ("varlen", "flex") and where.type != "cuda":
        raise BadInput(f"attention={wish} is a kernel for GPUs, and there is none here: attention=auto")
    if wish != "auto" or not isinstance(shape, Config):
        return wish
    biased = shape.family in ("mpnet", "t5")
    return fastest(where, DTYPES[precision], Layout(kind), rows=rows, length=length, heads=shape.heads,
                   head_size=shape.head_size, biased=biased)  # fmt: skip


def choose_compiled(wish: bool | None, seconds: float | None, where: torch.device) -> bool:
    """The wish; without one, on GPUs where the run is long enough to earn it. On CPUs it gains nothing."""
    return (where.type == "cuda" and (seconds or WORTH_COMPILING) >= WORTH_COMPILING) if wish is None else wish


def install(modules: nn.Module, attention: Kernel, compiled: bool) -> None:
    """Give every stack its attention kernel, and compile its layers: once, as they are alike, for each row length."""
    for stack in modules.modules():
        if isinstance(stack, Model):
            stack.kernel = attention
            for layer in stack.layers if compiled else ():
                layer.compile(dynamic=False)
    if compiled:
        torch._dynamo.config.recompile_limit = 64  # row lengths x numbers of asked slots (see Batch.to)


def autocast(precision: str, where: torch.device) -> torch.autocast:
    half = DTYPES[precision] if precision != "fp32" else torch.bfloat16
    return torch.autocast(where.type, half, enabled=precision != "fp32")


@dataclass
class Scaler:
    """Multiplies fp16's loss, so that small gradients do not vanish, and divides the gradients again.

    After a gradient that overflowed the step is skipped and the factor halved; after 2,000 good ones it is doubled:
    what torch.amp.GradScaler does, with a state of three numbers. In other precisions the factor is 1.
    """

    scale: float = 1.0
    good: int = 0  # steps since the factor last changed
    skipped: int = 0  # steps of the run that were not taken

    @classmethod
    def begin(cls, precision: str) -> "Scaler":
        return cls(2.0**16 if precision == "fp16" else 1.0)

    @property
    def on(self) -> bool:
        return self.scale != 1.0

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        for p in parameters if self.on else ():
            if p.grad is not None:
                p.grad.mul_(1.0 / self.scale)

    def takes(self, norm: float) -> bool:
        """Whether a step with this gradient norm is to be taken; the factor adapts."""
        if not self.on:
            return True
        if not math.isfinite(norm):
            self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
            return False
        self.good += 1
        if self.good == 2000:
            self.scale, self.good = self.scale * 2, 0
        return True

    def state(self) -> dict[str, Any]:
        return asdict(self)


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


def environment(precision: str, where: torch.device, attention: Kernel, compiled: bool) -> dict[str, Any]:
    """What must be equal for two runs to be equal to the bit, and whether they then are.

    On GPUs they are not: tables' gradients and those of attention are added up in the order in which threads finish.
    """
    return {
        "masklab": masklab.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability() if where.type == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "device": where.type,
        "attention": attention,
        "compiled": compiled,
        "deterministic": where.type == "cpu",
    }
