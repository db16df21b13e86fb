"""Ten thousand random documents: their text comes back, units partition it, offsets are exact, in every vocabulary."""

import json
import os
import random
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from masklab.corpus.document import without_surrogates
from masklab.corpus.encode import Encoder, Tokens
from masklab.corpus.prepare import add_vocabulary, prepare
from masklab.corpus.store import Store
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.train_tokenizer import KINDS, train
from masklab.corpus.units import WORD_REAL, WORD_START

EXAMPLES, DOCUMENTS = 9, 1200  # together more than ten thousand documents, each in every kind of vocabulary
POOLS = [
    ["the", "cat", "sat", "on", "a", "mat", "unbelievable", "don't", "U.S.", "3.50", "x_y", "http://a.b/c?d=e"],
    [
        "naïve",
        "Zoë",
        "café",
        "café",
        "Größe",
        "ŁÓDŹ",
        "İstanbul",
        "ǅ",
        "ﬁne",
        "½",
        "Å",
        "Å",
        "ΣΊΣΥΦΟΣ",
        "приве́т",
        "Ёлка",
    ],
    [
        "你好",
        "世界。",
        "漢字",
        "㐀",
        "𠀀𠀁",
        "𠮟る",
        "こんにちは",
        "カタカナ",
        "ｶﾅ",
        "한국어",
        "각",
        "ไทยภาษา",
        "မြန်မာ",
    ],
    ["مرحبا", "שָׁלוֹם", "नमस्ते", "ﷺ", "\u202eabc\u202c", "\u200f", "ታ።", "𞤀𞤣𞤤"],
    ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "👍🏽", "1️⃣", "☺️", "⚠", "\U000e0067\U000e007f"],
    ["\ud83d", "\ude00", "\ude00\ud83d", "a\ud800b"],
    [chr(point) for point in (*range(32), *range(127, 161), 0xAD, 0x1C, 0x85)],
    [
        chr(p)
        for p in (0x200B, 0x200C, 0x200D, 0x2028, 0x2029, 0x2060, 0xFEFF, 0xFFFD, 0xFFFE, 0xE000, 0x10FFFF, 0x3000)
    ],
    ["[MASK]", "[UNK]", "[CLS]x", "<s>", "</s>", "<mask>", "##ing", "▁", "Ġ", "<0x0A>"],
    [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»“”‘’…—。，！？、《》", "...", "?!", "--"],
    ["a" * 70, "\u0301" * 5, "0" * 50, "é" * 45, "好" * 45],
]
GAPS = [" ", " ", " ", "", "  ", "\n", "\n\n", "\t", "\u3000", "\xa0", "\r\n", " \n"]
SAMPLE = ["the cat sat on the mat, naïve Zoë: 3.50 and don't! 你好 世界。 漢字 こんにちは привет שלום नमस्ते 한국어"] * 3
TOKENIZERS = {kind: train(SAMPLE, 420, kind) for kind in KINDS}


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def written(seed: int) -> list[str]:
    """Documents of pieces from a few of the pools, and some of any characters at all."""
    draw = random.Random(seed)
    found = []
    for _ in range(DOCUMENTS):
        pools = draw.sample(POOLS, draw.randint(1, 4))
        pieces = [draw.choice(draw.choice(pools)) for _ in range(draw.randint(0, 12))]
        if draw.random() < 0.2:
            pieces += [chr(draw.randrange(0x110000)) for _ in range(draw.randint(1, 8))]
        found.append("".join(piece + draw.choice(GAPS) for piece in pieces))
    return found


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 32), st.lists(st.text(st.characters(), max_size=40), max_size=20))
@example(0, ["", " ", "\ud800", "\0", "a\0b", "\ufeff", "\x1c\x1d", "\u200b"])
def test_any_document_in_any_vocabulary(seed, more):
    given = [*written(seed), *more]
    wanted = [text for text in (without_surrogates(text).strip() for text in given) if text]
    with tempfile.TemporaryDirectory() as folder:
        first, *others = TOKENIZERS.values()
        store = prepare(given, Path(folder) / "new", first, held_out=0.1, keep_duplicates=True, workers=1)
        assert list(store.texts()) == wanted
        assert read_without_us(store.path) == wanted
        assert store.description["empty"] == len(given) - len(wanted)
        for tokenizer in others:
            add_vocabulary(store, tokenizer, workers=1)
        for path, tokenizer in zip(store.vocabularies, ordered(store), strict=True):
            holds(Store(path), tokenizer, wanted)


