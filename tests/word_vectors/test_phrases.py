"""Phrases have gensim's scores and join the text as gensim does; pairs are counted exactly in any room."""

from collections import Counter
from itertools import pairwise
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from masklab.cli import app
from masklab.errors import BadInput
from masklab.word_vectors import phrases, scan
from masklab.word_vectors.phrases import Settings, find, join, lines, with_phrases
from masklab.word_vectors.scan import encode
from masklab.word_vectors.word_table import GAP


@pytest.fixture(scope="module")
def sentences():
    text = "\n".join(topics[name] for name in sorted(topics)[:40])
    return [words for line in text.split("\n") if (words := line.split())]


def text(encoded):
    return [line.split(" ") for line in "".join(lines(encoded)).split("\n")[:-1]]


@pytest.mark.parametrize(("score", "theirs", "threshold"), [("mikolov", "default", 20.0), ("npmi", "npmi", 0.4)])
def test_equal_to_gensim(sentences, score, theirs, threshold):
    from gensim.models.phrases import Phrases

    every = encode(sentences, min_count=1)
    for joiner in "·÷":  # a second pass joins what the first one left; neither is in the text, which confuses gensim
        ours = find(every, Settings(score=score, min_count=3, joiner=joiner), threshold)
        # gensim multiplies by the different words and pairs where word2phrase.c has the words of the text
        learned = Phrases(sentences, min_count=3, threshold=1e-9, scoring=theirs, delimiter=joiner)
        factor = every.vocabulary.total / len(learned.vocab) if score == "mikolov" else 1.0
        learned.threshold = threshold / factor
        expected = learned.export_phrases()
        found = dict(zip(ours.words, ours.scores.tolist(), strict=True))
        assert len(found) > 50
        assert found == pytest.approx({word: score * factor for word, score in expected.items()}, rel=1e-12)
        sentences = [learned[sentence] for sentence in sentences]
        every = join(every, ours)
        assert text(every) == sentences
        assert every.vocabulary.counts.tolist() == np.bincount(every.ids[every.ids >= 0]).tolist()
        assert every.vocabulary.total == sum(map(len, sentences))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-2, 9), max_size=60), st.integers(1, 2), st.integers(1, 30))
def test_pairs_are_counted_in_any_room(ids, least, room):
    """Also where the table holds one pair at a time."""
    array = np.array(ids, np.int32)
    frequent = np.arange(10) < 8
    pairs, counts = phrases._often(array, frequent, least, room)
    expected = Counter((a, b) for a, b in pairwise(ids) if 0 <= a < 8 and 0 <= b < 8)
    assert dict(zip(map(tuple, pairs.tolist()), counts.tolist(), strict=True)) == {
        pair: count for pair, count in expected.items() if count >= least
    }


def test_in_small_stretches(sentences, monkeypatch):
    every = encode(sentences, min_count=1)
    found = find(every, Settings(), 50.0)
    whole = text(join(every, found))
    assert whole == [found.join(sentence) for sentence in sentences]
    monkeypatch.setattr(phrases, "_CHUNK", 7)
    joined = join(every, found)
    assert text(joined) == whole
    assert find(every, Settings(), 50.0, max_pairs=100).words == found.words


def test_what_training_takes(sentences, tmp_path):
    """Rare words part their neighbours; the counts of the result are those of the joined text."""
    path = tmp_path / "text"
    path.write_text("\n".join(map(" ".join, sentences)), "utf-8")
    options = Settings(passes=2, threshold=(60.0, 30.0), min_count=4, joiner="·")
    found, passes = with_phrases(path, options, min_count=6, end_of_line="</s>", folder=tmp_path)
    every = encode(path, min_count=1)
    for threshold, told in zip((60.0, 30.0), passes, strict=True):
        here = find(every, options, threshold)
        assert here.words == told.words
        every = join(every, here)
    assert any(word.count("·") > 1 for word in passes[1].words)
    again = encode(text(every), min_count=6, end_of_line="</s>")
    assert found.vocabulary.words[0] == "</s>"
    assert found.vocabulary.counts.tolist() == again.vocabulary.counts.tolist()
    assert found.vocabulary.total == again.vocabulary.total
    assert text(found) == text(again)
    assert GAP not in found.ids
    few, _ = with_phrases(path, options, min_count=6, max_words=30)
    assert few.vocabulary.words == [word for word in found.vocabulary.words if word != "</s>"][:30]


