"""A file or folder is there whole or not at all, whatever call fails."""

import errno
import os
from pathlib import Path

import pytest

from masklab import files


class Fault(OSError):
    pass


def failing_after(monkeypatch: pytest.MonkeyPatch, name: str, calls: int) -> None:
    """The `calls`-th os.NAME from now on raises."""
    real = getattr(os, name)
    left = [calls]

    def fake(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            raise Fault(name)
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, fake)


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    path = tmp_path / "config.json"
    path.write_text("old")
    failing_after(monkeypatch, name, 1)
    with pytest.raises(Fault), files.atomic_write(path, "w") as file:
        file.write("new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_an_error_inside_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), files.atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("call", range(1, 12))
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_folder_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int):
    """Whichever fsync or rename fails: after `settle` the folder is the old one or the new one, whole."""
    path = tmp_path / "model"
    with files.atomic_folder(path) as new:
        (new / "a").write_text("old")
        (new / "b").write_text("old")
    failing_after(monkeypatch, name, call)
    try:
        with files.atomic_folder(path) as new:
            (new / "a").write_text("new")
            (new / "b").write_text("new")
    except Fault:
        pass
    monkeypatch.undo()
    files.settle(path)
    assert (path / "a").read_text() == (path / "b").read_text() in ("old", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_leftovers_of_dead_processes_are_swept(tmp_path: Path):
    """What nobody holds a lock on goes; what is being written, and what has another name, stays."""
    (tmp_path / ".model.0123abcd.tmp").mkdir()
    (tmp_path / ".model.0123abcd.tmp" / "half").write_text("")
    for other in (".model.notes.tmp", ".other.0123abcd.tmp"):
        (tmp_path / other).write_text("")
    with files.atomic_folder(tmp_path / "model") as new:
        (new / "a").write_text("")
        files.settle(tmp_path / "model")
        files.sweep(tmp_path, "model")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            [".model.notes.tmp", ".other.0123abcd.tmp", new.name]
        )
    files.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".model.notes.tmp", "model"]
    assert (tmp_path / "model" / "a").exists()


def test_what_the_system_refuses_is_one_line_with_a_cure():
    full = OSError(errno.ENOSPC, "No space left on device", "/d/.step-4.0123abcd.tmp/.a.json.0123abcd.tmp")
    assert files.explained(full) == "/d/step-4/a.json: No space left on device; make room there"
    assert files.explained(files.named(OSError(errno.EIO, "Input/output error"), Path("a"))).startswith(
        "a: Input/output"
    )
