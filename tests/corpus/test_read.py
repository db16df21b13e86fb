"""Reading people's files: every shape, compression and encoding, and one clear line for all that can be wrong."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import re
import struct
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import get_args

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.cli.common import TextFormat
from masklab.corpus import formats, open_file
from masklab.corpus.document import tidy
from masklab.corpus.read import Document, detect, documents
from masklab.errors import BadInput

COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstandard.compress}
TEXTS = [
    'First one, with "quotes", a, comma',
    "Zweites: Größe\nand a second line",
    "第三个，中文。\n还有一行",
    "a\ttab",
]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(*arguments, **options):
    return [document.text for document in documents(*arguments, **options)]


def quoted(text):
    return text.replace('"', '""')


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_blank_lines_part_documents(tmp_path):
    file = write(tmp_path / "a.txt", "\n\none\ntwo\r\n \n\nthree\n\u3000\u3000\nfour")
    assert list(documents(file)) == [
        Document("one\ntwo", str(file), 3),
        Document("three", str(file), 7),
        Document("four", str(file), 9),
    ]


def test_one_a_line(tmp_path):
    file = write(tmp_path / "a.txt", "\ufeffone\r\ntwo\n")
    said = []
    assert texts(file, say=said.append) == ["one", "two"]
    assert "one document a line, as there is no blank line" in said[0]
    assert "It begins: “one” | “two”" in said[0]


def test_a_sentence_a_line_is_known_and_says_how_its_sentences_are_found(tmp_path):
    file = write(tmp_path / "a.txt", "\n\n".join(["He came. \nShe left!\nWhy?\nNobody knew."] * 5))
    reading = documents(file)
    assert reading.files[0].format == "sentence-line"
    assert reading.sentences == "line"
    assert len(list(reading)) == 5
    assert documents([file, write(tmp_path / "b.txt", "x\ny")]).sentences == "rules"


def test_a_whole_file_and_lines_broken_to_a_width(tmp_path):
    book = "the quick brown fox jumps over the lazy dog and sleeps in the warm sun for as long as it likes\n" * 12
    file = write(tmp_path / "a.txt", "\n" + book.replace("fox", "fox and another fox that came along"))
    assert (
        detect(
            write(tmp_path / "b.txt", "\n".join(book.replace("\n", " ")[i : i + 70] for i in range(0, 900, 70)))
        ).format
        == "file"
    )
    found = list(documents(file, "file"))
    assert [document.line for document in found] == [2]
    assert found[0].text == file.read_text().strip()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_every_shape_plain_or_compressed(tmp_path, suffix):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = io.StringIO(newline="")
    csv.writer(table).writerows([["id", "text"], *([str(i), text] for i, text in enumerate(TEXTS))])
    flat = [text.replace("\n", " ") for text in TEXTS]
    untabbed = [text.replace("\t", " ") for text in flat]
    lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(TEXTS)]
    shapes = {
        "a.txt": ("blank-line", "\n\n".join(TEXTS)),
        "b.txt": ("line", "\n".join(flat)),
        "a.jsonl": ("jsonl", "\n\n".join(lines) + "\n"),
        "b": ("jsonl", "\n".join(lines)),
        "a.json": ("json", json.dumps([json.loads(line) for line in lines], indent=1, ensure_ascii=False)),
        "b.json": ("json", "\n".join(json.dumps(json.loads(line), indent=2) for line in lines)),
        "c.json": ("jsonl", "\n".join(lines)),
        "d.json": ("json", json.dumps(TEXTS)),
        "a.csv": ("csv", table.getvalue()),
        "b.csv": ("csv", "id;text\n" + "".join(f'{i};"{quoted(text)}"\n' for i, text in enumerate(TEXTS))),
        "a.tsv": ("tsv", "text\tid\n" + "".join(f"{text}\t{i}\n" for i, text in enumerate(untabbed))),
        "wiki_00": ("wikiextractor", "".join(f'<doc id="1" url="u" title="t">\n{text}\n\n</doc>\n' for text in TEXTS)),
    }  # fmt: skip
    for name, (format, content) in shapes.items():
        reading = documents(write(tmp_path / (name + suffix), COMPRESS[suffix](content.encode())))
        expected = {"b.txt": flat, "a.tsv": untabbed}.get(name, TEXTS)
        assert (name, [document.text for document in reading]) == (name, expected)
        assert reading.files[0].format == format
        assert reading.counts["documents"] == reading.files[0].documents == 4
        assert reading.counts["bytes"] == sum(len(text.encode()) for text in expected)
    if not suffix:
        parquet.write_table(
            pa.table({"n": [1, 2, 3, 4, 5], "text": [*TEXTS, None]}), tmp_path / "a.parquet", row_group_size=2
        )
        reading = documents(tmp_path / "a.parquet")
        assert [document.text for document in reading] == TEXTS
        assert reading.counts["empty"] == 1


def test_json_is_known_by_its_first_line_and_text_is_not_taken_for_it(tmp_path):
    assert detect(write(tmp_path / "a.txt", '{"text": "x"}\n')).format == "jsonl"
    assert detect(write(tmp_path / "b.txt", "{x} is a set\n\nindeed\n")).format == "blank-line"
    assert detect(write(tmp_path / "c.txt.gz", gzip.compress(b"one\ntwo\n\n\n"))).format == "line"
    assert detect(write(tmp_path / "d.txt", "[1] The first note.\n[2] The second.")).format == "line"
    assert detect(write(tmp_path / "e", '[{"text": "x"},\n{"text": "y"}]')).format == "json"


def test_the_format_that_is_asked_for_wins(tmp_path):
    file = write(tmp_path / "a.txt", "one\n\ntwo\nthree\n")
    assert texts(file, "line") == ["one", "two", "three"]
    assert texts(file, "blank-line") == ["one", "two\nthree"]
    assert texts(file, "file") == ["one\n\ntwo\nthree"]


def test_half_characters_of_json(tmp_path):
    reading = documents(write(tmp_path / "a.jsonl", '{"text": "\\ud83d!"}\n{"text": "\\ud83d\\ude00"}\n'))
    assert [document.text for document in reading] == ["\ufffd!", "😀"]
    assert reading.counts["half_characters"] == 1


def test_a_json_array_longer_than_the_window(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_CHUNK", 7)
    rng = random.Random(0)
    found = ["".join(rng.choice('aé中😀"\\\n\u0001 ') for _ in range(rng.randrange(60))) + "." for _ in range(50)]
    content = json.dumps([{"text": text, "n": [1, {"a": 1e5}]} for text in found], ensure_ascii=False, indent=0)
    reading = documents(write(tmp_path / "a.json", content))
    assert [document.text for document in reading] == found
    lines = content.split("\n")
    assert all('"text"' in lines[document.line] for document in reading)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.just("\n"), max_size=20), max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_what_csv_writes_is_read(cells):
    cells = [cell + "." for cell in cells] + ["x"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([["n", "text"], *([str(i), cell] for i, cell in enumerate(cells))])
        assert texts(file) == cells


def test_tables_without_a_header_and_quotes_that_are_only_quotes(tmp_path):
    assert texts(write(tmp_path / "a.tsv", '1\t"He said\n2\tno" and left\n'), text_field="2") == [
        '"He said',
        'no" and left',
    ]
    assert texts(write(tmp_path / "b.tsv", '1\t"a ""b"""\n2\t"c"\n'), text_field="2") == ['a "b"', "c"]
    assert texts(write(tmp_path / "c.csv", "1,one\n2,two\n"), text_field="2") == ["one", "two"]
    assert texts(write(tmp_path / "d.csv", "n,2\n1,one\n"), text_field="2") == ["one"]


