"""A corpus that every machine already has: Python's own documentation and the docstrings of installed packages.

Source files are read with `ast`, never imported, so nothing runs. One document is one object's docstring, cleaned as
`help()` does, of twenty words or more; each carries where it comes from ("package/module:name"), which makes it a
labelled corpus as well: which package, which module. The text depends on the versions installed.
"""

import ast
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from inspect import cleandoc
from pathlib import Path, PurePath

from masklab.corpus.read import Document, without_surrogates

LEAST_WORDS = 20
PYTHON = "python"  # the package name of the standard library and of the language topics
_SKIPPED = {"test", "tests", "testing", "idle_test", "site-packages", "dist-packages", "_vendor", "lib2to3"}
_Object = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documents(packages: Iterable[str] | None = None, say: Callable[[str], None] | None = None) -> Iterator[Document]:
    """Documents in a fixed order: topics, standard library, then the packages by name; no text twice.

    packages: names of installed distributions (default: those masklab depends on); "python" is always first. `say` is
    told at the end how many documents there were, and how many files could not be parsed.
    """
    known: set[str] = set()
    unreadable = 0
    for name in [PYTHON, *sorted(set(dependencies() if packages is None else packages) - {PYTHON})]:
        if name == PYTHON:
            yield from _fresh(_topics(), known)
        for module, path in modules(name):
            found = _docstrings(f"{name}/{module}", path)
            if found is None:
                unreadable += 1
            else:
                yield from _fresh(found, known)
    if say:
        say(f"built-in corpus: {len(known):,} documents; {unreadable} source files could not be parsed")


def package(document: Document) -> str:
    """Document(source="numpy/numpy.linalg:norm") -> "numpy"."""
    return document.source.split("/")[0]


def module(document: Document) -> str:
    """Document(source="numpy/numpy.linalg:norm") -> "numpy.linalg"."""
    return document.source.split("/")[1].split(":")[0]


def dependencies() -> list[str]:
    """The installed distributions among those that masklab names as its own dependencies or extras."""
    asked = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in metadata.requires("masklab") or []}
    installed = {str(found.metadata["Name"]).lower() for found in metadata.distributions() if found.metadata["Name"]}
    return sorted((asked & installed) - {"masklab"})


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """(module name, file) of a distribution's Python files in order, tests left out."""
    if package == PYTHON:
        root = Path(sysconfig.get_path("stdlib"))
        listed = {PurePath(path.relative_to(root)): path for path in root.rglob("*.py")}
    else:
        files = metadata.files(package) or []
        listed = {PurePath(str(file)): Path(str(file.locate())) for file in files if file.suffix == ".py"}
    for place in sorted(listed):
        parts = place.with_suffix("").parts
        if not _SKIPPED.intersection(parts) and all(part.isidentifier() for part in parts) and listed[place].exists():
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), listed[place]


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Document(topics[name].strip(), f"{PYTHON}/topics:{name}")


def _docstrings(where: str, path: Path) -> list[Document] | None:
    """The docstrings of a module, its classes and functions, in the order they stand in; None if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\\d" in a plain string: the author's affair
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: list[Document] = []
    waiting: list[tuple[_Object, str]] = [(tree, "")]
    while waiting:
        node, name = waiting.pop()
        text = ast.get_docstring(node, clean=False)
        if text:
            line = node.body[0].lineno
            found.append(Document(without_surrogates(cleandoc(text)).strip(), f"{where}:{name}", line))
        inside = [
            child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        waiting += [(child, f"{name}.{child.name}".lstrip(".")) for child in reversed(inside)]
    return found


def _fresh(found: Iterable[Document], known: set[str]) -> Iterator[Document]:
    for document in found:
        if len(document.text.split()) >= LEAST_WORDS and document.text not in known:
            known.add(document.text)
            yield document