def ordered(store: Store) -> list[Tokenizer]:
    by_hash = {f"tokens-{tokenizer.hash[:12]}": tokenizer for tokenizer in TOKENIZERS.values()}
    return [by_hash[path.name] for path in store.vocabularies]


def read_without_us(folder: Path) -> list[str]:
    decoder = zstandard.ZstdDecompressor()
    with (folder / "text.jsonl.zst").open("rb") as file, decoder.stream_reader(file, read_across_frames=True) as text:
        return [json.loads(line)["text"] for line in text.read().decode().split("\n")[:-1]]


def holds(store: Store, tokenizer: Tokenizer, texts: list[str]) -> None:
    """What is stored is the tokenizer's; its offsets are exact; words partition each text."""
    found = Encoder(tokenizer)(texts)
    owner = np.repeat(np.arange(len(texts)), found.lengths)
    for part in (store.part("train"), store.part("held_out")):
        mine = store.held_out[owner] == (part.name == "held_out")
        assert np.diff(part.documents).tolist() == found.lengths[part.numbers].tolist()
        np.testing.assert_array_equal(part.ids, found.ids[mine])
        np.testing.assert_array_equal(part.units, found.words[mine])
    encodings = tokenizer.encodings(texts)
    begins = np.cumsum([0, *map(len, texts)])
    assert found.lengths.tolist() == [*map(len, encodings)]
    assert found.ids.tolist() == [id for encoding in encodings for id in encoding.ids]
    spans = np.array([span for encoding in encodings for span in encoding.offsets]).reshape(-1, 2) + begins[owner, None]
    whole = "".join(texts)
    np.testing.assert_array_equal(found.end, spans[:, 1])
    odd = np.flatnonzero(found.begin != spans[:, 0])  # ours begin behind the white space that some tokens begin with
    assert all(whole[a:b].isspace() for a, b in zip(spans[odd, 0], found.begin[odd], strict=True))
    assert (begins[owner] <= found.begin).all()
    assert (found.end <= begins[owner + 1]).all()
    partitioned(whole, found, np.flatnonzero(np.diff(owner, prepend=-1)), tokenizer)


def partitioned(text: str, found: Tokens, fresh: np.ndarray, tokenizer: Tokenizer) -> None:
    """Units are runs of tokens that share no character with each other; what no token has, the tokenizer drops."""
    start, real = (found.words & WORD_START) != 0, (found.words & WORD_REAL) != 0
    assert start[fresh].all(), "one begins with each text"
    unit = np.cumsum(start)
    size = np.maximum(found.end - found.begin, 0)
    at = np.arange(size.sum()) + np.repeat(found.begin - np.cumsum(size) + size, size)  # each character of each token
    low, high = np.full(len(text), len(unit) + 1), np.zeros(len(text), np.int64)
    np.minimum.at(low, at, np.repeat(unit, size))
    np.maximum.at(high, at, np.repeat(unit, size))
    held = high > 0
    assert (low[held] == high[held]).all(), "no character is of two units"
    assert (np.diff(high[held]) >= 0).all()
    assert (np.bincount(unit, real)[1:] % np.bincount(unit)[1:] == 0).all(), "a unit is real or not as a whole"
    for character in {text[place] for place in np.flatnonzero(~held).tolist()}:
        if not character.isspace() and tokenizer.inner.normalizer.normalize_str(character).strip():
            assert composes(character), ascii(character)


def composes(character: str) -> bool:
    """May it become one character with the one before it, and so be of the token of that one?"""
    return unicodedata.category(character)[0] == "M" or 0x1160 <= ord(character) < 0x1200  # accents; Korean vowels
