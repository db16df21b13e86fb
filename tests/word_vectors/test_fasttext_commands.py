"""The commands about fastText: trained from a file, written in both forms, asked from the shell."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from masklab.cli import app
from masklab.word_vectors.keyed import WordVectors
from masklab.word_vectors.supervised import Classifier
from masklab.word_vectors.trained import Trained

GOOD, BAD = ["lovely", "splendid", "charming"], ["dreadful", "boring", "awful"]


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["words", *map(str, arguments)], input=typed, catch_exceptions=False)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path / "reviews.txt"
    with path.open("w", encoding="utf-8") as file:
        for k in range(200):
            words = random.choice([*(BAD if k % 2 else GOOD), "a", "film", "it"], 8)
            file.write(f"{' '.join(words)} __label__{'bad' if k % 2 else 'good'}\n")
    return path


def test_vectors_from_a_file_and_back(tmp_path, reviews):
    small = ("--dim", 10, "--buckets", 2000, "--min-count", 1, "--deterministic", "--sample", 0)
    for name in ("subwords", "subwords.bin", "subwords.vec"):
        done = run("fasttext", "--corpus", reviews, "--out", tmp_path / name, *small, "--epochs", 2)
        assert done.exit_code == 0, done.output
        assert f"written to {tmp_path / name}" in re.sub(r"\s+", " ", done.output)
    folder, binary, text = (WordVectors.open(tmp_path / name) for name in ("subwords", "subwords.bin", "subwords.vec"))
    assert np.array_equal(folder.vectors, binary.vectors)
    assert np.array_equal(folder.vectors, text.vectors)
    assert np.array_equal(folder["loveliest"], binary["loveliest"])
    assert run("nearest", tmp_path / "subwords.bin", "loveliest", "--top", 2).exit_code == 0
    more = tmp_path / "more.txt"
    more.write_text("a dreadfully lovely film\n" * 20, "utf-8")
    for name in ("subwords", "subwords.bin"):
        start = ("--continue", tmp_path / name)
        done = run("fasttext", "--corpus", more, "--out", tmp_path / "second", *small, "--model", "cbow", *start)
        assert done.exit_code == 0, done.output
        second = Trained.load(tmp_path / "second")
        assert second.vocabulary.words[:-1] == folder.words
        assert second.vocabulary.words[-1] == "dreadfully"
    refused = run("fasttext", "--corpus", more, "--out", tmp_path / "x", "--continue", tmp_path / "subwords")
    assert refused.exit_code == 2
    assert "dim=100, but the model to go on with has dim=10" in refused.stderr
    assert run("fasttext", "--corpus", more, "--out", tmp_path / "x.bin.gz", *small).exit_code == 2


@pytest.mark.parametrize("name", ["labels", "labels.bin"])
def test_a_classifier_is_trained_tested_and_asked(tmp_path, reviews, name):
    small = ("--dim", 10, "--rate", 0.5, "--word-ngrams", 2, "--buckets", 1000, "--threads", 1)
    model = tmp_path / name
    done = run("supervised", "--corpus", reviews, "--out", model, *small, "--test", reviews)
    assert done.exit_code == 0, done.output
    assert "200 lines: precision 1.0000, recall 1.0000" in done.output
    assert "__label__good" in done.output
    done = run("predict", model, "a charming film", "it is awful", "-k", 2)
    best = [line.split("\t")[0].split()[0] for line in done.output.splitlines()]
    assert best == ["__label__good", "__label__bad"]
    assert all(len(line.split("\t")) == 2 for line in done.output.splitlines())
    done = run("predict", model, "--json", typed="splendid\n\nboring boring\n")
    answers = [json.loads(line) for line in done.output.splitlines()]
    assert [answer["text"] for answer in answers] == ["splendid", "", "boring boring"]
    assert answers[2]["labels"][0]["label"] == "__label__bad"
    assert answers[2]["labels"][0]["chance"] > 0.9
    assert run("predict", model, "film", "--threshold", 1).output == "\n"
    score = json.loads(run("predict", model, "--test", reviews, "--json").output)
    assert score["precision"] == score["recall"] == 1
    assert score["labels"]["__label__bad"]["lines"] == 100
    assert set(Classifier.open(model).labels) == {"__label__good", "__label__bad"}


def test_bad_input_is_one_line(tmp_path, reviews):
    run("fasttext", "--corpus", reviews, "--out", tmp_path / "subwords", "--dim", 4, "--threads", 1, "--epochs", 1)
    for arguments, complaint in (
        (["predict", tmp_path / "nothing", "x"], "does not exist"),
        (["predict", reviews, "x"], "no fastText model"),
        (["predict", tmp_path / "subwords", "x"], "no classifier"),
        (["supervised", "--corpus", reviews, "--out", tmp_path / "x.vec"], "name a folder"),
        (["supervised", "--corpus", reviews, "--out", tmp_path / "x", "--test", tmp_path / "gone"], "no such file"),
        (["supervised", "--corpus", reviews, "--out", tmp_path / "x", "--label", "@"], "there is no label"),
        (["supervised", "--corpus", reviews, "--out", tmp_path / "x", "--word-ngrams", 2, "--buckets", 0], "buckets=0"),
        (["fasttext", "--corpus", reviews, "--out", tmp_path / "x", "--shortest", 9], "shortest=9"),
        (["fasttext", "--corpus", reviews, "--out", tmp_path / "x", "--min-count", 9999], "no word occurs 9999 times"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2
        lines = [line for line in done.stderr.splitlines() if line.startswith("masklab: ")]
        assert len(lines) == 1
        assert complaint in lines[0]
        assert not (tmp_path / "x").exists()
