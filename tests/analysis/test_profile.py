"""Where a step's time goes: the parts add up, each node of the way back is its part's, arithmetic is the formula's."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from masklab.analysis import profile as profiles
from masklab.analysis.profile import BACKWARD, FORWARD, HEAD, OPTIMIZER, OTHER, WAITING, Meter, Profile, profile
from masklab.cli import app
from masklab.corpus.store import Store
from masklab.models.config import Config
from masklab.models.elmo import ElmoConfig
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Recipe, load, override
from masklab.tasks.classify import Classify
from masklab.tasks.finetune import recipe as finetuning
from masklab.training.flops import flops
from masklab.training.loop import train
from masklab.training.schedule import Budget

SMALL = {"model.layers": 2, "model.width": 32, "model.heads": 2, "model.feed_forward": 64}


def test_a_meter_gives_each_moment_to_one_part():
    clock = iter(range(0, 1000, 10))
    meter = Meter(lambda: next(clock))
    meter.mark()  # 0 to 10: nobody's before the first mark
    meter.enter("head")  # 10 to 20: other
    meter.enter("attention")  # 20 to 30: head
    meter.leave()  # 30 to 40: attention
    meter.turn(profiles.UNCOUNTED)  # 40 to 50: head
    meter.leave()  # 50 to 60: what measuring costs, which is no part
    meter.enter("head", BACKWARD)  # 60 to 70: other
    meter.leave()  # 70 to 80
    taken = meter.taken(lambda a, b: b - a)
    assert taken == {(OTHER, ""): 30, ("head", FORWARD): 20, ("attention", FORWARD): 10, ("head", BACKWARD): 10}


@pytest.fixture(autouse=True)
def no_peak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(profiles.flops, "peak", lambda device, precision: 1e12)


def small(name: str, data: str) -> Recipe:
    made = load(name, data=data)
    changes = {"threads": 1, "precision": "fp32", "evaluation.rows": 2, "initial.kind": "random"}
    if isinstance(made.model, ElmoConfig):
        changes |= {"model.layers": 2, "model.width": 16, "model.cells": 32, "model.filters": "((1, 8), (2, 8))"}
        changes |= {"model.characters": 4, "initial.kind": made.initial.kind}
    else:
        changes |= SMALL
    made = override(made, [f"{name}={value}" for name, value in changes.items()])
    return replace(made, budget=Budget(steps=100), batches=replace(made.batches, tokens=256, lengths=((0.0, 64),)))


def whole(found: Profile, parts: set[str]) -> None:
    """What every profile holds, whatever it is of."""
    names = [part.name for part in found.parts]
    assert {WAITING, "embedding", HEAD, OPTIMIZER, OTHER, *parts} == set(names)
    assert names == [name for name in profiles.ORDER if name in names]
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.measured)
    for part in found.parts:
        inside = part.name in ("embedding", HEAD, *parts)
        assert (part.forward > 0) == (part.backward > 0) == inside, part
        assert (part.apart > 0) == (not inside), part
        assert (part.operations > 0) <= inside, part
    assert found.operations > 0
    assert min(found.seconds, found.building, *found.memory.values()) > 0


ATTENTION = {"attention", "feed-forward", "norms and sums"}


@pytest.mark.parametrize("name", ["bert", "spanbert", "mpnet", "modernbert", "electra", "t5", "elmo"])
def test_every_recipe_has_its_parts(store: Store, name: str):
    recipe = small(name, str(store.path))
    found = profile(recipe, step=1, seconds=0)
    whole(found, {"LSTM", "norms and sums"} if name == "elmo" else ATTENTION)
    assert found.tokens == 256


def test_operations_of_each_part_are_the_formula_s_there_and_back(store: Store):
    """Two ways to one number: autograd's nodes told apart, and the count by hand (flops.py)."""
    config = Config("bert", layers=3, width=32, heads=2, feed_forward=64, max_length=64, pad=1)
    parts = Batches(tokens=256, lengths=((0.0, 64),), accumulate=2)
    recipe = Recipe("tiny", config, MaskedLM(), str(store.path), batches=parts, precision="fp32", threads=1)
    recipe = replace(recipe, budget=Budget(steps=40))
    found = profile(recipe, seconds=0)
    counted = {part.name: part.operations for part in found.parts}
    session = profiles.build(recipe)
    # The counted step is the one behind those that warmed up and were measured.
    at = profiles.WARM + 2 * profiles.LEAST
    batches = profiles.batch_at(recipe, session.source, at, profiles.progress_of(recipe, session.source))
    wanted = dict.fromkeys(counted, 0.0)
    shape = replace(config, vocabulary=store.tokenizer.size)
    for batch in batches:
        rows, length = batch.inputs.tokens.shape
        asked = batch.at["masked"].numel()
        for part, count in flops(shape, rows, length, asked).items():
            wanted[HEAD if part == "head" else part] += count
        wanted[HEAD] += 2 * asked * shape.vocabulary  # the gradient of the bias is a product, too (vocabulary.py)
    assert counted == wanted


def test_a_run_and_a_fine_tuning_recipe(store: Store, tmp_path: Path):
    recipe = replace(small("bert", str(store.path)), budget=Budget(steps=2))
    run = train(recipe, tmp_path / "run")
    found = profile(tmp_path / "run", seconds=0)
    whole(found, ATTENTION)
    assert "fp32, 1 thread, " in found.about
    table = tmp_path / "t.tsv"
    table.write_text("text\tlabel\n" + "it works\tgood\nit fails\tbad\n" * 4, "utf-8")
    task = Classify(str(table), ("text",), "label")
    taught = finetuning(task, run.model_folder, table, precision="fp32", threads=1)
    whole(profile(taught, seconds=0), ATTENTION)


def test_it_is_printed_and_drawn(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = profile(small("bert", str(store.path)), seconds=0)
    page = found.page()
    shares = [float(piece.split("%")[0]) for piece in page.split('style="width:')[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert "color-scheme: light dark" in page
    monkeypatch.setattr(profiles, "profile", lambda what, step: found)
    command = ["show", "bert", "--data", str(store.path), "--profile"]
    said = CliRunner().invoke(app, command).stdout
    for word in ("attention", "feed-forward", "clip and optimizer", "100.0%", "tokens/s", "GFLOP/s", "memory: weights"):
        assert word in said
    assert CliRunner().invoke(app, [*command, "--html", str(tmp_path / "p.html")]).exit_code == 0
    assert (tmp_path / "p.html").read_text("utf-8") == page
