"""The commands that make a corpus, as people call them: what they say, what they leave, how they go on when killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from masklab.cli import app
from masklab.corpus.read import Document
from masklab.corpus.store import Store

TEXTS = [f"The cat number {n} sat on a mat. It saw {n * 7} dogs! Why?" for n in range(40)]


def call(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the note of time and memory."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith("preparation.json")}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A folder of several formats, with something odd in most of them."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "a.txt").write_text("\n\n".join(TEXTS[:10]), "utf-8")
    lines = [*({"text": text} for text in TEXTS[10:20]), {"text": ""}, {"text": None}, {"text": "half \ud83d"}]
    (folder / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (folder / "c.csv").write_text("id,text\n" + "".join(f'{n},"{t}"\n' for n, t in enumerate(TEXTS[15:30])), "utf-8")
    (folder / "d.txt").write_bytes(b"one \xff word\n\n" + TEXTS[30].encode() + b"\n\nNUL \0 stays\n")
    (folder / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return folder


def test_a_mixed_folder_and_all_that_is_odd_in_it(mixed, tmp_path):
    refused = call("prepare", mixed, "--out", tmp_path / "new", "--vocabulary", "150")
    assert refused.exit_code == 2
    assert "--encoding-errors replace" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()
    done = call("prepare", mixed, "--out", tmp_path / "new", "--vocabulary", "150", "--encoding-errors", "replace")
    assert done.exit_code == 0, done.output
    for said in (
        "a.txt: read as documents with a blank line between them",
        "b.jsonl: read as JSON lines",
        "c.csv: read as a table with commas (CSV)",
        "It begins: “The cat number 0 sat on a mat. It saw 0 dogs! Why?” | “The cat number 1 sat",
        "2 files: documents with a blank line between them; 13 documents",
        "e.png (is a picture)",
        "2 empty documents left out",
        "1 document with bytes of another encoding: 1 byte now U+FFFD",
        "1 document with half a character, now U+FFFD",
        "1 NUL and 0 other control characters, kept",
    ):
        assert said in done.stderr, said
    store = Store(tmp_path / "new")
    assert set(store.texts()) == {*TEXTS[:31], "one \ufffd word", "NUL \0 stays", "half \ufffd"}
    lines = done.stdout.splitlines()
    examples = lines[lines.index("Sentences, to see whether they are:") + 1 :][:10]
    assert len(examples) == 10
    assert "  It saw 14 dogs!" in examples
    for said in ("34 documents", "5 duplicates, 2 empty", "bytes a token", "% [UNK]", "held out: 1 document"):
        assert said in done.stdout, said
    assert done.stderr.splitlines()[-len(store.description["read_as"]) :] == store.description["read_as"]
    assert lines[-1] == f"Next: masklab pretrain bert --data {tmp_path / 'new'} --out runs/first --time 5m"


def test_standard_input_and_all_options(tmp_path):
    data = "\n".join(TEXTS).encode("utf-16")
    options = "--format line --kind bpe --vocabulary 300 --cased --sentences none --held-out 0.1 --seed 3 --workers 1"
    done = call("prepare", "-", "--out", tmp_path / "new", *options.split(), stdin=data)
    assert done.exit_code == 0, done.output
    store = Store(tmp_path / "new")
    assert list(store.texts()) == TEXTS
    assert store.document(3) == Document(TEXTS[3], "standard input", 4)
    assert (store.held_out.sum(), store.description["sentences_by"], store.description["seed"]) == (4, "none", 3)
    assert len(store.part("train").sentences) == 36
    assert store.tokenizer.decode(store.part("train").ids[:4].tolist()).startswith("The")
    assert done.stdout.splitlines()[1] == f"  {TEXTS[0]}"


def test_a_data_set_of_the_hub_on_this_disk(tmp_path):
    import datasets

    rows = {"body": TEXTS, "number": list(range(40))}
    datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows)}).save_to_disk(tmp_path / "set")
    name = f"hub:{tmp_path / 'set'},split=test"
    wrong = call("prepare", name, "--out", tmp_path / "new")
    assert wrong.exit_code == 2
    assert "no column 'text'; the columns are: body, number" in wrong.stderr
    done = call("prepare", name, "--out", tmp_path / "new", "--column", "body", "--vocabulary", "100")
    assert done.exit_code == 0, done.output
    assert list(Store(tmp_path / "new").texts()) == TEXTS
    assert "1 file: a data set of the hub; 40 documents" in done.stderr


def test_another_vocabulary_and_the_checksums(mixed, tmp_path):
    out = tmp_path / "new"
    assert call("prepare", mixed / "a.txt", "--out", out, "--vocabulary", "100").exit_code == 0
    before = contents(out)
    done = call("tokenize", out, "--kind", "unigram", "--vocabulary", "80")
    assert done.exit_code == 0, done.output
    store = Store(out)
    assert {name: data for name, data in contents(out).items() if name in before} == before
    assert len(store.vocabularies) == 2
    assert done.stdout.splitlines()[-1].startswith(f"Next: masklab pretrain bert --data {store.vocabularies[1]} ")
    assert "tokens of 56 kinds" in done.stdout
    again = call("tokenize", store.vocabularies[0], "--tokenizer", store.vocabularies[1])
    assert again.stdout == f"this corpus has that vocabulary already: {store.vocabularies[1]}\n"
    done = call("check", out)
    assert done.stdout.startswith("34 files, "), done.stdout
    file = store.vocabularies[1] / "train" / "units.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    refused = call("check", out)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == f"masklab: {file} was changed since it was prepared; prepare the corpus again\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prepare", "a.txt", "--out", "c", "--format", "prose"], "'prose' is not one of"),
        (["prepare", "a.txt", "--out", "c", "--encoding", "utf-9"], "there is no text encoding 'utf-9'"),
        (["prepare", "a.txt", "--out", "c", "--held-out", "2"], "no share of the documents"),
        (["prepare", "a.txt", "--out", "c", "--tokenizer", "none.json"], "none.json does not exist"),
        (["prepare", "a.txt", "--builtin", "--out", "c"], "not both"),
        (["prepare", "*.md", "--out", "c"], "matches no file"),
        (["tokenize", "nowhere"], "is not a prepared corpus"),
        (["check", "nowhere"], "is not a prepared corpus"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(TEXTS[0], "utf-8")
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert os.listdir() == ["a.txt"]


def test_stopped_by_ctrl_c_and_run_again(tmp_path):
    """What was done until then is kept, and so is what is said of the files."""
    file, out = tmp_path / "news.txt", tmp_path / "new"
    file.write_text("\n\n".join(TEXTS), "utf-8")
    code = """if True:
        import os, signal, sys
        from masklab.corpus import prepare
        def stop(*arguments): os.kill(os.getpid(), signal.SIGINT)
        prepare.write_tokens = stop
        import masklab.cli
        sys.argv[0] = "masklab"
        masklab.cli.main()"""
    command = ["prepare", str(file), "--out", str(out), "--vocabulary", "100"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        f"what is done is kept in {tmp_path / '.new.partial'}: run the same again to go on, or remove it",
        "masklab: interrupted",
    ]
    assert not out.exists()
    again = call(*command)
    assert again.exit_code == 0, again.output
    assert f"going on where an earlier preparation of {out} was stopped" in again.stderr
    assert "1 file: documents with a blank line between them; 40 documents" in again.stderr, "the summary is kept too"
    assert call("prepare", file, "--out", tmp_path / "straight", "--vocabulary", "100").exit_code == 0
    assert contents(out) == contents(tmp_path / "straight")
    assert sorted(os.listdir(tmp_path)) == ["new", "news.txt", "straight"]
