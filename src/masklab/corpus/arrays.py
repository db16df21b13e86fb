"""A .npy file that grows: rows are appended as they come, and its length is written when it is known.

What has been flushed to disk can be taken up again after a crash, at any length that was noted elsewhere.
"""

import os
from pathlib import Path
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
        self._file: IO[bytes] = path.open("r+b" if keep else "wb")
        if keep:
            self._file.truncate(_HEADER + keep * self._row)
            self._file.seek(0, os.SEEK_END)
        else:
            self._file.write(bytes(_HEADER))

    def __len__(self) -> int:
        return self._count

    def add(self, rows: np.ndarray) -> None:
        rows = np.ascontiguousarray(rows, self.dtype).reshape(-1, *self._shape())
        self._file.write(rows.data)
        self._count += len(rows)

    def flush(self) -> int:
        """Give all to the system, which need not have it on disk yet: the file's descriptor, to be synced."""
        self._file.flush()
        return self._file.fileno()

    def sync(self) -> None:
        """On disk, whatever happens next."""
        os.fsync(self.flush())

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
