"""The doctor: its figures equal a slow count, healthy text passes, and each illness is named with its cure."""

import json
import math
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from masklab.analysis import doctor
from masklab.analysis.doctor import Bigrams, _bar, conditional_entropy, examine
from masklab.cli import app
from masklab.corpus import prepare as splitting
from masklab.corpus.document import Document
from masklab.corpus.languages import language
from masklab.corpus.prepare import prepare
from masklab.corpus.read import documents

IDS = st.lists(st.integers(0, 6), min_size=2, max_size=60)


@given(IDS)
def test_entropy_equals_a_slow_count(ids):
    joint = Counter(pairwise(ids))
    before = Counter(ids[:-1])
    n = len(ids) - 1
    slow = -sum(c / n * math.log(c / before[a]) for (a, _), c in joint.items())
    assert conditional_entropy(np.array(ids[:-1]), np.array(ids[1:]), 7) == pytest.approx(slow, abs=1e-12)


@given(IDS)
def test_the_bigram_model_is_a_distribution_and_likes_what_it_saw(ids):
    first, second = np.array(ids[:-1]), np.array(ids[1:])
    model = Bigrams(first, second, np.bincount(ids, minlength=7))
    for a in range(7):
        assert model.probability(np.full(7, a), np.arange(7)).sum() == pytest.approx(1)
    seen = model.probability(first, second)
    assert (seen > 0).all()
    assert (seen <= 1).all()


def test_bars():
    assert [_bar(x, 4) for x in (0, 0.5, 1, 0.001, 0.3)] == ["", "██", "████", "▏", "█▎"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The cat that sat on the mat was not in the house, and it is a pity.", "English"),
        ("Das ist nicht der Weg, auf dem wir mit den anderen gehen wollten.", "German"),
        ("Il est dans la maison avec une amie qui ne parle pas le français.", "French"),
        ("Это не то, что он хотел от нас и для чего он был там.", "Russian"),
        ("它们是这个国家的", "Chinese, simplified"),
        ("這個國家對學生來說", "Chinese, traditional"),
        ("これは日本語の文章です。", "Japanese"),
        ("이것은 한국어 문장입니다", "Korean"),
        ("هذا نص عربي", "Arabic letters"),
        ("xyzzy plugh frobnicate", "Latin letters"),
        ("3 + 4 = 7", "no letters"),
    ],
)
def test_languages(text, name):
    assert language(text) == name


def test_a_healthy_corpus(store, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one thread is enough for so little
    found = {f.name: f for f in examine(store.path)}
    assert list(found) == ["size", "left out", "damage", "near-duplicates", "held out", "leak", "vocabulary",
                           "compression", "entropy", "baselines", "lengths", "rows", "longest", "languages",
                           "overfit"]  # fmt: skip
    assert found["size"].level == "bad"  # forty pages of documentation are no corpus
    assert {name for name, f in found.items() if f.level == "bad"} == {"size"}
    assert found["languages"].value.startswith("English")
    counts = store.part("train").unigram / store.part("train").unigram.sum()
    entropy = -sum(p * math.log(p) for p in counts if p)
    assert found["entropy"].value.startswith(f"{entropy:.3f} nats")
    before, after = found["overfit"].value.split(": ")[1].removesuffix(" nats").split(" -> ")
    assert float(after) < 0.5 * float(before)
    lines = found["lengths"].picture[1:]
    listed = [int(re.split(" {2,}", line.strip())[1].split()[0].replace(",", "")) for line in lines]
    assert sum(listed) == len(store.part("train"))


def test_a_sick_one(tmp_path):
    page = topics["assert"]
    texts = [f"{page} {i}" for i in range(30)] + ["Ω" * 9 + f" short {i}" for i in range(50)] + [page] * 40
    sick = prepare(texts, tmp_path / "sick", 300, held_out=0.05)
    found = {f.name: f for f in examine(sick.path, steps=0)}
    assert "overfit" not in found
    assert found["left out"].level == "look"
    assert "masklab clean TEXT" in found["left out"].advice
    assert found["near-duplicates"].level == "bad"
    assert found["lengths"].level == "good"  # half of the text is in long documents, though most are short
    assert found["held out"].level == "look"
    assert "[UNK] stands for" in found["vocabulary"].value
    nothing = prepare(page.split("\n"), tmp_path / "nothing", 300, held_out=0)
    found = {f.name: f for f in examine(nothing.path, steps=0)}
    assert found["held out"].level == "bad"
    assert "leak" not in found
    assert found["lengths"].level == "look"
    assert "--format blank-line" in found["lengths"].advice


def test_letters_that_the_vocabulary_lacks_are_named(store, tmp_path):
    texts = [f"{topics['assert']} {'Ω' * (i % 3)} ж {i}" for i in range(9)]
    found = {f.name: f for f in examine(prepare(texts, tmp_path / "c", store.tokenizer).path, steps=0)}
    assert re.search(r"\[UNK\] stands for \d\.\d+% of the tokens, most often [жω]", found["vocabulary"].value)
    assert "masklab tokenize STORE)" in found["vocabulary"].advice  # one of its own; nothing was learned here before


def test_damage_and_what_was_left_out_for_it(tmp_path):
    rows = [f"Text {i} of the caf\xe9.".encode("latin-1" if i % 4 == 0 else "utf-8") for i in range(40)]
    (tmp_path / "mixed.txt").write_bytes(b"\n".join(rows) + b"\n\x07\x07 bell\n")
    cases: Any = (("skip", "10 with bytes of another encoding, of 41", 0), ("replace", "of 41", 10))
    for errors, left, broken in cases:
        read = documents(tmp_path / "mixed.txt", "line", encoding_errors=errors)
        store = prepare(read, tmp_path / errors, 60, held_out=0.2)
        found = {f.name: f for f in examine(store.path, steps=0)}
        assert left in found["left out"].value
        assert found["left out"].level == ("look" if errors == "skip" else "good")
        assert found["damage"].value == f"{broken} broken characters (U+FFFD), 2 control characters"
        assert found["damage"].level == "look"
        assert ("tr -d" in found["damage"].advice) == (errors == "skip")


def test_groups_that_are_too_large_are_said(tmp_path):
    texts = [Document(f"{topics['assert'][: 300 + i]} {i}", group="x" if i > 3 else f"{i}") for i in range(20)]
    found = {f.name: f for f in examine(prepare(texts, tmp_path / "c", 200).path, steps=0)}
    assert "5 by group, none divided" in found["held out"].value
    assert "prepare" not in found["held out"].advice
    assert "(--group)" in found["held out"].advice


def test_every_option_that_is_named_exists():
    """What the page tells people to type must be there: options of commands, and commands."""
    page = Path(doctor.__file__).read_text("utf-8") + Path(splitting.__file__).read_text("utf-8")
    group: Any = get_command(app)
    known = {
        option for command in group.commands.values() for p in command.params for option in (*p.opts, *p.secondary_opts)
    }
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known
    assert set(re.findall(r"masklab ([a-z]+) (?:TEXT|STORE|bert)", page)) <= set(group.commands)


def test_the_command(store):
    done = CliRunner().invoke(app, ["doctor", str(store.path), "--steps", "0"])
    assert done.exit_code == 1  # too small
    assert "●" in done.stdout
    assert "mix in a general corpus" in " ".join(done.stdout.split())
    done = CliRunner().invoke(app, ["doctor", str(store.path), "--steps", "0", "--json"])
    assert {"name", "value", "level", "advice", "picture"} == set(json.loads(done.stdout)[0])
    done = CliRunner().invoke(app, ["doctor", "nowhere"])
    assert done.exit_code == 2
