"""Two language models: every word asked twice, a loss worked out by hand, and neither loss sees the other side."""

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from masklab import recipe as recipes
from masklab.analysis.judge import judge
from masklab.analysis.show import show
from masklab.corpus.prepare import prepare
from masklab.corpus.spelling import marks, spelled
from masklab.corpus.store import Store
from masklab.corpus.store_words import WordList
from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.elmo import Elmo, ElmoConfig, WordSoftmax
from masklab.models.pattern import PADDING
from masklab.models.transformer import Model, States
from masklab.objectives.bidirectional_lm import AFTER, BEFORE, NOTHING, BidirectionalLM, word_row
from masklab.recipe import Batches, Evaluation, override
from masklab.rng import rng
from masklab.training.batches import Batch, Example, collate
from masklab.training.loop import train
from masklab.training.schedule import Budget
from masklab.training.session import build

TINY = ElmoConfig(layers=2, width=6, cells=8, filters=((1, 4), (2, 4)), characters=4, dropout=0.0)
OBJECTIVE = BidirectionalLM(vocabulary=60, cutoffs=(20,))


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 5))
@settings(deadline=None)
def test_a_row_of_texts(texts: list[list[int]], room: int):
    """Read back from its documents, a row is its texts between marks; every slot is spelled as its number says."""
    table = spelled([chr(97 + i) * (i + 1) for i in range(10)])
    length = sum(len(text) + 2 for text in texts) + room
    row = word_row([np.array(text) for text in texts], table, length)
    for number, text in enumerate(texts):
        slots = np.flatnonzero(row.inputs.document == number)
        assert row.inputs.tokens[slots].tolist() == [BEFORE, *text, AFTER]
        assert row.inputs.position[slots].tolist() == list(range(len(text) + 2))
        assert (row.features[slots[1:-1]] == table[text]).all()
        assert (row.features[slots[[0, -1]]] == marks()).all()
    empty = row.inputs.document == PADDING
    assert empty.sum() == room
    assert (row.inputs.tokens[empty] == NOTHING).all()
    assert not row.features[empty].any()
    assert row.inputs.tokens[row.words].tolist() == [word for text in texts for word in text]


def example(store: Store, index: int = 0, length: int = 32) -> Example:
    source = OBJECTIVE.open(str(store.path), "train")
    return OBJECTIVE.example(source, index, length, rng(0, "test"), 0.0)


def test_every_word_is_asked_twice(store: Store):
    source = OBJECTIVE.open(str(store.path), "train")
    for index in (0, 5):
        found = example(store, index)
        words = np.flatnonzero(found.inputs.tokens >= 0)
        classes = source.classes[found.inputs.tokens[words]]
        for name, step in (("forward", 1), ("backward", -1)):
            asked = found.at[name] + step  # the slot whose word is wanted
            assert asked.tolist() == words.tolist()
            assert found.targets[name].tolist() == classes.tolist()
            assert (found.inputs.document[found.at[name]] == found.inputs.document[asked]).all()
        assert found.words == len(words)
        assert (classes < 60).all()


class Given(nn.Module):
    """A network that answers with states that were written down."""

    def __init__(self, states: torch.Tensor):
        super().__init__()
        self.states, self.config, self.dropout = states, ElmoConfig(width=2), nn.Identity()

    def forward(self, inputs: object, features: object) -> States:
        return States(self.states)


def test_the_loss_by_hand():
    """Docs: "a b" with vectors of two numbers; the softmax over <UNK>, a, b has the rows (0, 0), (1, 0), (0, 1)."""
    row = word_row([np.array([0, 1])], spelled(["a", "b"]), 4)
    at = {"forward": row.words - 1, "backward": row.words + 1}
    wanted = np.array([1, 2])
    batch = collate([Example(row.inputs, at, {"forward": wanted, "backward": wanted}, features=row.features)])
    head = WordSoftmax(2, 3)
    with torch.no_grad():
        head.frequent.weight.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1]]))
        head.frequent.bias.zero_()
    ahead = [[1, 0], [0, 2], [9, 9], [9, 9]]  # the last slots of each side are asked for nothing
    back = [[9, 9], [9, 9], [0, 1], [-1, 0]]
    states = torch.tensor([[a + b for a, b in zip(ahead, back, strict=True)]], dtype=torch.float32)
    with torch.no_grad():
        terms = OBJECTIVE.loss(Given(states), nn.ModuleDict({"words": head}), batch)
    e = math.e
    forward = -math.log(e / (1 + e + 1)) - math.log(e**2 / (1 + 1 + e**2))  # a from <S>, b from a
    backward = -math.log(1 / (1 + 1 + e)) - math.log(1 / (1 + 1 / e + 1))  # a from b, b from </S>
    assert float(terms["forward"].total) == pytest.approx(forward, abs=1e-5)
    assert float(terms["backward"].total) == pytest.approx(backward, abs=1e-5)
    assert (int(terms["forward"].count), int(terms["backward"].count)) == (2, 2)
    assert terms["forward"].correct == 2  # of equals the first: <UNK> for b from </S>
    assert terms["backward"].correct == 0


