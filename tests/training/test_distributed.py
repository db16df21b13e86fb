"""Several processes: the same losses as one, weights divided or not, checkpoints that travel, deaths that lose nothing.

Worlds of 1, 2 and 4 processes are forked from one that has everything imported, and each does several runs.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from masklab.corpus.store import Store
from masklab.models.config import Config
from masklab.models.local_start import Start
from masklab.objectives.next_sentence import NextSentence
from masklab.objectives.replaced_tokens import ReplacedTokens
from masklab.recipe import Batches, Checkpoints, Recipe, from_json
from masklab.training import checkpoint, loop
from masklab.training.distributed import ALONE, World
from masklab.training.launch import MEETING, ProcessLost, begun_with, launch
from masklab.training.optim import Optimizer
from masklab.training.run import Run
from masklab.training.schedule import Budget

ROOT = Path(__file__).parents[2]
PRELOADED = ["masklab.training.loop", "masklab.objectives.next_sentence", "masklab.objectives.replaced_tokens",
             "torch.distributed.fsdp", "pytest"]  # fmt: skip
STEPS = 4


def signalled(step: int, number: int) -> Any:
    """`one_step`, but at the beginning of this step the process gets a signal."""

    def one_step(session: Any, batches: Any, now: int, factor: float) -> Any:
        if now == step:
            os.kill(os.getpid(), number)
        return one_step.real(session, batches, now, factor)  # type: ignore[attr-defined]

    one_step.real = loop.one_step  # type: ignore[attr-defined]
    return one_step


def work(rank: int, ranks: int, place: Path, jobs: list[dict[str, Any]]) -> None:
    """One process of a world: it does the jobs in turn, and the first one writes down what came of them."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    os.environ[MEETING] = str(place / "meeting")
    torch.set_num_threads(1)
    for job in jobs:
        real = loop.one_step
        if "signal" in job and rank == ranks - 1:  # not the first, which all others hear anyway
            loop.one_step = signalled(job["step"], job["signal"])
        try:
            run = loop.train(from_json(job["recipe"]), job.get("folder"))
            found = {"history": run.history, "stopped": run.stopped, "result": run.result}
        except ProcessLost as error:
            found = {"lost": str(error)}
        loop.one_step = real
        if rank == 0:
            (place / f"{job['name']}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def run_in(tmp_path_factory: pytest.TempPathFactory):
    """run_in(ranks, jobs) -> what the first of so many processes found, by the job's name."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)

    def start(ranks: int, jobs: list[dict[str, Any]]) -> dict[str, Any]:
        place = tmp_path_factory.mktemp(f"world-{ranks}")
        everyone = [context.Process(target=work, args=(rank, ranks, place, jobs)) for rank in range(ranks)]
        for process in everyone:
            process.start()
        deadline = time.monotonic() + 300
        for process in everyone:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in everyone:
            if process.is_alive():
                process.kill()
                pytest.fail(f"a process of {ranks} did not end")
        return {job["name"]: json.loads((place / f"{job['name']}.json").read_text()) for job in jobs}

    return start


@pytest.fixture(scope="module")
def recipes(store_path: Path) -> dict[str, Recipe]:
    """Three that have little in common, without dropout."""
    shape = Config("bert", layers=2, width=16, heads=2, feed_forward=32, max_length=64, pad=1, dropout=0.0,
                   attention_dropout=0.0)  # fmt: skip
    bert = Recipe(
        "bert",
        shape,
        NextSentence(),
        str(store_path),
        initial=Start("local"),  # token embeddings with protected dimensions, a frozen table of positions
        budget=Budget(steps=STEPS),
        batches=Batches(tokens=512, accumulate=2, lengths=((0.0, 32), (0.5, 64))),
        optimizer=Optimizer(lr=1e-3),
        checkpoints=Checkpoints(every=1e9),
        precision="fp32",
        attention="sdpa",  # not as measured: runs are compared to the bit
        threads=1,
        log_every=1,
    )
    bert = replace(bert, evaluation=replace(bert.evaluation, every=1.0, rows=9))
    muon = replace(bert, optimizer=Optimizer("muon", lr=1e-3), initial=Start(),
                   batches=replace(bert.batches, accumulate=1))  # fmt: skip
    return {
        "bert": bert,
        "mpnet": replace(muon, model=replace(shape, family="mpnet"), objective=bert.objective.masked),
        "electra": replace(muon, model=replace(shape, family="electra", inner=8), objective=ReplacedTokens()),
    }


def job(name: str, recipe: Recipe, folder: Path | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "recipe": recipe.to_json(), "folder": folder and str(folder)} | more


def curve(found: dict[str, Any]) -> list[list[float]]:
    """The terms of every step and the gradient's norm; without one that is no sum over tokens."""
    return [
        [found["loss"] for name, found in sorted(r["terms"].items()) if name != "always original"] + [r["norm"]]
        for r in found["history"]
        if r["kind"] == "step"
    ]


def close(a: dict[str, Any], b: dict[str, Any]) -> None:
    """The same curve up to rounding, and the same held-out scores of the same tokens."""
    assert len(curve(a)) == STEPS
    for ours, theirs in zip(curve(a), curve(b), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-4)
    for name, score in a["result"]["held_out"].items():
        if name != "always original":
            assert score["loss"] == pytest.approx(b["result"]["held_out"][name]["loss"], rel=1e-4)
            assert score["count"] == b["result"]["held_out"][name]["count"]
    assert a["result"]["tokens"] == b["result"]["tokens"]
    assert a["result"]["words"] == b["result"]["words"]


@pytest.fixture(scope="module")
def alone(run_in, recipes: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process makes of each, and a run of it that was stopped after two steps."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    stop = {"step": 1, "signal": signal.SIGTERM}
    jobs = [job(name, recipe) for name, recipe in recipes.items()]
    return run_in(1, [*jobs, job("stopped", recipes["mpnet"], folder, **stop)]) | {"folder": folder}


@pytest.fixture(scope="module")
def two(run_in, recipes: dict[str, Recipe], alone: dict[str, Any], tmp_path_factory: pytest.TempPathFactory):
    """What two processes make of them, their weights whole or divided; and stopped runs, theirs and another's."""
    place = tmp_path_factory.mktemp("two")
    shutil.copytree(alone["folder"], place / "from one")
    divided = {name: replace(recipe, sharding="full") for name, recipe in recipes.items()}
    model = replace(recipes["mpnet"].model, dropout=0.1, attention_dropout=0.1)
    parts = replace(divided["mpnet"], checkpoints=Checkpoints(every=1e9, sharded=True))
    dropout = replace(parts, model=model)
    stop = {"step": 1, "signal": signal.SIGTERM}
    found = run_in(
        2,
        [
            *(job(name, recipe) for name, recipe in recipes.items()),
            *(job(f"{name} divided", recipe) for name, recipe in divided.items()),
            job("from one", divided["mpnet"], place / "from one"),
            job("stopped whole", recipes["mpnet"], place / "whole", **stop),
            job("stopped parts", parts, place / "parts", **stop),
            job("straight", dropout, place / "straight"),
            job("stopped", dropout, place / "stopped", **stop),
            job("resumed", dropout, place / "stopped"),
        ],
    )
    return found | {"place": place, "parts": parts}


@pytest.mark.parametrize("name", ["bert", "mpnet", "electra"])
def test_two_processes_lose_what_one_does(name: str, alone: dict[str, Any], two: dict[str, Any]):
    """Accumulation, several terms, tied and frozen tables, a generator, Muon: whole weights or divided ones."""
    close(two[name], alone[name])
    close(two[f"{name} divided"], alone[name])


def test_four_processes_lose_what_one_does_and_go_on_from_two(
    run_in, recipes: dict[str, Recipe], alone: dict[str, Any], two: dict[str, Any]
):
    """The weights of the smallest layers have fewer rows than there are processes."""
    found = run_in(
        4,
        [
            job("bert", recipes["bert"]),
            job("bert divided", replace(recipes["bert"], sharding="full")),
            job("parts", two["parts"], two["place"] / "parts"),
        ],
    )
    close(found["bert"], alone["bert"])
    close(found["bert divided"], alone["bert"])
    close(found["parts"], alone["mpnet"])


def test_checkpoints_go_on_in_another_world(recipes: dict[str, Recipe], alone: dict[str, Any], two: dict[str, Any]):
    """One process's in two that divide the weights, two processes' in one; and it is said that bits may differ."""
    close(two["from one"], alone["mpnet"])
    run = loop.train(recipes["mpnet"], two["place"] / "whole")
    close({"history": run.history, "result": run.result}, alone["mpnet"])
    begins = [r for r in run.history if r["kind"] == "begin"]
    assert [r["environment"]["processes"] for r in begins] == [2, 1]
    assert [r["same_bits"] for r in begins] == [True, False]


def test_a_signal_to_one_process_stops_all_of_them_after_the_same_step(two: dict[str, Any]):
    for name in ("stopped whole", "stopped parts", "stopped"):
        assert two[name]["stopped"] == signal.SIGTERM
        last = two[name]["history"][-1]
        assert (last["kind"], last["step"]) == ("stopped", 2)


def test_a_checkpoint_in_parts_is_checked_and_holds_a_model(two: dict[str, Any]):
    """The parts are of about one size and hold every tensor once; whatever is damaged is noticed."""
    whole, parts = (checkpoint.steps(two["place"] / name / "checkpoints") for name in ("from one", "straight"))
    files = sorted(parts[-1].glob("training-*.safetensors"))
    assert [f.name for f in files] == [f"training-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert files[0].stat().st_size < 1.2 * files[1].stat().st_size
    ours, theirs = (checkpoint.read(one[-1]).tensors for one in (parts, whole))
    assert {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}
    saved, left = (
        load_file(parts[-1] / "model.safetensors"),
        load_file(two["place"] / "straight/model/model.safetensors"),
    )
    assert all(torch.equal(saved[name], left[name]) for name in left)
    shutil.copytree(parts[-1], two["place"] / "damaged")
    (two["place"] / "damaged" / files[1].name).write_bytes(b"")
    assert "has changed" in (checkpoint.damage(two["place"] / "damaged") or "")


def test_two_processes_resume_to_the_same_bits(two: dict[str, Any]):
    """With dropout, Muon, divided weights and a checkpoint in parts."""
    ours, theirs = (load_file(two["place"] / name / "model/model.safetensors") for name in ("stopped", "straight"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert curve(two["resumed"]) == curve(two["straight"])
    assert [r["same_bits"] for r in two["resumed"]["history"] if r["kind"] == "begin"] == [True, True]


def test_a_run_goes_on_in_as_many_processes_as_it_began_with(two: dict[str, Any], tmp_path: Path):
    shutil.copy(two["place"] / "straight" / "log.jsonl", tmp_path)
    assert begun_with(tmp_path) == 2
    assert begun_with(two["place"] / "straight") == 1  # it is finished: there is nothing to share


def test_a_killed_process_ends_the_run_and_loses_nothing(run_in, recipes: dict[str, Recipe], tmp_path: Path, two):
    recipe = replace(recipes["mpnet"], checkpoints=Checkpoints(every=1e9, steps=1))
    found = run_in(2, [job("killed", recipe, tmp_path / "run", step=2, signal=signal.SIGKILL)])
    assert "another process of this run has ended" in found["killed"]["lost"]
    resumed = run_in(2, [job("resumed", recipe, tmp_path / "run")])["resumed"]
    assert next(r["step"] for r in reversed(resumed["history"]) if r["kind"] == "begin") == 2
    assert curve(resumed) == curve(two["mpnet"])


def test_a_world_of_one_gives_back_what_it_is_given():
    assert ALONE.gather([1.5, 2.0]).tolist() == [[1.5, 2.0]]
    assert ALONE.add({"a": 1.0}) == {"a": 1.0}
    assert ALONE.told({"b": [1]}) == {"b": [1]}
    assert ALONE.threads(3) == 3
    assert ALONE.speaks()


def test_shares_cover_everything_once():
    for ranks in (1, 2, 3, 4):
        for n in (0, 1, 4, 5, 9):
            parts = [list(range(n))[World(rank, ranks).share(n)] for rank in range(ranks)]
            assert [x for part in parts for x in part] == list(range(n))
            assert [len(part) for part in parts if part] == [len(c) for c in torch.zeros(n).chunk(ranks) if len(c)]


def test_a_launcher_tells_who_was_killed_and_ends_the_others(capfd: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr("masklab.training.launch.GRACE", 0.1)
    script = "import os, time; os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(60)"
    assert launch(3, ["-c", script]) == 128 + signal.SIGKILL
    assert capfd.readouterr().err == "masklab: process 1 was ended by SIGKILL\n"
    assert launch(2, ["-c", "import os; raise SystemExit(2 * int(os.environ['LOCAL_RANK']))"]) == 2
    assert launch(2, ["-c", "import os; raise SystemExit([2, 75][int(os.environ['RANK'])])"]) == 2
    assert launch(2, ["-c", "pass"]) == 0


def test_a_launcher_passes_a_signal_on_once(tmp_path: Path):
    """What the processes do about it is theirs; the launcher ends when they have."""
    inner = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open(f'{sys.argv[1]}/{os.environ[\"RANK\"]}', 'a').write('x'), "
        "sys.exit(143)))\n"
        "open(f'{sys.argv[1]}/ready{os.environ[\"RANK\"]}', 'w').close()\n"
        "time.sleep(60)\n"
    )
    outer = (
        f"import sys; from masklab.training.launch import launch; sys.exit(launch(2, ['-c', {inner!r}, sys.argv[1]]))"
    )
    process = subprocess.Popen([sys.executable, "-c", outer, str(tmp_path)])
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 143
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["x", "x"]


def test_bad_input_is_one_line_however_many_processes(tmp_path: Path):
    command = [sys.executable, "-m", "masklab", "pretrain", "bert", "--processes", "2", "--data", "nowhere",
               "--out", str(tmp_path / "run"), "precision=fp32"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("masklab: nowhere is not a prepared corpus")


def test_of_several_processes_one_says_how_to_go_on(store: Store, tmp_path: Path):
    small = "model.layers=1 model.width=32 model.heads=2 model.feed_forward=64 evaluation.rows=8 log_every=1"
    command = [sys.executable, "-m", "masklab", "pretrain", "bert", "--processes", "2", "--data", str(store.path),
               "--out", str(tmp_path / "run"), "--steps", "1000000", *small.split()]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    while not (log.exists() and '"kind": "step"' in log.read_text("utf-8")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 143
    assert said.count("Go on with: masklab resume") == 1


def test_the_example_of_the_page_runs(store: Store, tmp_path: Path):
    """torchrun, then one process: the page's own commands, on a small corpus with a smaller model."""
    page = (ROOT / "docs" / "many-processes.md").read_text("utf-8")
    example = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[0].replace("\\\n", " ").splitlines()
    (tmp_path / "corpus").symlink_to(store.path)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    small = " model.layers=1 model.width=32 model.heads=2 model.feed_forward=64 evaluation.rows=8 precision=fp32"
    said = ""
    for line in example:
        line = line.replace("--steps 2000", "--steps 4" + small)
        done = subprocess.run(line.split(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    history = Run.open(tmp_path / "runs" / "shared").history
    assert history[0]["environment"]["processes"] == 2
    assert history[-1]["kind"] == "end"
    assert said.count("4 steps") == 1
