"""Words, phrases and entities are hidden whole or not at all, whichever a recipe asks for; and shown as such."""

import io
from dataclasses import replace
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from masklab.analysis.show import show
from masklab.corpus.find_units import entities, find_phrases
from masklab.corpus.lay_units import lay
from masklab.corpus.phrases import Thresholds
from masklab.corpus.prepare import prepare
from masklab.corpus.store import Store
from masklab.corpus.units import ENTITY_REAL, LAYER_OF, PHRASE_REAL, PHRASE_START, START, WORD_START, Unit
from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.objectives.masked_lm import MaskedLM, choose
from masklab.objectives.next_sentence import NextSentence
from masklab.objectives.rows import plain_row
from masklab.recipe import Batches, Evaluation, Recipe, load, override
from masklab.rng import rng
from masklab.training.batches import IGNORE
from masklab.training.look import pieces
from masklab.training.loop import train
from masklab.training.schedule import Budget

UNITS: tuple[Unit, ...] = ("word", "phrase", "entity")


@pytest.fixture(scope="module")
def laid(tmp_path_factory) -> Store:
    """Topics of the Python documentation with phrases by statistics and a few names."""
    folder = tmp_path_factory.mktemp("units")
    texts = [topics[name] for name in sorted(topics)[:25]]
    store = prepare(texts, folder / "corpus", 500, held_out=0.1, workers=1)
    find_phrases(store, thresholds=Thresholds(8, 0.4))
    (folder / "names.txt").write_text("Python\nassignment statement\nthe assignment statement\nlist\n")
    entities(store, folder / "names.txt", ignore_case=True)
    return lay(store)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rate=st.floats(0.02, 0.9), unit=st.sampled_from(UNITS))
def test_whole_or_not_at_all(laid: Store, seed: int, rate: float, unit: Unit):
    part = laid.part("train")
    row = plain_row(part, seed % len(part.rows(64, 2)), 64)
    text = np.flatnonzero(row.text)
    starts = (row.units[text] & START[LAYER_OF[unit]] > 0) | (np.diff(text, prepend=-2) > 1)
    number = np.cumsum(starts)
    chosen = choose(row, rate, unit, rng(seed, "u"))
    sizes, taken = np.bincount(number), np.bincount(number, np.isin(text, chosen))
    assert ((taken == 0) | (taken == sizes)).all()
    budget = max(1, round(rate * len(text)))
    assert budget - sizes.max() < len(chosen) <= max(budget, sizes.max())


@pytest.mark.parametrize("unit", UNITS)
def test_targets_restore_the_text(laid, unit):
    part, objective = laid.part("train"), MaskedLM(rate=0.3, unit=unit)
    shown, wanted = [], []
    for index in range(30):
        row = plain_row(part, index, 64)
        example = objective.example(part, index, 64, rng(3, "t", index), 1.0)
        restored = example.inputs.tokens.copy()
        restored[example.at["masked"]] = example.targets["masked"]
        assert np.array_equal(restored, row.inputs.tokens)
        shown.append(example.inputs.tokens[example.at["masked"]])
        wanted.append(example.targets["masked"])
        assert (example.targets["hidden"] != IGNORE).sum() == (shown[-1] == part.tokenizer.mask).sum()
    together, target = np.concatenate(shown), np.concatenate(wanted)
    n = len(target)
    assert abs((together == part.tokenizer.mask).mean() - 0.8) < 4 * (0.16 / n) ** 0.5


def test_only_a_larger_unit_keeps_phrases_whole(laid):
    part = laid.part("train")
    assert (part.units & ENTITY_REAL).any()

    def broken(unit: Unit) -> int:
        """Real phrases of which some tokens are hidden and some are not."""
        found = 0
        for i in range(60):
            row = plain_row(part, i, 128)
            phrase = np.cumsum(row.units & PHRASE_START > 0)
            hidden = np.isin(np.arange(len(phrase)), choose(row, 0.3, unit, rng(i, "r")))
            real = row.units & PHRASE_REAL > 0
            share = np.bincount(phrase[real], hidden[real]) / np.maximum(np.bincount(phrase[real]), 1)
            found += int(((share > 0) & (share < 1)).sum())
        return found

    assert broken("phrase") == 0
    assert broken("word") > 20
    assert broken("token") > broken("word")


