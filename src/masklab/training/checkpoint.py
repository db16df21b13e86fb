"""A checkpoint is a Hugging Face folder with the training state beside the model; it is there whole or not at all.

    checkpoints/step-00000120/  config.json, model.safetensors, tokenizer.json, ...   what other libraries open
                                training.safetensors    every weight and all optimizer state, under our own names
                                training.json           step, clock, open sums, environment
                                checksums.json          SHA-256 of every file

A checkpoint that does not match its checksums is passed over with a word, and the one before it is used.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from masklab.files import atomic_folder, atomic_write, settle, sha256


class State(NamedTuple):
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save(folder: Path, step: int, state: State, write_model: Callable[[Path], None], keep: int) -> Path:
    """Write checkpoints/step-N, then drop all but the last `keep`."""
    target = folder / f"step-{step:08d}"
    with atomic_folder(target) as new:
        write_model(new)
        with atomic_write(new / "training.safetensors") as file:
            file.write(safetensors.torch.save({k: v.contiguous() for k, v in state.tensors.items()}))
        with atomic_write(new / "training.json", "w") as file:
            json.dump(state.values, file)
        sums = {str(p.relative_to(new)): sha256(p) for p in sorted(new.rglob("*")) if p.is_file()}
        with atomic_write(new / "checksums.json", "w") as file:
            json.dump(sums, file, indent=1)
    for old in steps(folder)[: -max(1, keep)]:
        shutil.rmtree(old)
    return target


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    for left in folder.glob(".step-*.old"):
        settle(folder / left.name[1:-4])
    return sorted(p for p in folder.glob("step-*") if p.is_dir())


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if every file is as it was written."""
    try:
        sums = json.loads((checkpoint / "checksums.json").read_text("utf-8"))
        for name, expected in sums.items():
            if sha256(checkpoint / name) != expected:
                return f"{name} has changed since it was written"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return None


def latest(folder: Path, warn: Callable[[str], None]) -> tuple[Path, State] | None:
    """The newest whole checkpoint and its state, or None if the run has none."""
    for checkpoint in reversed(steps(folder)):
        wrong = damage(checkpoint)
        if wrong is None:
            tensors = safetensors.torch.load_file(checkpoint / "training.safetensors")
            return checkpoint, State(tensors, json.loads((checkpoint / "training.json").read_text("utf-8")))
        warn(f"{checkpoint}: {wrong}; using the checkpoint before it")
    return None
