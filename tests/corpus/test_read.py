"""Reading people's files: every shape, and one clear line for everything that can be wrong with them."""

import gzip
import json
import lzma

import pytest

from masklab.corpus.read import Document, detect, documents
from masklab.errors import BadInput


def write(path, content, opener=open):
    with opener(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return path


def test_blank_lines_part_documents(tmp_path):
    file = write(tmp_path / "a.txt", "\n\none\ntwo\r\n \n\nthree")
    assert list(documents(file)) == [Document("one\ntwo", str(file), 3), Document("three", str(file), 7)]


def test_one_a_line(tmp_path):
    file = write(tmp_path / "a.txt", "\ufeffone\ntwo\n")
    said = []
    assert [d.text for d in documents(file, say=said.append)] == ["one", "two"]
    assert "one document a line, as there is no blank line" in said[0]


@pytest.mark.parametrize(("suffix", "opener"), [("", open), (".gz", gzip.open), (".xz", lzma.open)])
def test_json_lines_plain_or_compressed(tmp_path, suffix, opener):
    content = json.dumps({"id": 1, "text": "a\n\nb"}) + "\n\n" + '{"text": "\\ud83d!"}\n'
    file = write(tmp_path / f"a.jsonl{suffix}", content, opener)
    assert detect(file).format == "jsonl"
    assert [(d.text, d.line) for d in documents([file])] == [("a\n\nb", 1), ("\ufffd!", 3)]


def test_json_is_known_by_its_first_line_and_text_is_not_taken_for_it(tmp_path):
    assert detect(write(tmp_path / "a.txt", '{"text": "x"}\n')).format == "jsonl"
    assert detect(write(tmp_path / "b.txt", "{x} is a set\n\nindeed\n")).format == "blank-line"
    assert detect(write(tmp_path / "c.txt.gz", "one\ntwo\n\n\n", gzip.open)).format == "line"


def test_the_format_that_is_asked_for_wins(tmp_path):
    file = write(tmp_path / "a.txt", "one\n\ntwo\nthree\n")
    assert [d.text for d in documents(file, "line")] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "is empty"),
        ("a.txt", "\n \n", "holds no text"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "line 2: not valid JSON"),
        ("a.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("a.jsonl", '{"body": "x", "id": 3}\n', "line 1: no field 'text'; the fields there are: body, id"),
        ("a.jsonl", '{"text": 3}\n', "field 'text' is int, not text"),
        ("a.jsonl", "[1]\n", "not a JSON object"),
        ("a.txt", b"good\nna\xefve\n", "line 2, byte 3 of the text there: not UTF-8.*--encoding cp1252 reads 'naïve'"),
        ("a.txt", "one".encode("utf-16-le"), "UTF-16 without its mark; say --encoding utf-16-le"),
        ("a.txt.gz", b"not gzip at all", "damaged or incomplete"),
        ("a.txt.gz", gzip.compress(b"one\n" * 100)[:-10], "damaged or incomplete"),
        ("a.txt.xz", lzma.compress(b"one\n" * 100)[:-10], "damaged or incomplete"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, name, content, message):
    file = write(tmp_path / name, content)
    with pytest.raises(BadInput, match=message) as error:
        list(documents(file))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        documents(tmp_path / "none.txt")
    with pytest.raises(BadInput, match="holds no files"):
        documents(tmp_path)
    with pytest.raises(BadInput, match="at least one"):
        documents([])
    with pytest.raises(BadInput, match="choose one of: auto, blank-line, line, "):
        documents(write(tmp_path / "a.txt", "x"), "xml")  # type: ignore[arg-type]
