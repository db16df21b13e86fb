"""The sentence rules: what they promise, and that nothing is lost between sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masklab.corpus.sentences import split, starts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        (
            "Dr. Who met J. R. Smith in the U.S. Army. He left.",
            ["Dr. Who met J. R. Smith in the U.S. Army.", "He left."],
        ),
        ("See fig. 3 and No. 5, e.g. This one.", ["See fig. 3 and No. 5, e.g. This one."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("So did I. Then we left.", ["So did I.", "Then we left."]),
        ('"Come." He came. "Go!" (He went.) Good.', ['"Come."', "He came.", '"Go!"', "(He went.)", "Good."]),
        ("It cost 3.5 million... and more. 7 came.", ["It cost 3.5 million... and more.", "7 came."]),
        ("Heading\nThe text\n\n  goes on", ["Heading", "The text", "goes on"]),
        ("他来了。你呢？“好！”我说。", ["他来了。", "你呢？", "“好！”", "我说。"]),
        ("   ", []),
        ("", []),
        ("  . x", [". x"]),
    ],
)
def test_rules(text, expected):
    assert split(text) == expected


@given(st.text(alphabet='aB .!?\n。”"I5é', max_size=40))
def test_sentences_cover_the_text(text):
    found = starts(text)
    assert found == sorted(set(found))
    assert all(not text[at].isspace() for at in found)
    assert bool(found) == bool(text.strip())
    assert "".join("".join(split(text)).split()) == "".join(text.split())
