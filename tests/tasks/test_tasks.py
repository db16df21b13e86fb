"""Labelled tasks: rows, truncation, learning, and folders that transformers opens with the same answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.heads import MaskedLMHead
from masklab.models.local_start import Start
from masklab.models.transformer import Model
from masklab.recipe import from_json
from masklab.tasks.classify import Classify, truncated
from masklab.tasks.finetune import finetune, judge, recipe
from masklab.tasks.labelled import first_of
from masklab.tasks.tag import Tag, stretches, word_pieces
from masklab.training.batches import IGNORE, collate

WORDS = ["the", "value", "of", "an", "object", "is", "not", "name", "but", "what", "it", "was", "bound", "to"]
FAMILIES = ("bert", "mpnet", "modernbert")


@pytest.fixture(scope="session")
def models(store, tmp_path_factory):
    """A model folder of each family, with random weights, as pre-training leaves it."""
    found = {}
    for family in FAMILIES:
        torch.manual_seed(0)
        config = Config(family, vocabulary=store.tokenizer.size, layers=1, width=32, heads=2, feed_forward=64,
                        max_length=64, pad=store.tokenizer.pad, std=0.1)  # fmt: skip
        model = Model(config)
        heads = torch.nn.ModuleDict({"masked_lm": MaskedLMHead(config, model.embeddings)})
        found[family] = tmp_path_factory.mktemp(family)
        hub.save(found[family], config, model, heads, special={"pad": store.tokenizer.pad})
        store.tokenizer.save(found[family])
    return found


@pytest.fixture
def tables(tmp_path):
    """Texts with the word "false" are of class no; so is their only difference."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("dev", 12)):
        with open(tmp_path / f"{part}.tsv", "w") as file:
            file.write("text\tother\tlabel\n")
            for i in range(n):
                text = " ".join(rng.choice(WORDS, 6)) + (" false" if i % 2 else " true")
                file.write(
                    f"{text}\t{' '.join(rng.choice(WORDS, int(rng.integers(1, 60))))}\t{'no' if i % 2 else 'yes'}\n"
                )
    return tmp_path


@pytest.fixture
def tagged(tmp_path):
    """A word's tag is its own, or "after" if "not" stands before it: the usual tag is not enough."""
    words = [word for word in WORDS if word != "not"] + ["not"] * 3
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("dev", 15)):
        with open(tmp_path / f"{part}.txt", "w") as file:
            for _ in range(n):
                drawn = rng.choice(words, int(rng.integers(1, 90)))
                for before, word in zip(["", *drawn], drawn, strict=False):
                    file.write(f"{word}\t{'after' if before == 'not' else 'plain'}\n")
                file.write("\n")
    return tmp_path


def test_truncation_takes_from_the_longer_text():
    def sizes(a, b, room):
        return [len(x) for x in truncated((np.arange(a), np.arange(b)), room)]

    assert sizes(7, 3, 6) == [3, 3]
    assert sizes(9, 1, 6) == [5, 1]
    assert sizes(1, 9, 6) == [1, 5]
    assert sizes(2, 3, 6) == [2, 3]
    assert len(truncated((np.arange(9),), 4)[0]) == 4


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 10))
def test_stretches_cover_every_word_and_fit(sizes, room):
    found = stretches(sizes, room)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
    assert found[-1][1] == len(sizes)
    assert all(sum(min(s, room) for s in sizes[a:b]) <= room for a, b in found)


def test_words_get_the_pieces_that_the_tokenizer_gives_the_sentence(store):
    words = ["Unbelievable", "naïveté", "x=1", "\u200b", "if"]
    (pieces,) = word_pieces(store.tokenizer, [words])
    assert pieces[3].tolist() == [store.tokenizer.unk]
    whole = store.tokenizer.encode([" ".join(words)])[0]
    assert np.concatenate([pieces[i] for i in (0, 1, 2, 4)]).tolist() == whole
    assert store.tokenizer.decode(pieces[4]) == "if"


def test_smaller_limits_are_part_of_larger_ones():
    draws = [set(first_of(1000, n, 3).tolist()) for n in (16, 50, 400)]
    assert [len(d) for d in draws] == [16, 50, 400]
    assert draws[0] < draws[1] < draws[2]
    assert draws[0] != set(first_of(1000, 16, 4).tolist())
    assert first_of(5, None, 0).tolist() == [0, 1, 2, 3, 4]


def test_packed_rows_hold_every_example_once(store, tables, tagged):
    for task, data in ((Classify(str(tables / "dev.tsv"), ("text", "other")), tables / "train.tsv"),
                       (Tag(str(tagged / "dev.txt")), tagged / "train.txt")):  # fmt: skip
        source = task.open(str(data), "train", store.tokenizer)
        rows = task.examples(source, 48)
        examples = [task.example(source, i, 48, np.random.default_rng(0), 0.0) for i in range(len(rows))]
        laid = source.laid(48)
        origins = np.concatenate([laid.items[i].origin for row in rows for i in row])
        assert sorted(origins.tolist()) == list(range(len(origins)))
        batch = collate(examples)
        slots = batch.inputs.tokens.gather(1, batch.at[task.TERM])[batch.targets[task.TERM] != IGNORE]
        if task.TERM == "class":
            assert (slots == store.tokenizer.cls).all()
        else:
            assert not np.isin(slots.numpy(), store.tokenizer.special).any()
        assert len(slots) == len(origins) == batch.counts[task.TERM]
        assert batch.tokens / batch.inputs.tokens.numel() > 0.7


