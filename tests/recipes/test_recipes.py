"""Every recipe, both presets, made small: trains, crashes, goes on to the same bits, and opens in its class."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from masklab import recipe as recipes
from masklab.corpus.store import Store
from masklab.models import hub, own
from masklab.recipe import Batches, Checkpoints, Evaluation, Recipe
from masklab.training.loop import train
from masklab.training.run import Run
from masklab.training.schedule import Budget


def small(name: str, preset: str, store: Store) -> Recipe:
    made = recipes.load(name, data=str(store.path), preset=preset)
    shape = {"layers": 2, "width": 32, "heads": 2, "feed_forward": 64, "decoder_layers": 2, "max_length": 64,
             "cells": 48, "filters": ((1, 8), (2, 8), (3, 16))}  # fmt: skip
    shape = {key: value for key, value in shape.items() if getattr(made.model, key, None)}
    return replace(
        made,
        model=replace(made.model, **shape),
        budget=Budget(steps=20),
        batches=Batches(512, 2 if made.batches.accumulate > 1 else 1, ((0.0, 32), (0.8, 64))),
        evaluation=Evaluation(0.5, rows=4),
        checkpoints=Checkpoints(every=1e9, steps=5),
        precision="bf16",
        threads=1,
    )


@pytest.mark.parametrize("preset", ["paper", "tuned"])
@pytest.mark.parametrize("name", recipes.names())
def test_twenty_steps_crashed_and_resumed(name: str, preset: str, store: Store, tmp_path: Path):
    recipe = small(name, preset, store)
    straight = train(recipe, tmp_path / "straight")

    def crash(record: dict) -> None:
        if record["kind"] == "checkpoint" and record["step"] == 15:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(recipe, tmp_path / "run", crash)
    train(recipe, tmp_path / "run")
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "run", straight.folder))  # type: ignore[operator]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)

    history = [r for r in Run.open(tmp_path / "run").history if r["kind"] == "held_out"]
    first, last = (next(iter(history[i]["terms"].values()))["loss"] for i in (0, -1))
    assert last < first + 0.05  # so few steps need not gain (test_loop's longer run must), but they may not harm

    folder = str(straight.model_folder)
    if own.is_own(hub.read_settings(straight.model_folder)):  # no class of transformers exists: masklab opens it
        opened = hub.load(straight.model_folder)
        weights = own.tensors_of(opened.model, dict(opened.heads.items()))
        assert all(torch.equal(weights.pop(name), theirs[name]) for name in theirs)
        assert not weights
        return
    kind = (transformers.AutoConfig.from_pretrained(folder).architectures or ["none"])[0]
    _, found = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_what_it_is(name: str):
    """Its first line is a sentence for a newcomer, and its paper follows."""
    text = recipes.module(name).__doc__ or ""
    assert text.split("\n")[0].endswith(".")
    assert any(f"20{year:02d}" in text for year in range(13, 30))
    for preset in ("paper", "tuned"):
        assert recipes.load(name, preset=preset).preset == preset