def test_wikiextractor_undoes_its_escapes_and_counts_what_is_cut_short(tmp_path):
    content = (
        '<doc id="1" url="" title="A">\nA\n\nx &lt; y &amp;lt; z\n\n</doc>\n<doc id="2" url="" title="B">\nB\n\nopen'
    )
    reading = documents(write(tmp_path / "wiki_00", content))
    assert [(document.text, document.line) for document in reading] == [("A\n\nx < y &lt; z", 1), ("B\n\nopen", 7)]
    assert reading.counts["unclosed"] == 1
    assert "without </doc>" in reading.summary()[-1]


def test_entities_come_along(tmp_path):
    lines = [
        {"text": " Paris is big", "entities": [[1, 6, "LOC"]]},
        {"text": "Ann met Bo", "entities": [{"start": 8, "end": 10, "label": "PER"}, [0, 3]]},
        {"text": "none", "entities": None},
    ]
    found = list(documents(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))))
    assert [document.entities for document in found] == [((1, 6, "LOC"),), ((0, 3, ""), (8, 10, "PER")), ()]
    assert tidy(found[0]) == found[0]._replace(text="Paris is big", entities=((0, 5, "LOC"),))
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    spans = [[{"start": 0, "end": 5, "label": "LOC"}], None]
    parquet.write_table(pa.table({"text": ["Paris", "x"], "entities": spans}), tmp_path / "a.parquet")
    assert [d.entities for d in documents(tmp_path / "a.parquet")] == [((0, 5, "LOC"),), ()]


