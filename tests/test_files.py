"""A file or folder is there whole or not at all, whatever call fails."""

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
    (tmp_path / ".model.999999999.tmp").mkdir()
    mine = tmp_path / f".model.{os.getpid()}.tmp"
    mine.mkdir()
    files.settle(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == [mine.name]
