"""The sentence rules: a table of hard cases, and that nothing is lost between sentences."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus.sentences import examples, split, starts, wrapped
from masklab.errors import BadInput

LINES = (Path(__file__).parent / "sentence_cases.tsv").read_text("utf-8").splitlines()[1:]
CASES = [tuple(line.replace("⏎", "\n").split("\t")) for line in LINES]


@pytest.mark.parametrize(("group", "marked"), CASES)
def test_hard_cases(group, marked):
    pieces = marked.split("‖")
    text = "".join(pieces)
    assert split(text) == [piece.strip() for piece in pieces]


def test_the_table_is_long_and_of_many_kinds():
    assert len(CASES) >= 80
    assert len({group for group, _ in CASES}) >= 20


@given(
    st.text(alphabet="aB .!?\n。”\"I5é…「」（）()《》“我\ud83d\ude00:-'", max_size=60),
    st.sampled_from(["rules", "line", "none"]),
)
@settings(deadline=None)
def test_sentences_cover_the_text(text, mode):
    found = starts(text, mode)
    assert found == sorted(set(found))
    assert all(not text[at].isspace() for at in found)
    assert bool(found) == bool(text.strip())
    assert "".join("".join(split(text, mode)).split()) == "".join(text.split())


def test_modes():
    text = " \n He left. She came.\n\n  Then. More\n"
    assert split(text, "line") == ["He left. She came.", "Then. More"]
    assert split(text, "none") == ["He left. She came.\n\n  Then. More"]
    assert starts(text, "none") == [3]
    with pytest.raises(BadInput, match="rules, line, none"):
        starts("x", "words")  # type: ignore[arg-type]


def test_lines_broken_to_a_width_are_known():
    prose = "the quick brown fox jumps over the lazy dog and sleeps for as long as it wants to in the warm sun "
    broken = "\n".join((prose * 4)[i : i + 60] for i in range(0, 300, 60))
    assert wrapped(broken) > 0.7
    assert wrapped(prose) == 0
    assert wrapped("a title\n" + "\n".join(["a short line, and then " + "x" * 30, "another", "a third"] * 4)) < 0.5


def test_ten_examples_from_all_over():
    texts = [f"Sentence {i} is here. " + "And a long one follows it, " * 10 + "to the end." for i in range(50)]
    found = examples(texts)
    assert len(found) == 10
    assert len({line for line in found if line.startswith("Sentence")}) >= 3
    assert all(len(line) <= 110 for line in found)
    assert examples(["One."]) == ["One."]
    assert examples([]) == []


def test_a_long_text_without_spaces_or_ends_takes_no_longer_per_character():
    assert len(starts("好。" * 100_000)) == 100_000
    assert len(starts("x." * 100_000)) == 1
    assert len(starts("(" * 1000 + "A!) " * 20_000)) >= 1
    assert len(starts('他。"' * 50_000)) >= 50_000