@pytest.mark.parametrize("wrong", [[[0, 9, "X"]], [[2, 2, "X"]], [["0", 1, "X"]], [[0]], {"a": 1}, [[-1, 2, "X"]]])
def test_wrong_entities_are_refused(tmp_path, wrong):
    file = write(tmp_path / "a.jsonl", json.dumps({"text": "four", "entities": wrong}))
    with pytest.raises(BadInput, match=r"a.jsonl, line 1: .*entit"):
        documents(file)


@given(st.text(st.characters(), max_size=30), st.data())
@settings(deadline=None)
def test_tidy_keeps_entities_on_their_characters(text, data):
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    document = tidy(Document(text, entities=((begin, end, "X"),)))
    document.text.encode()
    assert document.text == document.text.strip()
    inside = "".join(document.text[a:b] for a, b, _ in document.entities)
    whole = "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in text)
    assert inside == whole[max(begin, len(whole) - len(whole.lstrip())) : min(end, len(whole.rstrip()))]


# --- which files -----------------------------------------------------------------------------------------------------


def test_folders_patterns_and_what_is_no_text_in_them(tmp_path):
    write(tmp_path / "d" / "a.txt", "one\n\ntwo")
    write(tmp_path / "d" / "sub" / "b.jsonl.gz", gzip.compress(b'{"text": "three"}\n'))
    write(tmp_path / "d" / "sub" / "picture.png", b"\x89PNG\r\n\x1a\n" + bytes(100))
    write(tmp_path / "d" / "sub" / "numbers", struct.pack("<100d", *range(100)))
    write(tmp_path / "d" / "empty.txt", b"")
    write(tmp_path / "d" / "blank.txt", "\n \n")
    write(tmp_path / "d" / ".hidden", "not read")
    write(tmp_path / "d" / ".git" / "x.txt", "not read")
    os.symlink(tmp_path / "d", tmp_path / "d" / "sub" / "loop")
    reading = documents(tmp_path / "d")
    assert [document.text for document in reading] == ["one", "two", "three"]
    assert [(file.path.name, file.format) for file in reading.read] == [
        ("a.txt", "blank-line"),
        ("b.jsonl.gz", "jsonl"),
    ]
    assert {file.path.name: file.left_out for file in reading.files if file.left_out}.keys() == {
        "picture.png", "numbers", "empty.txt", "blank.txt",
    }  # fmt: skip
    summary = "\n".join(reading.summary())
    assert "1 file: JSON lines; 1 document, 5 bytes of text" in summary
    assert "4 files left out: " in summary
    assert "picture.png (is a picture)" in summary
    assert texts(str(tmp_path / "d" / "**" / "*.gz")) == ["three"]
    assert texts(str(tmp_path / "d" / "[ae]*.txt")) == ["one", "two"]
    assert texts([tmp_path / "d", tmp_path / "d" / "a.txt"]) == ["one", "two", "three"]
    with pytest.raises(BadInput, match=r"picture.png is a picture; name files of text"):
        documents(tmp_path / "d" / "sub" / "picture.png")


def test_standard_input_is_kept_for_two_passes(tmp_path, monkeypatch):
    class Input:
        isatty = staticmethod(lambda: False)
        buffer = io.BytesIO(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))

    monkeypatch.setattr("sys.stdin", Input)
    reading = documents("-")
    for _ in range(2):
        assert [(document.text, document.source) for document in reading] == [
            ("one", "standard input"),
            ("two", "standard input"),
        ]
    spool = reading.files[0].path
    assert reading.progress == (spool.stat().st_size, spool.stat().st_size)
    del reading
    assert not spool.exists()


def test_pipes_of_the_shell_are_kept_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("one\n\ntwo"))
    writer.start()
    reading = documents(tmp_path / "pipe")
    writer.join()
    assert [document.text for document in reading] == [document.text for document in reading] == ["one", "two"]


