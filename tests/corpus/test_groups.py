"""Groups that a user names: none is ever divided by the held-out split, from whatever format, also after a kill."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from masklab.cli import app
from masklab.corpus import keep_text, prepare
from masklab.corpus.document import Document
from masklab.corpus.held_out import choose
from masklab.corpus.prepare import summary
from masklab.corpus.read import documents
from masklab.corpus.store import Store
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.corpus.work import Work
from masklab.errors import BadInput

AUTHORS = ["Ann", "Bo", "Änne", "李白", ""]
ROWS = [(f"Text number {i} speaks of {i * 7} moons, and of {i * i} suns.", AUTHORS[i % 5]) for i in range(40)]
TOKENIZER = train_wordpiece([text for text, _ in ROWS], 100)


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def made(texts, folder: Path, **options) -> Store:
    return prepare.prepare(texts, folder, TOKENIZER, **{"held_out": 0.2, "workers": 1, **options})


def sides(store: Store) -> dict[str, set[bool]]:
    """On which sides the documents of each group stand."""
    found: dict[str, set[bool]] = {}
    for number in range(len(store)):
        group = store.document(number).group
        found.setdefault(group or f"alone {number}", set()).add(bool(store.held_out[number]))
    return found


# --- the choice ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=2, max_size=300), st.floats(0.01, 0.6), st.integers(0, 3), st.booleans())
def test_no_group_is_divided_and_the_share_is_as_near_as_groups_allow(names, share, seed, chains):
    names = [name // 10 if chains else name for name in names]
    firsts = np.array([names.index(name) for name in names])
    sizes = np.bincount(firsts, minlength=len(firsts))
    chosen = choose([b"%d" % i for i in range(len(names))], firsts, sizes, share, seed)
    held = np.zeros(len(names), bool)
    held[chosen] = True
    assert (held[firsts] == held).all()
    groups = sizes[sizes > 0]
    if len(groups) > 1:
        assert 0 < held.sum() < len(names)
        budget = max(1, round(share * len(names)))
        taken = sizes[np.flatnonzero(held & (sizes > 0))]
        # at most one group too many or too few, whichever is nearer
        assert abs(held.sum() - budget) <= max(groups) / 2 or len(taken) in (1, len(groups) - 1)


def test_many_like_groups_give_the_share_that_was_asked():
    firsts = np.repeat(np.arange(0, 10_000, 100), 100)  # a hundred authors of a hundred documents
    sizes = np.bincount(firsts)
    digests = [b"%d" % i for i in range(10_000)]
    for share in (0.01, 0.05, 0.3):
        assert len(choose(digests, firsts, sizes, share, 0)) == share * 10_000


def test_one_large_group_stays_in_training():
    firsts = np.array([0] * 90 + list(range(90, 100)))
    assert choose([b"%d" % i for i in range(100)], firsts, np.bincount(firsts), 0.05, 0).min() >= 90


# --- from files ------------------------------------------------------------------------------------------------------


def as_json_lines(folder: Path) -> Path:
    file = folder / "rows.jsonl"
    rows = [{"text": text, "author": author or None, "year": 1900 + i % 3} for i, (text, author) in enumerate(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def as_json(folder: Path) -> Path:
    file = folder / "rows.json"
    file.write_text(json.dumps([{"author": author, "text": text} for text, author in ROWS], indent=1), "utf-8")
    return file


def as_csv(folder: Path) -> Path:
    file = folder / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("author", "n", "text"), *((author, 3, text) for text, author in ROWS)])
    return file


def as_tsv(folder: Path) -> Path:
    file = folder / "rows.tsv"
    file.write_text("text\tauthor\n" + "".join(f"{text}\t{author}\n" for text, author in ROWS), "utf-8")
    return file


def as_parquet(folder: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    authors = pa.array([author or None for _, author in ROWS]).dictionary_encode()
    table = pa.table({"text": [text for text, _ in ROWS], "n": range(len(ROWS)), "author": authors})
    parquet.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


FORMATS = [as_json_lines, as_json, as_csv, as_tsv, as_parquet]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_carries_groups(write, tmp_path):
    file = write(tmp_path)
    assert [(d.text, d.group) for d in documents(file, group="author")] == ROWS
    assert {d.group for d in documents(file)} == {""}
    with pytest.raises(BadInput, match=r"rows\.\w+.*no (field|column) 'writer'.*author.*--group") as caught:
        documents(file, group="writer")
    assert "\n" not in str(caught.value)


def test_the_hub_carries_groups(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"text": text, "author": author} for text, author in ROWS])
    rows.save_to_disk(str(tmp_path / "saved"))
    name = f"hub:{tmp_path / 'saved'}"
    assert [(d.text, d.group) for d in documents(name, group="author")] == ROWS


def test_numbers_are_groups_and_other_things_are_not(tmp_path):
    file = as_json_lines(tmp_path)
    assert [d.group for d in documents(file, group="year")][:4] == ["1900", "1901", "1902", "1900"]
    file.write_text('{"text": "a", "author": "x"}\n{"text": "b", "author": ["x", "y"]}\n')
    with pytest.raises(BadInput, match=r"line 2: field 'author' is list; --group names one of text or whole numbers"):
        list(documents(file, group="author"))
    file.write_text('{"text": "a", "author": "x"}\n{"text": "b"}\n')
    with pytest.raises(BadInput, match=r"line 2: no field 'author'; the fields there are: text"):
        list(documents(file, group="author"))
    file.write_text('"a"\n"b"\n')
    with pytest.raises(BadInput, match=r"""line 1: not a JSON object; each must be like .*"author": "..."}"""):
        documents(file, group="author")


def test_columns_by_number_and_files_as_groups(tmp_path):
    table = tmp_path / "bare.tsv"
    table.write_text("".join(f"{author}\t{text}\n" for text, author in ROWS), "utf-8")
    assert [(d.text, d.group) for d in documents(table, text_field="2", group="1")] == ROWS
    table.write_text("author\ttext\n" + "".join(f"{author}\t{text}\n" for text, author in ROWS), "utf-8")
    assert [(d.text, d.group) for d in documents(table, text_field="2", group="author")] == ROWS
    plain = tmp_path / "plain.txt"
    plain.write_text("One line.\nAnother line.\n")
    with pytest.raises(BadInput, match=r"plain.txt: read as one document a line, so there is no field 'author'.*@file"):
        documents(plain, group="author")
    assert [d.group for d in documents([plain, table], text_field="2", group="@file")][1:4] == [
        str(plain), str(table), str(table)
    ]  # fmt: skip


# --- in a corpus -----------------------------------------------------------------------------------------------------


def test_groups_and_near_duplicates_together_stay_on_one_side(tmp_path):
    words = [" ".join(f"w{(i * 37 + k * k) % 997}" for k in range(60)) for i in range(60)]
    texts = [Document(text, group=f"g{i % 20}") for i, text in enumerate(words)]
    texts += [Document(words[0] + " anew", group="g7"), Document(words[5] + " anew")]  # g0 and g7 share a text
    store = made(texts, tmp_path / "c")
    found = sides(store)
    assert all(len(side) == 1 for side in found.values())
    assert found["g0"] == found["g7"]
    assert store.held_out[61] == store.held_out[5]
    assert 9 <= store.held_out.sum() <= 15
    groups = store.description["groups"]
    assert groups["count"] == 20
    assert groups["without"] == 1
    assert groups["documents_of_largest"] == 4
    assert groups["largest_with_near_duplicates"] == 7
    assert groups["held_out"] == sum(side == {True} for name, side in found.items() if name.startswith("g"))
    assert any(line.startswith("20 groups by group, the largest, “g7”, of 4; ") for line in summary(store))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b", "ü", "c\ud800", " a "]), min_size=2, max_size=40), st.integers(0, 5))
def test_any_groups_in_a_corpus(tmp_path_factory, names, seed):
    texts = [Document(ROWS[i % 40][0] + f" {i}", group=name) for i, name in enumerate(names)]
    if any(name == "c\ud800" for name in names):
        texts = [text._replace(group=text.group.replace("\ud800", "")) for text in texts]
    store = made(texts, tmp_path_factory.mktemp("any") / "c", held_out=0.3, seed=seed)
    assert [store.document(i).group for i in range(len(store))] == [text.group for text in texts]
    assert all(len(side) == 1 for side in sides(store).values())


def test_names_are_sorted_in_parts_to_the_same_end(tmp_path, monkeypatch):
    texts = [Document(text, group=f"{i % 7}") for i, (text, _) in enumerate(ROWS)]
    whole = made(texts, tmp_path / "one")
    monkeypatch.setattr(keep_text, "_AT_ONCE", 5)
    monkeypatch.setattr(keep_text, "_SLAB", 3)
    parts = made(texts, tmp_path / "two")
    assert (parts.held_out == whole.held_out).all()
    assert parts.description["groups"] == whole.description["groups"]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "preparation.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("after", [1, 3, 4])
def test_killed_and_run_again_gives_the_same_bytes(after, tmp_path, monkeypatch):
    file = as_json_lines(tmp_path)
    straight = made(documents(file, group="author"), tmp_path / "straight")
    monkeypatch.setattr(keep_text, "_BLOCK", 300)
    monkeypatch.setattr(keep_text, "_FEW", 100)
    straight = made(documents(file, group="author"), tmp_path / "straight")
    commit, left = Work.commit, after

    def killed(self, **state):
        nonlocal left
        commit(self, **state)
        left -= 1
        if not left:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Work, "commit", killed)
        patch.setattr(Work, "due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            made(documents(file, group="author"), tmp_path / "again")
    said: list[str] = []
    again = made(documents(file, group="author"), tmp_path / "again", say=said.append)
    assert said[0].startswith("going on")
    assert contents(again.path) == contents(straight.path)


def test_another_field_starts_anew(tmp_path, monkeypatch):
    file = as_json_lines(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_tokens", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            made(documents(file, group="author"), tmp_path / "c")
    said: list[str] = []
    store = made(documents(file, group="year"), tmp_path / "c", say=said.append)
    assert said[0].startswith("starting anew: group changed")
    assert store.description["groups"]["count"] == 3


# --- what is said ----------------------------------------------------------------------------------------------------


def test_a_group_that_holds_most_of_the_corpus_is_reported_with_a_cure(tmp_path):
    texts = [Document(text, group="all of it" if i > 5 else f"{i}") for i, (text, _) in enumerate(ROWS)]
    lines = summary(made(texts, tmp_path / "most"))
    assert any(
        line.startswith("85% of the documents have one group, “all of it”: ") and "--group" in line for line in lines
    )
    lines = summary(made([text._replace(group="one") for text in texts], tmp_path / "one"))
    assert any("nothing can be held out" in line for line in lines)
    lines = summary(
        made([text._replace(group=f"{i % 4}") for i, text in enumerate(texts)], tmp_path / "four", held_out=0.01)
    )
    assert any(
        line.startswith("25.0% of the documents are held out, not 1.0%, as groups by group are large") for line in lines
    )
    words = " ".join(f"w{k}" for k in range(60))
    lines = summary(made([f"{i} {words}" for i in range(6)] + [ROWS[0][0]], tmp_path / "like", keep_duplicates=True))
    assert any("hang together by passages that they share" in line and "masklab clean" in line for line in lines)
    assert summary(made([text for text, _ in ROWS], tmp_path / "fine"))[2].startswith("held out: ")


def call(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_commands(tmp_path):
    file = as_csv(tmp_path)
    done = call("prepare", file, "--out", tmp_path / "c", "--vocabulary", 100, "--group", "author", "--held-out", "0.2")
    assert done.exit_code == 0, done.output
    assert "4 groups by author, the largest, “Ann”, of 8; " in done.stdout
    assert "8 documents of none" in done.stdout
    refused = call("prepare", file, "--out", tmp_path / "c", "--group", "nobody")
    assert refused.exit_code == 2
    assert "no column 'nobody'; the columns are: author, n, text" in refused.stderr
    assert call("prepare", "--builtin", "--out", tmp_path / "b", "--group", "author").exit_code == 2
    (tmp_path / "none.jsonl").write_text('{"text": "a", "author": null}\n')
    refused = call("prepare", tmp_path / "none.jsonl", "--out", tmp_path / "n", "--group", "author")
    assert "no document has anything in 'author'" in refused.stderr
    done = call("clean", file, "--out", tmp_path / "clean.jsonl", "--group", "author")
    assert "--group group --out corpus" in done.stdout
    assert [d.group for d in documents(tmp_path / "clean.jsonl", group="group")] == [author for _, author in ROWS]
