"""The built-in corpus: docstrings read without importing anything, each with its origin, in a fixed order."""

import sys
from itertools import islice

import numpy as np
import pytest

from masklab.corpus import builtin
from masklab.corpus.duplicates import Shingles, leak
from masklab.corpus.held_out import choose


def test_a_small_package(tmp_path, monkeypatch):
    words = "word " * 20
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text(f'"""Module\n\n    {words}"""\nraise SystemError("imported")\n')
    code = f'class A:\n    """Class {words}"""\n    def f(self):\n        """Method\n          {words}"""\n'
    code += f'def g():\n    """Method\n  {words}"""\ndef h():\n    r"""short \\d"""\n'
    (tmp_path / "pkg" / "a.py").write_text(code)
    (tmp_path / "pkg" / "bad.py").write_text("def (")
    listed = [("pkg", "__init__.py"), ("pkg.a", "a.py"), ("pkg.bad", "bad.py")]
    monkeypatch.setattr(
        builtin, "modules", lambda name: [(m, tmp_path / "pkg" / f) for m, f in listed if name == "dist"]
    )
    monkeypatch.setattr(builtin, "_topics", lambda: iter([]))
    said = []
    found = list(builtin.documents(["dist"], say=said.append))
    assert [d.source for d in found] == ["dist/pkg:", "dist/pkg.a:A", "dist/pkg.a:A.f"]  # g says what A.f says
    assert [d.text.split("\n")[0] for d in found] == ["Module", "Class " + words.strip(), "Method"]
    assert [d.line for d in found] == [1, 2, 4]
    assert (builtin.package(found[1]), builtin.module(found[1])) == ("dist", "pkg.a")
    assert "1 source files could not be parsed" in said[0]


def test_installed_packages_in_order_and_not_imported():
    before = set(sys.modules)
    found = [d for name in ("rich", "typer") for module, path in islice(builtin.modules(name), 40)
             for d in builtin._docstrings(f"{name}/{module}", path) or []]  # fmt: skip
    assert {builtin.package(d) for d in found} == {"rich", "typer"}
    assert all(len(d.text) > 0 for d in found)
    assert set(sys.modules) == before
    assert [m for m, _ in builtin.modules("rich")] == sorted(m for m, _ in builtin.modules("rich"))
    assert not any(".tests." in m or m.startswith("test.") for m, _ in islice(builtin.modules("python"), 2000))
    assert {"torch", "numpy"} <= set(builtin.dependencies())


@pytest.fixture(scope="module")
def some() -> list:
    """Two repetitive packages: enough for the split to matter, read in about two seconds."""
    wanted = [(n, m, p) for n in ("numpy", "matplotlib") for m, p in builtin.modules(n) if len(m.split(".")) < 4]
    known: set[str] = set()
    return [d for n, m, p in wanted[:250] for d in builtin._fresh(builtin._docstrings(f"{n}/{m}", p) or [], known)]


def test_the_held_out_docstrings_do_not_leak(some):
    texts = [d.text for d in some]
    assert len(texts) > 500
    found = Shingles()
    found.add(texts)
    digests = [text.encode() for text in texts]

    def measured(groups) -> float:
        held = np.zeros(len(texts), bool)
        held[choose(digests, groups, np.bincount(groups, minlength=len(texts)), 0.05, 0)] = True
        assert 0.04 < held.mean() <= 0.051
        return leak((t for t, h in zip(texts, held, strict=True) if not h),
                    (t for t, h in zip(texts, held, strict=True) if h))  # fmt: skip

    grouped = measured(found.groups())
    assert grouped < 0.03
    assert measured(found.groups(common=0)) > 2 * grouped
