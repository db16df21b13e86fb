"""Holds the rules of the house: who imports whom, what is needed to import, and that the documents tell the truth."""

import ast
import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch
from typer.testing import CliRunner

from masklab.cli import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "masklab"
MODULES = sorted(SOURCE.rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Each part may import parts of its own line and of the lines below it.
LAYERS = [
    {"cli", "__main__"},
    {"demo"},
    {"recipes"},
    {"analysis"},
    {"tasks"},
    {"objectives"},
    {"recipe", "training"},
    {"models"},
    {"word_vectors"},
    {"corpus"},
    {"files", "errors", "rng"},
]
STRANGERS = [("models", "corpus"), ("corpus", "models"), ("models", "word_vectors")]  # not even downwards


def part(module: str) -> str:
    """ "masklab.models.hub" -> "models", "masklab" -> "" (its name and version, which all may ask)."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions; `from masklab import x` counts as masklab.x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            inside = node.module == "masklab"
            found |= {f"masklab.{alias.name}" for alias in node.names} if inside else {node.module or ""}
    return found


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path):
    ours = part("masklab." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
    if ours == "__init__":
        return
    for module in imports(path):
        theirs = part(module) if module.split(".")[0] == "masklab" else ""
        if theirs:
            assert level(ours) <= level(theirs), f"{ours} may not import {module}"
            assert (ours, theirs) not in STRANGERS, f"{ours} may not import {module}"
        if ours != "word_vectors":
            assert module.split(".")[0] not in ("numba", "llvmlite"), "numba stays in word_vectors"
        if ours == "corpus":
            assert module.split(".")[0] != "torch", "corpus works without torch"
        if ours == "objectives":
            assert module.split(".")[0] not in ("json", "csv", "gzip", "lzma"), "objectives know no file formats"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_file_says_what_it_is(path):
    text = path.read_text("utf-8")
    if text.strip():
        first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
        assert len(first) > 20, f"{path} begins with a sentence that says what it is"


CORE_ONLY = """
import importlib, importlib.abc, pkgutil, re, sys
from importlib import metadata

def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()

from packaging.requirements import Requirement
core, waiting = set(), {"masklab"}
while waiting:
    name = waiting.pop()
    core.add(name)
    for line in metadata.requires(name) or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            waiting |= {normal(wanted.name)} - core
blocked = {m for m, names in metadata.packages_distributions().items() if not {normal(n) for n in names} & core}
blocked -= {"_distutils_hack", "pip", "pkg_resources"}
assert {"transformers", "sentence_transformers", "sklearn", "scipy", "pytest"} <= blocked, blocked

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not a core dependency", name=name)

sys.meta_path.insert(0, Block())
import masklab
for found in pkgutil.walk_packages(masklab.__path__, "masklab."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print("all imported")
"""


def test_every_module_imports_with_the_core_dependencies_alone():
    done = subprocess.run([sys.executable, "-c", CORE_ONLY], capture_output=True, text=True)
    assert "all imported" in done.stdout, done.stderr


def blocks(language: str) -> list[str]:
    """The README's code of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


SMALL = ["model.layers=1", "model.width=32", "model.heads=2", "model.feed_forward=64", "evaluation.rows=8", "threads=1"]
SHORTER = {"--time 5m": "--steps 4", "--steps 2000": "--steps 4", "--step 100": "--step 2"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "mytext.txt").write_text("\n\n".join(topics[name] for name in sorted(topics)[:25]), "utf-8")
    rows = [("it works very well", "good"), ("it never works at all", "bad")] * 6
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text("sentence\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")
    words = [("the", "DET"), ("cat", "NOUN"), ("sat", "VERB")]
    lines = [f"{i}\t{word}\t_\t{tag}" + "\t_" * 6 for i, (word, tag) in enumerate(words, 1)]
    for name in ("train.conllu", "dev.conllu"):
        (folder / name).write_text(("\n".join(lines) + "\n\n") * 8, "utf-8")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_commands_of_the_readme_run(desk, monkeypatch):
    """One after the other, on a small corpus, with fewer steps and a smaller model."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one thread is enough for so little
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("masklab ")]
    names = {line.split()[1] for line in commands}
    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert names == known | {group.name for group in app.registered_groups}
    with contextlib.chdir(desk):
        for line in commands:
            for long, short in SHORTER.items():
                line = line.replace(long, short)
            arguments = shlex.split(line)[1:]
            if arguments[0] == "prepare":
                arguments += ["--vocabulary", "900", "--held-out", "0.05"]
            if arguments[0] == "pretrain" and "--again" not in arguments:
                arguments += SMALL
            done = CliRunner().invoke(app, arguments, catch_exceptions=False)
            found = arguments[0] == "doctor"  # it finds so small a corpus ill, and says so
            assert done.exit_code == found, f"{line}\n{done.output}"
            torch.set_num_threads(1)


@pytest.mark.filterwarnings("ignore")
def test_the_python_of_the_readme_runs(desk):
    first, second = blocks("python")
    assert 5 <= sum(not line.startswith(("from", "import")) and bool(line) for line in first.splitlines()) <= 10
    changes = [*SMALL, "seed=1", "budget.seconds=1.0"]
    with contextlib.chdir(desk):
        exec(first.replace('["seed=1"]', repr(changes)), {})
        torch.set_num_threads(1)
        exec(second, {})


def test_documents_leave_nothing_open():
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for word in ("TODO", "FIXME", "XXX", "TBD", "placeholder", "lorem ipsum", "/work"):
            assert word not in text, f"{path.name} still says {word}"
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (path.parent / link).exists(), f"{path.name} points at {link}"


def test_the_readme_names_every_file():
    tree = (ROOT / "README.md").read_text("utf-8").split("## Where things are")[1].split("```")[1].strip("\n")
    stack: list[str] = []
    listed = set()
    for line in tree.splitlines():
        name = line.split()[0] if line.strip() else ""
        depth = (len(line) - len(line.lstrip())) // 2
        assert len(line.split()) > 1 or name.endswith("/"), f"{name}: say what it is for"
        stack[depth:] = [name.rstrip("/")]
        listed.add("/".join(stack))
    files = {str(p.relative_to(ROOT)) for p in MODULES if p.name not in ("__init__.py", "__main__.py")}
    files |= {str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md")}
    assert files <= listed, f"the README's tree lacks {files - listed}"
    for name in listed:
        assert (ROOT / name).exists(), f"the README's tree names {name}, which is not there"


def test_what_runs_on_every_change_is_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "exec make test" in script.read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "\ndemo:" in makefile
    assert "\ntest:" in makefile
    locked = (ROOT / "constraints.txt").read_text("utf-8")
    assert re.search(r"^torch==2\.13\.0$", locked, re.MULTILINE)  # a looser pin, or a local version, costs gigabytes
    assert "://" not in locked + makefile