def test_the_baselines_count(store, tagged):
    task = Tag(str(tagged / "dev.txt"))
    source = task.open(str(tagged / "train.txt"), "held_out", store.tokenizer)
    examples = [
        task.example(source, i, 64, np.random.default_rng(0), 0.0) for i in range(len(task.examples(source, 64)))
    ]
    term = task.baseline(source, collate(examples))["tag"]
    lines = [line.split("\t") for line in (tagged / "dev.txt").read_text().split("\n") if line]
    plain = sum(tag == "plain" for _, tag in lines)
    assert term.correct is not None
    assert (int(term.count), int(term.correct)) == (len(lines), plain)


def test_an_unseen_label_is_named_with_its_line(store, tables):
    dev = tables / "dev.tsv"
    dev.write_text(dev.read_text() + "so it goes\tx\tmaybe\n")
    task = Classify(str(dev))
    with pytest.raises(
        BadInput, match=r"dev.tsv, line 14: the label 'maybe' never occurs in .*train.tsv, which has no, yes"
    ):
        task.open(str(tables / "train.tsv"), "held_out", store.tokenizer)
    with pytest.raises(BadInput, match="one sentence or two"):
        Classify(str(dev), ("a", "b", "c"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_opens_in_transformers(models, tables, tmp_path, family):
    task = Classify(str(tables / "dev.tsv"), ("text", "other"))
    found = _short(task, models[family], tables / "train.tsv", tmp_path / "run")
    folder = tmp_path / "run" / "model"
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert theirs.config.id2label == {0: "no", 1: "yes"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = [line.split("\t") for line in (tables / "dev.tsv").read_text().splitlines()[1:]]
    for i, (text, other, _) in enumerate(lines[:6]):
        both = tokenizer(text, other, truncation="longest_first", max_length=64, return_tensors="pt")
        if family != "bert":
            both.pop("token_type_ids", None)
        with torch.no_grad():
            p = theirs(**both).logits.softmax(-1)[0]
        assert float(p.max()) == pytest.approx(float(found.predictions.probability[i]), abs=2e-5)
        assert int(p.argmax()) == found.predictions.predicted[i]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tagger_opens_in_transformers(models, tagged, tmp_path, family):
    task = Tag(str(tagged / "dev.txt"))
    found = _short(task, models[family], tagged / "train.txt", tmp_path / "run")
    folder = tmp_path / "run" / "model"
    theirs = AutoModelForTokenClassification.from_pretrained(folder).eval()
    assert theirs.config.id2label == {0: "after", 1: "plain"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sentences = [part.split("\n") for part in (tagged / "dev.txt").read_text().strip().split("\n\n")]
    place = compared = 0
    for sentence in sentences:
        words = [line.split("\t")[0] for line in sentence]
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        if encoded["input_ids"].shape[1] <= 64:
            ids = encoded.word_ids()
            first = [ids.index(w) for w in range(len(words))]
            inputs = {k: v for k, v in encoded.items() if family == "bert" or k != "token_type_ids"}
            with torch.no_grad():
                p = theirs(**inputs).logits[0, first].softmax(-1)
            ours = found.predictions.probability[place : place + len(words)]
            np.testing.assert_allclose(p.max(-1).values.numpy(), ours, atol=2e-5)
            compared += 1
        place += len(words)
    assert compared > 3


def test_fine_tuning_learns_what_the_usual_tag_cannot_know(models, tagged):
    """New weights with a local start: some heads look at the word before from the first step."""
    made = recipe(Tag(str(tagged / "dev.txt")), models["mpnet"], tagged / "train.txt", rate=1e-2, least=80, tokens=512)
    assert from_json(made.to_json()) == made
    found = finetune(made.objective, models["mpnet"], tagged / "train.txt", grid=(1e-4, 1e-2), least=80, tokens=512,
                     fresh=True, initial=Start("local"), threads=1)  # fmt: skip
    assert found.rate == 1e-2
    assert found.scores["accuracy"] > 0.95 > 0.9 > found.baseline["accuracy"]
    again = judge(found.run, str(tagged / "dev.txt"))
    assert again.scores == found.scores


def test_new_weights_are_another_start(models, tables):
    task = Classify(str(tables / "dev.tsv"))
    runs = [finetune(task, models["bert"], tables / "train.tsv", fresh=fresh, least=1, epochs=0.01, threads=1).run
            for fresh in (False, True)]  # fmt: skip
    tables_of = [run.pretrainer.model.embeddings.tokens.weight for run in runs]  # type: ignore[union-attr]
    there = hub.load(models["bert"]).model.embeddings.tokens.weight
    assert (tables_of[0] - there).abs().max() < 0.01
    assert (tables_of[1] - there).abs().max() > 0.1


def _short(task, model: Path, data: Path, folder: Path):
    found = finetune(task, model, data, folder, rate=1e-3, least=4, epochs=0.01, precision="fp32", threads=1)
    assert (folder / "predictions.tsv").read_text().startswith("number\ttruth\tpredicted\tprobability\n1\t")
    assert set(found.scores) == {"accuracy", "macro_f1", "matthews"}
    return found
