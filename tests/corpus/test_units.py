"""Word starts agree with BERT's own pre-tokenizer, and are the same whatever the tokenizer."""

from itertools import pairwise

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from masklab.corpus.units import WORD_REAL, WORD_START, code_points, word_bits

TEXT = "The cat's hat, un-believable: naïve Zoë paid 3.50 € (20°C) for 你好 世界!\n\n  New   line_x…"
TEXT += " Ωmega ﬁne e\u0301t\u200bs ½"
LETTERS = "ab Zé'-,.1\n\u0301好€"


def _trained(kind: str) -> tokenizers.Tokenizer:
    texts = [TEXT, "the cat sat on the hat and the hat sat on the cat"] * 3
    if kind == "wordpiece":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]"], show_progress=False)
    elif kind == "bytes":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.post_processor = processors.ByteLevel(trim_offsets=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    else:
        made = tokenizers.Tokenizer(models.Unigram())
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=90, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
    made.train_from_iterator(texts, trainer)
    return made


TRAINED = {kind: _trained(kind) for kind in ("wordpiece", "bytes", "unigram")}


def bits(kind: str, text: str) -> tuple[list[tuple[int, int]], np.ndarray]:
    spans = TRAINED[kind].encode(text, add_special_tokens=False).offsets
    table = np.array(spans, np.int64).reshape(-1, 2)
    fresh = np.arange(len(table)) == 0
    return spans, word_bits(code_points(text), table[:, 0], table[:, 1], fresh)


def words(kind: str, text: str) -> list[str]:
    """The text of each unit, without white space."""
    spans, found = bits(kind, text)
    begin = [at for at, bit in enumerate(found) if bit & WORD_START]
    edges = [*begin, len(spans)]
    return ["".join(text[spans[a][0] : spans[b - 1][1]].split()) for a, b in pairwise(edges)]


@given(st.text(alphabet=LETTERS, max_size=30))
def test_wordpiece_words_are_berts(text):
    encoding = TRAINED["wordpiece"].encode(text, add_special_tokens=False)
    _, found = bits("wordpiece", text)
    expected = [at == 0 or word != encoding.word_ids[at - 1] for at, word in enumerate(encoding.word_ids)]
    assert ((found & WORD_START) != 0).tolist() == expected


def test_berts_words_on_a_hard_text():
    encoding = TRAINED["wordpiece"].encode(TEXT, add_special_tokens=False)
    expected = [at == 0 or word != encoding.word_ids[at - 1] for at, word in enumerate(encoding.word_ids)]
    assert ((bits("wordpiece", TEXT)[1] & WORD_START) != 0).tolist() == expected


def test_families_agree_where_no_token_straddles():
    text = "the cat, sat on 20 hats\nand 世界 (hat)!"
    expected = ["the", "cat", ",", "sat", "on", "20", "hats", "and", "世", "界", "(", "hat", ")", "!"]
    for kind in TRAINED:
        assert [w for w in words(kind, text) if w] == expected, kind


@pytest.mark.parametrize("kind", TRAINED)
@given(text=st.text(alphabet=LETTERS, max_size=30))
def test_any_family(kind, text):
    spans, found = bits(kind, text)
    assert len(found) == len(spans)
    if len(found):
        assert found[0] & WORD_START
    begin = [at for at, bit in enumerate(found) if bit & WORD_START]
    for a, b in pairwise([*begin, len(spans)]):
        inside = "".join(text[s:e] for s, e in spans[a:b])
        assert len({int(bit) & WORD_REAL for bit in found[a:b]}) == 1  # a word is real as a whole
        assert bool(found[a] & WORD_REAL) == any(c.isalnum() for c in inside)
        if a:  # a unit begins at a word's edge, or on white space: never inside a run of letters
            at = spans[a][0]
            assert not (text[at - 1] in "abZé1" and text[at] in "abZé1")


def test_byte_level_pieces_of_one_character_stay_together():
    spans, found = bits("bytes", "x 🙂 y")
    starts = [text for text, bit in zip(spans, found, strict=True) if bit & WORD_START]
    assert words("bytes", "x 🙂 y") == ["x", "🙂", "y"]
    assert len(starts) == 3
