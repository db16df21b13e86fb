"""Units of every layer over every family's tokens: each token in one unit, straddling ones merge, the longest wins."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus.encode import Encoder
from masklab.corpus.train_tokenizer import KINDS, train
from masklab.corpus.units import (
    ENTITY_REAL,
    ENTITY_START,
    PHRASE_REAL,
    PHRASE_START,
    START,
    WORD_REAL,
    WORD_START,
    code_points,
    longest_first,
    start_bit,
    unit_bits,
)
from masklab.errors import BadInput

TEXT = "The cat's hat in New York City, naïve Zoë paid 3.50 € for 你好世界 今天天气很好!\n  New   line_x… café "
ENGLISH = "the cat sat on the hat in new york city and the hat sat on the cat in york. It's New York! "
TRAINED = {kind: train([TEXT * 9, ENGLISH * 9], 390, kind) for kind in KINDS}
PIECES = [
    "cat",
    "New York",
    " ",
    "  ",
    "\n",
    "你好",
    "世界",
    "ﬁ",
    "é",
    "e\u0301",
    "🙂",
    "\u200b",
    "\x00",
    ".",
    "-",
    "\ufffd",
    "ไทย",
    "の",
    "½",
]
SHIFT = {"words": 0, "phrases": 2, "entities": 4}


def laid(kind: str, texts: list[str], spans: dict[str, list[np.ndarray]]):
    """Offsets over all the texts, bits, and where documents begin."""
    found = Encoder(TRAINED[kind])(texts)
    begins = np.cumsum([0, *map(len, texts)])[:-1]
    fresh = np.zeros(len(found.ids), bool)
    fresh[(np.cumsum(found.lengths) - found.lengths)[found.lengths > 0]] = True
    joined = {name: np.concatenate([s + b for s, b in zip(each, begins, strict=True)]) for name, each in spans.items()}
    bits = unit_bits(code_points("".join(texts)), found.begin, found.end, fresh, joined)
    return found, bits, fresh, joined


def units(bits: np.ndarray, layer: str) -> list[tuple[int, int, bool]]:
    """(first token, one after the last, is it real) of each unit."""
    start, real = bits & 1 << SHIFT[layer], bits & 2 << SHIFT[layer]
    edges = [*np.flatnonzero(start).tolist(), len(bits)]
    return [(a, b, bool(real[a])) for a, b in pairwise(edges)]


def some_spans(draw: random.Random, text: str) -> np.ndarray:
    edges = sorted(draw.sample(range(len(text) + 1), min(len(text) + 1, 2 * draw.randint(0, 4))))
    both = zip(edges[::2], edges[1::2], strict=False)
    pairs = [(a, b) for a, b in both if not text[a].isspace() and not text[b - 1].isspace()]
    return np.array(pairs, np.int64).reshape(-1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_random_documents(kind):
    """2,500 for each of the four families: offsets exact, and every layer parts the tokens."""
    draw = random.Random(7)
    texts = ["".join(draw.choices(PIECES, k=draw.randint(0, 12))).strip() for _ in range(2500)]
    spans = {name: [some_spans(draw, text) for text in texts] for name in START}
    found, bits, fresh, joined = laid(kind, texts, spans)
    whole, begins = "".join(texts), np.cumsum([0, *map(len, texts)])
    # offsets: in order, inside their own document, and every visible character that is not dropped is covered
    owner = np.repeat(np.arange(len(texts)), found.lengths)
    assert (begins[owner] <= found.begin).all()
    assert (found.end <= begins[owner + 1]).all()
    assert (found.begin <= found.end).all()
    spelled = TRAINED[kind].tokens(found.ids)
    exact = [
        (whole[a:b].lower(), t.removeprefix("##")) for a, b, t in zip(found.begin, found.end, spelled, strict=True)
    ]
    for text, token in exact:
        if token.isascii() and text.isascii() and token.isalpha() and kind != "bpe":
            assert text == token.lower(), (text, token)
    # units: one begins with each document; real or not as a whole
    assert (bits[fresh] & (WORD_START | PHRASE_START | ENTITY_START) == WORD_START | PHRASE_START | ENTITY_START).all()
    for name in START:
        real = bits & 2 << SHIFT[name] > 0
        unit = np.cumsum(bits & 1 << SHIFT[name] > 0)
        assert (np.bincount(unit, real) % np.maximum(np.bincount(unit), 1) == 0).all()
        # all tokens of a span are in one unit, and it is a real one
        for a, b in joined[name].tolist():
            inside = np.flatnonzero((found.begin < b) & (found.end > a) & (found.begin < found.end))
            if len(inside):
                assert len(set(unit[inside].tolist())) == 1, whole[a:b]
                assert real[inside].all(), whole[a:b]


@pytest.mark.parametrize("kind", KINDS)
def test_phrases_and_words_where_no_token_straddles(kind):
    text = "the cat in New York, it is new york."
    at = text.index("New"), text.index(",")
    layers = {"phrases": [np.array([at])], "entities": [np.array([[text.index("York"), at[1]]])]}
    found, bits, _, _ = laid(kind, [text], layers)

    def spelled(name: str, real_alone: bool = False) -> list[str]:
        return [
            text[found.begin[a] : found.end[b - 1]].strip()
            for a, b, real in units(bits, name)
            if (real or not real_alone) and text[found.begin[a] : found.end[b - 1]].strip()
        ]

    words = ["the", "cat", "in", "New", "York", ",", "it", "is", "new", "york", "."]
    assert spelled("words") == words
    assert spelled("phrases") == ["the", "cat", "in", "New York", ",", "it", "is", "new", "york", "."]
    assert spelled("phrases", True) == ["New York"]
    assert spelled("entities") == words
    assert spelled("entities", True) == ["York"]


def test_a_token_that_straddles_units_merges_them():
    """One token over the end of one unit and the beginning of the next."""
    text = "abcdef gh"
    begin, end = np.array([0, 1, 3, 5, 7]), np.array([1, 3, 5, 6, 9])  # a bc de f | gh
    fresh = np.arange(5) == 0
    spans = {"phrases": np.array([[0, 2], [2, 4]]), "entities": np.array([[2, 6]])}
    bits = unit_bits(code_points(text), begin, end, fresh, spans)
    # phrases ab|cd, then ef: "bc" joins the first two, "de" the last
    assert units(bits, "phrases") == [(0, 4, True), (4, 5, False)]
    assert units(bits, "entities") == [(0, 4, True), (4, 5, False)]  # "bc" reaches into the entity
    assert units(bits, "words") == [(0, 4, True), (4, 5, True)]


def test_segmented_words_take_the_place_of_characters():
    text = "今天天气很好 ok"
    begin, end = np.append(np.arange(6), 7), np.append(np.arange(1, 7), 9)
    fresh = np.arange(7) == 0
    plain = unit_bits(code_points(text), begin, end, fresh, {})
    assert len(units(plain, "words")) == 7
    cut = unit_bits(code_points(text), begin, end, fresh, {"words": np.array([[0, 2], [2, 4]])})
    assert units(cut, "words") == [(0, 2, True), (2, 4, True), (4, 5, True), (5, 6, True), (6, 7, True)]
    assert cut.max() == WORD_START | WORD_REAL
    both = unit_bits(code_points(text), begin, end, fresh, {"words": np.array([[0, 2]]), "phrases": np.array([[2, 6]])})
    assert units(both, "phrases")[0] == (0, 2, False)  # where no phrase stands the units are the words
    assert units(both, "phrases")[1] == (2, 6, True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=8))
def test_the_longest_wins(spans):
    chosen: list[tuple[int, int]] = []
    for begin, end in sorted(set(spans), key=lambda span: (span[0] - span[1], span[0])):
        if all(end <= a or b <= begin for a, b in chosen):
            chosen.append((begin, end))
    found = longest_first(np.array(spans, np.int64).reshape(-1, 2))
    assert list(map(tuple, found.tolist())) == sorted(chosen)


def test_the_bit_of_a_unit():
    layers = ["words", "entities"]
    assert (start_bit("word", layers), start_bit("entity", layers)) == (WORD_START, ENTITY_START)
    with pytest.raises(BadInput, match="corpus has no layer of phrases; add it first: masklab units corpus --phrases"):
        start_bit("phrase", layers, "corpus")
    assert PHRASE_REAL == 2 * PHRASE_START
    assert ENTITY_REAL == 2 * ENTITY_START