def test_many_files_are_shown_a_few_times(tmp_path):
    for i in range(9):
        write(tmp_path / f"{i}.txt", f"text {i}")
    said = []
    documents(tmp_path, say=said.append)
    assert [line.count("It begins") for line in said] == [1, 1, 1, 0]
    assert "only counted" in said[-1]


def test_missing_files_and_folders_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        documents(tmp_path / "none.txt")
    with pytest.raises(BadInput, match="matches no file"):
        documents(tmp_path / "*.txt")
    with pytest.raises(BadInput, match="holds no files"):
        documents(tmp_path)
    with pytest.raises(BadInput, match="at least one"):
        documents([])
    with pytest.raises(BadInput, match="choose one of: auto, blank-line, line, "):
        documents(write(tmp_path / "a.txt", "x"), "xml")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no text encoding 'klingon'"):
        documents(tmp_path / "a.txt", encoding="klingon")
    with pytest.raises(BadInput, match="no text encoding 'base64'"):
        documents(tmp_path / "a.txt", encoding="base64")
    with pytest.raises(BadInput, match="choose one of: refuse, replace, skip"):
        documents(tmp_path / "a.txt", encoding_errors="ignore")  # type: ignore[arg-type]
    write(tmp_path / "corpus" / "store.json", "{}")
    with pytest.raises(BadInput, match="is a prepared corpus"):
        documents(tmp_path / "corpus")