def test_neither_loss_sees_its_word_or_the_other_side(store: Store):
    """d loss / d word: 0 for the word asked for and all on the wrong side, on packed rows, for each single answer."""
    torch.manual_seed(0)
    model = Elmo(TINY)
    found = example(store, 3, 16)
    batch = collate([found])
    source = OBJECTIVE.open(str(store.path), "train")
    heads = OBJECTIVE.heads(model, source)
    seen: list[torch.Tensor] = []

    def catch(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    model.embeddings.register_forward_hook(catch)
    document, slots = found.inputs.document, np.arange(16)
    for k in range(found.words):
        for name, step in (("forward", 1), ("backward", -1)):
            targets = {n: torch.full_like(t, -100) for n, t in batch.targets.items()}
            targets[name][0, k] = batch.targets[name][0, k]
            terms = OBJECTIVE.loss(model, heads, batch._replace(targets=targets))
            (grad,) = torch.autograd.grad(terms[name].total, seen[-1])
            at = int(found.at[name][k])
            allowed = (slots <= at if step == 1 else slots >= at) & (document == document[at])
            assert ((grad[0].abs().sum(1) > 0).numpy() == allowed).all()


def test_the_trivial_score_is_the_unigrams(store: Store):
    source = OBJECTIVE.open(str(store.path), "train")
    batch = collate([example(store, 0), example(store, 1)])
    p = (source.counts + 1) / (source.counts + 1).sum()
    target = batch.targets["forward"].numpy()
    target = target[target != -100]
    trivial = OBJECTIVE.baseline(source, batch)
    assert float(trivial["forward"].total) == pytest.approx(-np.log(p[target]).sum(), rel=1e-5)
    assert int(trivial["backward"].count) == len(target)
    head = BidirectionalLM(60, (20,), unigram_start=True).heads(Elmo(TINY), source)["words"]
    with torch.no_grad():
        head.frequent.weight.zero_()  # type: ignore[union-attr, operator]
        nats = head.loss(torch.zeros(len(target), 6), torch.from_numpy(target))  # type: ignore[operator]
    frequent = target < 20
    np.testing.assert_allclose(nats.numpy()[frequent], -np.log(p[target[frequent]]), rtol=1e-4)


def test_what_cannot_be(store: Store):
    with pytest.raises(BadInput, match="two readers"):
        OBJECTIVE.heads(Model(Config(layers=1, width=8, heads=2, feed_forward=8, vocabulary=9)), None)
    for wrong in ("objective.vocabulary=1", "objective.shrink=0.5", "objective.cutoffs=(0,)"):
        with pytest.raises(BadInput, match="at least"):
            override(recipes.load("elmo"), [wrong])
    with pytest.raises(BadInput, match="can be mixed"):
        show(override(recipes.load("elmo", data=str(store.path)), [f"mix=(('{store.path}2', None),)"]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("initial.kind=local", "only attention"),
        ("embeddings=cooccurrence", "table of tokens"),
        ("model.heads=4", "cells"),
    ],
)
def test_what_only_attention_has_is_refused(store: Store, change: str, why: str):
    with pytest.raises(BadInput, match=why):
        build(override(recipes.load("elmo", data=str(store.path)), ["model.width=8", "model.cells=8", change]))


def test_show_prints_words_and_both_answers(store: Store):
    look = show(recipes.load("elmo", data=str(store.path)))
    out = io.StringIO()
    look.print(Console(file=out, width=100, highlight=False))
    text = out.getvalue()
    source = look.source
    first = source.rows(64)[0]
    assert "<S>" in text
    assert "→" in text
    assert "←" in text
    assert "Who sees whom" not in text  # there is no attention
    assert "other answers asked" in text
    assert len(first)
    page = look.page()
    assert "→" in page
    assert "pattern: none" in page


def test_a_batch_carries_the_letters(store: Store):
    batch: Batch = collate([example(store, 0), example(store, 1)])
    assert batch.features is not None
    assert batch.features.shape == (2, 32, 50)
    assert batch.to("cpu").features is not None
    source = OBJECTIVE.open(str(store.path), "train")
    for row, numbers in zip(batch.features.numpy(), batch.inputs.tokens.numpy(), strict=True):
        inside = numbers >= 0
        assert (row[inside] == source.spellings[numbers[inside]]).all()


def test_a_run_is_judged_again_and_another_starts_from_it(store: Store, tmp_path: Path):
    """The words of its softmax stay those of the first corpus, whatever the second one's are."""
    made = replace(recipes.load("elmo", data=str(store.path)), model=TINY, objective=OBJECTIVE, threads=1,
                   precision="fp32", budget=Budget(steps=2), batches=Batches(128, 1, ((0.0, 32),)),
                   evaluation=Evaluation(1.0, 2))  # fmt: skip
    run = train(made, tmp_path / "first")
    found, trivial = judge(tmp_path / "first")
    for name in ("forward", "backward"):
        assert found[name].loss == pytest.approx(run.result["held_out"][name]["loss"], abs=1e-6)
        assert trivial[name].loss == pytest.approx(run.result["baseline"][name]["loss"], abs=1e-6)
    other = prepare(["Quite another text, about a zebra. A zebra!"], tmp_path / "other", 60, held_out=0.0)
    session = build(replace(made, data=str(other.path), start=str(run.model_folder)))
    assert session.source.tokenizer.words == WordList.from_file(run.model_folder).words
    assert run.pretrainer is not None
    ours, theirs = session.pretrainer.state_dict(), run.pretrainer.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
