"""Tagging from the layers of a frozen ELMo: what is frozen stays, every word is answered, vectors are looked up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masklab import recipe as recipes
from masklab.analysis.embed import embed
from masklab.analysis.fill import fill
from masklab.corpus.store import Store
from masklab.corpus.store_words import reader_of
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.elmo import Elmo, ElmoConfig
from masklab.models.transformer import Model
from masklab.recipe import Batches, Evaluation, Recipe
from masklab.rng import rng
from masklab.tasks.finetune import finetune, judge
from masklab.tasks.score import scores
from masklab.tasks.tag import Tag
from masklab.tasks.tag_features import TagFeatures, vectors_of
from masklab.training.batches import collate
from masklab.training.loop import train
from masklab.training.optim import Optimizer
from masklab.training.run import Run
from masklab.training.schedule import Budget

SENTENCES = [("the cat sat", "DET NOUN VERB"), ("a dog ran home", "DET NOUN VERB ADV"), ("it sat", "PRON VERB")]
SHAPE = ElmoConfig(layers=2, width=8, cells=12, filters=((1, 4), (2, 8)), characters=4, highways=1, dropout=0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tagged")
    text = "".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(a.split(), b.split(), strict=True)) + "\n" for a, b in SENTENCES
    )
    (folder / "train.tsv").write_text(text * 12, "utf-8")
    (folder / "dev.tsv").write_text(text, "utf-8")
    (folder / "words.vec").write_text("3 2\nthe 1 0\ncat 0 1\ndog 0.5 0.5\n", "utf-8")
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def start(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ELMo after two steps."""
    made = replace(recipes.load("elmo", data=str(store.path)), model=SHAPE, threads=1, precision="fp32")
    made = replace(made, budget=Budget(steps=2), batches=Batches(256, 1, ((0.0, 32),)), evaluation=Evaluation(1.0, 2))
    return train(made, tmp_path_factory.mktemp("runs") / "elmo").model_folder


def tagger(files: dict[str, str], start: Path, steps: int = 90, **settings: object) -> Recipe:
    task = TagFeatures(files["dev"], "1", "2", inside=12, dropout=0.1, **settings)  # type: ignore[arg-type]
    return Recipe(
        "tagger", hub.load(start).config, task, files["train"], start=str(start), budget=Budget(steps=steps),
        batches=Batches(128, 1, ((0.0, 16),)), optimizer=Optimizer(lr=1e-2), evaluation=Evaluation(1.0),
        precision="fp32", threads=1,
    )  # fmt: skip


def test_it_learns_and_the_network_stays_as_it_was(files: dict[str, str], start: Path, tmp_path: Path):
    run = train(tagger(files, start), tmp_path / "run")
    assert run.pretrainer is not None
    before = hub.load(start).model.state_dict()
    assert all(torch.equal(before[name], x) for name, x in run.pretrainer.model.state_dict().items())
    assert run.result["held_out"]["tag"]["accuracy"] > 0.8
    mix = run.pretrainer.heads["tag"].mix  # type: ignore[union-attr]
    assert mix.w.abs().max() > 0  # type: ignore[union-attr, operator]
    opened = hub.load(run.model_folder)
    assert opened.labels == ["ADV", "DET", "NOUN", "PRON", "VERB"]
    assert torch.equal(opened.heads["tag"].mix.w, mix.w)  # type: ignore[union-attr]
    source = run.recipe.objective.open(files["train"], "held_out", None)
    found = run.recipe.objective.predict(run.pretrainer, source, 16)
    assert [source.labels[i] for i in found.truth] == " ".join(tags for _, tags in SENTENCES).split()
    accuracy = scores(found.truth, found.predicted, 5)["accuracy"]
    assert accuracy == pytest.approx(run.result["held_out"]["tag"]["accuracy"])


def test_what_is_frozen_has_no_dropout(files: dict[str, str]):
    task = TagFeatures(files["dev"], "1", "2", dropout=0.0)
    source = task.open(files["train"], "train")
    model: Any = Elmo(replace(SHAPE, dropout=0.9)).train()
    heads = task.heads(model, source)
    batch = collate([task.example(source, 0, 16, rng(0, "test"), 0.0)])
    first, second = (task.loss(model, heads, batch)["tag"].total.item() for _ in range(2))
    assert first == second


def test_random_weights_are_the_control(files: dict[str, str], start: Path):
    run = train(replace(tagger(files, start, 1), fresh=True))
    assert run.pretrainer is not None
    before = hub.load(start).model.state_dict()
    assert not all(torch.equal(before[name], x) for name, x in run.pretrainer.model.state_dict().items())


def test_a_row_holds_sentences_word_by_word(files: dict[str, str]):
    task = TagFeatures(files["dev"], "1", "2", vectors=files["words"])
    source = task.open(files["train"], "train")
    given = {"the": [1, 0], "cat": [0, 1], "dog": [0.5, 0.5]}
    seen = 0
    for index in range(len(task.examples(source, 16))):
        found = task.example(source, index, 16, rng(0, "test"), 0.0)
        assert found.features is not None
        assert found.at["tag"].tolist() == np.flatnonzero(found.inputs.tokens >= 0).tolist()
        names = [source.labels[i] for i in found.targets["tag"]]
        for slot, tag in zip(found.at["tag"], names, strict=True):
            vector = found.features[slot].tolist()
            assert vector in ([[1, 0], [0, 0]] if tag == "DET" else [[0, 1], [0.5, 0.5], [0, 0]])
            seen += 1
    assert seen == 12 * sum(len(a.split()) for a, _ in SENTENCES)
    assert vectors_of(files["words"], ["The", "cat", "unheard"]).tolist() == [given["the"], given["cat"], [0, 0]]


def test_vectors_in_the_network_s_place(files: dict[str, str], start: Path):
    run = train(tagger(files, start, vectors=files["words"]))
    assert run.pretrainer is not None
    assert run.pretrainer.heads["tag"].settings["layers"] == 1  # type: ignore[index]
    assert run.result["held_out"]["tag"]["accuracy"] > 0.6


def test_only_networks_that_read_letters(files: dict[str, str]):
    task = TagFeatures(files["dev"], "1", "2")
    source = task.open(files["train"], "train")
    with pytest.raises(BadInput, match="letters"):
        task.heads(Model(Config(layers=1, width=8, heads=2, feed_forward=8, vocabulary=9)), source)


def test_finetune_takes_it_and_other_tasks_say_why_not(files: dict[str, str], start: Path, tmp_path: Path):
    task = TagFeatures(files["dev"], "1", "2", inside=12, dropout=0.1)
    found = finetune(task, start, files["train"], tmp_path / "tagger", rate=1e-2, least=90, length=16, threads=1)
    assert found.scores["accuracy"] > 0.8
    assert judge(Run.open(tmp_path / "tagger")).scores == found.scores
    with pytest.raises(BadInput, match="letters"):
        Tag(files["dev"], "1", "2").open(files["train"], "train", reader_of(start))
    with pytest.raises(BadInput, match="letters"):
        embed(start, ["a text"])
    with pytest.raises(BadInput, match="masked-LM head"):
        fill(str(start), "a _ text")
