"""Case and punctuation: what is derived from a text can be put back, within the label set."""

from hypothesis import given
from hypothesis import strategies as st

from masklab.tasks.casing import LABELS, SIGNS, derive, restore

letters = st.text("abcdefghijklmnopqrstuvwxyzäéßñσж", min_size=2, max_size=8)
words = st.one_of(letters, letters.map(str.capitalize), letters.map(str.upper), st.integers(0, 99).map(str))
written = st.lists(st.tuples(words, st.sampled_from(SIGNS)).map("".join), max_size=12).map(" ".join)


def test_an_example():
    assert derive('See PEP 8, "please".') == (["see", "pep", "8", "please"], ["Capital", "UPPER", "lower,", "lower."])
    assert derive("iPhone ValueError! - I;")[1] == ["lower", "Capital.", "Capital,"]
    assert restore(["see", "pep"], ["Capital", "UPPER."]) == "See PEP."


@given(written)
def test_what_is_written_in_the_labels_comes_back(text):
    found, labels = derive(text)
    assert set(labels) <= set(LABELS)
    if all(_plain(word) for word in text.split()):
        assert restore(found, labels) == text


def _plain(word: str) -> bool:
    """Lower, Capital or UPPER throughout: what the labels can say ("Ss" from "ß".upper() is not)."""
    core = word.rstrip(",.:?")
    return core in (core.lower(), core.upper()) or core[0] + core[1:].lower() == core


@given(st.text(max_size=60))
def test_any_text_settles_after_one_round(text):
    """Whatever cannot be said in the labels is lost once and only once."""
    found, labels = derive(text)
    assert derive(restore(found, labels)) == (found, labels)


@given(st.text(max_size=60))
def test_the_words_tell_nothing_of_the_labels(text):
    for word in derive(text)[0]:
        assert word[0].isalnum()
        assert word[-1].isalnum()
        assert derive(word)[0] == [word]
        assert derive(word)[1] == ["lower"]
