"""Files that are either wholly there or not there at all: write under a temporary name, fsync, rename."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def sync(path: Path) -> None:
    """Ask the disk to keep a file's bytes, or a folder's names, before anything that relies on them happens."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path`; on a clean exit it takes the name `path`, on an error it vanishes.

    >>> with atomic_write(folder / "config.json", "w") as file:
    ...     file.write("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Fill a temporary neighbour folder; on a clean exit it replaces `path`, on an error it vanishes.

    A folder that was there before stays whole, under its own name or (for the instant between two renames) as
    `.NAME.old`, which `settle` puts back after a crash.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        put_in_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        settle(path)
        raise


def put_in_place(folder: Path, path: Path) -> None:
    """Flush a finished folder to disk, then let it take the name `path`, in place of what has it now."""
    old = path.with_name(f".{path.name}.old")
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))
    settle(path)
    if path.exists():
        os.replace(path, old)  # a folder cannot be renamed onto a full one
    os.replace(folder, path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def settle(path: str | Path) -> None:
    """Undo what a crash inside `atomic_folder` may have left: bring the old folder back if the new one never came."""
    path = Path(path)
    old = path.with_name(f".{path.name}.old")
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        if not _alive(leftover):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _alive(temporary: Path) -> bool:
    """Is the process that writes this temporary name still running?"""
    pid = int(temporary.suffixes[-2][1:])
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
