"""Kernels are compiled again when anything they are made of changed, cached where that is allowed, and it is said."""

import os
import tempfile
import threading
from pathlib import Path

import pytest
from numba.core import config

from masklab.word_vectors import compiling, tiled
from masklab.word_vectors.compiling import announced, inlined, kernel


def test_a_kernel_depends_on_every_file_that_it_is_made_of():
    files = {Path(file).name for file in compiling._files(tiled.skipgram.py_func)}
    assert {"tiled.py", "tiles.py", "sampling.py"} <= files  # its own, its building blocks', its draws'
    stamped = {Path(file).name for file, _ in tiled.skipgram._cache._cache_file._source_stamp}
    assert stamped == files


def test_pieces_are_part_of_the_kernels_that_call_them():
    @inlined
    def double(x):
        return 2 * x

    def twice(x):
        return double(double(x))

    assert kernel(twice)(3) == 12


def test_where_nothing_can_be_written_the_cache_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = Path(compiling._temporary())
    assert folder.parent == tmp_path
    assert compiling._temporary() == str(folder)  # found again by the next run
    if hasattr(os, "getuid"):
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.rmdir()
        folder.symlink_to(tmp_path)  # somebody else's doing: what lies there would be executed
        assert compiling._temporary() != str(folder)


def test_a_read_only_install_still_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(config, "CACHE_DIR", "", raising=False)
    from numba.core import caching

    def refused(*arguments: object) -> None:
        raise OSError("read-only")

    for locator in ("InTreeCacheLocator", "UserWideCacheLocator"):
        monkeypatch.setattr(getattr(caching, locator), "ensure_cache_path", refused)

    def plus_one(x):
        return x + 1

    assert kernel(plus_one)(1) == 2
    assert list(tmp_path.rglob("*.nbi"))


@pytest.mark.parametrize("long", [True, False])
def test_compiling_is_said_if_it_takes_long(long):
    told, said = [], threading.Event()

    def watch(record: dict[str, object]) -> None:
        told.append(record)
        said.set()

    with announced(watch, after=0.01 if long else 60):
        if long:
            assert said.wait(10)
    assert told == ([{"kind": "compiling"}] if long else [])
    with announced(None):  # nobody listens
        pass
