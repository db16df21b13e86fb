"""Byte-pair encoding: the page's example is true, and the library learns as the algorithm says."""

import contextlib
import re
import shlex
from collections import Counter
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from masklab.cli import app
from masklab.errors import BadInput
from masklab.word_vectors import bpe

PAGE = (Path(__file__).parents[2] / "docs" / "byte-pair-encoding.md").read_text("utf-8")
WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


def table(heading: str) -> list[list[str]]:
    """The cells of the page's table that begins with this row."""
    lines = PAGE.split(f"| {heading} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def learned(words: dict[str, int], merges: int, met_first: bool = False) -> list[bpe.Pair]:
    """Sennrich's algorithm in its plainest form; of pairs of equal count the one of older symbols, or the first met."""
    spelled = {(*word, bpe.END): count for word, count in words.items()}
    age = {symbol: i for i, symbol in enumerate(sorted({symbol for word in spelled for symbol in word}))}
    found = []
    for _ in range(merges):
        pairs = Counter()
        for word, count in spelled.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs or max(pairs.values()) < 2:
            break
        older = (lambda pair: ()) if met_first else (lambda pair: (-age[pair[0]], -age[pair[1]]))
        best = max(pairs, key=lambda pair: (pairs[pair], *older(pair)))
        found.append(best)
        age.setdefault("".join(best), len(age))
        spelled = Counter({bpe.join(word, best): count for word, count in spelled.items()})
    return found


@pytest.fixture
def desk(tmp_path):
    """A folder with the text of the page."""
    (tmp_path / "mytext.txt").write_text("\n".join(" ".join([word] * count) for word, count in WORDS.items()))
    return tmp_path


def test_the_example_of_the_page(desk):
    tokenizer = bpe.train(desk / "mytext.txt", merges=10)
    counts = bpe.count(tokenizer, desk / "mytext.txt")
    assert {" ".join(word): str(count) for word, count in counts.items()} == dict(table("word | times"))
    pairs = Counter()
    for word, count in counts.items():
        for pair in pairwise(word):
            pairs[" ".join(pair)] += count
    assert {pair: int(times.split("=")[-1]) for pair, _, times in table("pair | stands in | times")} == pairs
    rows = table("merge | pair | new symbol | times | words that change")
    steps = list(bpe.steps(counts, bpe.merges(tokenizer)))
    assert [row[1:] for row in rows] == [
        [" ".join(step.pair), "".join(step.pair), str(step.times), ", ".join(map(" ".join, step.words))]
        for step in steps
    ]
    lowest = list(bpe.spelling(bpe.cut(tokenizer, "lowest")[0], bpe.merges(tokenizer)))
    assert [row[1] for row in table("merge | lowest")] == [" ".join(pieces) for pieces in lowest]
    for text, pieces in {"lowest": "low est▁", "newer": "new e r ▁", "fun": "<unk> <unk> n ▁"}.items():
        assert " ".join(tokenizer.encode(text).tokens) == pieces
    assert "becomes new e r ▁" in PAGE
    assert "becomes `<unk>` `<unk>` n ▁" in PAGE


def test_the_other_order_of_the_page():
    """What a lecture finds that takes the pair it met first."""
    ours, theirs = learned(WORDS, 9), learned(WORDS, 9, met_first=True)
    assert [" ".join(pair) for pair in theirs[:3] + theirs[5:7]] == ["e s", "es t", "est ▁", "n e", "ne w"]
    assert "joins e s, es t, est ▁ and later n e, ne w" in PAGE

    def after(merges):
        words = [(*word, bpe.END) for word in WORDS]
        for pair in merges:
            words = [bpe.join(word, pair) for word in words]
        return words

    same = [n for n in range(1, 10) if after(ours[:n]) == after(theirs[:n])]
    assert same == [1, 3, 4, 5, 7, 8, 9]


def test_bytes_as_the_page_shows_them():
    for text, code, shown in table("text | UTF-8 | shown as"):
        text = text.replace("(space)", " ").replace("(line feed)", "\n")
        assert text.encode().hex(" ").upper() == code
        assert "".join(word for word, _ in pre_tokenizers.ByteLevel(False).pre_tokenize_str(text)) == shown
    themselves = [*range(33, 127), *range(161, 173), *range(174, 256)]
    assert len(themselves) == 188
    others = [byte for byte in range(256) if byte not in themselves]
    letters = {chr(byte) for byte in themselves} | {chr(0x100 + i) for i in range(len(others))}
    assert letters == set(pre_tokenizers.ByteLevel.alphabet())


def test_what_the_page_says_to_type(desk):
    with contextlib.chdir(desk):
        lines = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()
        done = [CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False) for line in lines]
        assert [one.exit_code for one in done] == [0] * 4
        assert done[-1].output == "low est▁ new e r ▁\n"
        exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], {})


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text("abcd", min_size=1, max_size=6), st.integers(1, 9), min_size=1), st.integers(1, 12))
def test_the_library_learns_as_the_algorithm_says(words, merges):
    sentences = [[word] * count for word, count in words.items()]
    assert bpe.merges(bpe.train(sentences, merges)) == learned(words, merges)


@pytest.mark.parametrize("over_bytes", [False, True])
def test_pieces_and_text(over_bytes):
    """A word comes together as `spelling` says, and the pieces are the text again."""
    sentences = [line.split() for line in topics["assignment"].splitlines()]
    tokenizer = bpe.train(iter(sentences), 300, over_bytes=over_bytes, lowercase=True)
    pairs = bpe.merges(tokenizer)
    assert len(pairs) == 300
    text = "assignment of the targets to the left-hand-side objects"
    pieces = [piece for word in bpe.cut(tokenizer, text) for piece in list(bpe.spelling(word, pairs))[-1]]
    assert tokenizer.encode(text).tokens == pieces
    assert tokenizer.decode(tokenizer.encode(text.upper()).ids) == text
    if over_bytes:
        assert tokenizer.decode(tokenizer.encode("中 ü").ids) == "中 ü"
    steps = list(bpe.steps(bpe.count(tokenizer, sentences), pairs))
    assert all(one.times >= two.times for one, two in pairwise(steps))


def test_other_peoples_files(tmp_path):
    model = models.BPE({"l": 0, "o</w>": 1, "lo</w>": 2}, [("l", "o</w>")], end_of_word_suffix="</w>")
    bpe.save(Tokenizer(model), tmp_path / "tokenizer.json")
    other = bpe.load(tmp_path)
    assert list(bpe.spelling(bpe.cut(other, "lo")[0], bpe.merges(other))) == [("l", "o</w>"), ("lo</w>",)]


def test_bad_input(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        bpe.load(tmp_path / "no.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(BadInput, match="not a tokenizer file"):
        bpe.load(tmp_path / "broken.json")
    bpe.save(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), tmp_path / "words.json")
    with pytest.raises(BadInput, match="WordLevel, not byte-pair"):
        bpe.load(tmp_path / "words.json")
    with pytest.raises(BadInput, match="merges=0"):
        bpe.train([["a"]], 0)
    with pytest.raises(BadInput, match="no word"):
        bpe.train([[]])
