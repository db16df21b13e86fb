"""A checkpoint is a Hugging Face folder with the training state beside the model; it is there whole or not at all.

    checkpoints/step-00000120/  config.json, model.safetensors, tokenizer.json, ...   what other libraries open
                                training.safetensors    every weight and all optimizer state, under our own names
                                training.json           step, clock, open sums, environment
                                checksums.json          SHA-256 of every file

With `checkpoints.sharded` each process of a run writes the rows that it holds, training-00001-of-00004.safetensors and
so on; put one below the other they are the tensors of the one file, so any number of processes can go on with either.

A checkpoint that does not match its checksums is passed over with a word, and the one before it is used.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from masklab.errors import BadInput
from masklab.files import atomic_folder, atomic_write, discard, settle, sha256, sweep
from masklab.training.distributed import ALONE, World


class State(NamedTuple):
    tensors: Mapping[str, Tensor]
    values: dict[str, Any]


class Tensors(Mapping[str, Tensor]):
    """The tensors of a checkpoint, each read when it is asked for, its rows from as many files as they stand in."""

    def __init__(self, checkpoint: Path):
        self.files: dict[str, list[Any]] = defaultdict(list)
        for path in sorted(checkpoint.glob("training*.safetensors")):
            file: Any = safetensors.safe_open(path, "pt")
            for name in file.keys():  # noqa: SIM118
                self.files[name].append(file)

    def __getitem__(self, name: str) -> Tensor:
        parts = [file.get_tensor(name) for file in self.files[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def save(
    folder: Path, step: int, state: State, write_model: Callable[[Path], None], keep: int, world: World = ALONE
) -> None:
    """Write checkpoints/step-N, then drop all but the last `keep`, and damaged ones of later steps.

    In a world of several every process calls it, and each writes the tensors it brings; the first does all the rest.
    """
    part = f"-{world.rank + 1:05d}-of-{world.ranks:05d}" if world.ranks > 1 else ""
    if not world.first:
        _write_tensors(Path(world.told("")) / f"training{part}.safetensors", state.tensors)
        world.wait()
        return
    target = folder / f"step-{step:08d}"
    sweep(folder)
    with atomic_folder(target) as new:
        world.told(str(new))
        write_model(new)
        _write_tensors(new / f"training{part}.safetensors", state.tensors)
        world.wait()  # for all parts
        with atomic_write(new / "training.json", "w") as file:
            json.dump(state.values, file)
        sums = {str(p.relative_to(new)): sha256(p) for p in sorted(new.rglob("*")) if p.is_file()}
        with atomic_write(new / "checksums.json", "w") as file:
            json.dump(sums, file, indent=1)
    upto = [p for p in steps(folder) if p <= target]
    for one in {*steps(folder)} - {*upto[-max(1, keep) :]}:
        discard(one)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_write(path) as file:
        file.write(safetensors.torch.save({name: x.contiguous() for name, x in tensors.items()}))


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


def newest(folder: Path, warn: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest whole checkpoint, if there is one; `warn` is told of those that are damaged."""
    for checkpoint in reversed(steps(folder)):
        wrong = damage(checkpoint)
        if wrong is None:
            return checkpoint
        warn(f"{checkpoint}: {wrong}; using the checkpoint before it")
    return None


def latest(folder: Path, warn: Callable[[str], None]) -> tuple[Path, State] | None:
    """The newest whole checkpoint and its state, or None if the run has made none yet."""
    checkpoint = newest(folder, warn)
    if checkpoint is None and (damaged := steps(folder)):
        raise BadInput(
            f"{damaged[-1]}: {damage(damaged[-1])}, and no checkpoint before it is whole; restore one from a copy, or "
            f"begin anew in another folder (--out)"
        )
    return None if checkpoint is None else (checkpoint, read(checkpoint))


def read(checkpoint: Path) -> State:
    """The state in a checkpoint that is known to be whole."""
    return State(Tensors(checkpoint), json.loads((checkpoint / "training.json").read_text("utf-8")))
