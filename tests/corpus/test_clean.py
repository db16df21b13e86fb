"""Cleaning: near-duplicates found by MinHash are those that an exact comparison finds, and nothing else goes."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from masklab.cli import app
from masklab.corpus.clean import clean
from masklab.corpus.document import Document
from masklab.corpus.duplicates import shingles
from masklab.corpus.minhash import HASHES, Signatures, band_rows
from masklab.errors import BadInput

WORDS = [f"word{i}" for i in range(3000)]


def changed(words: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """The same words with a share of them replaced in one stretch, so that few runs change."""
    begin = int(rng.integers(0, len(words) - int(share * len(words)) + 1))
    new = list(words)
    for i in range(begin, begin + int(share * len(words))):
        new[i] = f"new{rng.integers(10**9)}"
    return new


def jaccard(a: str, b: str, words: int = 5) -> float:
    one, two = (set(shingles([text], words)[0].tolist()) for text in (a, b))
    return len(one & two) / len(one | two)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """120 texts, and 80 copies of some with 2 to 60 % of a stretch replaced."""
    rng = np.random.default_rng(0)
    first = [[WORDS[i] for i in rng.integers(0, 3000, 200)] for _ in range(120)]
    copies = [changed(first[i % 120], share, rng) for i, share in enumerate(np.linspace(0.02, 0.6, 80))]
    return [" ".join(words) for words in first + copies]


def test_pairs_are_those_of_an_exact_comparison(texts):
    signatures = Signatures()
    signatures.add(texts[:150])
    signatures.add(texts[150:])
    group, like = signatures.near(0.7)
    for i in range(80):
        true = jaccard(texts[i], texts[120 + i])
        if abs(true - 0.7) > 0.1:  # nearer than that the estimate may err
            assert (group[120 + i] == i) == (true > 0.7), (i, true)
        if group[120 + i] == i:
            assert abs(like[120 + i] - true) < 5 * (0.7 * 0.3 / HASHES) ** 0.5
    assert (group[:120] == np.arange(120)).all()


@given(st.floats(0.3, 0.95))
def test_bands_miss_next_to_nothing_at_the_threshold(similarity):
    rows = band_rows(similarity)
    assert (1 - similarity**rows) ** (HASHES // rows) < 0.005
    assert band_rows(0.8) == 6


def test_short_texts_and_texts_without_words():
    signatures = Signatures()
    texts = [
        "two words",
        "two words",
        "Two, words!",
        "other words",
        "...",
        "...",
        "",
        "一二三四五六七八",
        "一二三四五六七九",
    ]
    signatures.add(texts)
    group, _ = signatures.near(0.9)
    assert group.tolist() == [0, 0, 0, 3, 4, 5, 6, 7, 8]


def read(path: Path) -> list[dict]:
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    return [json.loads(line) for line in data.decode().splitlines()]


def test_the_copy_and_the_report(texts, tmp_path):
    documents = [Document(text, "a.txt", i + 1) for i, text in enumerate([*texts, texts[5], "", f"  {texts[7]}\n"])]
    documents[3] = documents[3]._replace(text="  " + documents[3].text, entities=[(2, 7, "X")])
    done = clean(lambda: documents, tmp_path / "clean.jsonl.zst", 0.7, report=tmp_path / "report.tsv")
    kept = read(tmp_path / "clean.jsonl.zst")
    assert (done.documents, done.exact, done.empty) == (203, 2, 1)
    assert 15 < done.near < 30
    assert done.kept == len(kept) == 203 - 2 - 1 - done.near
    assert [r["line"] for r in kept][:120] == list(range(1, 121))
    assert kept[3]["text"][slice(*kept[3]["entities"][0][:2])] == documents[3].text[2:7]
    with open(tmp_path / "report.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 203 - len(kept)
    assert {"document": "a.txt:201", "why": "exact", "stands for it": "a.txt:6", "similarity": "1.00"}.items() <= rows[
        -3
    ].items()
    assert clean(lambda: documents, None, None).near == 0


@settings(max_examples=60)
@given(st.lists(st.text(st.sampled_from("ab .\n中é\ud800"), max_size=12), max_size=30))
def test_every_text_stays_once(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("clean")
    done = clean(lambda: map(Document, found), folder / "out.jsonl", None)
    texts = [r["text"] for r in read(folder / "out.jsonl")]
    wanted = list(dict.fromkeys(t.replace("\ud800", "\ufffd").strip() for t in found))
    assert texts == [t for t in wanted if t]
    assert done.documents == len(found)


def test_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"ends in \.jsonl"):
        clean(lambda: [Document("x")], tmp_path / "out.txt")
    with pytest.raises(BadInput, match="near-duplicates are alike"):
        clean(lambda: [Document("x")], None, 8)
    assert list(tmp_path.iterdir()) == []


def test_the_command(texts, tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(texts), "utf-8")
    out = tmp_path / "clean.jsonl.gz"
    done = CliRunner().invoke(app, ["clean", str(tmp_path / "text.txt"), "--out", str(out), "--similarity", "0.7"])
    assert done.exit_code == 0, done.output
    assert "near-duplicates" in done.output
    lines = subprocess.run(["gzip", "-dc", out], capture_output=True, check=True).stdout.decode().splitlines()
    assert 170 < len(lines) < 185
    both = CliRunner().invoke(app, ["clean", str(tmp_path / "text.txt")])
    assert both.exit_code == 2
    assert "--out" in both.output
