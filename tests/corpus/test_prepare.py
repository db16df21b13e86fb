"""Preparing: any text comes back; work that was killed goes on, to the same bytes; nothing is ever half there."""

import io
import json
import os
import random
import shutil
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

from masklab import files
from masklab.corpus import encode, keep_text, prepare, seen, tokens
from masklab.corpus.arrays import Growing
from masklab.corpus.duplicates import united
from masklab.corpus.held_out import choose
from masklab.corpus.prepare import add_vocabulary, summary
from masklab.corpus.progress import At, Pace
from masklab.corpus.read import Reading, documents
from masklab.corpus.seen import Seen
from masklab.corpus.store import Store
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.corpus.work import Work
from masklab.errors import BadInput

run = prepare.prepare


def prose(seed: int, sentences: int = 12) -> str:
    draw = random.Random(seed)
    words = ["moon", "river", "Cat", "runs", "over", "quickly", "stones", "never", "U.S.", "Zoë", "3.5", "unlikeable"]
    lines = [
        " ".join(draw.choices(words, k=draw.randint(3, 12))) + draw.choice([".", "!", "?\n"]) for _ in range(sentences)
    ]
    return " ".join(lines)


TEXTS = [prose(seed) for seed in range(60)]
TOKENIZER = train_wordpiece(TEXTS, 120)


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    """What these tests kill is the process, not the machine: the disk need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the note of time and memory."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith("preparation.json")}


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.booleans())
def test_any_text_comes_back(texts, keep):
    wanted = ["".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in t).strip() for t in texts]
    wanted = [t for t in wanted if t]
    wanted = wanted if keep else list(dict.fromkeys(wanted))
    with tempfile.TemporaryDirectory() as folder:
        if not wanted:
            with pytest.raises(BadInput, match="no document has any text"):
                run(texts, Path(folder) / "new", TOKENIZER)
            assert list(Path(folder).iterdir()) == []
            return
        made = run(texts, Path(folder) / "new", TOKENIZER, keep_duplicates=keep)
        assert list(made.texts()) == wanted
        assert [made.text(at) for at in range(len(made))] == wanted
        for part in (made.part("train"), made.part("held_out")):
            rows = part.rows(8, 2)
            assert sum(int((r[:, 1] - r[:, 0]).sum()) for r in map(rows.__getitem__, range(len(rows)))) == len(part.ids)


def test_a_very_long_document_is_tokenised_in_stretches(tmp_path, monkeypatch):
    text = "\n".join(TEXTS[:10])
    whole = run([text, "other"], tmp_path / "whole", TOKENIZER, held_out=0)
    monkeypatch.setattr(encode, "STRETCH", 100)
    pieces = run([text, "other"], tmp_path / "pieces", TOKENIZER, held_out=0)
    assert contents(whole.path) == contents(pieces.path)


def test_one_document_and_no_held_out(tmp_path):
    made = run(["only one"], tmp_path / "new", TOKENIZER)
    assert len(made.part("held_out")) == 0
    assert len(made.part("held_out").rows(16, 2)) == 0
    assert len(made.part("train").rows(16, 2)) == 1


def test_a_given_tokenizer_by_path_and_what_is_told(tmp_path):
    TOKENIZER.save(tmp_path / "tokenizer")
    told: list[At] = []
    made = run(TEXTS, tmp_path / "new", tmp_path / "tokenizer", progress=told.append)
    assert made.tokenizer.hash == TOKENIZER.hash == Tokenizer.from_file(made.folder).hash
    assert list(dict.fromkeys(at.stage for at in told)) == ["reading", "holding out", "tokens", "checksums"]
    size = sum(len(text.strip().encode()) for text in TEXTS)
    assert At("tokens", 60, size, 1.0) in told


def test_the_pace_of_work(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    assert pace.line(At("tokens", 0, 0, 0.0)) == "tokens: 0 documents, 0 MB (0%)"
    now = 110.0
    line = pace.line(At("tokens", 5000, 20_000_000, 0.25))
    assert line == "tokens: 5,000 documents, 20 MB (25%), 500 documents/s, 2.0 MB/s, 0:00:30 left"


def test_folders_and_shares_are_checked_first(tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match="is no prepared corpus"):
        run(TEXTS, tmp_path, TOKENIZER)
    with pytest.raises(BadInput, match="no share"):
        run(TEXTS, tmp_path / "new", TOKENIZER, held_out=1.5)
    (tmp_path / "large.txt").write_text("\n\n".join(TEXTS))
    monkeypatch.setattr(prepare, "_free", lambda path: 40_000)
    with pytest.raises(BadInput, match=r"needs about .* kB for .* of text, and 40.0 kB are free there"):
        run(documents(tmp_path / "large.txt"), tmp_path / "new", TOKENIZER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.txt", "thesis.tex"]


def test_a_full_disk_keeps_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_free", lambda path: 1000)
    with pytest.raises(BadInput, match="make room and run the same again to go on"):
        run(TEXTS, tmp_path / "new", TOKENIZER)
    monkeypatch.undo()

    def full(self, rows):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Growing, "add", full)
        with pytest.raises(BadInput, match="No space left on device; make room there; then run the same again"):
            run(TEXTS, tmp_path / "new", TOKENIZER)
    said: list[str] = []
    made = run(TEXTS, tmp_path / "new", TOKENIZER, say=said.append)
    assert said[0].startswith("going on where")
    assert contents(made.path) == contents(run(TEXTS, tmp_path / "straight", TOKENIZER).path)


def test_the_summary(tmp_path):
    (tmp_path / "news.txt").write_text("\n\n".join([*TEXTS, TEXTS[0]]), "utf-8")
    store = run(documents(tmp_path / "news.txt"), tmp_path / "new", 120)
    d = store.description
    assert (d["given"], d["documents"], d["duplicates"], d["read"]["documents"]) == (61, 60, 1, 61)
    assert d["bytes"] == sum(len(text.encode()) for text in store.texts())
    ids = np.concatenate([store.part("train").ids, store.part("held_out").ids])
    assert d["unknown"] == (ids == store.tokenizer.unk).mean()
    assert d["bytes_per_token"] == d["bytes"] / len(ids)
    assert d["learned"] == {"kind": "wordpiece", "characters": sum(map(len, store.texts("train")))}
    assert len(d["examples"]["sentences"]) == 10
    assert [shown["begins"] for shown in d["examples"]["documents"]] == [store.text(i)[:300] for i in (15, 30, 45)]
    said = "\n".join(summary(store))
    for part in (
        "60 documents",
        "1 duplicate, 0 empty",
        f"{len(ids):,} tokens",
        "bytes a token",
        "[UNK]",
        "held out: 1 doc",
    ):
        assert part in said
    cost = json.loads((store.path / "preparation.json").read_text())
    assert cost["peak_memory"] > 50_000_000
    assert cost["stopped_and_resumed"] is False


# --- the same bytes, however it was made -----------------------------------------------------------------------------


def test_workers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(keep_text, "_BLOCK", 5000)
    monkeypatch.setattr(keep_text, "_FEW", 2000)
    one = run(TEXTS, tmp_path / "one", TOKENIZER, held_out=0.1, workers=1)
    monkeypatch.setattr(tokens, "_ALONE", 0)
    monkeypatch.setattr(tokens, "_JOB", 1)
    assert len(np.load(one.path / "blocks.npy")) > 5
    two = run(TEXTS, tmp_path / "two", TOKENIZER, held_out=0.1, workers=2)
    assert contents(one.path) == contents(two.path)


def test_a_worker_that_is_killed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "_ALONE", 0)
    started = tokens._started

    def killed(setup):
        process = started(setup)
        process.kill()
        return process

    with monkeypatch.context() as patch:
        patch.setattr(tokens, "_started", killed)
        with pytest.raises(BadInput, match=r"exit code -9.*fewer --workers"):
            run(TEXTS, tmp_path / "new", TOKENIZER, workers=2)
    assert contents(run(TEXTS, tmp_path / "new", TOKENIZER).path) == contents(
        run(TEXTS, tmp_path / "b", TOKENIZER).path
    )


class Killed(BaseException):
    pass


def killing(monkeypatch, place: str, after: int):
    """Make one function end all work at its `after`-th call (before or behind what it does, in turn)."""
    owner, name = {
        "commit": (Work, "commit"), "add": (Growing, "add"), "close": (Growing, "close"), "write": (files, "sync"),
        "finish": (files, "put_in_place"), "replace": (os, "replace"),
    }[place]  # fmt: skip
    real, calls = getattr(owner, name), [0]

    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == after and after % 2:
            raise Killed
        result = real(*args, **kwargs)
        if calls[0] == after:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("place", ["commit", "add", "close", "write", "finish", "replace"])
def test_killed_anywhere_and_run_again_ends_in_the_same_bytes(place, tmp_path, monkeypatch):
    monkeypatch.setattr(keep_text, "_BLOCK", 9000)
    monkeypatch.setattr(keep_text, "_FEW", 3000)
    monkeypatch.setattr(tokens, "_JOB", 1)
    monkeypatch.setattr(Work, "due", lambda self: True)
    some = [*TEXTS[:20], TEXTS[3], " ", *TEXTS[20:40], TEXTS[4]]
    expected = contents(run(some, tmp_path / "straight", 120, held_out=0.1).path)
    old = contents(run(TEXTS[:5], tmp_path / "new", TOKENIZER).path)
    after, killed = 1, 0
    while True:
        with monkeypatch.context() as patch:
            killing(patch, place, after)
            try:
                run(some, tmp_path / "new", 120, held_out=0.1)
            except Killed:
                killed += 1
                there = contents(Store(tmp_path / "new").path)
                assert there in (old, expected), "the old corpus or the new one, whole"
            else:
                break
        after += 1 if place in ("commit", "finish") else 5
    assert killed >= 1
    assert contents(tmp_path / "new") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "straight"]


def test_a_vocabulary_being_added_goes_on_too(tmp_path, monkeypatch):
    monkeypatch.setattr(keep_text, "_BLOCK", 9000)
    monkeypatch.setattr(keep_text, "_FEW", 3000)
    monkeypatch.setattr(tokens, "_JOB", 1)
    monkeypatch.setattr(Work, "due", lambda self: True)
    straight = add_vocabulary(run(TEXTS, tmp_path / "straight", TOKENIZER), 300, kind="bpe", workers=1)
    store = run(TEXTS, tmp_path / "new", TOKENIZER)
    with monkeypatch.context() as patch:
        killing(patch, "commit", 2)
        with pytest.raises(Killed):
            add_vocabulary(store, 300, kind="bpe", workers=1)
    assert store.vocabularies == [store.folder]
    said: list[str] = []
    made = add_vocabulary(store, 300, kind="bpe", workers=1, say=said.append)
    assert said[0].startswith("going on")
    assert contents(made.folder) == contents(straight.folder)
    assert [path.name for path in store.path.iterdir() if path.name.startswith(".")] == []


def stopped(folder: Path, texts, monkeypatch, after: int = 4, **options) -> None:
    with monkeypatch.context() as patch:
        killing(patch, "commit", after)
        with pytest.raises(Killed):
            run(texts, folder, 120, **options)


def test_other_documents_or_options_start_anew_and_say_so(tmp_path, monkeypatch):
    said: list[str] = []
    expected = contents(run(TEXTS, tmp_path / "straight", 120).path)
    stopped(tmp_path / "new", TEXTS, monkeypatch, seed=1)
    assert contents(run(TEXTS, tmp_path / "new", 120, say=said.append).path) == expected
    assert said == ["going on from what seed does not change of the preparation that was stopped"]
    stopped(tmp_path / "new", TEXTS, monkeypatch, keep_duplicates=True)
    said.clear()
    assert contents(run(TEXTS, tmp_path / "new", 120, say=said.append).path) == expected
    assert said == ["starting anew: keep_duplicates changed since the preparation that was stopped"]
    for others in ([*TEXTS[:-1], "another end"], TEXTS[:-1], [*TEXTS, "one more"], ["another beginning", *TEXTS[1:]]):
        stopped(tmp_path / "new", others, monkeypatch)
        said.clear()
        assert contents(run(TEXTS, tmp_path / "new", 120, say=said.append).path) == expected
        assert said[-1] == "starting anew: the documents changed since the preparation that was stopped"
    stopped(tmp_path / "new", TEXTS[1:], monkeypatch)
    with pytest.raises(BadInput, match="run again"):
        run(iter(TEXTS), tmp_path / "new", 120)
    assert contents(run(iter(TEXTS), tmp_path / "new", 120).path) == expected


class Counted:
    """A method that counts its calls."""

    def __init__(self, method):
        self.method, self.calls = method, 0

    def __get__(self, owner, _):
        def counting(*arguments):
            self.calls += 1
            return self.method(owner, *arguments)

        return counting


def test_files_that_did_not_change_are_not_read_twice(tmp_path, monkeypatch):
    file = tmp_path / "news.txt"
    file.write_text("\n\n".join(TEXTS), "utf-8")
    stopped(tmp_path / "new", documents(file), monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Reading, "__iter__", None)
        run(documents(file), tmp_path / "new", 120)
    monkeypatch.setattr(keep_text, "_BLOCK", 9000)
    monkeypatch.setattr(keep_text, "_FEW", 3000)
    monkeypatch.setattr(Work, "due", lambda self: True)
    expected = contents(run(documents(file), tmp_path / "straight", 120).path)
    stopped(tmp_path / "new", documents(file), monkeypatch, after=2)  # while reading
    with monkeypatch.context() as patch:
        patch.setattr(keep_text._Given, "_note", counted_notes := Counted(keep_text._Given._note))
        assert contents(run(documents(file), tmp_path / "new", 120).path) == expected
    assert 0 < counted_notes.calls < 60, "those that were read before are not looked at"
    stopped(tmp_path / "new", documents(file), monkeypatch)
    file.write_text("\n\n".join(TEXTS[1:]), "utf-8")
    said: list[str] = []
    made = run(documents(file), tmp_path / "new", 120, say=said.append)
    assert said[0] == "starting anew: the input files changed since the preparation that was stopped"
    assert len(made) == 59


def test_an_impossible_vocabulary_costs_no_reading(tmp_path, monkeypatch):
    file = tmp_path / "news.txt"
    file.write_text("\n\n".join(TEXTS), "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(Reading, "__iter__", None)
        with pytest.raises(BadInput, match=r"a vocabulary of 3 is too small.*say --vocabulary 7 at least"):
            run(documents(file), tmp_path / "new", 3)
    assert not (tmp_path / ".new.partial").exists()
    with pytest.raises(BadInput, match=r"say --vocabulary [0-9]+ at least") as why:  # the letters are more than that
        run(documents(file), tmp_path / "new", 9)
    least = int(str(why.value).split("--vocabulary ")[1].split()[0])
    expected = contents(run(documents(file), tmp_path / "straight", least).path)
    for options in ({}, {"kind": "bpe"}):  # killed while tokens of another vocabulary are written
        said: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(Reading, "__iter__", None)
            made = run(documents(file), tmp_path / "new", least, say=said.append)
        assert "does not change of the preparation" in said[0]
        assert contents(made.path) == expected
        assert len(list(made.path.glob("tokens-*"))) == 1
        if not options:
            shutil.rmtree(tmp_path / "new")
            with monkeypatch.context() as patch:
                killing(patch, "finish", 1)
                with pytest.raises(Killed):
                    run(documents(file), tmp_path / "new", 300, kind="bpe")


def test_a_long_document_gives_a_sample_too(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SAMPLE", 400)
    monkeypatch.setattr(prepare, "_PIECE", 100)
    made = run([" ".join(TEXTS)], tmp_path / "new", 60, held_out=0)
    assert 200 <= made.description["learned"]["characters"] <= 500


def test_standard_input_is_checked_by_reading_it_again(tmp_path, monkeypatch):
    data = "\n\n".join(TEXTS).encode()

    def reading():
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return documents("-")

    stopped(tmp_path / "new", reading(), monkeypatch)
    said: list[str] = []
    run(reading(), tmp_path / "new", 120, say=said.append)
    assert said[0].startswith("going on")
    assert not any("anew" in line for line in said)


def test_two_processes_do_not_prepare_one_corpus(tmp_path):
    def texts():
        yield from TEXTS[:3]
        with pytest.raises(BadInput, match="is being prepared by another process"):
            run(TEXTS, tmp_path / "new", TOKENIZER)
        yield from TEXTS[3:]

    assert len(run(texts(), tmp_path / "new", TOKENIZER)) == 60


SLOW = """
import sys, json, time
from masklab.corpus import keep_text, tokens
from masklab.corpus.prepare import prepare
keep_text._BLOCK, keep_text._FEW, tokens._JOB, tokens._ALONE = 9000, 3000, 1, 0
def slow():
    for text in json.load(open(sys.argv[2])):
        yield text
        time.sleep(0.01)
