"""Chinese words are jieba's, at exact offsets; a person's dictionary has its say; the text is never changed."""

import logging
import sys
from itertools import accumulate

import jieba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus.units import chinese, code_points
from masklab.corpus.words_zh import ChineseWords, read_dictionary, traditional_share
from masklab.errors import BadInput

TEXTS = [
    "我来到北京清华大学，小明硕士毕业于中国科学院计算所，后在日本京都大学深造。",
    "他说的确实在理：云计算和大数据。3.14元，C++与T恤，abc-def 2023年5月23日！",
    "No Chinese here, 42 times.\n",
    "",
    "乒乓球拍卖完了🏓\n\n南京市长江大桥 は橋です、ไทย。",
]
TRADITIONAL = "乾隆皇帝著書，瞭解後來發生的經濟學問題；北京大學生前來應聘。"
SIMPLE = "乾隆皇帝著书，了解后来发生的经济学问题；北京大学生前来应聘。"


@pytest.fixture(scope="module")
def cut() -> ChineseWords:
    jieba.setLogLevel(logging.ERROR)
    return ChineseWords()


def spelled(finder: ChineseWords, text: str) -> list[str]:
    return [text[a:b] for a, b in finder([text])[0].tolist()]


def by_jieba(text: str) -> list[tuple[int, int]]:
    words = jieba.lcut(text)
    ends = list(accumulate(map(len, words)))
    return [
        (end - len(word), end)
        for word, end in zip(words, ends, strict=True)
        if len(word) > 1 and chinese(code_points(word)).any()
    ]


def test_the_words_are_jiebas(cut):
    found = cut(TEXTS)
    assert [list(map(tuple, spans.tolist())) for spans in found] == [by_jieba(text) for text in TEXTS]
    assert {"清华大学", "中国科学院", "乒乓球", "南京市", "长江大桥"} <= {
        w for text in TEXTS for w in spelled(cut, text)
    }
    assert len(found[2]) == len(found[3]) == 0
    assert cut([]) == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.text(
            st.sampled_from("北京大学生前来应聘我他的。，aB1 \n\x00🙂é\ufffd\uffff𠀀") | st.characters(), max_size=25
        )
    )
)
def test_any_texts_at_once_are_as_each_alone(cut, texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    for text, spans in zip(texts, cut(texts), strict=True):
        assert spans.dtype == np.int64
        assert np.array_equal(spans, cut([text])[0])
        assert (spans[:, 1] - spans[:, 0] >= 2).all()
        assert (spans.ravel()[1:] >= spans.ravel()[:-1]).all()
        assert all(chinese(code_points(text[a:b])).any() for a, b in spans.tolist())


def test_a_dictionary_of_ones_own(cut, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("\ufeff石墨烯电池\n云计算 20000 n\r\n\n列奥纳多·达·芬奇 nr\nPhysics\n好\n量子 位 3\n", "utf-8")
    text = "石墨烯电池和云计算，列奥纳多·达·芬奇画画。"
    assert "石墨烯电池" not in spelled(cut, text)
    own = ChineseWords(file)
    assert [word for word in spelled(own, text) if len(word) > 2] == ["石墨烯电池", "云计算", "列奥纳多·达·芬奇"]
    assert own.left_out == ["Physics", "好"]
    assert "石墨烯电池" not in spelled(ChineseWords(), text)  # nobody else's dictionary has changed
    assert read_dictionary(file)[1:3] == [("云计算", 20000, "n"), ("列奥纳多·达·芬奇", None, "nr")]


def test_a_dictionary_that_cannot_be(tmp_path):
    file = tmp_path / "mine.txt"
    with pytest.raises(BadInput, match="does not exist"):
        ChineseWords(file)
    file.write_text(" \n\n")
    with pytest.raises(BadInput, match="holds no word"):
        ChineseWords(file)
    file.write_text("大学\n大学 9999999999999\n", "utf-8")
    with pytest.raises(BadInput, match="line 2: 9999999999999 is no frequency"):
        ChineseWords(file)
    file.write_bytes("大学".encode("gb18030"))
    with pytest.raises(BadInput, match="is not UTF-8; convert it: iconv"):
        ChineseWords(file)


def test_traditional_characters_are_cut_as_simplified_ones(cut):
    simple = ChineseWords(simplify=True)
    assert len(TRADITIONAL) == len(SIMPLE)
    (found,) = simple([TRADITIONAL])
    assert np.array_equal(found, cut([SIMPLE])[0])
    assert "經濟學" in spelled(simple, TRADITIONAL)
    assert not np.array_equal(cut([TRADITIONAL])[0], found)
    assert np.array_equal(simple([SIMPLE])[0], found)  # simplified text stays as it is
    together = simple([SIMPLE, TRADITIONAL, "plain"])
    assert [len(spans) for spans in together] == [len(found), len(found), 0]


def test_a_conversion_of_another_length_is_made_letter_by_letter(monkeypatch):
    simple, table = ChineseWords(simplify=True), str.maketrans({"於": "于于", "學": "学", "習": "习"})
    monkeypatch.setattr(simple, "_convert", lambda text: text.translate(table))
    assert simple._simplified("學習\n於學習") == "学习\n於学习"
    assert spelled(simple, "學習\n於學習") == ["學習", "學習"]


def test_a_dictionary_in_traditional_characters(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("前來應聘\n", "utf-8")
    assert "前來應聘" in spelled(ChineseWords(file, simplify=True), TRADITIONAL)


def test_how_much_is_traditional():
    assert traditional_share([SIMPLE, "English"]) == 0
    differing = sum(a != b for a, b in zip(TRADITIONAL, SIMPLE, strict=True))
    assert traditional_share([TRADITIONAL, "English"]) == differing / chinese(code_points(SIMPLE)).sum()
    assert traditional_share(["English"]) == 0


def test_without_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "opencc", None)
    assert traditional_share([TRADITIONAL]) is None
    with pytest.raises(BadInput, match=r"opencc: pip install 'masklab\[zh\]'"):
        ChineseWords(simplify=True)
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(BadInput, match=r"rjieba: pip install 'masklab\[zh\]'"):
        ChineseWords()
