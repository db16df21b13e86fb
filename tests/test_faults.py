"""Every system call of a save is refused in turn, or is the last one of its process: nothing is lost or half there.

`Disk` stands between the code and the system: it counts the calls that change anything on the disk, and at the n-th
the system refuses, the process dies, or the machine loses its power. A test does its work again and again, for n = 1,
2, 3, ..., until the work gets by with fewer calls than n, and looks each time at what is there.
"""

import builtins
import errno
import gc
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masklab import files
from masklab.corpus import arrays, keep_text, tokens
from masklab.corpus.prepare import prepare
from masklab.corpus.store import Store
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.corpus.work import Work
from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Checkpoints, Evaluation, Recipe
from masklab.tasks.classify import Classify
from masklab.tasks.finetune import finetune
from masklab.training import checkpoint
from masklab.training.checkpoint import State
from masklab.training.loop import train
from masklab.training.run import Run, RunFolder
from masklab.training.schedule import Budget
from masklab.training.session import build
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

CALLS = ("open", "fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir")
SYSTEM = {name: getattr(os, name) for name in CALLS}
OPEN = builtins.open
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FAULTS = ["EIO", "ENOSPC", "EROFS", "killed before", "killed after", "power lost", "Ctrl-C"]
ENDED = (OSError, BadInput, KeyboardInterrupt)  # and Dead: what work ends with on such a disk


class Dead(BaseException):
    """The process is no more: whatever it would still do, clearing up included, does not happen."""