prepare(slow(), sys.argv[1], 120, workers=2, progress=lambda at: print(at.stage, flush=True))
"""


def test_killed_by_the_system_at_any_time(tmp_path, monkeypatch):
    """SIGKILL while reading, then while tokenising; nothing that was there is harmed, workers end, it goes on."""
    monkeypatch.setattr(keep_text, "_BLOCK", 9000)
    monkeypatch.setattr(keep_text, "_FEW", 3000)
    old = contents(run(TEXTS[:9], tmp_path / "new", TOKENIZER).path)
    expected = contents(run(TEXTS, tmp_path / "straight", 120).path)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    for stage in ("reading", "tokens"):
        command = [sys.executable, "-c", SLOW, str(tmp_path / "new"), str(tmp_path / "texts.json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            while process.stdout.readline() != f"{stage}\n":
                pass
            os.kill(process.pid, signal.SIGKILL)
        assert contents(tmp_path / "new") == old
    deadline = time.monotonic() + 20
    while True:
        try:
            made = run(TEXTS, tmp_path / "new", 120)
            break
        except BadInput:  # its lock is let go a moment later
            assert time.monotonic() < deadline
    assert contents(made.path) == expected
    os.replace(made.path, tmp_path / ".new.old")  # killed between the two renames
    assert contents(Store(tmp_path / "new").path) == expected


# --- what is held out, what was seen ---------------------------------------------------------------------------------


def held(groups, digests, share: float, seed: int) -> np.ndarray:
    found = np.zeros(len(digests), bool)
    roots = np.array(groups)
    found[choose(digests, roots, np.bincount(roots, minlength=len(roots)), share, seed)] = True
    return found


def test_held_out_groups_stay_together():
    groups = np.array([0, 1, 2, 2, 4, 5, 5, 5, 8, 9] * 100) + np.repeat(np.arange(100) * 10, 10)
    digests = [b"%d" % at for at in range(1000)]
    found = held(groups, digests, 0.1, 0)
    assert found.sum() == 100
    assert all(found[groups == g].all() or not found[groups == g].any() for g in np.unique(groups))
    assert (held(groups, digests, 0.1, 1) != found).any()
    smaller = held(groups[:900], digests[:900], 0.1, 0)
    assert (smaller & found[:900]).sum() > 80  # documents added later hardly move the split


@pytest.mark.parametrize(
    ("groups", "expected"),
    [([0], 0), ([0, 0, 0], 0), ([0, 1], 1), ([0, 0, 2, 2, 2], 2), (list(range(30)), 1)],
)
def test_held_out_of_tiny_corpora(groups, expected):
    assert held(groups, [b"%d" % at for at in range(len(groups))], 0.01, 0).sum() == expected


def test_the_front_of_the_queue_is_enough_of_it():
    digests = [b"%d" % at for at in range(60_000)]
    found = held(np.arange(60_000), digests, 0.001, 3)
    whole = held(np.arange(60_000), digests, 0.9, 3)  # looks at all of it
    assert found.sum() == 60
    assert not (found & ~whole).any()


def test_near_duplicates_land_on_one_side_in_many_small_sorts(tmp_path, monkeypatch):
    texts = [prose(seed, 40) for seed in range(50)]
    texts += [text[:-30] + " ending otherwise" for text in texts[:20]]
    made = run(texts, tmp_path / "one", TOKENIZER, held_out=0.3)
    monkeypatch.setattr(keep_text, "_AT_ONCE", 100)
    assert contents(run(texts, tmp_path / "two", TOKENIZER, held_out=0.3).path) == contents(made.path)
    assert made.description["near_duplicate_groups"] == 20
    assert (made.held_out[:20] == made.held_out[50:70]).all()
    monkeypatch.setattr(keep_text, "_SHINGLES", 700)  # of about 8000: one in 64 is noted
    thin = run(texts, tmp_path / "thin", TOKENIZER, held_out=0.3)
    assert 12 < thin.description["near_duplicate_groups"] <= 20


def test_seen_on_disk_and_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(seen, "_HELD", 500)
    draw = np.random.default_rng(0)
    found, known = Seen(tmp_path), set()
    batch = np.zeros((0, 2), np.uint64)
    for _ in range(60):
        batch = draw.integers(0, 1 << 64, (40, 2), np.uint64)
        batch[:5] = batch[10:15]
        if known:
            batch[20:30] = draw.choice(sorted(known), 10)
        expected = [row not in known and not known.add(row) for row in map(tuple, batch.tolist())]
        assert found.new(batch).tolist() == expected
    batch[:, 1] += np.uint64(1)  # alike in their first halves only
    assert found.new(batch[31:]).all()
    assert 1 <= len(found._disk) <= 3
    assert sum(len(path.read_bytes()) > 0 for path in tmp_path.iterdir()) == len(found._disk)


def test_growing_arrays(tmp_path):
    made = Growing(tmp_path / "a.npy", "<i4", 2)
    made.add(np.arange(10).reshape(5, 2))
    again = Growing(tmp_path / "a.npy", "<i4", 2, keep=3)  # two more rows were not committed
    again.add(np.array([[7, 8]]))
    again.close()
    assert np.load(tmp_path / "a.npy").tolist() == [[0, 1], [2, 3], [4, 5], [7, 8]]
    assert united(np.arange(3), np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]
