"""Text to text: a small model learns to write, is scored as sacrebleu scores, and generate writes the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
from typer.testing import CliRunner

from masklab import recipe as recipes
from masklab.analysis.write import generate
from masklab.cli import app
from masklab.corpus.store import Store
from masklab.errors import BadInput
from masklab.recipe import Batches, Evaluation
from masklab.tasks.finetune import finetune
from masklab.tasks.text_to_text import TextToText, Written
from masklab.training.batches import IGNORE
from masklab.training.loop import train
from masklab.training.schedule import Budget


@pytest.fixture(scope="module")
def writer(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 that has hardly begun."""
    made = recipes.load("t5", data=str(store.path))
    made = replace(
        made,
        model=replace(made.model, width=64, heads=4, feed_forward=128, max_length=64),
        embeddings="random",
        budget=Budget(steps=4),
        batches=Batches(512, 1, ((0.0, 64),)),
        evaluation=Evaluation(1.0, rows=4),
        precision="fp32",
        threads=1,
    )
    folder = tmp_path_factory.mktemp("t5") / "run"
    train(made, folder)
    return folder / "model"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first word of a text is to be written twice."""
    random = np.random.default_rng(0)
    words = ["file", "value", "name", "list"]
    rows = [random.choice(words, 3).tolist() for _ in range(60)]
    path = tmp_path_factory.mktemp("pairs") / "train.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{' '.join(row)}\t{row[0]} {row[0]}\n" for row in rows))
    return path


def test_it_learns_to_write(writer: Path, table: Path, tmp_path: Path):
    torch.set_num_threads(1)
    task = TextToText(str(table))
    found = finetune(task, writer, table, tmp_path / "out", rate=4e-3, least=150, precision="fp32", threads=1)
    assert isinstance(found.predictions, Written)
    assert found.scores["exact"] > 0.9 > found.baseline["exact"] == 0
    p = found.predictions
    assert found.scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(p.predicted, [p.truth], force=True).score)
    assert found.scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(p.predicted, [p.truth]).score)
    lines = (tmp_path / "out" / "predictions.tsv").read_text().splitlines()
    assert lines[0] == "number\ttext\ttruth\tpredicted"
    assert len(lines) == 61
    assert generate(tmp_path / "out", p.texts[:5]) == p.predicted[:5]
    said = CliRunner().invoke(app, ["generate", str(tmp_path / "out"), p.texts[0]])
    assert (said.exit_code, said.stdout.strip()) == (0, p.predicted[0])


def test_a_row_holds_several_pairs(writer: Path, table: Path):
    from masklab.corpus.tokenizer import Tokenizer

    task = TextToText(str(table), prefix="say: ")
    source = task.open(str(table), "train", Tokenizer.from_file(writer))
    laid = source.laid(64)
    seen = np.concatenate(laid.rows)
    assert sorted(seen.tolist()) == list(range(60))
    assert len(laid.rows) < 30
    example = task.example(source, 0, 64, np.random.default_rng(0), 0.0)
    assert example.written is not None
    for place, number in enumerate(laid.rows[0]):
        ids, wanted = laid.pairs[number]
        assert example.inputs.tokens[example.inputs.document == place].tolist() == ids.tolist()
        slots = example.written.document == place
        assert example.targets["written"][slots].tolist() == wanted.tolist()
        assert example.written.tokens[slots].tolist() == [source.tokenizer.pad, *wanted[:-1].tolist()]
        assert source.tokenizer.decode(ids).startswith("say")
    assert (example.targets["written"][example.written.document < 0] == IGNORE).all()
    short = source.laid(8)
    assert short.cut == 60 - sum(len(x) < 8 for x, _ in source._pairs)
    assert all(max(len(x), len(y)) <= 8 and x[-1] == y[-1] == source.tokenizer.sep for x, y in short.pairs)


def test_gaps_are_filled(writer: Path):
    answer = generate(writer, ["the _ of a list and the _ too", "no gap here"], longest=12)
    assert answer[0].startswith("the [")
    assert answer[0].count("[") >= 2
    assert "extra_id" not in answer[0]
    with pytest.raises(BadInput, match="101 gaps"):
        generate(writer, ["_ " * 101])


def test_chinese_is_scored_by_character():
    ours, copied = Written(["子曰", "学而"], ["孔子说道啊", "学习而且"], ["孔子说道呀", "学习而且"]).scores()
    expected = sacrebleu.corpus_bleu(
        ["孔子说道呀", "学习而且"], [["孔子说道啊", "学习而且"]], tokenize="zh", force=True
    )
    assert ours["bleu"] == pytest.approx(expected.score)
    assert ours["exact"] == 0.5 > copied["exact"]


def test_models_that_only_read_are_refused(table: Path, store: Store, tmp_path: Path):
    made = recipes.load("bert", data=str(store.path))
    made = replace(
        made, model=replace(made.model, layers=1, width=32, heads=2, feed_forward=32, max_length=64),
        embeddings="random", budget=Budget(steps=1), batches=Batches(512, 1, ((0.0, 64),)), threads=1,
        evaluation=Evaluation(1.0, rows=4),
    )  # fmt: skip
    train(made, tmp_path / "bert")
    said = CliRunner().invoke(app, ["generate", str(tmp_path / "bert"), "a text"])
    assert said.exit_code == 2
    assert "only reads" in said.output
    with pytest.raises(BadInput, match="only reads"):
        finetune(TextToText(str(table)), tmp_path / "bert" / "model", table, threads=1)