# --- what can be wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "is empty"),
        ("a.txt", "\n \n", "holds no text"),
        ("a.txt.gz", gzip.compress(b""), "is empty"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "line 2: not valid JSON"),
        ("a.jsonl", '{"text": "x"} {"text": "y"}\n', "line 1: not valid JSON .something follows"),
        ("a.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("a.jsonl", '{"body": "x", "id": 3}\n', "line 1: no field 'text'; the fields there are: body, id"),
        ("a.jsonl", '{"text": 3}\n', "field 'text' is int, not text"),
        ("a.jsonl", "[1]\n", "not a JSON object"),
        ("a.json", '[{"text": "x"},\n{"text": "y"\n', "line 3: not valid JSON"),
        ("a.json", '[{"text": "x"}\n{"text": "y"}]', "line 2: not valid JSON .a comma or ] is missing"),
        ("a.json", '[{"text": "x"}]\n[]', "line 2: not valid JSON .something follows the array"),
        ("a.json", '[{"text": "x"},', "the file ends before the array is closed"),
        ("a.json", '[\n{"text": "x"},\n{"body": "y"}]', "line 3: no field 'text'; the fields there are: body"),
        ("a.json", '{\n"data": [{"text": "x"}]}', "line 1: no field 'text'; the fields there are: data"),
        ("a.json", '[\n{"text": "\\u00', "line 2: not valid JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "id,body\n1,x\n", "line 1: no column 'text'; the columns are: id, body; name one.*or its number"),
        ("a.csv", 'id,text\n1,"x"y"\n', "line 2: ',' expected after '\"'"),
        ("a.csv", 'id,text\n1,"x\n\n', "line 2: unexpected end of data"),
        ("a.csv", 'id,text\n1,"x\ny"\n1,2,3\n', "line 4: 3 columns, but the first row has 2"),
        ("a.tsv", "id\ttext\n1\tx\ty\n", "line 2: 3 columns, but the first row has 2; is there a TAB"),
        ("wiki_0", '<doc id="1" url="" title="">\nx\n</doc>\nstray', "line 4: text outside of <doc"),
        ("a.parquet", b"PAR1 but no more", "damaged or incomplete Parquet"),
        ("a.parquet.gz", gzip.compress(b"PAR1 and so on"), "unpack it first"),
        ("a.txt", b"good\nna\xefve\n", "line 2, byte 3 of the text there: not UTF-8.*--encoding cp1252 reads 'naïve'"),
        ("a.txt", "他来了。\n你好\n".encode("gbk"), "not UTF-8.*--encoding gb18030 reads '他来了。'"),
        ("a.txt", b"one\ntwo \xff\n\nthree\n", "line 2, byte 5"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', "line 2, byte 1 of the text there: not UTF-8"),
        ("a.txt", "one".encode("utf-16-le"), "UTF-16 without its mark; say --encoding utf-16-le"),
        ("a.txt", b"one" + bytes(500), "is not text: many of its bytes are NUL"),
        ("a.pdf", b"%PDF-1.4 ...", "is PDF; turn it into text first"),
        ("a.docx", b"PK\x03\x04...", "is a zip archive .or .docx"),
        ("a.tar.gz", gzip.compress(b"x".ljust(257, b"\0") + b"ustar\x0000"), "is a tar archive; unpack it first"),
        ("wiki.xml.bz2", bz2.compress(b"<mediawiki xmlns"), "run WikiExtractor on it"),
        ("a.txt.gz", b"not gzip at all", "damaged or incomplete"),
        ("a.txt.xz", gzip.compress(b"one"), "damaged or incomplete, or not xz at all.*it is gzip"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, name, content, message):
    file = write(tmp_path / name, content)
    with pytest.raises(BadInput, match=message) as error:
        list(documents(file))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


LONG = b"".join(b"Line %d of a text that does not shrink too much\n" % (i * i) for i in range(8_000))


@pytest.mark.parametrize("suffix", list(COMPRESS)[1:])
def test_members_are_all_read_and_damage_is_never_taken_for_the_end(tmp_path, suffix):
    whole = COMPRESS[suffix](LONG)
    file = tmp_path / f"a.txt{suffix}"
    assert len(texts(write(file, whole + whole))) == 16_000
    assert len(texts(write(file, whole + bytes(64)))) == 8_000  # padding
    assert len(texts(write(tmp_path / "named otherwise", whole))) == 8_000
    half = len(whole) // 2
    changed = whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :]
    for damaged in (whole[:half], whole[:-3], whole + whole[:half], whole + b"and more", changed):
        write(file, damaged)
        with pytest.raises(BadInput, match="damaged or incomplete"):
            list(documents(file))


def test_zstd_with_skippable_frames_and_many_small_ones(tmp_path):
    skip = struct.pack("<II", 0x184D2A50, 5) + b"12345"
    one = zstandard.ZstdCompressor(write_checksum=True).compress
    content = b"".join(one(LONG[i : i + 5000]) + skip for i in range(0, len(LONG), 5000))
    assert texts(write(tmp_path / "a.zst", content)) == LONG.decode().split("\n")[:-1]
    streamed = zstandard.ZstdCompressor().compressobj()
    assert (
        texts(write(tmp_path / "b.zst", streamed.compress(LONG) + streamed.flush())) == LONG.decode().split("\n")[:-1]
    )


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "shift_jis"])
def test_other_encodings(tmp_path, encoding):
    content = ["他來了。" * 3000, "one", "女"]
    file = write(tmp_path / "a.txt", "\n".join(content).encode(encoding))
    assert texts(file, encoding=encoding) == content
    if encoding in ("utf-16", "utf-32", "utf-8-sig"):  # their marks say it
        assert texts(file) == content
        assert texts(file, encoding="gb18030") == content


def test_lines_of_old_macs(tmp_path):
    assert texts(write(tmp_path / "a.txt", "one\rtwo\r\rthree")) == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [("auto", b"x\xffy\xe4\xbd\n"), ("gb18030", b"x\x80y\x81\x20\n"), ("utf-16-le", b"x\0\0\xdcy\0\n\0")],
)
def test_encoding_errors_are_replaced_or_left_out_and_counted(tmp_path, encoding, bad):
    good = "好\n".encode("utf-8" if encoding == "auto" else encoding)
    file = write(tmp_path / "a.txt", good + bad + good)
    with pytest.raises(BadInput, match=r"line 2, .*say the right --encoding"):
        list(documents(file, encoding=encoding))
    skipped = documents(file, encoding=encoding, encoding_errors="skip")
    assert [document.text for document in skipped] == ["好", "好"]
    assert skipped.counts["undecodable"] == 1
    replaced = documents(file, encoding=encoding, encoding_errors="replace")
    assert next(iter(document.text for document in replaced if "x" in document.text)).startswith("x\ufffdy")
    assert len(list(replaced)) == 3
    assert replaced.counts["undecodable"] == 1
    assert replaced.counts["undecodable_bytes"] in (1, 2, 3)
    assert replaced.counts["damaged"] == 0
    assert "1 document with bytes of another encoding" in "\n".join(replaced.summary())


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_encoding_errors_inside_tables_and_json(tmp_path, name):
    rows = {
        "a.jsonl": b'{"text": "x\xff"}\n{"text": "y"}\n',
        "a.json": b'[{"text": "x\xff"},\n{"text": "y"}]\n',
        "a.csv": b'id,text\n1,"x\xff"\n2,y\n',
        "a.tsv": b"id\ttext\n1\tx\xff\n2\ty\n",
    }
    file = write(tmp_path / name, rows[name])
    assert texts(file, encoding_errors="replace") == ["x\ufffd", "y"]
    assert texts(file, encoding_errors="skip") == ["y"]
    with pytest.raises(BadInput, match="not UTF-8"):
        list(documents(file))


