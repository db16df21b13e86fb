"""The demo, small enough for a minute: every part is there, a second call reuses it, Ctrl-C loses nothing."""

import io
import json
import re
import time
from pydoc_data.topics import topics

import pytest
from rich.console import Console

from masklab.corpus.read import Document
from masklab.corpus.store import Store
from masklab.demo import main
from masklab.demo.data import SHARED
from masklab.demo.passages import prose, windows
from masklab.errors import BadInput
from masklab.tasks.casing import derive
from masklab.tasks.table import read_table, read_tagged

SMALL = ("model.layers=1", "model.width=32", "model.heads=2", "model.feed_forward=64", "batches.tokens=512",
         "evaluation.rows=16", "threads=1", "precision=fp32")  # fmt: skip


@pytest.fixture(scope="module")
def documents():
    """The topics of the Python documentation, dealt to eight packages of three modules each."""
    return [Document(text, f"package{i % 8}/module{i % 24}:{name}") for i, (name, text) in enumerate(topics.items())]


@pytest.fixture(scope="module")
def place(tmp_path_factory, documents):
    """A finished demo that was interrupted by Ctrl-C after three runs of fine-tuning."""
    folder, real, seen = tmp_path_factory.mktemp("demo") / "run", main.compare, []

    def compare(*arguments):
        for line in real(*arguments):
            seen.append(line)
            yield line
            if len(seen) == 3:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "compare", compare)
        with pytest.raises(KeyboardInterrupt):
            _demo(folder, documents)
    assert _lines(folder) == seen
    _demo(folder, documents)
    assert _lines(folder)[:3] == seen
    return folder


def _lines(folder):
    return [json.loads(line) for line in (folder / "fine-tuning.jsonl").read_text().splitlines()]


def _demo(folder, documents):
    console = Console(file=io.StringIO(), width=80)
    found = main.demo(0.03, folder, documents=documents, changes=SMALL, console=console)
    return found, console.file.getvalue()  # type: ignore[attr-defined]


def test_everything_is_there(place):
    for name in (
        "report.html",
        "summary.json",
        "loss.png",
        "score.png",
        "pretrain/model/config.json",
        "corpus/store.json",
    ):
        assert (place / name).stat().st_size > 100, name
    page = (place / "report.html").read_text()
    assert page.count("<svg") == 2
    assert not re.search(r'(?:href|src)="(?!#)|url\((?!#)|@import', page)
    found = json.loads((place / "summary.json").read_text())
    assert len(found["gaps"]) == 10
    row = found["tasks"]["casing"]["rows"][0]
    assert {len(scores) for scores in row["scores"].values()} == {found["tasks"]["casing"]["seeds"]}
    assert found["tasks"]["package"]["linear"]


def test_a_second_call_runs_nothing_again(place, documents, monkeypatch):
    monkeypatch.setattr(main, "prepare", None)
    monkeypatch.setattr(main, "train", None)
    monkeypatch.setattr("masklab.demo.compare.train", None)
    before, began = (place / "fine-tuning.jsonl").read_text(), time.monotonic()
    _, screen = _demo(place, documents)
    assert (place / "fine-tuning.jsonl").read_text() == before
    assert time.monotonic() - began < 20
    assert "Restoring case and punctuation" in screen


def test_test_passages_are_held_out_and_no_labelled_one_is_like_them(place):
    store = Store(place / "corpus")
    test, train = (read_tagged(place / "casing" / f"{part}.tsv") for part in ("test", "train"))

    def runs(sentences):
        return {tuple(words[i : i + SHARED]) for words in sentences for i in range(len(words) - SHARED + 1)}

    assert not runs(test.words) & runs(train.words)

    def passages(part):
        derived = (derive(" ".join(prose(text)))[0] for text in store.texts(part))
        return {tuple(words[a:b]) for words in derived for a, b in windows(words)}

    drawn = {tuple(words) for words in test.words + train.words}
    assert drawn <= passages("held_out")
    assert not drawn & passages("train")


def test_no_module_is_in_two_files(place, documents):
    module = {" ".join(d.text.split()[:80]): d.source.split(":")[0] for d in documents}
    parts = [{module[text] for (text,) in read_table(place / "package" / f"{part}.tsv", ("text",), "package").texts}
             for part in ("train", "dev", "test")]  # fmt: skip
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_no_run_was_made_twice(place):
    keys = [tuple(line[k] for k in ("task", "arm", "size", "seed", "rate")) for line in _lines(place)]
    assert len(keys) == len(set(keys))


def test_another_demo_is_refused(place, documents, tmp_path):
    with pytest.raises(BadInput, match="other settings"):
        main.demo(7, place, documents=documents)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(BadInput, match="not empty"):
        main.demo(7, tmp_path, documents=documents)


def test_prose_leaves_code_and_lists_out():
    text = """Sorts a list in place.

    >>> x.sort()

The sort is stable,
as equal items keep their order.

key : callable
    What to sort by, as a function.

Use ``sorted(x)`` for a copy: it leaves x == y."""
    assert prose(text) == ["Sorts a list in place.", "The sort is stable, as equal items keep their order."]


def test_windows_leave_the_edges_out():
    assert windows(["w"] * 60) == [(3, 27), (27, 51)]
    assert windows(["w"] * 10) == []
