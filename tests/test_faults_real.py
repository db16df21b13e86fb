"""Full and forbidden disks as the system makes them, and data that vanishes: one line that names file and cure.

Each run then goes on by the same command, when the cause is gone, to the bits of a run that nothing happened to.
"""

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from masklab.cli import app
from masklab.cli.common import recipe_as_asked
from masklab.corpus.arrays import write_array
from masklab.corpus.prepare import prepare
from masklab.corpus.store import Store
from masklab.errors import BadInput
from masklab.training import checkpoint
from masklab.training.feed import Feed
from masklab.training.loop import train
from masklab.training.schedule import Budget, Progress

SMALL = ["model.layers=1", "model.width=32", "model.heads=2", "model.feed_forward=64", "evaluation.rows=4", "threads=1"]
SMALL += [
    "batches.tokens=256",
    "precision=fp32",
    "attention=sdpa",
    "checkpoints.steps=1",
    "log_every=1",
    "initial.kind=random",
]
NOBODY = 65534


def call(*arguments: str | Path) -> Result:
    torch.set_num_threads(1)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def pretrain(store: Path, out: Path, *more: str) -> Result:
    return call("pretrain", "bert", "embeddings=random", *SMALL, *more, "--data", store, "--out", out, "--steps", "4")


def refused(done: Result, *said: str) -> str:
    """The line that a person sees, which says this."""
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("masklab: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.endswith(lines[0] + "\n"), "nothing comes after it"
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in lines[0], lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def straight(store: Store, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("straight") / "run"
    done = pretrain(store.path, out)
    assert done.exit_code == 0, done.output
    return weights(out)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@contextmanager
def disk(where: Path, size: str) -> Iterator[Path]:
    """A disk of this size, if this user may make one."""
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], capture_output=True)
    if made.returncode:
        pytest.skip("only root may mount")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def change(where: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", where], check=True)


def test_a_disk_that_is_full_or_read_only_ends_a_run_that_goes_on(store: Store, straight: bytes, tmp_path: Path):
    with disk(tmp_path / "disk", "900k") as where:
        out = where / "run"
        refused(pretrain(store.path, out), "No space left on device; make room there", f"masklab resume {out}", "step")
        change(where, "size=20m,ro")
        refused(call("resume", out), str(out), "Read-only file system")
        change(where, "rw")
        done = call("resume", out)
        assert done.exit_code == 0, done.output
        assert weights(out) == straight
        assert not [p for p in where.rglob(".*") if p.name != ".lock"]


def test_a_full_disk_under_a_preparation(tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The river runs over {n} stones and never stops for {n} days." for n in range(400)))

    def made(out: Path) -> Result:
        return call("prepare", text, "--out", out, "--vocabulary", "100", "--workers", "1")

    with disk(tmp_path / "disk", "60k") as where:
        refused(made(where / "corpus"), "No space left on device; make room there; then run the same again")
        change(where, "size=20m")
        assert made(where / "corpus").exit_code == 0
        assert made(tmp_path / "straight").exit_code == 0
        stores = [Store(folder) for folder in (where / "corpus", tmp_path / "straight")]
        assert stores[0].hash == stores[1].hash
        assert [p.name for p in where.iterdir()] == ["corpus"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_arrays_say_why_they_cannot_be_written(tmp_path: Path):
    """numpy's own writing raises an error without a number, which says nothing of the cause."""
    array = np.arange(12.0).reshape(3, 4).T
    np.save(tmp_path / "a.npy", array)
    with open(tmp_path / "b.npy", "wb") as file:
        write_array(file, array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    with pytest.raises(OSError, match="No space left on device"), open("/dev/full", "wb") as file:
        write_array(file, np.zeros(100_000))


def test_a_limit_on_the_size_of_files(store: Store, straight: bytes, tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        done = pretrain(store.path, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(done, "File too large; lift the limit on the size of files (ulimit -f)", "no checkpoint was written yet")
    assert pretrain(store.path, tmp_path / "run").exit_code == 0
    assert weights(tmp_path / "run") == straight


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_permission(store: Store):
    place = Path(tempfile.mkdtemp())  # which others may look into, unlike tmp_path
    try:
        shutil.copytree(store.path, place / "corpus")
        for found in (place, *place.rglob("*")):
            found.chmod(0o755)
        with somebody_else():
            done = pretrain(place / "corpus", place / "run")
        refused(done, f"{place}/run: Permission denied; change its permissions, or name another")
        assert not (place / "run").exists()
    finally:
        shutil.rmtree(place)


# --- data that is not what it was ------------------------------------------------------------------------------------


@pytest.fixture
def corpus(store: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store.path, tmp_path / "corpus"))


@pytest.fixture
def begun(corpus: Path, tmp_path: Path) -> Path:
    """A run of which one step of four is made."""
    out = tmp_path / "run"
    assert pretrain(corpus, out, "evaluation.every=1.0").exit_code == 0
    shutil.rmtree(out / "model")
    (out / "result.json").unlink()
    for later in checkpoint.steps(out / "checkpoints")[1:]:
        shutil.rmtree(later)
    return out


def test_a_corpus_cut_short_gone_or_changed_between_run_and_resume(begun: Path, corpus: Path, store: Store):
    ids = store.folder.relative_to(store.path) / "train" / "ids.npy"
    whole = (corpus / ids).read_bytes()
    (corpus / ids).write_bytes(whole[:-100])
    refused(call("resume", begun), f"{corpus / ids} is missing or cut short; prepare the corpus again")
    (corpus / ids).unlink()
    refused(call("resume", begun), f"{corpus / ids} is missing or cut short; prepare the corpus again")
    away = corpus.rename(corpus.with_name("away"))
    refused(call("resume", begun), f"{corpus}, are not in reach")
    prepare(list(store.texts())[:-1], corpus, store.tokenizer, held_out=0.08)
    refused(call("resume", begun), f"{corpus}: is not what this run has read up to step", "put that back")
    shutil.rmtree(corpus)
    away.rename(corpus)
    (corpus / ids).write_bytes(whole)
    assert call("resume", begun).exit_code == 0


def test_a_corpus_that_is_removed_while_a_run_reads_it_goes_on_to_be_read(
    corpus: Path, straight: bytes, tmp_path: Path
):
    recipe = recipe_as_asked("bert", str(corpus), None, Budget(steps=4), ["embeddings=random", *SMALL])

    def remove(record: dict) -> None:
        if record["kind"] == "step" and corpus.exists():
            shutil.rmtree(corpus)

    train(recipe, tmp_path / "run", remove)
    assert weights(tmp_path / "run") == straight


def test_a_corpus_that_is_cut_short_while_a_run_reads_it(corpus: Path, straight: bytes, tmp_path: Path):
    """Looked at before each batch: the system would end the process without a word."""
    store = Store(corpus)
    recipe = recipe_as_asked("bert", str(corpus), None, Budget(steps=4), ["embeddings=random", *SMALL])
    part = store.part("train")
    feed = Feed(recipe, part, Progress(4, recipe.budget, []), 0)
    assert feed.next()
    feed.close()
    os.truncate(store.folder / "train" / "ids.npy", 200)
    feed = Feed(recipe, part, Progress(4, recipe.budget, []), 1)
    with pytest.raises(BadInput, match=r"ids\.npy was cut short while it was read; put it back"):
        feed.next()
    feed.close()


def test_damaged_checkpoints(begun: Path):
    """A damaged one of a later step stands in nobody's way; when none is whole, the run says so and stays as it is."""
    first = checkpoint.steps(begun / "checkpoints")[-1]
    later = shutil.copytree(first, first.with_name("step-00000099"))
    (later / "training.json").write_text("{}")
    done = call("resume", begun)
    assert done.exit_code == 0
    assert "step-00000099: training.json has changed since it was written; using the checkpoint before" in done.stderr
    assert [p.name for p in checkpoint.steps(begun / "checkpoints")] == ["step-00000003", "step-00000004"]
    (begun / "result.json").unlink()
    log = (begun / "log.jsonl").read_bytes()
    for one in checkpoint.steps(begun / "checkpoints"):
        (one / "training.safetensors").write_bytes(b"")
    refused(call("resume", begun), "step-00000004: training.safetensors has changed", "restore one from a copy")
    assert (begun / "log.jsonl").read_bytes() == log
