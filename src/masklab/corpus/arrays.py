"""A .npy file that grows: rows are appended as they come, and its length is written when it is known.

What has been flushed to disk can be taken up again after a crash, at any length that was noted elsewhere.
"""

import os
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np

_HEADER = 128  # bytes that numpy writes before the rows of any array of one or two dimensions


class Growing:
    """Rows of one dtype, `width` numbers each: `add` them, then `close`. `len` is how many there are."""

    def __init__(self, path: Path, dtype: np.dtype | str, width: int | None = None, keep: int = 0):
        """keep: so many rows of the file that is there stay, and what lies behind them is cut off."""
        self.path, self.dtype, self.width = path, np.dtype(dtype), width
        self._row = self.dtype.itemsize * (width or 1)
        self._count = keep
        self._file = open_whole(path, bool(keep))
        if keep:
            self._file.truncate(_HEADER + keep * self._row)
            self._file.seek(0, os.SEEK_END)
        else:
            write_whole(self._file, bytes(_HEADER))

    def __len__(self) -> int:
        return self._count

    def add(self, rows: np.ndarray) -> None:
        rows = np.ascontiguousarray(rows, self.dtype).reshape(-1, *self._shape())
        write_whole(self._file, rows.tobytes())
        self._count += len(rows)

    @property
    def handle(self) -> int:
        """The file's descriptor, to be synced."""
        return self._file.fileno()

    def sync(self) -> None:
        """On disk, whatever happens next."""
        os.fsync(self.handle)

    def close(self) -> None:
        """Write the header: only now can numpy read the file. Appending may go on in another `Growing`."""
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self._count, *self._shape()),
            },
        )
        assert self._file.tell() == _HEADER
        self.sync()
        self._file.close()

    def _shape(self) -> tuple[int, ...]:
        return () if self.width is None else (self.width,)


def write_array(file: IO[bytes], array: np.ndarray) -> None:
    """What np.save writes, by the file's own `write`: numpy's way past Python forgets why a disk refused."""
    np.lib.format.write_array(SimpleNamespace(write=file.write), array, allow_pickle=False)  # type: ignore[arg-type]


def reserved(path: Path, dtype: np.dtype | str | type, shape: tuple[int, ...]) -> np.memmap:
    """A new array in a file, mapped into memory. Its room on the disk is taken at once: where a page finds none when it
    is written, the system ends the process without a word."""
    made = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return made


def open_whole(path: Path, keep: bool) -> FileIO:
    """A file to write to without a buffer: else what is in the buffer when work ends by an error would be written when
    Python throws the buffer away, which may be when the same file is being written anew."""
    return FileIO(path, "r+b" if keep else "wb")


def write_whole(file: FileIO, data: bytes) -> None:
    """All of it; the system may take less at a time."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]
