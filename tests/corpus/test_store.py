"""The store: the text comes back, the tokens are the tokenizer's, the same input gives the same bytes, and nothing is
ever half there."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus import prepare as prepare_module
from masklab.corpus.prepare import choose, prepare
from masklab.corpus.read import Document
from masklab.corpus.store import Store
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.corpus.units import WORD_REAL, WORD_START
from masklab.errors import BadInput


def prose(seed: int, sentences: int = 12) -> str:
    draw = random.Random(seed)
    words = ["moon", "river", "Cat", "runs", "over", "quickly", "stones", "never", "U.S.", "Zoë", "3.5", "unlikeable"]
    lines = [
        " ".join(draw.choices(words, k=draw.randint(3, 12))) + draw.choice([".", "!", "?\n"]) for _ in range(sentences)
    ]
    return " ".join(lines)


TEXTS = [prose(seed) for seed in range(60)]
TOKENIZER = train_wordpiece(TEXTS, 120)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Store:
    documents = [Document(text, "file", at) for at, text in enumerate(TEXTS)]
    documents[3:3] = [Document(" \n"), documents[0], Document("")]
    return prepare(documents, tmp_path_factory.mktemp("corpus") / "new", 120, held_out=0.05)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_text_and_counts(made):
    assert len(made) == 60
    assert [made.text(at) for at in range(60)] == [text.strip() for text in TEXTS] == list(made.texts())
    assert made.document(7).source == "file"
    assert (made.description["empty"], made.description["duplicates"]) == (2, 1)
    assert made.held_out.sum() == 3
    with pytest.raises(IndexError):
        made.text(60)


def test_tokens_are_the_tokenizers(made):
    unigram = np.zeros(made.tokenizer.size, np.int64)
    for name in ("train", "held_out"):
        part = made.part(name)
        assert part.numbers.tolist() == np.flatnonzero(made.held_out == (name == "held_out")).tolist()
        assert [part.text(at) for at in range(len(part))] == list(made.texts(name))
        expected = made.tokenizer.encode(list(made.texts(name)))
        assert np.diff(part.documents).tolist() == [len(ids) for ids in expected]
        assert part.ids.tolist() == [id for ids in expected for id in ids]
        assert part.ids.dtype == np.uint16
        assert len(part.units) == len(part.ids)
        if name == "train":
            unigram += np.bincount(part.ids, minlength=len(unigram))
        assert part.unigram.shape == (made.tokenizer.size,)
    assert (made.part("held_out").unigram == unigram).all()


def test_sentences_and_words(made):
    part = made.part("train")
    assert set(part.documents[:-1].tolist()) <= set(part.sentences.tolist())
    assert (part.units[part.sentences] & WORD_START).all()
    begin, end = part.documents[:2]
    found = [s for s in part.sentences.tolist() if begin <= s < end]
    spoken = [part.tokenizer.decode(part.ids[a:b]) for a, b in zip(found, [*found[1:], end], strict=True)]
    assert len(spoken) > 5
    assert all(s.rstrip(" \"'").endswith((".", "!", "?")) for s in spoken)
    tokens = part.tokenizer.tokens(part.ids[:300])
    for token, unit in zip(tokens, part.units[:300].tolist(), strict=True):
        assert bool(unit & WORD_START) == (not token.startswith("##"))
        assert bool(unit & WORD_REAL) == any(c.isalnum() for c in token)


def test_rows_are_kept_and_a_damaged_copy_is_made_again(made):
    part = made.part("train")
    first = part.rows(32, 2)
    (file,) = made.folder.glob("rows-32-2-packed-train.npz")
    assert (Store(made.path).part("train").rows(32, 2).pieces == first.pieces).all()
    file.write_bytes(b"PK nonsense")
    assert (Store(made.path).part("train").rows(32, 2).pieces == first.pieces).all()
    assert file.stat().st_size > 100
    assert len(part.rows(32, 2, packed=False)) == len(part.rows(32, 2, packed=False).pieces)
    assert Store(made.path).part("train").rows(32, 2).fill == first.fill > 0.97


def test_the_same_input_gives_the_same_bytes(made, tmp_path):
    code = (
        "import sys; from masklab.corpus.prepare import prepare; import json;"
        "prepare(json.load(sys.stdin), sys.argv[1], 120, held_out=0.05)"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], input=json.dumps(TEXTS), text=True, check=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert Store(tmp_path / "a").part("train").hash == made.part("train").hash


def test_it_travels_to_workers(made):
    part = pickle.loads(pickle.dumps(made.part("train")))
    assert len(pickle.dumps(made.part("train"))) < 1000
    assert (part.ids == made.part("train").ids).all()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.booleans())
def test_any_text_comes_back(texts, keep):
    wanted = [t.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip() for t in texts]
    wanted = [t for t in wanted if t]
    wanted = wanted if keep else list(dict.fromkeys(wanted))
    with tempfile.TemporaryDirectory() as folder:
        if not wanted:
            with pytest.raises(BadInput, match="no document has any text"):
                prepare(texts, Path(folder) / "new", TOKENIZER)
            assert list(Path(folder).iterdir()) == []
            return
        made = prepare(texts, Path(folder) / "new", TOKENIZER, keep_duplicates=keep)
        assert list(made.texts()) == wanted
        assert [made.text(at) for at in range(len(made))] == wanted
        for part in (made.part("train"), made.part("held_out")):
            rows = part.rows(8, 2)
            assert sum(int((r[:, 1] - r[:, 0]).sum()) for r in map(rows.__getitem__, range(len(rows)))) == len(part.ids)


def test_a_very_long_document_is_tokenised_in_stretches(tmp_path, monkeypatch):
    text = "\n".join(TEXTS[:10])
    whole = prepare([text, "other"], tmp_path / "whole", TOKENIZER, held_out=0)
    monkeypatch.setattr(prepare_module, "_LONGEST", 100)
    pieces = prepare([text, "other"], tmp_path / "pieces", TOKENIZER, held_out=0)
    a, b = whole.part("train"), pieces.part("train")
    for name in ("ids", "units", "documents", "sentences"):
        assert (getattr(a, name) == getattr(b, name)).all(), name


def test_held_out_groups_stay_together():
    groups = np.array([0, 1, 2, 2, 4, 5, 5, 5, 8, 9] * 100) + np.repeat(np.arange(100) * 10, 10)
    digests = [b"%d" % at for at in range(1000)]
    held = choose(groups, digests, 0.1, 0)
    assert held.sum() == 100
    assert all(held[groups == g].all() or not held[groups == g].any() for g in np.unique(groups))
    assert (choose(groups, digests, 0.1, 1) != held).any()
    smaller = choose(groups[:900], digests[:900], 0.1, 0)
    assert (smaller & held[:900]).sum() > 80  # documents added later hardly move the split


@pytest.mark.parametrize(
    ("groups", "expected"),
    [([0], 0), ([0, 0, 0], 0), ([0, 1], 1), ([0, 0, 2, 2, 2], 2), (list(range(30)), 1)],
)
def test_held_out_of_tiny_corpora(groups, expected):
    assert choose(np.array(groups), [b"%d" % at for at in groups], 0.01, 0).sum() == expected


def test_one_document_and_no_held_out(tmp_path):
    made = prepare(["only one"], tmp_path / "new", TOKENIZER)
    assert len(made.part("held_out")) == 0
    assert len(made.part("held_out").rows(16, 2)) == 0
    assert len(made.part("train").rows(16, 2)) == 1


def test_a_given_tokenizer_by_path(tmp_path):
    TOKENIZER.save(tmp_path / "tokenizer")
    said = []
    made = prepare(TEXTS, tmp_path / "new", tmp_path / "tokenizer", progress=lambda *args: said.append(args))
    assert made.tokenizer.hash == TOKENIZER.hash == Tokenizer.from_file(made.folder).hash
    assert said[-1] == ("tokens", 60, 60)


def test_an_interrupted_preparation_leaves_nothing(tmp_path):
    def failing():
        yield from TEXTS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(failing(), tmp_path / "new", TOKENIZER)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_store_whole(tmp_path):
    old = prepare(TEXTS, tmp_path / "new", TOKENIZER)
    before = contents(old.path)
    code = (
        "import sys, time; from masklab.corpus.prepare import prepare\n"
        "def slow():\n"
        "    yield from json.load(sys.stdin)\n"
        "    print('reading', flush=True); time.sleep(60)\n"
        "import json; prepare(slow(), sys.argv[1], 100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, old.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(TEXTS))
        process.stdin.close()
        assert process.stdout.readline() == "reading\n"
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert contents(old.path) == before
    prepare(TEXTS, tmp_path / "new", TOKENIZER)
    assert [p.name for p in tmp_path.iterdir()] == ["new"]  # what the killed one left is cleared away
    os.replace(old.path, tmp_path / ".new.old")  # killed between the two renames
    assert contents(Store(old.path).path) == before


def test_damage_is_refused_with_one_clear_line(tmp_path):
    path = prepare(TEXTS, tmp_path / "new", TOKENIZER).path
    good = contents(path)
    description = json.loads(good["store.json"])

    def refused(name: str, content: bytes, message: str):
        (path / name).write_bytes(content)
        with pytest.raises(BadInput, match=message) as error:
            Store(path)
        assert "\n" not in str(error.value)
        (path / name).write_bytes(good[name])

    refused("store.json", good["store.json"][:-40], "is damaged")
    refused("store.json", b"[]", "is damaged")
    refused("store.json", b"\xff\xfe", "is damaged")
    refused("store.json", json.dumps({**description, "documents": 1}).encode(), "was edited")
    refused("store.json", json.dumps({**description, "version": 99}).encode(), "format 99")
    refused("held_out.npy", good["held_out.npy"][:-1] + b"\x01", "was changed")
    ids = f"{description['tokens']}/train/ids.npy"
    refused(ids, good[ids][:-2], "missing or cut short")
    Store(path).check()
    with pytest.raises(BadInput, match="not a prepared corpus"):
        Store(tmp_path)
    with pytest.raises(BadInput, match="has no part 'test'"):
        Store(path).part("test")


def test_folders_and_shares_are_checked_first(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match="is no prepared corpus"):
        prepare(TEXTS, tmp_path, TOKENIZER)
    with pytest.raises(BadInput, match="no share"):
        prepare(TEXTS, tmp_path / "new", TOKENIZER, held_out=1.5)
    assert (tmp_path / "thesis.tex").exists()
