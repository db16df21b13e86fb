"""Names of a list: found where a plain search finds them, at word boundaries, the longest first."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus.entities import Gazetteer, read_names
from masklab.errors import BadInput

LETTERS = "aB b.-\n中山é"


def spelled(gazetteer: Gazetteer, text: str, words: list | None = None) -> list[str]:
    given = None if words is None else [np.array(words, np.int64).reshape(-1, 2)]
    return [" ".join(text[a:b].split()) for a, b in gazetteer([text], given)[0].tolist()]


def boundary(text: str, at: int) -> bool:
    """No word goes on here: not two letters in a row of a script with spaces."""
    pair = text[at - 1 : at + 1] if 0 < at < len(text) else ""
    return not re.fullmatch(r"[aBbé]{2}", pair)


def plain(names: list[str], text: str) -> list[tuple[int, int]]:
    """Every place of every name, one by one, then the longest of those that overlap."""
    found = set()
    for name in names:
        pattern = r"\s+".join(map(re.escape, name.split()))
        for at in range(len(text)):
            match = re.compile(pattern).match(text, at)
            if match and boundary(text, at) and boundary(text, match.end()):
                found.add((at, match.end()))
    chosen: list[tuple[int, int]] = []
    for begin, end in sorted(found, key=lambda span: (span[0] - span[1], span[0])):
        if all(end <= a or b <= begin for a, b in chosen):
            chosen.append((begin, end))
    return sorted(chosen)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(LETTERS, min_size=1, max_size=5).map(lambda t: " ".join(t.split())).filter(bool), max_size=5),
    st.lists(st.text(LETTERS, max_size=30), min_size=1, max_size=3),
)
def test_as_a_plain_search(names, texts):
    found = Gazetteer(names)(texts)
    for text, spans in zip(texts, found, strict=True):
        assert list(map(tuple, spans.tolist())) == plain(names, text), (names, text)


def test_the_longest_wins_and_types_are_counted():
    names = [("New York", "place"), ("New York Times", "paper"), ("York", "place"), ("Ada Lovelace", "")]
    gazetteer = Gazetteer(names)
    text = "The New  York\nTimes of New York, York; Yorkshire, new york. Ada Lovelace's"
    assert spelled(gazetteer, text) == ["New York Times", "New York", "York", "Ada Lovelace"]
    assert gazetteer.seen == {"place": 2, "paper": 1, "": 1}
    assert spelled(Gazetteer(names, case=False), text) == [
        "New York Times", "New York", "York", "new york", "Ada Lovelace",
    ]  # fmt: skip
    assert spelled(Gazetteer(["U.S.", "O'Brien", "C++", "G-7"]), "the U.S. and O'Brien: C++, G-7s") == [
        "U.S.", "O'Brien", "C++",
    ]  # fmt: skip
    assert Gazetteer([])(["a", "b"])[1].tolist() == []
    assert Gazetteer(["a"])([]) == []


def test_short_chinese_names_do_not_cut_through_words():
    text = "发展中山区的中山大学"
    gazetteer = Gazetteer(["中山", "大学"])
    assert spelled(gazetteer, text) == ["中山", "中山", "大学"]
    words = [[0, 2], [3, 5], [6, 8], [8, 10]]  # 发展|中|山区|的|中山|大学
    assert spelled(gazetteer, text, words) == ["中山", "大学"]
    assert gazetteer([text], [np.array(words)])[0].tolist() == [[6, 8], [8, 10]]
    assert spelled(gazetteer, text, [[0, 2], [3, 5], [6, 10]]) == ["中山", "大学"]  # inside a word it may be
    assert spelled(Gazetteer(["中山区的"]), text, words) == ["中山区的"]  # long ones are believed


def test_ten_thousand_names_at_once():
    names = [
        f"{chr(0x4E00 + i % 5000)}{chr(0x4E00 + i * 7 % 5000)}{chr(0x4E00 + i * 13 % 5000)}" for i in range(10_000)
    ]
    names += [f"Person {i} of {i % 7}" for i in range(10_000)]
    gazetteer = Gazetteer(names)
    text = " and ".join(names[9_000:11_000])
    assert spelled(gazetteer, text) == names[9_000:11_000]


def test_lists_from_files(tmp_path):
    file = tmp_path / "names.tsv"
    file.write_text("\ufeffNew  York\tplace\textra\n\n  Ada \n北京\t地名\r\n", "utf-8")
    assert read_names(file) == [("New York", "place"), ("Ada", ""), ("北京", "地名")]
    with pytest.raises(BadInput, match="does not exist; name a list"):
        read_names(tmp_path / "none")
    file.write_text("\n \n")
    with pytest.raises(BadInput, match="holds no name"):
        read_names(file)
    file.write_bytes("北京".encode("gb18030"))
    with pytest.raises(BadInput, match="is not UTF-8"):
        read_names(file)
    file.write_text("a\uffffb\n", "utf-8")
    with pytest.raises(BadInput, match="stands for nothing"):
        read_names(file)


def test_order_and_disjointness_over_many_texts():
    texts = ["a b a", "b", "", "a\nb", "ab a"] * 50
    for text, spans in zip(texts, Gazetteer(["a", "a b", "b a"])(texts), strict=True):
        assert all(0 <= a < b <= len(text) for a, b in spans.tolist())
        assert all(x[1] <= y[0] for x, y in pairwise(spans.tolist()))
