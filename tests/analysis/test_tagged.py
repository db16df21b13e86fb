"""Entities by a tagger that was fine-tuned here: labels become stretches of text, in the corpus as in a string."""

import random

import pytest
import torch
from typer.testing import CliRunner

from masklab.analysis.tagged import Tagger, entities
from masklab.cli import app
from masklab.corpus.layers import Layer
from masklab.corpus.prepare import prepare
from masklab.corpus.store import Store
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.heads import MaskedLMHead
from masklab.models.transformer import Model
from masklab.tasks.finetune import finetune
from masklab.tasks.tag import Tag

NAMES = [("Ada", "B-PER"), ("Lovelace", "I-PER"), ("Paris", "B-LOC"), ("北", "B-LOC"), ("京", "I-LOC")]
OTHER = ["the", "walked", "to", "with", ",", ".", "。", "river", "很", "好", "3", "times"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tagger that knows a few names, the model it was made of, and a corpus."""
    folder, draw = tmp_path_factory.mktemp("tagger"), random.Random(0)
    texts = [f"Ada Lovelace walked {'3 ' * i}times to Paris. The river, with 北京很好。" for i in range(1, 41)]
    store = prepare(texts, folder / "corpus", 150, held_out=0.05, workers=1)
    for part, count in (("train", 100), ("dev", 15)):
        with open(folder / f"{part}.txt", "w", encoding="utf-8") as file:
            for _ in range(count):
                for _ in range(6):
                    group = draw.choice(
                        [NAMES[:2], NAMES[2:3], NAMES[3:], [(w, "O") for w in draw.choices(OTHER, k=3)]]
                    )
                    file.write("".join(f"{word}\t{label}\n" for word, label in group))
                    file.write("".join(f"{word}\tO\n" for word in draw.choices(OTHER, k=2)))
                file.write("\n")
    torch.manual_seed(0)
    config = Config("bert", vocabulary=store.tokenizer.size, layers=1, width=64, heads=2, feed_forward=64,
                    max_length=64, pad=store.tokenizer.pad, std=0.1)  # fmt: skip
    model = Model(config)
    heads = torch.nn.ModuleDict({"masked_lm": MaskedLMHead(config, model.embeddings)})
    hub.save(folder / "model", config, model, heads, special={"pad": store.tokenizer.pad})
    store.tokenizer.save(folder / "model")
    found = finetune(Tag(str(folder / "dev.txt")), folder / "model", folder / "train.txt", folder / "tagger",
                     rate=5e-3, least=70, epochs=1, tokens=512, precision="fp32", threads=1)  # fmt: skip
    assert found.scores["accuracy"] > 0.99
    return folder


def test_names_are_found_where_they_stand(made):
    finder = Tagger(made / "tagger")
    text = "The river, with  Ada \t Lovelace to Paris. 北京很好。Ada walked."
    found = finder([text, "", "the river", text])
    spelled = [[" ".join(text[a:b].split()) for a, b in spans.tolist()] for spans in (found[0], found[3])]
    assert spelled[0] == spelled[1]
    assert {"Ada Lovelace", "Paris", "北京"} <= set(spelled[0])
    assert len(found[1]) == len(found[2]) == 0
    assert finder.seen["LOC"] == 4
    assert set(finder.seen) == {"PER", "LOC"}


def test_the_command_marks_them(made):
    done = CliRunner().invoke(app, ["units", str(made / "corpus"), "--tagger", str(made / "tagger")])
    assert done.exit_code == 0, done.output
    assert "PER 40" in done.output
    assert "layers: words, entities" in done.output
    layer = Layer(made / "corpus", "entities")
    text = Store(made / "corpus").text(3)
    assert [text[a:b] for a, b in layer.of(3).tolist()] == ["Ada Lovelace", "Paris", "北京"]
    assert layer.settings == {"by": "tagger", "model": str(made / "tagger")}


def test_what_is_no_tagger(made):
    with pytest.raises(BadInput, match="is no tagger; train one: masklab finetune MODEL --task tag"):
        Tagger(made / "model")
    done = CliRunner().invoke(app, ["units", str(made / "corpus"), "--tagger", str(made / "none")])
    assert isinstance(done.exception, BadInput) or "no such folder" in done.output


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("B-PER I-PER O S-LOC", [(0, 1, "PER"), (3, 3, "LOC")]),
        ("B-PER B-PER", [(0, 0, "PER"), (1, 1, "PER")]),
        ("B-PER I-LOC", [(0, 0, "PER"), (1, 1, "LOC")]),
        ("I-PER I-PER", [(0, 1, "PER")]),
        ("B-N M-N E-N E-N", [(0, 2, "N"), (3, 3, "N")]),
        ("B-N L-N U-N O I-N", [(0, 1, "N"), (2, 2, "N"), (4, 4, "N")]),
        ("O O", []),
        ("", []),
    ],
)
def test_labels_as_stretches(labels, expected):
    assert list(entities(labels.split())) == expected
