"""Fast tokenising is tokenising: the same tokens, offsets and words as from the library on each whole text."""

import re
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers

from masklab.corpus import encode
from masklab.corpus.encode import Encoder, Tokens, cuts
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.train_tokenizer import KINDS, SPECIALS, train
from masklab.corpus.units import code_points, word_bits

TEXT = (
    "The cat's hat, un-believable: naïve Zoë paid 3.50 € (20°C) for 你好，世界!\n\n  New   line_x…\tÉcole\x0bE\u0301t"
)
SAMPLE = [
    TEXT,
    "the cat sat on the hat and the hat sat on the cat's mat. It's 1999.",
    "你好 世界 世界 こんにちは ไทย",
] * 3
WORDS = [
    "the",
    "cat's",
    "hat",
    "un",
    "3.50",
    "你好",
    "世界。",
    "é",
    "e\u0301",
    "ﬁ",
    "½",
    "\u1fef",
    "\u037e",
    "x_y",
    "´",
]
GAPS = [" ", " ", " ", "  ", "   ", "\n", "\n\n", " \n", "\t", "\u3000", "\xa0", "\x1c", "\x0b", ""]
GAPS += ["\u200b ", "\u00ad ", "\x00 ", "\u0600 ", "\u037a "]  # what normalisers drop, or turn into white space


def _bytes(prefix: bool, trim: bool, normalizer=None, split: str | None = None) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    if normalizer:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    if split:
        level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), level])
    made.post_processor = processors.ByteLevel(trim_offsets=trim, add_prefix_space=prefix)
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=list(SPECIALS.values()),
    )  # fmt: skip
    made.train_from_iterator(SAMPLE, trainer)
    return made


def _pieces(scheme: str, before: bool = False) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    steps = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    if before:
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), made.pre_tokenizer])
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="[UNK]", special_tokens=list(SPECIALS.values()), show_progress=False
    )
    made.train_from_iterator(SAMPLE, trainer)
    return made


def _cased() -> tokenizers.Tokenizer:
    made = train(SAMPLE, 150, "wordpiece", lowercase=False).inner
    made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    return made


GPT4 = next(pattern for pattern in encode._SPLITS if "{1,3}" in pattern)
FAMILIES: dict[str, Tokenizer] = {
    **{kind: train(SAMPLE, 400, kind) for kind in KINDS},
    **{
        name: Tokenizer(inner, dict(SPECIALS))
        for name, inner in {
            "wordpiece cased": _cased(),
            "gpt2": _bytes(False, False),
            "roberta": _bytes(False, True),
            "modernbert": _bytes(False, True, normalizers.NFC()),
            "llama3": _bytes(False, False, None, GPT4),
            "t5": _pieces("always"),
            "xlm-r": _pieces("always", before=True),
            "first": _pieces("first"),
        }.items()
    },
}


def whole(tokenizer: Tokenizer, texts: list[str]) -> Tokens:
    """The slow twin: the library's own encoding of each text."""
    encodings = tokenizer.encodings(texts)
    lengths = np.array([len(e) for e in encodings], np.int64)
    ids = np.array([id for e in encodings for id in e.ids], tokenizer.dtype)
    shift = np.repeat(np.cumsum([0, *map(len, texts)])[: len(texts)], lengths)
    spans = np.array([span for e in encodings for span in e.offsets], np.int64).reshape(-1, 2) + shift[:, None]
    fresh = np.zeros(len(ids), bool)
    fresh[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    text = "".join(texts)
    bits = word_bits(code_points(text), spans[:, 0], spans[:, 1], fresh)
    begin = [next((i for i in range(a, b) if not text[i].isspace()), a) for a, b in spans.tolist()]
    return Tokens(ids, np.array(begin, np.int64), spans[:, 1], bits, lengths)


def same(tokenizer: Tokenizer, encoder: Encoder, texts: list[str]) -> None:
    for found, expected, name in zip(encoder(texts), whole(tokenizer, texts), Tokens._fields, strict=True):
        assert found.tolist() == expected.tolist(), (name, texts)
        assert found.dtype == expected.dtype, name


@pytest.mark.parametrize("family", FAMILIES)
def test_known_families_are_cut(family):
    assert cuts(FAMILIES[family]) is not None
    same(FAMILIES[family], Encoder(FAMILIES[family]), ["", TEXT, "", *SAMPLE])


@pytest.mark.parametrize("family", FAMILIES)
def test_any_text(family):
    tokenizer, encoder = FAMILIES[family], Encoder(FAMILIES[family])

    @settings(max_examples=25)
    @given(
        st.lists(
            st.lists(st.tuples(st.sampled_from(WORDS) | st.text(max_size=4), st.sampled_from(GAPS)), max_size=8).map(
                lambda pairs: "".join(word + gap for word, gap in pairs)
            ),
            max_size=3,
        )
    )
    def holds(texts: list[str]) -> None:
        texts = [re.sub("[\ud800-\udfff]", "", text).strip() for text in texts]
        same(tokenizer, encoder, texts)

    holds()


def test_forgetting_and_long_words_change_nothing(monkeypatch):
    monkeypatch.setattr(encode, "_ENTRIES", 10)
    texts = [f"{'long' * 20} word{i % 7} and {'x' * 39}{i}" for i in range(20)] + [TEXT]
    for family in ("wordpiece", "bpe", "unigram"):
        encoder = Encoder(FAMILIES[family])
        for text in texts:
            same(FAMILIES[family], encoder, [text, text])
        assert encoder._met.count <= 10 + 4 * len(TEXT)


def test_unknown_cuts_are_left_to_the_library():
    strange = tokenizers.Tokenizer.from_str(FAMILIES["gpt2"].inner.to_str())
    strange.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated")
    added = tokenizers.Tokenizer.from_str(FAMILIES["wordpiece"].inner.to_str())
    added.add_tokens(["New York", "cat's"])
    restless = tokenizers.Tokenizer.from_str(FAMILIES["gpt2"].inner.to_str())
    restless.model.dropout = 0.5  # type: ignore[union-attr]
    chinese = tokenizers.Tokenizer.from_str(FAMILIES["character"].inner.to_str())
    chinese.normalizer = normalizers.Sequence([normalizers.BertNormalizer(), normalizers.Replace(Regex(r"\s+"), " ")])
    prefixed = _bytes(True, True)
    for inner in (strange, added, restless, chinese, prefixed):
        tokenizer = Tokenizer(inner, dict(SPECIALS))
        assert cuts(tokenizer) is None
        if inner is not restless:
            same(tokenizer, Encoder(tokenizer), [TEXT, "in New York the cat's"])


def test_no_normaliser_changes_what_stands_before_a_cut():
    """Every character after which a space is a cut stays visible, alone and at the end of a word."""
    plain = re.compile(f"[{encode._PLAIN}]")
    steps = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase()]
    steps += [normalizers.StripAccents(), normalizers.Nmt(), normalizers.BertNormalizer(handle_chinese_chars=False)]
    letters = [chr(point) for point in range(sys.maxunicode + 1) if plain.match(chr(point))]
    assert 20_000 < len(letters) < 40_000
    for step in steps:
        changed = step.normalize_str(" ".join(letters)).split(" ")
        assert len(changed) == len(letters), step
        assert all(word and not any(map(str.isspace, word)) for word in changed), step