def test_one_spelling_one_word():
    """A phrase may be spelled like a word that is there."""
    every = encode([["new", "york"]] * 9 + [["new_york", "new"]] * 3, min_count=1)
    joined = join(every, find(every, Settings(min_count=4, discount=0), 0.0))
    counts = dict(zip(joined.vocabulary.words, joined.vocabulary.counts.tolist(), strict=True))
    assert counts == {"new": 3, "york": 0, "new_york": 12}
    assert scan.encode(joined, min_count=1).vocabulary.words == ["new_york", "new"]


def test_without_a_sign_between():
    """Chinese characters; two pairs may make one word."""
    every = encode([["垃", "圾"]] * 9 + [["ab", "c"], ["a", "bc"]] * 9, min_count=1)
    joined = join(every, find(every, Settings(min_count=4, discount=0, joiner=""), 0.0))
    assert text(joined) == [["垃圾"]] * 9 + [["abc"]] * 18
    assert dict(zip(joined.vocabulary.words, joined.vocabulary.counts.tolist(), strict=True))["abc"] == 18


def test_pairs_are_taken_from_the_left():
    every = encode([["a", "b", "a", "b", "a"], ["b"], ["a", "c"]], min_count=1)
    joined = join(every, find(every, Settings(min_count=1, joiner="+"), -1.0))
    assert text(joined) == [["a+b", "a+b", "a"], ["b"], ["a+c"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "pmi"}, "no score 'pmi'"),
        ({"passes": 0}, "passes=0"),
        ({"threshold": (3.0, 2.0)}, "2 thresholds for 1 passes"),
        ({"score": "npmi", "threshold": 10.0}, "between -1 and 1"),
        ({"joiner": " "}, "would not be one word"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(BadInput, match=message):
        Settings(**options)


def test_the_command(sentences, tmp_path):
    path, out, listed = tmp_path / "text", tmp_path / "joined.txt", tmp_path / "phrases.tsv"
    path.write_text("\n".join(map(" ".join, sentences)), "utf-8")
    options = ["--passes", "2", "--threshold", "60", "--threshold", "30", "--top", "3", "--list", str(listed)]
    done = CliRunner().invoke(app, ["words", "phrases", "--corpus", str(path), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    every, passes = with_phrases(path, Settings(passes=2, threshold=(60.0, 30.0)), min_count=1)
    assert [line.split(" ") for line in out.read_text("utf-8").split("\n")[:-1]] == text(every)
    rows = [line.split("\t") for line in listed.read_text("utf-8").splitlines()]
    assert [row[0] for row in rows] == passes[0].words + passes[1].words
    assert [int(row[1]) for row in rows] == [*passes[0].counts.tolist(), *passes[1].counts.tolist()]
    assert f"pass 2: {len(passes[1]):,} phrases above 30" in done.output
    best = max((phrase for one in passes for phrase in zip(one.scores, one.words, strict=True)), key=lambda p: p[0])
    assert best[1] in done.output
    wrong = CliRunner().invoke(app, ["words", "phrases", "--corpus", str(path), "--out", str(out), "--score", "npmi",
                                     "--threshold", "10"])  # fmt: skip
    assert wrong.exit_code == 2


def test_from_standard_input(tmp_path):
    out = tmp_path / "joined.txt"
    command = ["words", "phrases", "--corpus", "-", "--out", str(out), "--min-count", "1", "--threshold", "2"]
    assert CliRunner().invoke(app, command, input="x y z\ny z x\n" * 3).exit_code == 0
    assert out.read_text() == "x y_z\ny_z x\n" * 3
