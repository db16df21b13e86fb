"""Labelled files are read as their owners wrote them, and bad ones are refused with the line and the cure."""

import gzip
import json

import pytest

from masklab.errors import BadInput
from masklab.tasks.table import classes, read_table, read_tagged


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_tsv_keeps_its_quotes(tmp_path):
    path = write(tmp_path, "a.tsv", '\ufefflabel\tsentence\n1\t"Well," he said\n0\tno\r\n')
    table = read_table(path, ["sentence"], "label")
    assert table.texts == [('"Well," he said',), ("no",)]
    assert (table.labels, table.lines) == (["1", "0"], [2, 3])


def test_a_file_without_header_goes_by_numbers(tmp_path):
    path = write(tmp_path, "cola.tsv", "gj04\t1\t\tIt rains.\ngj04\t0\t*\tRains it the.\n")
    table = read_table(path, ["4"], "2")
    assert table.texts == [("It rains.",), ("Rains it the.",)]
    assert table.labels == ["1", "0"]


def test_a_csv_may_quote_commas_and_line_ends(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"one, two\nthree",x\nfour,y\n')
    table = read_table(path, ["text"], "label")
    assert table.texts == [("one, two\nthree",), ("four",)]
    assert table.lines == [2, 4]


def test_json_lines_and_pairs_and_compression(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps({"a": "x", "b": "y", "label": 1}) + "\n\n" + json.dumps({"a": "u", "b": "v", "label": 0}))
    table = read_table(path, ["a", "b"], "label")
    assert table.texts == [("x", "y"), ("u", "v")]
    assert (table.labels, table.lines) == (["1", "0"], [1, 3])


@pytest.mark.parametrize(
    ("name", "text", "asked", "said"),
    [
        ("a.tsv", "sentence\tlabel\nx\t1\n", "text", "line 1: no column 'text'; the header has: sentence, label"),
        ("a.tsv", "text\tlabel\nx\t1\ny\n", "text", "line 3: 1 columns"),
        ("a.tsv", "text\tlabel\nx\t\n", "text", "line 2: the label"),
        ("a.tsv", "text\tlabel\n", "text", "no examples"),
        ("a.csv", 'text,label\n"x,1\n', "text", "line 2"),
        (
            "a.jsonl",
            '{"sentence": "x", "label": 1}\n',
            "text",
            "line 1: no field 'text'; the fields there are: sentence",
        ),
        ("a.jsonl", '{"text": "x", "label": 1}\nnope\n', "text", "line 2: not a JSON object"),
        ("a.jsonl", '{"text": ["x"], "label": 1}\n', "text", "field 'text' is"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, text, asked, said):
    path = write(tmp_path, name, text)
    with pytest.raises(BadInput) as error:
        read_table(path, [asked], "label")
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_tagged_words(tmp_path):
    path = write(tmp_path, "a.txt", "-DOCSTART- O\n\nThe\tDT\nold man\tNN\n\n\nruns\tVB\n")
    found = read_tagged(path)
    assert found.words == [["The", "old man"], ["runs"]]
    assert found.tags == [["DT", "NN"], ["VB"]]
    assert found.lines == [[3, 4], [7]]


def test_conll_columns(tmp_path):
    path = write(tmp_path, "a.conll", "He PRP B-NP\nreckons VBZ B-VP\n")
    assert read_tagged(path).tags == [["B-NP", "B-VP"]]
    assert read_tagged(path, tag="2").tags == [["PRP", "VBZ"]]


def test_conllu_leaves_out_comments_ranges_and_empty_words(tmp_path):
    rest = "\t_" * 6
    lines = ["# text = don't", f"1-2\tdon't\t_\t_{rest}", f"1\tdo\tdo\tAUX{rest}", f"2\tn't\tnot\tPART{rest}",
             f"2.1\tgo\tgo\tVERB{rest}"]  # fmt: skip
    found = read_tagged(write(tmp_path, "a.conllu", "\n".join(lines) + "\n"))
    assert found.words == [["do", "n't"]]
    assert found.tags == [["AUX", "PART"]]
    assert read_tagged(tmp_path / "a.conllu", word="lemma").words == [["do", "not"]]


def test_tagged_json_lines(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"tokens": ["a", "b"], "ner": ["O", "B"]}\n')
    assert read_tagged(path, tag="ner").tags == [["O", "B"]]
    with pytest.raises(BadInput, match="no field 'tags'; the fields there are: tokens, ner"):
        read_tagged(path)


@pytest.mark.parametrize(
    ("text", "tag", "said"),
    [("The DT\nman\n", "", "line 2: 1 column "), ("The DT\n", "7", "7 are needed"), ("a\t\n", "", "line 1: no tag"),
     ("The DT\n", "upos", "a number from 1"), ("\n", "", "no tagged words"), ("The DT\n", "0", "counted from 1")],
)  # fmt: skip
def test_bad_tagged_text_is_refused(tmp_path, text, tag, said):
    with pytest.raises(BadInput, match=said):
        read_tagged(write(tmp_path, "a.txt", text), tag=tag)


def test_classes_are_in_a_person_s_order():
    assert classes(["10", "9", "9", "1"]) == ["1", "9", "10"]
    assert classes(["no", "yes", "no"]) == ["no", "yes"]
