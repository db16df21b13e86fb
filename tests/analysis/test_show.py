"""What is shown is what is trained on: the same batch, every token in its place, the answers those that were hidden."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from masklab.analysis.show import show, spelling
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.pattern import Inputs, prefix, visible_numpy
from masklab.models.picture import blocks, svg
from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.next_sentence import NextSentence
from masklab.recipe import Batches, Evaluation, Recipe
from masklab.training.feed import batch_at
from masklab.training.look import batch_html, by_document, run_html
from masklab.training.loop import train
from masklab.training.schedule import Budget, Progress


@pytest.fixture(scope="module")
def recipe(store):
    return Recipe(
        "tiny",
        Config("bert", layers=1, width=32, heads=2, feed_forward=64, max_length=64),
        NextSentence(MaskedLM(rate=0.3, unit="word")),
        str(store.path),
        budget=Budget(steps=8),
        batches=Batches(tokens=512, accumulate=2, lengths=((0.0, 32), (0.5, 64))),
        evaluation=Evaluation(rows=4),
        precision="fp32",
        threads=1,
    )


def printed(look, width, rows=2) -> str:
    out = io.StringIO()
    look.print(Console(file=out, width=width, highlight=False), rows)
    return out.getvalue()


@pytest.mark.parametrize("step", [0, 5])
def test_it_is_the_batch_of_that_step(recipe, step):
    look = show(recipe, step)
    expected = batch_at(recipe, recipe.objective.open(recipe.data, "train"), step, Progress(8, recipe.budget))
    assert len(look.batches) == len(expected) == 2
    for ours, theirs in zip(look.batches, expected, strict=True):
        for a, b in zip(ours.inputs, theirs.inputs, strict=True):
            assert (a == b).all()
        assert all((ours.targets[name] == theirs.targets[name]).all() for name in ours.targets)


def test_the_answers_restore_the_text(recipe, store):
    look = show(recipe, 3)
    text = " ".join(store.texts())
    tokenizer = store.tokenizer
    for row in range(4):
        for group in by_document(look.read(0, row)):
            restored = []
            for piece in group:
                masked = [a for a in piece.asked if a.how != "asked"]
                restored.append(masked[0].wanted if masked else "·" * piece.joined + piece.text)
                if masked:
                    shown = (masked[0].how == "hidden", masked[0].how == "kept")
                    assert shown == (piece.text == "[MASK]", masked[0].wanted == "·" * piece.joined + piece.text)
            words = " ".join(restored).replace(" ·", "")
            first = words.replace("[CLS] ", "").split(" [SEP]")[0]
            assert tokenizer.encode([first])[0]
            squeezed = re.sub(r"\s", "", tokenizer.inner.normalizer.normalize_str(text))
            assert first.replace(" ", "") in squeezed or "[UNK]" in first


def test_a_run_shows_the_steps_that_it_had(recipe, tmp_path):
    run = train(replace(recipe, budget=Budget(seconds=1.0)), tmp_path / "run")
    steps = run.result["steps"]
    look = show(tmp_path / "run", steps - 1)
    assert look.batches[0].inputs.tokens.shape[1] == 64  # the longer rows of the run's second half
    assert look.progress > 0.5
    assert show(run, steps - 1).summary() == look.summary()
    with pytest.raises(BadInput, match=f"has {steps:,} steps"):
        show(tmp_path / "run", steps)
    assert "not finished" not in run_html(run)
    assert "polyline" in run._repr_html_()


def test_a_terminal_of_any_width(recipe):
    look = show(recipe, 5)
    for width in (40, 80, 200):
        text = printed(look, width, rows=8)
        assert max(len(line) for line in text.splitlines()) <= width
        assert "Who sees whom" in text
    for word in ("[MASK]", "[CLS]", "A │", "B │", "document 1", "█", "2 micro-batches", "text tokens asked"):
        assert word in text, word
    assert ("B follows A" in text) or ("B is from elsewhere" in text)


def test_the_page_is_whole_and_escaped(recipe, store):
    look = show(recipe, 5)
    page = look.page()
    assert page.startswith("<!doctype html>")
    assert "<ruby" in page
    assert "<svg" in page
    assert "http" not in re.sub(r"<(ruby|span)[^>]*>[^<]*", "", page)  # nothing is fetched
    for tag in ("span", "div", "ruby"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>")
    numbers = look.batches[0]._repr_html_()
    assert "next 0" in numbers or "next 1" in numbers
    assert batch_html(look.batches[0], lambda token: ("<b>", False)).count("&lt;b&gt;") > 10


def test_what_cannot_be_shown(recipe):
    with pytest.raises(BadInput, match="names no data"):
        show(replace(recipe, data=""))
    with pytest.raises(BadInput, match="has 8 steps"):
        show(recipe, 8)


def test_pieces_of_any_vocabulary():
    tokenizer = train_wordpiece(["unhappily happy happily unhappy"] * 5, 60)
    spell = spelling(tokenizer)
    ids = tokenizer.encode(["unhappily"])[0]
    texts = [spell(token) for token in ids]
    assert "".join(text for text, _ in texts) == "unhappily"
    assert [joined for _, joined in texts] == [False] + [True] * (len(ids) - 1)
    assert spell(tokenizer.mask) == ("[MASK]", False)


def test_patterns_as_pictures():
    zero = np.zeros(6, np.int32)
    time, visible_from = prefix(2, 6)
    inputs = Inputs(zero, zero, zero, np.array([0, 0, 0, 0, 1, 1], np.int32), time, visible_from)
    seen = visible_numpy(inputs, inputs)
    assert blocks(seen) == ["██    ", "███▄  ", "    █▄"]
    assert len(blocks(np.ones((512, 512), bool), 48)) == 24
    assert blocks(np.ones((3, 3), bool)) == ["███", "▀▀▀"]
    # two documents, seen by all of them: two squares
    square = svg(np.kron(np.eye(2), np.ones((3, 3))).astype(bool))
    assert square.count("<rect") == 2
    assert '<rect x="3" y="3" width="3" height="3"/>' in square
    assert inputs._repr_html_() == svg(seen)
