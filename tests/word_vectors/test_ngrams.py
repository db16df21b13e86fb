"""The pieces of words are those of fastText: the same n-grams, the same buckets, whatever the language."""

import numpy as np
import pytest
from gensim.models.fasttext import ft_ngram_hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.errors import BadInput
from masklab.word_vectors.ngrams import Ngrams, Table, fnv1a, hashes_of, mean_rows, word_ngram_ids

# Asked of the official program: `fasttext print-ngrams` on a model whose rows hold their own number (2 M buckets).
OFFICIAL = {
    "where": (
        "<wh 167652 <whe 989715 <wher 1526707 <where 1071586 whe 420941 wher 312621 where 969176 where> 121234 "
        "her 1473420 here 1540811 here> 114991 ere 1529033 ere> 1568469 re> 867498"
    ),
    "naïve😀": (
        "<na 1806890 <naï 1907692 <naïv 878190 <naïve 933201 naï 1590546 naïv 1719404 naïve 832043 naïve😀 1739570 "
        "aïv 356832 aïve 1223007 aïve😀 608526 aïve😀> 1200016 ïve 1711570 ïve😀 1373051 ïve😀> 19871 ve😀 261065 "
        "ve😀> 628949 e😀> 1607081"
    ),
}


@pytest.mark.parametrize("word", OFFICIAL)
def test_ngrams_and_buckets_are_those_of_the_official_program(word):
    pairs = OFFICIAL[word].split()
    ngrams = Ngrams()
    assert ngrams.of(word) == pairs[::2]
    assert ngrams.ids(word).tolist() == [int(n) for n in pairs[1::2]]


@given(st.lists(st.text(min_size=1, max_size=9), max_size=5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 999))
@settings(max_examples=60, deadline=None)
def test_buckets_equal_gensims(words, shortest, more, buckets):
    ngrams = Ngrams(shortest, shortest + more, buckets)
    words = [w for w in words if w != "</s>" and not any("\ud800" <= c <= "\udfff" for c in w)]
    table = ngrams.table(words)
    for i, word in enumerate(words):
        assert sorted(table.row(i)) == sorted(ft_ngram_hashes(word, shortest, shortest + more, buckets))
        assert len(table.row(i)) == len(ngrams.of(word))


def test_the_line_end_has_no_pieces_and_pieces_can_be_switched_off():
    table = Ngrams().table(["the", "</s>", "cat"])
    assert np.diff(table.offsets).tolist() == [6, 0, 6]
    assert Ngrams(longest=0, buckets=0).table(["the", "cat"]).ids.size == 0
    assert Ngrams().table([]).offsets.tolist() == [0]


def test_bytes_that_are_no_text_are_hashed_as_they_were_read():
    word = b"caf\xe9".decode("utf-8", "surrogateescape")
    whole = np.frombuffer(b"<caf\xe9>", np.uint8)
    assert Ngrams(3, 6).ids(word)[3] == fnv1a(whole) % 2_000_000


def test_word_ngrams_wrap_as_the_official_hashes_do():
    hashes = hashes_of(["the", "größe", "cat"])
    assert hashes.dtype == np.int32
    assert hashes[0] == np.int32(np.uint32(fnv1a(np.frombuffer(b"the", np.uint8))))
    assert (hashes < 0).any()  # so that the sign extension below is tried
    a, b, c = (int(h) % 2**64 for h in hashes)
    two = (a * 116049371 + b) % 2**64
    expected = [two, (two * 116049371 + c) % 2**64, (b * 116049371 + c) % 2**64]
    assert word_ngram_ids(hashes, 3, 1000) == [h % 1000 for h in expected]


def test_mean_rows():
    own = np.array([[1, 1], [5, 7]], np.float32)
    shared = np.array([[2, 0], [0, 4]], np.float32)
    table = Table(np.array([0, 3, 3]), np.array([0, 1, -1], np.int32))
    assert mean_rows(own, shared, table).tolist() == [[0.75, 1.25], [5, 7]]  # -1 adds nothing but is counted
    assert mean_rows(None, shared, table).tolist() == [[np.float32(2 / 3), np.float32(4 / 3)], [0, 0]]


@pytest.mark.parametrize("wrong", [(0, 3, 10), (4, 3, 10), (3, 6, 0), (3, 6, 2**31), (3, 101, 5)])
def test_nonsense_is_refused(wrong):
    with pytest.raises(BadInput):
        Ngrams(*wrong)
