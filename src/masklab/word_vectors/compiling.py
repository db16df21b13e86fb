"""How the word-vector kernels become machine code: compiled by numba at first use, then kept in a cache on disk.

No compiler is needed at install. A kernel is compiled for this CPU when it is first called (a few seconds, announced)
and read from the cache ever after. The cache is numba's: the folder NUMBA_CACHE_DIR names, else `__pycache__` beside
the source, else (a read-only install) the user's own cache folder, else a temporary folder.
"""

import inspect
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import numba
from numba.core import config

# fastmath lets sums be reordered, which is what fills vector registers. It also makes the compiler blind to NaN, so
# the trainer looks at the vectors itself, once an epoch (`runner.py`).
OPTIONS: Any = {"nogil": True, "fastmath": True, "boundscheck": False, "error_model": "numpy"}


def kernel(function: Callable[..., Any], fastmath: bool = True, counted: bool = True) -> Any:
    """Compile `function` for the CPU without the interpreter lock and keep the machine code on disk.

    A cached kernel is compiled again when its own file changed or the file of any kernel it calls; numba by itself
    would look at the first alone. counted=False: no references to arrays are counted inside, which costs an atomic
    instruction whenever one is handed on, and more where threads hand on the same; it cannot make arrays then.
    """
    options: Any = OPTIONS | {"fastmath": fastmath} | ({} if counted else {"_nrt": False})
    compiled: Any = numba.njit(**options)(function)
    try:
        compiled.enable_caching()
    except RuntimeError:  # neither the package nor the user's home can be written to
        setattr(config, "CACHE_DIR", _temporary())  # noqa: B010 (unknown to type checkers)
        try:
            compiled.enable_caching()
        except RuntimeError:  # a function without a source file
            return compiled
    compiled._cache._cache_file._source_stamp = sorted((f, os.stat(f).st_mtime_ns) for f in _files(function))
    return compiled


def inlined(function: Callable[..., Any]) -> Any:
    """A small piece that becomes part of every kernel that calls it."""
    return numba.njit(forceinline=True, **OPTIONS)(function)


def _temporary() -> str:
    """A cache folder of this user's own: what lies in it is executed."""
    if not hasattr(os, "getuid"):
        return tempfile.mkdtemp(prefix="masklab-numba-")
    folder = os.path.join(tempfile.gettempdir(), f"masklab-numba-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    about = os.lstat(folder)
    if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid():
        return folder
    return tempfile.mkdtemp(prefix="masklab-numba-")


def _files(function: Callable[..., Any]) -> set[str]:
    """The source files of a function and of all compiled functions and intrinsics that it reaches."""
    files, seen, waiting = set(), set(), [function]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        files.add(inspect.getfile(one))
        names = set(one.__code__.co_names)
        for value in (one.__globals__[name] for name in names if name in one.__globals__):
            inner = getattr(value, "py_func", None) or getattr(value, "_defn", None)
            if inspect.isfunction(inner):
                waiting.append(inner)
    return files


@contextmanager
def announced(watch: Callable[[dict[str, Any]], None] | None, after: float = 0.5):
    """Around the first call of a kernel: if it is not back at once it is being compiled, and `watch` is told so."""
    if watch is None:
        yield
        return
    timer = threading.Timer(after, watch, [{"kind": "compiling"}])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