def test_nuls_controls_and_earlier_damage_are_counted_and_kept(tmp_path):
    content = ["good text " * 50, "a\0b\0c\x07", "was caf\ufffd"]
    reading = documents(write(tmp_path / "a.txt", "\n".join(content)))
    assert [document.text for document in reading] == [content[0].strip() + " ", *content[1:]]
    assert (reading.counts["nul"], reading.counts["control"], reading.counts["damaged"]) == (2, 1, 1)
    assert "2 NUL and 1 other control characters, kept" in reading.summary()


def test_empty_documents_are_left_out_and_counted(tmp_path):
    reading = documents(write(tmp_path / "a.jsonl", '{"text": ""}\n{"text": " \\n"}\n{"text": null}\n{"text": "x"}\n'))
    assert [document.text for document in reading] == ["x"]
    assert reading.counts["empty"] == 3
    assert next(iter(reading)).line == 4
    assert reading.counts["empty"] == 3  # each pass counts afresh


# --- great length ----------------------------------------------------------------------------------------------------


def test_a_line_of_a_hundred_megabytes(tmp_path):
    """Plain text comes in stretches and joins to itself again; JSON whole. Neither takes many times its size."""
    line = b"a word and another one, " * (100_000_000 // 24)
    reading = documents(write(tmp_path / "a.txt.zst", zstandard.compress(line)))
    size = pieces = 0
    tracemalloc.start()
    for document in reading:
        assert len(document.text) <= 2 * open_file.LONGEST
        size += len(document.text)
        pieces += 1
    assert tracemalloc.get_traced_memory()[1] < 12 * open_file.LONGEST
    tracemalloc.stop()
    assert size == len(line)
    assert pieces - 1 == reading.counts["parted"] >= 4
    record = write(tmp_path / "a.jsonl.zst", zstandard.compress(b'{"text": "' + line + b'"}'))
    assert [len(document.text) for document in documents(record)] == [len(line)]


@pytest.mark.parametrize("format", ["line", "blank-line", "file"])
@pytest.mark.parametrize(
    "content", ["字" * 5000, "ab cd " * 3000, "x" * 9000, "好的。" * 3000, "one line\n" * 2000, "é" * 7001]
)
def test_parts_join_to_the_text(tmp_path, monkeypatch, format, content):
    monkeypatch.setattr(open_file, "LONGEST", 1000)
    monkeypatch.setattr(formats, "LONGEST", 1000)
    reading = documents(write(tmp_path / "a.txt", content), format)
    found = [document.text for document in reading]
    assert max(len(text.encode()) for text in found) <= 3000
    assert "".join(found).replace("\n", "") == content.replace("\n", "")
    if "\n" not in content or format != "line":
        assert reading.counts["parted"] == len(found) - 1


def test_huge_cells_and_quotes_that_never_close(tmp_path, monkeypatch):
    cell = "x, " * 400_000
    assert texts(write(tmp_path / "a.csv", f'id,text\n1,"{cell}"\n')) == [cell]
    monkeypatch.setattr(formats, "RECORD", 100_000)
    with pytest.raises(BadInput, match="line 3: a quote is opened and not closed in the next 1"):
        list(documents(write(tmp_path / "b.csv", 'id,text\n1,x\n2,"open\n' + "3,and so on\n" * 20_000)))


def test_long_json_values_are_not_scanned_again_and_again(tmp_path):
    """A window that grew by a constant would make this take minutes."""
    text = "word " * 4_000_000
    assert texts(write(tmp_path / "a.json", json.dumps([{"text": text}, {"text": "x"}]))) == [text, "x"]


# --- data sets of the hub --------------------------------------------------------------------------------------------


def test_data_sets_of_the_hub_are_read_the_same_way_from_a_folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write(
        tmp_path / "set" / "train.jsonl", "".join(json.dumps({"body": f"text {i}", "n": i}) + "\n" for i in range(600))
    )
    write(tmp_path / "set" / "test.jsonl", '{"body": "held", "n": 0}\n')
    name = f"hub:{tmp_path / 'set'}"
    said = []
    reading = documents(name, text_field="body", say=said.append)
    assert [(document.text, document.line) for document in reading][598:] == [("text 598", 599), ("text 599", 600)]
    assert "a data set of the hub. It begins: “text 0” | “text 1”" in said[0]
    assert reading.read[0].documents == 600
    assert texts(f"{name},split=test,column=body") == ["held"]
    for wrong, message in {
        f"{name},split=dev": "Bad split",
        f"{name},column=n": "column 'n' is int64, not text; the columns of text are: body",
        name: "no column 'text'; the columns are: body, n",
        f"{name},columns=n": "any of: config=, split=",
        f"hub:{tmp_path / 'none'}": "cannot be read",
    }.items():
        with pytest.raises(BadInput, match=message):
            documents(wrong)
    saved = tmp_path / "saved"
    datasets.Dataset.from_dict({"text": ["a", "b", None]}).save_to_disk(str(saved))
    assert texts(f"hub:{saved}") == ["a", "b"]
    with pytest.raises(BadInput, match=f"read it as hub:{saved}"):
        documents(saved)


SEEDS = [b'{"text": "x"}\n', b'[{"text": "x"}]', b'a,text\n1,"x"\n', b"text\tb\nx\ty\n", b"PAR1", b'<doc id="1">\n', b"\xff\xfe", b"\x1f\x8b", b"BZh9", b"\x28\xb5\x2f\xfd"]  # fmt: skip  # noqa: E501


@given(
    st.sampled_from([*SEEDS, b""]), st.binary(max_size=60) | st.text(max_size=30).map(str.encode),
    st.sampled_from(SEEDS), st.sampled_from(formats.FORMATS), st.sampled_from(["refuse", "replace", "skip"]),
    st.sampled_from(["auto", "gb18030", "utf-16"]),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(before, middle, after, format, errors, encoding):
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "a", before + middle + after)
        try:
            for document in documents(file, format, encoding=encoding, encoding_errors=errors):
                assert document.text.strip()
                document.text.encode()
        except BadInput as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_the_commands_offer_every_format():
    assert get_args(get_args(TextFormat)[0]) == formats.FORMATS
    assert set(formats.FORMATS) == {"auto", *formats.READERS} == {"auto", *formats.SHOWN}


def test_what_is_no_text_in_a_folder_is_counted(tmp_path):
    (tmp_path / "a.txt").write_text("One.\nTwo.\n")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "round").symlink_to("round")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "store.json").write_text("{}")
    (tmp_path / "corpus" / "preparation.json").write_text("{}")
    reading = documents(tmp_path)
    assert [document.text for document in reading] == ["One.", "Two."]
    assert {Path(file.name).name: file.left_out for file in reading.files if file.left_out} == {
        "corpus": "is a prepared corpus",
        "dangling": "is a link to nothing",
        "pipe": "is no file",
        "round": "is a link to nothing",
    }
    assert "4 files left out" in reading.summary()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n")
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError, match="closed"):
        documents(tmp_path)


def test_where_bytes_are_wrong_it_says_what_that_looks_like(tmp_path):
    file = tmp_path / "a.txt"
    for data, said in (
        ("Der schöne süß".encode()[:-1], "it ends within a character: was it cut short?"),
        ("Der schöne ".encode() + b"s\xfc\xdfe", "which what stands before it is: damaged, or put together"),
        (b"Der sch\xf6ne", "--encoding cp1252 reads 'Der schöne'"),
    ):
        file.write_bytes(data)
        with pytest.raises(BadInput, match=re.escape(said)):
            documents(file)


def test_half_a_character_is_not_counted_as_damage_that_was_there(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "\\ud83d half"}\n{"text": "\\ufffd was there, \\ud83d not"}\n')
    reading = documents(file)
    assert [document.text for document in reading] == ["\ufffd half", "\ufffd was there, \ufffd not"]
    assert reading.counts["half_characters"] == 2
    assert reading.counts["damaged"] == 1
