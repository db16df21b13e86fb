"""A shape grows with the time and never below the preset; what is proposed is what is trained, and is kept."""

import json
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from masklab.cli import app
from masklab.errors import BadInput
from masklab.recipe import load, override
from masklab.training import proposal
from masklab.training.proposal import SIZES, propose, slots, tokens_per_second, worth
from masklab.training.run import Run
from masklab.training.schedule import Budget

SPEED = {(2, 128): 50_000, (4, 128): 30_000, (4, 256): 10_000, (6, 384): 3_000, (8, 512): 1_500, (12, 768): 300}


def speed(recipe):
    return SPEED[recipe.model.layers, recipe.model.width]


def timed(store, seconds, name="bert", **changes):
    return replace(load(name, data=str(store.path)), budget=Budget(seconds=seconds), **changes)


@pytest.fixture
def large(store, monkeypatch):
    """The small corpus as if it had enough text for any budget."""
    monkeypatch.setattr(proposal, "worth", lambda tokens, unique: tokens)
    return store


def test_more_time_gives_a_larger_model_and_a_short_one_the_preset(large):
    found = [propose(timed(large, minutes * 60), speed=speed) for minutes in (1, 3, 30, 120, 2000, 10**5)]
    shapes = [(p.recipe.model.layers, p.recipe.model.width) for p in found]
    assert shapes == [(2, 128), (2, 128), (4, 128), (4, 256), (6, 384), (12, 768)]
    assert found[0].recipe == timed(large, 60)
    for p in found:
        model: Any = p.recipe.model
        assert model.width % model.heads == 0
        assert model.feed_forward == 4 * model.width
        assert p.recipe.batches.length <= model.max_length
        assert p.measured[0].rate == 50_000
        assert f"{model.layers} layers x {model.width}" in p.said[0]
    assert found[-1].recipe.batches.length == SIZES[-1].length


def test_t5_grows_on_both_sides(large):
    model: Any = propose(timed(large, 36_000, "t5"), speed=speed).recipe.model
    assert model.layers == model.decoder_layers == 4
    assert model.width == 256


def test_little_text_asks_for_a_smaller_model_and_says_so(store):
    found = propose(timed(store, 7200), speed=speed)
    assert found.recipe.model.layers == 2
    assert any("is read" in line for line in found.said)
    assert any("masklab tokenize" in line for line in found.said), "600 pieces are few"


def test_batches_of_ones_own_are_kept(large):
    made = override(timed(large, 10**7), ["batches.tokens=512"])
    assert propose(made, keep_batches=True, speed=speed).recipe.batches == made.batches
    assert propose(made, speed=speed).recipe.batches.tokens > 512


def test_the_arithmetic():
    assert worth(500, 1000) == 500
    assert worth(4000, 1000) == pytest.approx(3727, rel=0.01)
    assert worth(1e9, 1000) == pytest.approx(16_400)
    assert slots(2048, 2048 * 20_000) == 2048
    assert slots(2048, 2048 * 20_001) == 4096
    assert slots(2048, 10) == 2048


def test_it_is_for_tuned_recipes_and_times(store):
    for made in (load("bert", data=str(store.path), preset="paper"), timed(store, 60, "elmo"),
                 replace(timed(store, 60), budget=Budget(steps=3))):  # fmt: skip
        with pytest.raises(BadInput, match="--time"):
            propose(made, speed=speed)


def test_the_machine_is_timed(store):
    small = ["model.layers=1", "model.width=32", "model.heads=2", "model.feed_forward=64", "threads=1"]
    assert 100 < tokens_per_second(override(timed(store, 60), small)) < 1e8


def test_the_command_trains_what_it_proposed_and_goes_on_with_it(store, tmp_path, monkeypatch):
    monkeypatch.setattr(proposal, "tokens_per_second", lambda recipe: 5e7 if recipe.model.layers == 2 else 1.0)
    small = ["evaluation.rows=4", "threads=1", "embeddings=random"]
    call = ["pretrain", "--data", str(store.path), "--out", str(tmp_path / "run"), "--time", "1s", *small]
    done = CliRunner().invoke(app, call, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "2 layers x 128" in done.stdout
    made = Run.open(tmp_path / "run").recipe
    assert made.name == "modernbert"
    assert made.batches.tokens == 4096, "5e7 tokens are many"
    kept = json.loads((tmp_path / "run" / proposal.FILE).read_text("utf-8"))
    assert [m["rate"] for m in kept["measured"]] == [5e7], "for so little text none is larger"
    monkeypatch.setattr(proposal, "tokens_per_second", lambda recipe: pytest.fail("timed again"))
    assert CliRunner().invoke(app, call, catch_exceptions=False).exit_code == 0
