"""The loop: it learns, it stops and goes on to the same bits, and accumulation changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from masklab import files
from masklab.errors import BadInput
from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.next_sentence import NextSentence
from masklab.recipe import Batches, Checkpoints, Recipe, difference, from_json, override
from masklab.training import checkpoint
from masklab.training.loop import train
from masklab.training.optim import Optimizer
from masklab.training.run import Run
from masklab.training.schedule import Budget


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(folder: Path) -> dict[int, float]:
    return {r["step"]: r["terms"]["masked"]["loss"] for r in Run.open(folder).history if r["kind"] == "step"}


class Interrupt(Exception):
    pass


def stop_after(step: int):
    """A watcher that fails as soon as the log has passed `step`: a crash, without any chance to save."""

    def watch(record: dict) -> None:
        if record["kind"] in ("step", "checkpoint") and record["step"] >= step:
            raise Interrupt

    return watch


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("straight") / "run"


def run_straight(recipe: Recipe, folder: Path) -> Path:
    if not folder.exists():
        train(recipe, folder)
    return folder


@pytest.mark.parametrize("crash", [3, 4, 6, 8, 9])
def test_a_crashed_run_goes_on_to_the_same_bits(tiny: Recipe, tmp_path: Path, straight: Path, crash: int):
    """Losses and weights, with dropout, two row lengths and Muon; wherever it died."""
    run_straight(tiny, straight)
    with pytest.raises(Interrupt):
        train(tiny, tmp_path / "run", stop_after(crash))
    assert not (tmp_path / "run" / "result.json").exists()
    run = train(tiny, tmp_path / "run")
    assert run.result["steps"] == 12
    assert same(weights(tmp_path / "run"), weights(straight))
    assert losses(tmp_path / "run") == losses(straight)


def test_a_crash_between_micro_batches_goes_on_to_the_same_bits(tiny: Recipe, tmp_path: Path, monkeypatch):
    recipe = replace(tiny, batches=replace(tiny.batches, accumulate=4))
    train(recipe, tmp_path / "straight")
    calls = [0]
    real = MaskedLM.loss

    def failing(self, *arguments):
        calls[0] += torch.is_grad_enabled()
        if calls[0] == 4 * 6 + 3:  # the third part of the seventh step
            raise Interrupt
        return real(self, *arguments)

    monkeypatch.setattr(MaskedLM, "loss", failing)
    with pytest.raises(Interrupt):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    train(recipe, tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "straight"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_once(tiny: Recipe, tmp_path: Path, straight: Path, number: int):
    run_straight(tiny, straight)

    def watch(record: dict) -> None:
        if record["kind"] == "step" and record["step"] == 6:
            os.kill(os.getpid(), number)

    run = train(tiny, tmp_path / "run", watch)
    assert run.stopped == number
    assert not run.result
    saved = checkpoint.latest(tmp_path / "run" / "checkpoints", print)
    assert saved is not None
    assert 6 <= saved[1].values["step"] <= 7
    train(tiny, tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(straight))


def test_accumulation_changes_nothing(no_dropout: Recipe):
    """Normalised by the whole step's targets: 1 or 4 micro-batches, the same losses up to rounding."""
    settings = replace(no_dropout, optimizer=Optimizer("adamw", lr=1e-3), log_every=1)
    runs = [train(replace(settings, batches=replace(settings.batches, accumulate=k))) for k in (1, 4)]
    curves = [[r["terms"]["masked"]["loss"] for r in run.history if r["kind"] == "step"] for run in runs]
    assert curves[0] == pytest.approx(curves[1], abs=2e-5)


def test_it_learns(no_dropout: Recipe):
    """Sixty steps on one small corpus get well below what word frequencies alone give."""
    recipe = replace(
        no_dropout,
        objective=MaskedLM(unigram_start=True),
        budget=Budget(steps=150),
        batches=Batches(tokens=1024, lengths=((0.0, 32),)),
        optimizer=Optimizer("adamw", lr=5e-3),
    )
    run = train(recipe)
    last = [r["terms"]["masked"]["loss"] for r in run.history if r["kind"] == "step"][-1]
    assert last < run.result["baseline"]["masked"]["loss"] - 0.3


def test_held_out_scores_start_at_the_baseline(no_dropout: Recipe):
    """With the output bias at the unigram's logarithm and small weights, the first score is the baseline's."""
    recipe = replace(no_dropout, objective=MaskedLM(unigram_start=True), budget=Budget(steps=1))
    first = next(r for r in train(recipe).history if r["kind"] == "held_out")
    assert first["terms"]["masked"]["loss"] == pytest.approx(first["baseline"]["masked"]["loss"], abs=0.05)
    assert first["terms"]["hidden"]["count"] < first["terms"]["masked"]["count"]


def test_next_sentence_trains_and_resumes(tiny: Recipe, tmp_path: Path):
    recipe = replace(tiny, objective=NextSentence())
    train(recipe, tmp_path / "straight")
    with pytest.raises(Interrupt):
        train(recipe, tmp_path / "run", stop_after(6))
    run = train(recipe, tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "straight"))
    assert set(run.result["held_out"]) == {"masked", "hidden", "next"}
    assert run.result["baseline"]["next"]["loss"] == pytest.approx(0.693, abs=1e-3)


def test_a_run_by_the_clock_is_repeated_step_for_step(tiny: Recipe, tmp_path: Path):
    recipe = replace(tiny, budget=Budget(seconds=0.7))
    first = train(recipe, tmp_path / "clock")
    again = train(first.again() if first.folder is None else Run.open(tmp_path / "clock").again(), tmp_path / "again")
    assert again.result["steps"] == first.result["steps"]
    assert same(weights(tmp_path / "again"), weights(tmp_path / "clock"))


