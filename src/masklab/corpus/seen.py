"""Which texts came before? Digests in sorted runs on disk, so that equal documents are found in little memory.

Runs grow by doubling (O'Neil et al. 1996, "The log-structured merge-tree"): there are about log2(n) of them, each of
them searched at once for a whole batch. Of a digest the first 128 bits count: among 10**12 documents, two different
ones would be taken for equal with a chance of 10**-15.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from masklab.corpus.arrays import reserved

_HELD = 1 << 20  # digests held in memory, 16 MB; as many make the smallest run on disk
_PARTS = 64  # merging works on so many ranges of digests, one after the other


class Seen:
    """`new(digests)` says which were never given before. A run is (2, n) uint64, sorted by its first row."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.npy"):  # of a process that was stopped: made again from the digests it kept
            left.unlink()
        self._made = 0
        self._disk: list[tuple[Path, np.ndarray]] = []  # the longest first
        self._memory: list[np.ndarray] = []

    def new(self, digests: np.ndarray) -> np.ndarray:
        """(n,) bool. digests: (n, 2) uint64; of equal ones in a batch the first is new."""
        fresh = np.zeros(len(digests), bool)
        _, first = np.unique(np.ascontiguousarray(digests).view("V16").ravel(), return_index=True)
        fresh[first] = True
        for run in self._memory + [run for _, run in self._disk]:
            place = np.minimum(np.searchsorted(run[0], digests[:, 0]), run.shape[1] - 1)
            fresh &= (digests != run[:, place].T).any(1)
        self.add(digests[fresh])
        return fresh

    def add(self, digests: np.ndarray) -> None:
        """Digests that are known to be new."""
        if not len(digests):
            return
        self._memory.append(_sorted(digests.T))
        while len(self._memory) > 1 and self._memory[-1].shape[1] * 2 > self._memory[-2].shape[1]:
            self._memory[-2:] = [_sorted(np.concatenate(self._memory[-2:], 1))]
        if sum(run.shape[1] for run in self._memory) > _HELD:
            run = _sorted(np.concatenate(self._memory, 1))
            self._memory = []
            self._disk.append(self._written([run], run.shape[1]))
            self._merge()

    def _merge(self) -> None:
        while len(self._disk) > 1 and self._disk[-1][1].shape[1] * 2 > self._disk[-2][1].shape[1]:
            files, (one, other) = zip(*self._disk[-2:], strict=True)
            edges = np.linspace(0, 2.0**64, _PARTS + 1)[1:-1].astype(np.uint64)
            a, b = ([0, *np.searchsorted(run[0], edges).tolist(), run.shape[1]] for run in (one, other))
            parts = (
                _sorted(np.concatenate([one[:, a[i] : a[i + 1]], other[:, b[i] : b[i + 1]]], 1)) for i in range(_PARTS)
            )
            self._disk[-2:] = [self._written(parts, one.shape[1] + other.shape[1])]
            for file in files:
                file.unlink()

    def _written(self, parts: Iterable[np.ndarray], size: int) -> tuple[Path, np.ndarray]:
        self._made += 1
        file = self.folder / f"{self._made}.npy"
        out = reserved(file, np.uint64, (2, size))
        at = 0
        for part in parts:
            out[:, at : at + part.shape[1]] = part
            at += part.shape[1]
        return file, out


def _sorted(digests: np.ndarray) -> np.ndarray:
    return digests[:, np.argsort(digests[0], kind="stable")]
