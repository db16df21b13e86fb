"""The table of ratios: counted as by hand, the telling words found, drawn, and shown by the command."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from masklab.cli import app
from masklab.errors import BadInput
from masklab.word_vectors.ratio import picture, ratios

SIDES = {"ice": ["solid", "cold"], "steam": ["gas", "hot"]}


def lines(size: int = 400) -> list[list[str]]:
    """Ice stands near solid and cold, steam near gas and hot, both near water, all among other words."""
    random = np.random.default_rng(0)
    others = [f"w{k}" for k in range(40)]
    found = []
    for k in range(size):
        word = ["ice", "steam", None][k % 3]
        near = random.choice([*SIDES[word], "water"], 2).tolist() if word else []
        line = [*random.choice(others, 8).tolist(), *near, *([word] if word else [])]
        found.append(random.permutation(line).tolist())
    return found


def by_hand(word: str, window: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines():
        for at, one in enumerate(line):
            if one == word:
                found.update(line[max(0, at - window) : at] + line[at + 1 : at + 1 + window])
    return found


def test_shares_are_those_of_a_count_by_hand():
    found = ratios(lines(), "ice", "steam", ["solid", "gas", "water", "w3"], window=4, min_count=1, threads=1)
    assert found.words == ["solid", "gas", "water", "w3"]
    for word, counts, shares in zip(("ice", "steam"), found.counts, found.shares, strict=True):
        expected = by_hand(word, 4)
        assert counts.tolist() == [expected[k] for k in found.words]
        assert shares == pytest.approx([expected[k] / expected.total() for k in found.words])
    ratio = found.ratios
    assert ratio[0] > 5 or ratio[0] == np.inf
    assert ratio[1] < 0.2
    assert 0.6 < ratio[2] < 1.6


def test_neighbours_can_count_by_distance():
    found = ratios([["ice", "a", "b"], ["b", "steam"]], "ice", "steam", ["b", "a"], by_distance=True, min_count=1)
    assert found.counts.tolist() == [[0.5, 1], [1, 0]]
    assert found.shares.tolist() == pytest.approx(np.array([[1 / 3, 2 / 3], [1, 0]]))
    assert found.ratios.tolist() == pytest.approx([1 / 3, math.inf])


def test_the_telling_words_are_found():
    found = ratios(lines(), "ice", "steam", min_count=1, each=2)
    assert set(found.words[:2]) == set(SIDES["ice"])
    assert set(found.words[2:4]) == set(SIDES["steam"])
    assert "water" in found.words[4:]
    assert len(set(found.words)) == len(found.words) <= 6
    assert not {"ice", "steam"} & set(found.words)


def test_what_cannot_be_told():
    with pytest.raises(BadInput, match="'snow' does not stand 5 times"):
        ratios(lines(), "ice", "snow")
    with pytest.raises(BadInput, match="'ice' has no neighbours"):
        ratios([["ice"], ["steam", "b"]], "ice", "steam", min_count=1)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(" ".join(line) for line in lines()), "utf-8")
    return str(path)


def run(*arguments: str):
    return CliRunner().invoke(app, ["words", "ratio", *arguments], catch_exceptions=False)


def test_the_command(corpus, tmp_path):
    done = run("ice", "steam", "solid", "gas", "absent", "--corpus", corpus, "--threads", "1")
    assert (done.exit_code, "'absent' does not stand" in done.output) == (2, True)
    drawn = tmp_path / "ratios.svg"
    done = run("ice", "steam", "solid", "gas", "--corpus", corpus, "--min-count", "1", "--picture", str(drawn))
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines() if line.split()[:1] in (["solid"], ["gas"])] == [
        "solid", "gas"
    ]  # fmt: skip
    assert drawn.read_text("utf-8").startswith("<?xml")
    done = run("ice", "steam", "--corpus", corpus, "--picture", str(tmp_path / "ratios.txt"))
    assert (done.exit_code, "ends in .png, .svg or .pdf" in done.output) == (2, True)


def test_the_command_prints_json(corpus):
    done = run("ice", "steam", "solid", "w3", "--corpus", corpus, "--window", "4", "--min-count", "1", "--json")
    found = [json.loads(line) for line in done.output.splitlines()]
    expected = ratios(lines(), "ice", "steam", ["solid", "w3"], window=4, min_count=1)
    assert [row["word"] for row in found] == ["solid", "w3"]
    assert [row["shares"] for row in found] == expected.shares.T.tolist()


def test_bars_point_to_the_side_that_a_word_goes_with():
    found = ratios([["ice", "a", "b"], ["b", "steam", "c", "d", "b"]], "ice", "steam", ["a", "c", "b"], min_count=1)
    axes = picture(found).axes[0]
    bars = [bar.get_x() + bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert bars[0] > 1 > bars[1]
    assert bars[2] == pytest.approx(found.ratios[2])
    shown = {text.get_text() for text in axes.texts}
    assert {"a", "b", "c", "P(k | ice)", "P(k | steam)", "inf", "0"} <= shown