def test_another_recipe_is_refused_with_the_difference(tiny: Recipe, tmp_path: Path):
    with pytest.raises(Interrupt):
        train(tiny, tmp_path / "run", stop_after(3))
    with pytest.raises(BadInput, match=r"optimizer\.lr: 0\.5, not 0\.001; seed: 3, not 0"):
        train(override(tiny, ["optimizer.lr=0.5", "seed=3"]), tmp_path / "run")


def test_a_run_of_an_older_version_goes_on(tiny: Recipe, tmp_path: Path):
    """Its recipe lacks fields that came later: they are at their defaults."""
    with pytest.raises(Interrupt):
        train(tiny, tmp_path / "run", stop_after(3))
    file = tmp_path / "run" / "recipe.json"
    saved = json.loads(file.read_text())
    del saved["initial"]["same"], saved["sharding"]
    file.write_text(json.dumps(saved))
    assert train(tiny, tmp_path / "run").result["steps"]


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(tiny: Recipe, tmp_path: Path, straight: Path):
    run_straight(tiny, straight)
    with pytest.raises(Interrupt):
        train(tiny, tmp_path / "run", stop_after(8))
    newest = checkpoint.steps(tmp_path / "run" / "checkpoints")[-1]
    content = bytearray((newest / "training.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "training.safetensors").write_bytes(content)
    said: list[dict] = []
    train(tiny, tmp_path / "run", said.append)
    warnings = [r["text"] for r in said if r["kind"] == "warning"]
    assert len(warnings) == 1
    assert "training.safetensors has changed" in warnings[0]
    assert same(weights(tmp_path / "run"), weights(straight))


def test_a_result_that_is_not_finite_stops_with_its_seed_and_step(tiny: Recipe, tmp_path: Path):
    with pytest.raises(BadInput, match=r"not finite at step \d+ of seed 0"):
        train(override(tiny, ["optimizer.lr=1e30", "optimizer.muon_lr=1e30"]), tmp_path / "run")


def test_two_processes_do_not_share_a_folder(tiny: Recipe, tmp_path: Path):
    def watch(record: dict) -> None:
        if record["kind"] == "begin":
            with pytest.raises(BadInput, match="another process"):
                train(tiny, tmp_path / "run")
            raise Interrupt

    with pytest.raises(Interrupt):
        train(tiny, tmp_path / "run", watch)


def test_a_folder_of_other_things_is_left_alone(tiny: Recipe, tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="no run"):
        train(tiny, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_only_the_last_checkpoints_stay(tiny: Recipe, tmp_path: Path):
    train(replace(tiny, checkpoints=Checkpoints(every=1e9, steps=2, keep=3)), tmp_path / "run")
    kept = [p.name for p in checkpoint.steps(tmp_path / "run" / "checkpoints")]
    assert kept == ["step-00000008", "step-00000010", "step-00000012"]


def test_recipes_survive_json(tiny: Recipe):
    assert from_json(json.loads(json.dumps(tiny.to_json()))) == tiny
    pairs = replace(tiny, objective=NextSentence(MaskedLM(unit="word")), budget=Budget(seconds=3))
    assert from_json(json.loads(json.dumps(pairs.to_json()))) == pairs


def test_nothing_foreign_is_made_from_json(tiny: Recipe):
    saved = tiny.to_json()
    saved["objective"] = {"type": "subprocess.Popen", "args": "true"}
    with pytest.raises(BadInput, match="not part of masklab"):
        from_json(saved)


def test_overrides_are_typed_and_wrong_ones_list_the_right_ones(tiny: Recipe):
    changed = override(
        tiny, ["model.layers=3", "objective.unit=word", "schedule.warmup=0", "batches.lengths=((0, 16),)"]
    )
    assert (changed.model.layers, changed.objective.unit, changed.schedule.warmup) == (3, "word", 0.0)
    assert changed.batches.lengths == ((0.0, 16),)
    for wrong, message in [
        ("model.depth=3", "Config has no 'depth'; it has family, vocabulary, layers"),
        ("model.layers=many", "wants a whole number"),
        ("optimizer.name=sgd", "one of 'adamw', 'muon'"),
        ("seed", "written name=value"),
        ("seed.x=1", "single value"),
    ]:
        with pytest.raises(BadInput, match=message):
            override(tiny, [wrong])
    assert difference(tiny.to_json(), override(tiny, ["seed=1"]).to_json()) == ["seed: 0, not 1"]


KILLED = """
import sys, json
from masklab.recipe import from_json
from masklab.training.loop import train
train(from_json(json.load(open(sys.argv[1]))), sys.argv[2])
"""


def test_ten_kills_lose_nothing(tiny: Recipe, tmp_path: Path):
    """SIGKILL at ten moments of a run that saves at every step; then it goes on to the straight run's bits."""
    recipe = replace(tiny, budget=Budget(steps=40), checkpoints=Checkpoints(every=1e9, steps=1))
    train(recipe, tmp_path / "straight")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    folder = tmp_path / "run"
    kills = 0
    while kills < 10:
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "recipe.json"), str(folder)])
        before = newest(folder)
        deadline = time.monotonic() + 60
        while newest(folder) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.004 * kills)  # a different moment of a step or a save each time
        process.kill()
        process.wait()
        kills += 1
        if newest(folder):
            assert checkpoint.latest(folder / "checkpoints", pytest.fail) is not None
    train(recipe, folder)
    assert same(weights(folder), weights(tmp_path / "straight"))
    files.settle(folder / "model")
    assert not list(folder.rglob("*.tmp"))


def newest(folder: Path) -> int:
    return max((int(p.name[5:]) for p in (folder / "checkpoints").glob("step-*")), default=0)
