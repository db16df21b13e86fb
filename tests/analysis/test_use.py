"""A finished model in use: filling gaps and embedding give what transformers and sentence-transformers give."""

import numpy as np
import pytest
import torch

from masklab.analysis.embed import embed
from masklab.analysis.fill import GAP, fill, filled, with_mask
from masklab.analysis.judge import judge
from masklab.analysis.opened import open_model
from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Evaluation, Recipe
from masklab.training.loop import train
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget

TEXTS = ["the name of a class", "a", "an object whose type is not a class, but " * 30, "Functions return values."]


@pytest.fixture(scope="module", params=["bert", "mpnet", "modernbert"])
def run(request, store, tmp_path_factory):
    recipe = Recipe(
        "tiny",
        Config(request.param, layers=2, width=32, heads=2, feed_forward=64, max_length=64, pad=1),
        MaskedLM(),
        str(store.path),
        budget=Budget(steps=10),
        batches=Batches(tokens=512, lengths=((0.0, 64),)),
        optimizer=Optimizer(lr=1e-2),
        evaluation=Evaluation(rows=8),
        precision="fp32",
        threads=1,
    )
    return train(recipe, tmp_path_factory.mktemp("runs") / request.param)


def test_embedding_equals_sentence_transformers(run):
    from sentence_transformers import SentenceTransformer

    ours = embed(run.folder, TEXTS)
    theirs = SentenceTransformer(str(run.model_folder), device="cpu").encode(TEXTS)
    assert ours.shape == (4, 32)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    np.testing.assert_allclose(embed(open_model(run.folder), TEXTS[:1]), ours[:1], atol=1e-5)
    assert embed(run.folder, []).shape == (0, 32)


def test_filling_equals_transformers(run):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.model_folder)
    model = AutoModelForMaskedLM.from_pretrained(run.model_folder)
    inputs = tokenizer("the [MASK] of a [MASK].", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
    expected = logits.softmax(-1).topk(3)
    for text in ("the _ of a _.", "the [MASK] of a _."):
        found = fill(run.folder, text, top=3)
        for gap, values, ids in zip(found, expected.values, expected.indices, strict=True):
            assert [choice.text for choice in gap] == tokenizer.convert_ids_to_tokens(ids)
            np.testing.assert_allclose([choice.probability for choice in gap], values, atol=1e-5)
    assert filled("the _ of a _.", found).startswith("the ")
    assert "_" not in GAP.sub("", filled("the _ of a _.", [[g[0]._replace(text="x")] for g in found]))


def test_judging_repeats_the_runs_own_score(run):
    scores, trivial = judge(run.folder)
    assert scores["masked"].loss == pytest.approx(run.result["held_out"]["masked"]["loss"], abs=1e-4)
    assert trivial["masked"].loss == pytest.approx(run.result["baseline"]["masked"]["loss"], abs=1e-6)
    bare, _ = judge(run.model_folder, run.recipe.data, rows=8)
    assert bare["masked"] == scores["masked"]
    with pytest.raises(BadInput, match="--data"):
        judge(run.model_folder)


def test_chinese_gaps_stand_between_characters():
    assert with_mask("今天_气很好", "[MASK]") == "今天[MASK]气很好"
    assert with_mask("snake_case 今_天", "[MASK]") == "snake_case 今[MASK]天"


def test_gaps_are_lone_underscores():
    assert with_mask("an _ in snake_case, __init__ and [MASK].", "<mask>") == (
        "an <mask> in snake_case, __init__ and <mask>."
    )


def test_what_cannot_be_filled(run):
    with pytest.raises(BadInput, match="has no gap"):
        fill(run.folder, "nothing missing here")
    with pytest.raises(BadInput, match="reads at most 62"):
        fill(run.folder, "_ " * 80)
