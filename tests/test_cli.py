"""The commands: help at once, one line for bad input, Ctrl-C that loses nothing, any kind of terminal."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from masklab.cli import app
from masklab.cli.common import count, seconds
from masklab.errors import BadInput

SMALL = ["model.layers=1", "model.width=32", "model.heads=2", "model.feed_forward=64", "evaluation.rows=4"]
SMALL += ["batches.tokens=512", "threads=1", "precision=fp32"]


def call(*arguments: str | Path, stdin: str | None = None) -> Result:
    torch.set_num_threads(1)
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = call("pretrain", "bert", "--data", store.path, "--out", folder, "--steps", "6", *SMALL)
    assert done.exit_code == 0, done.output
    return folder


def test_help_is_there_at_once_and_teaches():
    names = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
    groups = [(group.name, group.typer_instance) for group in app.registered_groups]
    assert [name for name, _ in groups] == ["words"]
    names += [f"words {c.name or c.callback.__name__}" for _, group in groups for c in group.registered_commands]  # type: ignore[union-attr]
    assert len(names) > 30
    for name in names:
        done = call(*name.split(), "--help")
        assert done.exit_code == 0
        assert f"masklab {name}" in done.output, name  # the example
    code = "import sys, masklab.cli; masklab.cli.app(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("False"), done.stdout + done.stderr


BAD = [
    (["prepare", "missing.txt", "--out", "c"], "missing.txt"),
    (["prepare", "--out", "c"], "name text files"),
    (["pretrain", "bret", "--data", "c", "--out", "r"], "no recipe is called 'bret'; there are bert"),
    (["pretrain", "--data", "c", "--out", "r"], "name a recipe"),
    (["pretrain", "bert", "--out", "r"], "--data"),
    (["pretrain", "bert", "--data", "nowhere", "--out", "r"], "masklab prepare"),
    (["pretrain", "bert", "--data", "c", "--out", "r", "--steps", "3", "--time", "5m"], "exactly one"),
    (["pretrain", "bert", "--data", "c", "--out", "r", "--time", "5x"], "90s, 5m or 1h30m"),
    (["pretrain", "bert", "--data", "c", "--out", "r", "--tokens", "many"], "250k or 10M"),
    (["pretrain", "bert", "model.layer=6", "--data", "c", "--out", "r"], "layers"),
    (["pretrain", "bert", "model.layers=six", "--data", "c", "--out", "r"], "a whole number"),
    (["pretrain", "mine.py", "--data", "c", "--out", "r"], "mine.py: no such file"),
    (["pretrain", "bert", "--data", "c", "--out", "r", "--mix", "g=much"], "--mix much: write a number"),
    (["pretrain", "bert", "--data", "c", "--out", "r", "--mix", "g=0.1", "--smoothing", "0.5"], "without a share"),
    (["init", "bert", "r", "--local"], "--data STORE or --tokenizer FILE"),
    (["init", "bert", "r", "--data", "nowhere"], "masklab prepare"),
    (["init", "bert", "r", "--tokenizer", "./nowhere"], "nowhere"),
    (["init", "modernbert", "r", "--local", "--tokenizer", "./nowhere", "model.biases=None"], "True or False"),
    (["resume", "nowhere"], "no recipe.json"),
    (["pretrain", "--again", "nowhere", "--out", "r"], "no recipe.json"),
    (["evaluate", "./nowhere"], "no such folder"),
    (["fill", "./nowhere", "a _"], "no such folder"),
    (["show", "bert"], "--data"),
    (["embed", "./nowhere", "--file", "missing.txt"], "missing.txt"),
    (["finetune", "./nowhere", "--train", "a", "--dev", "b", "--lr", "fast"], "--lr fast"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("masklab: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "r").exists(), "nothing is made of a run that cannot begin"


def test_a_run_and_what_can_be_done_with_it(run, store, tmp_path):
    assert "finished already" in call("resume", run).stdout
    again = call("pretrain", "--again", run, "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    weights = "model/model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (run / weights).read_bytes()
    other = call("pretrain", "bert", "seed=1", "--data", store.path, "--out", run, "--steps", "6", *SMALL)
    assert other.exit_code == 2
    assert "seed: 1, not 0" in other.stderr
    assert "masked" in call("evaluate", run).stdout
    assert (run / "tensorboard").is_dir()
    assert json.loads((run / "log.jsonl").read_text("utf-8").splitlines()[-1])["kind"] == "end"


def test_a_start_is_written_and_trained_on(store, tmp_path):
    start = tmp_path / "start"
    done = call("init", "bert", start, "--local", "--data", store.path, *SMALL[:4])
    assert done.exit_code == 0, done.output
    assert "token vectors from counts" in done.stdout
    assert "BertForMaskedLM" in done.stdout
    on = ["--data", store.path, "--out", tmp_path / "run", "--steps", "2", f"start={start}", "embeddings=random"]
    done = call("pretrain", "bert", *on, *SMALL[4:])
    assert done.exit_code == 0, done.output
    trained, began = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run" / "model", start))
    position = "bert.embeddings.position_embeddings.weight"
    assert torch.equal(trained[position], began[position]), "protected"
    assert {name: x.shape for name, x in trained.items()} == {name: x.shape for name, x in began.items()}
    alone = call("init", "mpnet", tmp_path / "random", "--tokenizer", store.folder, *SMALL[:4])
    assert alone.exit_code == 0, alone.output
    assert "random start." in alone.stdout


def test_fill_from_arguments_and_from_stdin(run):
    by_argument = call("fill", run, "The _ of a class.", "--top", "3")
    by_stdin = call("fill", run, "--top", "3", stdin="The _ of a class.\n\n")
    assert by_argument.exit_code == 0, by_argument.output
    assert by_argument.stdout == by_stdin.stdout
    assert len(by_argument.stdout.splitlines()) == 2


def test_embed_as_json_lines_and_as_an_array(run, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("one text\nand another\n", "utf-8")
    lines = [json.loads(line) for line in call("embed", run, "one text", "and another").stdout.splitlines()]
    assert call("embed", run, "--file", texts, "--out", tmp_path / "v.npy").exit_code == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), [line["vector"] for line in lines], atol=1e-5)
    assert [line["text"] for line in lines] == ["one text", "and another"]


def test_finetune_with_seeds_and_rates(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one thread is enough for so little
    table = tmp_path / "t.tsv"
    table.write_text("text\tlabel\n" + "it works\tgood\nit fails\tbad\n" * 6, "utf-8")
    out = tmp_path / "labels"
    done = call("finetune", run, "--train", table, "--dev", table, "--seeds", "2", "--lr", "1e-3,1e-2", "--out", out)
    assert done.exit_code == 0, done.output
    assert "±" in done.stdout
    assert {p.name for p in out.iterdir()} == {"seed-0", "seed-1"}
    assert call("evaluate", out / "seed-0").exit_code == 0
    assert "good" in call("show", out / "seed-0", "--step", "1").stdout


def test_a_recipe_of_ones_own(store, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        '"""Mine."""\nfrom masklab.recipes import bert\n\n\ndef recipe(data="", size=32):\n'
        '    made = bert.recipe(data)\n    from dataclasses import replace\n'
        "    return replace(made, model=replace(made.model, layers=1, width=size, heads=2, feed_forward=64))\n",
        "utf-8",
    )  # fmt: skip
    done = call("show", mine, "size=64", "--data", store.path, "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "<ruby" in (tmp_path / "page.html").read_text("utf-8")


def test_recipes_are_listed_with_their_sizes():
    done = call("recipes")
    for word in ("bert", "mpnet", "modernbert", "MPNetForMaskedLM", "109.5M", "335.1M", "110M"):
        assert word in done.stdout, word
    assert "L (4 D² + 4 D)" in call("recipes", "bert").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_saves_and_says_how_to_go_on(number, store, tmp_path):
    out = tmp_path / "run"
    line = [sys.executable, "-m", "masklab", "pretrain", "bert", "--data", str(store.path), "--out", str(out)]
    process = subprocess.Popen([*line, "--time", "10m", *SMALL, "log_every=1"], stderr=subprocess.PIPE, text=True)
    log = out / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and '"kind": "step"' in log.read_text("utf-8")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert f"Stopped by {number.name}" in said
    assert f"masklab resume {out}" in said
    assert "Traceback" not in said
    assert list((out / "checkpoints").iterdir())


def test_times_and_counts():
    assert [seconds(t) for t in ("90s", "5m", "1h30m", "0.5m")] == [90, 300, 5400, 30]
    assert [count(t, "--tokens") for t in ("12", "250k", "10M", "1.5G", "1_000", "1,000")] == [
        12, 250_000, 10_000_000, 1_500_000_000, 1000, 1000,
    ]  # fmt: skip
    with pytest.raises(BadInput):
        seconds("5")


def test_a_run_whose_corpus_is_not_in_reach_says_so(run, store, tmp_path):
    (tmp_path / "run").mkdir()
    recipe = (run / "recipe.json").read_text("utf-8").replace(str(store.path), "moved")
    (tmp_path / "run" / "recipe.json").write_text(recipe, "utf-8")
    for command in ("resume", "show"):
        done = call(command, tmp_path / "run")
        assert done.exit_code == 2
        assert "moved, are not in reach" in done.stderr
    assert call("show", tmp_path / "run", "--data", store.path).exit_code == 0