def test_no_row_and_no_pair_cuts_a_unit(laid):
    part = laid.part("train")
    whole = sum(START[name] for name in ("words", "phrases", "entities"))
    assert part.uncut == whole
    for overhead in (2, 3):
        begins = part.rows(48, overhead).pieces[:, 0]
        assert (part.units[begins] & whole == whole).all()
    objective = NextSentence(MaskedLM(rate=0.15, unit="phrase"))
    for index in range(25):
        example = objective.example(part, index, 48, rng(1, "n", index), 1.0)
        tokens = example.inputs.tokens
        after = np.flatnonzero(np.isin(tokens, [part.tokenizer.cls, part.tokenizer.sep]))[:-1] + 1
        assert example.units is not None
        units = example.units[after]
        assert all(bits & whole == whole for bits in units.tolist() if bits)


@pytest.mark.parametrize("unit", UNITS)
def test_a_recipe_asks_for_it_by_name(laid, unit):
    made = override(load("bert", data=str(laid.path)), [f"objective.unit={unit}"])
    assert made.objective.unit == unit
    assert made.objective.open(made.data, "train").layers == ["words", "phrases", "entities"]
    pairs = override(load("bert", data=str(laid.path), preset="paper"), [f"objective.masked.unit={unit}"])
    assert pairs.objective.masked.unit == unit
    with pytest.raises(BadInput, match="'token', 'word', 'phrase', 'entity'"):
        override(made, ["objective.unit=sentence"])


@pytest.mark.parametrize(("unit", "layer"), [("phrase", "phrases"), ("entity", "entities")])
def test_a_missing_layer_is_named_with_its_cure(store, tmp_path, unit, layer):
    """Before anything is trained: which layer, and the command that adds it."""
    recipe = _tiny(store, unit)
    for ask in (lambda: train(recipe, tmp_path / "run"), lambda: show(recipe)):
        with pytest.raises(
            BadInput, match=f"has no layer of {layer}; add it first: masklab units .* --{layer}"
        ) as said:
            ask()
        assert "\n" not in str(said.value)


def _tiny(store: Store, unit: Unit) -> Recipe:
    return Recipe(
        "tiny",
        Config("bert", layers=1, width=32, heads=2, feed_forward=64, max_length=64),
        MaskedLM(rate=0.3, unit=unit),
        str(store.path),
        budget=Budget(steps=6),
        batches=Batches(tokens=512, lengths=((0.0, 64),)),
        evaluation=Evaluation(rows=4),
        precision="fp32",
        threads=1,
    )


def test_it_trains_and_is_shown(laid, tmp_path):
    recipe = _tiny(laid, "entity")
    run = train(recipe, tmp_path / "run")
    assert run.result["steps"] == 6
    look = show(run, 3)
    page = look.page()
    for mark in ("Underlined: ", '<span class="phrases">phrases</span>', '<span class="entities">entities</span>'):
        assert mark in page
    for tag in ("span", "ruby", "div"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>")
    out = io.StringIO()
    look.print(Console(file=out, width=100, highlight=False), 4)
    text = out.getvalue()
    assert "‹phrases›" in text
    assert "«entities»" in text
    body = text.split("row 1 of")[1].split("Who sees whom")[0]
    assert body.count("‹") == body.count("›") > 0
    assert body.count("«") == body.count("»")
    # the marks are the corpus' own bits
    for row in range(2):
        units = look.batches[0].units
        assert units is not None
        for piece in pieces(look.batches[0], row):
            bits = int(units[row, piece.slot])
            assert ("phrases" in piece.marks, "entities" in piece.marks) == (
                bool(bits & PHRASE_REAL), bool(bits & ENTITY_REAL),
            )  # fmt: skip
            assert set(piece.goes_on) <= set(piece.marks)
            assert piece.joined == (bits != 0 and not bits & WORD_START)
    for piece in look.read(0, 0):  # answers are joined as the text was
        assert all(asked.wanted.startswith("·") == piece.joined for asked in piece.asked)
    plain = show(replace(recipe, objective=MaskedLM(unit="word")), 0)
    assert "phrases" in plain.page()  # marked whatever is masked
