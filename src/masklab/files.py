"""Files that are either wholly there or not there at all: write under a temporary name, fsync, rename.

What is being written lies beside its goal as `.NAME.12ab34cd.tmp` and is locked by the process that writes it, so that
anybody can tell it from what a dead process left, and sweep that away.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_TEMPORARY = re.compile(r"\.([^/]+)\.[0-9a-f]{8}\.tmp")
_CURES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or have your quota raised",
    errno.EFBIG: "lift the limit on the size of files (ulimit -f)",
    errno.EROFS: "name a folder on a disk that may be written to",
    errno.EACCES: "change its permissions, or name another",
    errno.EPERM: "change its permissions, or name another",
    errno.EIO: "the disk itself fails: copy what it holds to another one",
    errno.ENOENT: "put it back, or name another",
    errno.EMFILE: "allow more open files (ulimit -n)",
}


def explained(error: OSError) -> str:
    """ "runs/first/log.jsonl: No space left on device; make room there": what the system refused, and the cure."""
    file = error.filename2 or error.filename
    where = "" if file is None else f"{_TEMPORARY.sub(lambda found: found[1], os.fsdecode(file))}: "
    cure = _CURES.get(error.errno or 0)
    return f"{where}{error.strerror or error}" + (f"; {cure}" if cure else "")


def named(error: OSError, path: Path) -> OSError:
    """The error, with the file that was being written if the system named none."""
    if error.filename is None and error.errno is not None:
        error.filename = str(path)
    return error


def sync(path: Path) -> None:
    """Ask the disk to keep a file's bytes, or a folder's names, before anything that relies on them happens."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network disks cannot be asked about folders
            named(error, path)
            raise
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
    sweep(path.parent, path.name)
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    temporary, file = _new_file(path, mode.replace("w", "x"), options)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            named(error, path)
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
    settle(path)
    temporary, handle = _new_folder(path)
    try:
        yield temporary
        put_in_place(temporary, path)
    except BaseException as error:
        _remove(temporary)
        settle(path)
        if isinstance(error, OSError):
            named(error, path)
        raise
    finally:
        os.close(handle)


def put_in_place(folder: Path, path: Path) -> None:
    """Flush a finished folder to disk, then let it take the name `path`, in place of what has it now."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))
    settle(path)
    old = _old(path)
    if path.exists():
        os.replace(path, old)  # a folder cannot be renamed onto a full one
    os.replace(folder, path)
    sync(path.parent)
    _throw_away(old, path)


def settle(path: str | Path) -> None:
    """Undo what a crash inside `atomic_folder` may have left: bring the old folder back if the new one never came.

    Where the disk refuses that, because it may only be read, all stays as it is.
    """
    path = Path(path)
    old = _old(path)
    if old.exists():
        if path.exists():
            _throw_away(old, path)
        else:
            with suppress(OSError):
                os.replace(old, path)
    sweep(path.parent, path.name)


def discard(path: Path) -> None:
    """Remove a folder so that nobody ever finds half of it under its name; what the disk refuses to remove stays."""
    _throw_away(path, path)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what processes that died left half written in `folder`; with a name, only what was to become that."""
    try:
        found = [(one, _TEMPORARY.fullmatch(one.name)) for one in folder.iterdir()]
    except OSError:
        return  # there is no such folder, or it may not be looked into
    for one, goal in found:
        if goal and name in (None, goal[1]):
            with suppress(OSError):  # its process lives, or removed it just now
                handle = os.open(one, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(one)
                finally:
                    os.close(handle)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    """A temporary name that nobody else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _new_file(path: Path, mode: str, options: dict[str, Any]) -> tuple[Path, IO[Any]]:
    while True:
        temporary = _beside(path)
        file = open(temporary, mode, **options)  # noqa: SIM115
        if _hold(file.fileno(), temporary):
            return temporary, file
        file.close()


def _new_folder(path: Path) -> tuple[Path, int]:
    while True:
        temporary = _beside(path)
        temporary.mkdir()
        handle = os.open(temporary, os.O_RDONLY)
        if _hold(handle, temporary):
            return temporary, handle
        os.close(handle)


def _hold(handle: int, temporary: Path) -> bool:
    """Lock what was just made; False if a sweep was faster. Where the file system knows no locks, nothing is swept."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    return temporary.exists()


def _throw_away(what: Path, path: Path) -> None:
    """Rename to rubbish of `path` first: a crash then leaves something to sweep, not half a folder with a good name."""
    with suppress(OSError):
        rubbish = _beside(path)
        os.replace(what, rubbish)
        _remove(rubbish)


def _remove(path: Path) -> None:
    """A file or a folder, as far as the disk lets us."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