class Disk:
    """Lets `at` - 1 calls pass. The disk then fails once (EIO), is full or read-only from there on, or all ends."""

    def __init__(self, fault: str = "", at: int = 0):
        self.fault, self.at, self.calls, self.dead = fault, at, 0, False
        self.unflushed: dict[
            int, tuple[int, int]
        ] = {}  # inode -> a descriptor, and the size that an fsync has asked for

    def call(self, do: Callable[[], Any], changes: bool = True, room: bool = False) -> Any:
        """changes: a disk that may only be read refuses this; room: a full one does."""
        if self.dead:
            raise Dead
        self.calls += 1
        now, after = self.calls == self.at, self.calls >= self.at > 0
        if (self.fault == "EIO" and now) or (self.fault == "ENOSPC" and after and room) or (
            self.fault == "EROFS" and after and changes
        ):  # fmt: skip
            raise OSError(getattr(errno, self.fault), os.strerror(getattr(errno, self.fault)))
        if now and self.fault == "Ctrl-C":
            raise KeyboardInterrupt
        if now and self.fault in ("killed before", "killed after", "power lost"):
            if self.fault != "killed before":
                do()
            self.end()
        return do()

    def end(self) -> None:
        self.dead = True
        if self.fault == "power lost":
            for descriptor, size in self.unflushed.values():
                os.ftruncate(descriptor, size)
        raise Dead

    def system(self, name: str) -> Callable[..., Any]:
        """os.NAME on this disk."""

        def called(*arguments: Any, **options: Any) -> Any:
            if name == "open":
                writes = bool(arguments[1] & WRITING)
                return self.call(lambda: SYSTEM["open"](*arguments, **options), changes=writes, room=writes)
            if name == "fsync":  # the machine stays on, so nobody need wait for it
                return self.call(lambda: self.flushed(arguments[0]), changes=False, room=True)
            return self.call(lambda: SYSTEM[name](*arguments, **options), room=name == "mkdir")

        return called

    def flushed(self, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        if inode in self.unflushed:
            os.close(self.unflushed.pop(inode)[0])

    def open(self, file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
             errors: str | None = None, newline: str | None = None, **more: Any) -> Any:  # fmt: skip
        if not set(mode) & set("wax+"):
            return OPEN(file, mode, buffering, encoding, errors, newline, **more)
        raw = self.written(file, mode)
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    def written(self, file: Any, mode: str) -> "Written":
        return self.call(lambda: Written(file, mode.replace("b", "").replace("t", ""), self), room=True)


class Written(io.FileIO):
    """An open file that asks the disk for each of its writes."""

    def __init__(self, file: Any, mode: str, disk: Disk):
        super().__init__(file, mode)
        self.disk = disk

    def write(self, data: Any) -> int:  # type: ignore[override]
        now = os.fstat(self.fileno())
        if now.st_ino not in self.disk.unflushed:
            self.disk.unflushed[now.st_ino] = (os.dup(self.fileno()), now.st_size)
        return self.disk.call(lambda: io.FileIO.write(self, data), room=True)


@contextmanager
def on(disk: Disk) -> Iterator[Disk]:
    """What happens inside happens on this disk; whatever its fault ends ends quietly."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, disk.system(name))
        patch.setattr(builtins, "open", disk.open)
        patch.setattr(io, "open", disk.open)
        patch.setattr(arrays, "FileIO", disk.written)
        with suppress(*ENDED, Dead) if disk.fault else nullcontext():
            yield disk
    for descriptor, _ in disk.unflushed.values():
        os.close(descriptor)


def calls(work: Callable[[], Any]) -> int:
    """How many calls some work makes on a disk without faults."""
    with on(Disk()) as disk:
        work()
    return disk.calls


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob(".*") if p.name.endswith((".tmp", ".old", ".partial"))]


# --- each call of a save ---------------------------------------------------------------------------------------------


def save(folder: Path, step: int) -> None:
    def write_model(new: Path) -> None:
        with files.atomic_write(new / "1_Pooling" / "config.json", "w") as file:
            file.write("{}")

    state = State({"w": torch.full((3,), float(step))}, {"step": step})
    checkpoint.save(folder, step, state, write_model, keep=1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_is_the_old_one_or_the_new_one(tmp_path: Path, fault: str):
    for n in count(1):
        folder = tmp_path / str(n)
        with on(Disk()):
            save(folder, 1)
        with on(Disk(fault, n)) as disk:
            save(folder, 2)
        found = checkpoint.latest(folder, pytest.fail)
        assert found is not None
        assert found[1].values["step"] == found[1].tensors["w"][0] in (1, 2)
        assert not any(map(checkpoint.damage, checkpoint.steps(folder))), "what has a good name is whole"
        with on(Disk()):
            save(folder, 3)
        assert [p.name for p in folder.iterdir()] == ["step-00000003"]
        if disk.calls < n:
            assert n > 30
            assert found[1].values["step"] == 2
            return


@pytest.mark.parametrize("fault", FAULTS)
def test_word_vectors_are_the_old_ones_or_the_new_ones(tmp_path: Path, fault: str):
    def trained(value: int) -> Trained:
        vocabulary = Vocabulary(["a", "b"], np.array([2, 1]), 3)
        return Trained("skipgram", vocabulary, {}, np.full((2, 2), value, np.float32), {"output": np.zeros((2, 2))})

    for n in count(1):
        folder = tmp_path / str(n) / "vectors"
        with on(Disk()):
            trained(1).save(folder)
        with on(Disk(fault, n)) as disk:
            trained(2).save(folder)
        found = Trained.load(folder, check=True)
        assert (found.vectors == found.vectors[0, 0]).all()
        assert found.vectors[0, 0] in (1, 2)
        with on(Disk()):
            trained(3).save(folder)
        assert (Trained.load(folder, check=True).vectors == 3).all()
        assert not leftovers(folder.parent)
        if disk.calls < n:
            assert n > 30
            return


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(store: Store) -> Recipe:
    """Three steps, a checkpoint at each."""
    return Recipe(
        "tiny",
        Config("bert", layers=1, width=16, heads=2, feed_forward=32, max_length=32, pad=1),
        MaskedLM(),
        str(store.path),
        budget=Budget(steps=3),
        batches=Batches(tokens=64, lengths=((0.0, 32),)),
        evaluation=Evaluation(rows=2),
        checkpoints=Checkpoints(every=1e9, steps=1),
        precision="fp32",
        attention="sdpa",
        threads=1,
        log_every=1,
    )


@pytest.fixture(scope="module")
def straight(tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    with on(Disk()):
        train(tiny, folder)
    return folder


def judged(folder: Path) -> list[tuple[str, int, float]]:
    """What the log says of losses."""
    return [
        (r["kind"], r["step"], r["terms"]["masked"]["loss"])
        for r in Run.open(folder).history
        if r["kind"] in ("step", "held_out")
    ]


def same_run(folder: Path, straight: Path) -> bool:
    newest = checkpoint.steps(straight / "checkpoints")[-1].name
    names = ["model/model.safetensors", f"checkpoints/{newest}/training.safetensors"]
    results = [json.loads((run / "result.json").read_text("utf-8"))["held_out"] for run in (folder, straight)]
    return (
        all((folder / name).read_bytes() == (straight / name).read_bytes() for name in names)
        and results[0] == results[1]
        and judged(folder) == judged(straight)
    )


def test_a_run_goes_on_to_the_same_bits_wherever_it_ended(tiny: Recipe, tmp_path: Path, straight: Path):
    """Calls spread over a whole run, from its folder to its result, each with another fault; the same call resumes."""
    total = calls(lambda: train(tiny, tmp_path / "counted"))
    for n, fault in zip(np.linspace(1, total, 21).astype(int).tolist(), cycle(FAULTS), strict=False):
        folder = tmp_path / str(n)
        with on(Disk(fault, n)):
            train(tiny, folder)
        with on(Disk()):
            train(tiny, folder)
        assert same_run(folder, straight), (n, fault)
        assert not leftovers(folder), (n, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_ends_leaves_its_model_whole_and_its_result_last(
    tiny: Recipe, straight: Path, tmp_path: Path, fault: str
):
    run, session, folder = Run.open(straight), build(tiny), tmp_path / "run"
    for n in count(1):
        with on(Disk()), RunFolder(folder, tiny) as place:
            place.rewind(0)
        with on(Disk(fault, n)) as disk, RunFolder(folder, tiny) as place:
            place.finish(run, session)
        found = contents(folder / "model")
        assert not (folder / "result.json").exists() or (folder / "model" / "README.md").exists()
        with on(Disk()), RunFolder(folder, tiny) as place:
            place.finish(run, session)
        whole = contents(folder / "model")
        assert not found or found == whole
        assert json.loads((folder / "result.json").read_text("utf-8")) == run.result
        assert not leftovers(folder)
        if disk.calls < n:
            assert n > 30
            return
        for name in ("result.json", "recipe.json", "log.jsonl", ".lock", *(f"model/{name}" for name in whole)):
            (folder / name).unlink()
        for place in sorted(folder.rglob("*"), reverse=True):
            place.rmdir()


def test_a_fine_tuned_folder_goes_on_too(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("masklab.training.precision.fastest", lambda *_, **__: "sdpa")  # not by the clock
    table = tmp_path / "t.tsv"
    table.write_text("text\tlabel\n" + "it works\tgood\nit fails\tbad\n" * 4, "utf-8")
    task = Classify(str(table), ("text",), "label")

    def teach(folder: Path) -> None:
        finetune(task, straight / "model", table, folder, least=2, epochs=0.1, precision="fp32", threads=1)

    total = calls(lambda: teach(tmp_path / "straight"))
    wanted = contents(tmp_path / "straight")
    for back, fault in zip((total // 2, 40, 14, 10, 6, 3, 1), FAULTS, strict=True):
        folder = tmp_path / f"{back}"
        with on(Disk(fault, total - back)):
            teach(folder)
        with on(Disk()):
            teach(folder)
        found = contents(folder)
        for name in ("model/model.safetensors", "scores.json", "predictions.tsv"):
            assert found[name] == wanted[name], (back, fault)
        assert not leftovers(folder)


# --- preparing a corpus ----------------------------------------------------------------------------------------------


def test_a_preparation_goes_on_to_the_same_bytes_wherever_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Calls spread over a whole preparation; an older corpus of that name stays whole until the new one is."""
    monkeypatch.setattr(keep_text, "_BLOCK", 4000)
    monkeypatch.setattr(keep_text, "_FEW", 1500)
    monkeypatch.setattr(tokens, "_JOB", 1)
    monkeypatch.setattr(Work, "due", lambda self: True)
    monkeypatch.setattr("masklab.corpus.prepare._note_cost", lambda work, folder, workers: None)  # times differ
    texts = [f"The {word} of a river runs over {word} stones and never stops. " * 9 for word in "abcdefghijklmnop"]
    tokenizer = train_wordpiece(texts, 60)

    def make(folder: Path, some: list[str] = texts) -> None:
        prepare(some, folder, tokenizer, held_out=0.1, workers=1)

    total = calls(lambda: make(tmp_path / "straight"))
    wanted = contents(tmp_path / "straight")
    for n, fault in zip(np.linspace(1, total, 14).astype(int).tolist(), cycle(FAULTS), strict=False):
        folder = tmp_path / f"at{n}" / "corpus"
        with on(Disk()):
            make(folder, texts[:2])
        old = contents(folder)
        with on(Disk(fault, n)):
            make(folder)
        gc.collect()  # what the dead process held, its lock too
        Store(folder)
        assert contents(folder) in (old, wanted), (n, fault)
        with on(Disk()):
            make(folder)
        assert contents(folder) == wanted, (n, fault)
        assert not leftovers(folder.parent), (n, fault)
