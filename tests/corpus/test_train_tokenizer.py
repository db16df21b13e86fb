"""Vocabularies of four families: as good as the world's, the same everywhere, open in transformers."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from masklab.corpus import train_tokenizer
from masklab.corpus.tokenizer import ROLES
from masklab.corpus.train_tokenizer import KINDS, Kind, coverage, fit, train, up_to
from masklab.errors import BadInput

WORDS = [
    f"{a}{b}{c}"
    for a in ("un", "re", "", "over")
    for b in ("walk", "read", "look", "happ", "stone")
    for c in ("", "s", "ed", "ing", "y")
]
CHINESE = "今天天气很好我们去公园散步看见许多美丽的花朵和小鸟"


def prose(seed: int, length: int = 300) -> str:
    draw = random.Random(seed)
    found = draw.choices(WORDS, [1 / (1 + i) for i in range(len(WORDS))], k=length)
    return " ".join(found) + ". " + "".join(draw.choices(CHINESE, k=40)) + "。Zoë paid 3.50 €!\nÉt cetera"


TEXTS = [prose(seed) for seed in range(12)]
HARD = [
    "",
    " ",
    "The un-walked STONE, naïve",
    "今天 Zoë☃",
    "[MASK] [SEP]",
    "a" * 99,
    "x\x00\u200by",
    "🙂\ufffd é e\u0301",
]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def made(kind):
    return train(TEXTS, 350, kind)


def test_transformers_gives_the_same_ids(made, tmp_path):
    made.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == made.size <= 350
    assert [theirs.convert_tokens_to_ids(getattr(theirs, f"{role}_token")) for role in ROLES] == [0, 1, 2, 3, 4]
    for text in TEXTS[:2] + HARD:
        ids = made.encode([text], specials=True)[0]
        assert theirs(text)["input_ids"] == [0, *ids, 2]
    a, b = made.encode(["unwalked", "the stones"])
    assert theirs("unwalked", "the stones")["input_ids"] == [0, *a, 2, *b, 2]
    assert theirs.decode(a, skip_special_tokens=True).strip() == made.decode(a).strip() == "unwalked"


def test_no_text_forges_a_special_token(made):
    forged = {made.cls, made.pad, made.sep, made.mask}
    for text in ("[MASK]", "[CLS]a[SEP]", "the [PAD] [MASK].", "[ MASK]"):
        assert not forged & set(made.encode([text])[0]), text
        assert [e.ids for e in made.encodings([text])] == made.encode([text])
    assert made.mask in made.encode(["a [MASK] b"], specials=True)[0]


def test_the_same_in_every_process(made, kind):
    code = (
        "import json, sys; from masklab.corpus.train_tokenizer import train;"
        "print(train(json.load(sys.stdin), 350, sys.argv[1]).hash)"
    )
    done = subprocess.run([sys.executable, "-c", code, kind], input=json.dumps(TEXTS), text=True, capture_output=True)
    assert done.stdout.strip() == made.hash


def test_case_is_the_familys_custom(made, kind):
    lower = kind in ("wordpiece", "character")
    assert (made.encode(["ÉT STONE"]) == made.encode(["ét stone"])) == lower
    for chosen in (True, False):
        other = train(TEXTS, 350, kind, chosen)
        assert (other.encode(["STONE"]) == other.encode(["stone"])) == chosen


def test_known_text_has_no_unknown_token_and_comes_back(made, kind):
    ids = made.encode(TEXTS)
    assert not any(made.unk in each for each in ids)
    for text, each in zip(TEXTS, ids, strict=True):
        back = made.decode(each)
        if kind == "bpe":
            assert back == text
        else:
            assert "".join(back.split()) == "".join(made.inner.normalizer.normalize_str(text).split())
    unknown = made.encode(["☃"])[0]
    assert (made.unk in unknown) == (kind != "bpe")  # bytes spell everything


def test_characters_are_one_entry_each():
    made = train(TEXTS, 350, "character")
    text = "今天天气 stones"
    assert made.tokens(made.encode([text])[0]) == list(text.replace(" ", "▁"))
    assert [e.offsets for e in made.encodings([text])] == [[(i, i + 1) for i in range(len(text))]]


def test_wordpiece_and_bytes_are_the_librarys_own():
    """The same pieces as the `tokenizers` trainers learn when they are called as everybody calls them."""
    theirs = tokenizers.BertWordPieceTokenizer(lowercase=True)
    theirs.train_from_iterator(TEXTS, 200, min_frequency=2, show_progress=False)
    ours = train(TEXTS, 200, "wordpiece")
    both = set(theirs.get_vocab()) & set(ours.inner.get_vocab())
    assert len(both) > 0.93 * ours.size  # merges of equal count come in another order
    english = [text.split(".")[0] for text in TEXTS]
    level = tokenizers.ByteLevelBPETokenizer()
    level.train_from_iterator(english, 320, min_frequency=2, show_progress=False)
    assert set(level.get_vocab()) == set(train(english, 325, "bpe").inner.get_vocab()) - set(ours.names.values())


def test_unigram_is_as_short_as_the_librarys():
    made = train(TEXTS, 300, "unigram")
    theirs = tokenizers.Tokenizer(models.Unigram())
    theirs.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    theirs.train_from_iterator(TEXTS, trainer)
    english = [text.split(".")[0] for text in TEXTS]
    sizes = [sum(len(e.ids) for e in t.encode_batch(english, add_special_tokens=False)) for t in (made.inner, theirs)]
    assert sizes[0] < 1.03 * sizes[1]
    pieces = [piece for piece in made.inner.get_vocab() if piece not in made.names.values()]
    for piece in pieces:  # no piece reaches over a sign or a change of script
        chinese = ["\u4e00" <= letter <= "\u9fff" for letter in piece.lstrip("▁")]
        assert len(set(chinese)) <= 1, piece
        assert len(piece.lstrip("▁")) <= 1 or not any(letter in ".,。!" for letter in piece), piece


def test_chinese_is_cut_where_nothing_is_to_be_learned(monkeypatch):
    """Long clauses are parted for the learner alone, and what recurs is learned as from the whole ones."""
    texts = ["".join(random.Random(seed).choices(CHINESE, k=60)) + "你好世界 " * 5 for seed in range(40)]
    asked: list[tuple[Kind, int]] = [("bpe", 330), ("unigram", 60)]
    parts = [part for some in train_tokenizer._learnable(texts, 60) for part in some]
    assert sum(map(len, parts)) / len(parts) < 8
    assert "".join(parts).replace("\n", "") == "".join(texts)
    cut = [train(texts, size, kind) for kind, size in asked]
    monkeypatch.setattr(train_tokenizer, "_learnable", lambda sample, size, at_spaces=False: iter([sample]))
    for one, (kind, size) in zip(cut, asked, strict=True):
        whole = train(texts, size, kind)
        spelled = [{made.decode([id]) for id in range(5, made.size)} for made in (one, whole)]
        assert "你好世界" in spelled[0] & spelled[1]
        lengths = [len(made.encode(["".join(texts)])[0]) for made in (one, whole)]
        assert abs(lengths[0] / lengths[1] - 1) < 0.08, kind  # the rest is chance: random letters


def test_a_bounded_sample(monkeypatch):
    assert list(up_to(["abc", "defg", "h"], 5)) == ["abc", "de"]
    read = []

    def texts():
        for text in TEXTS:
            read.append(text)
            yield text

    monkeypatch.setattr(train_tokenizer, "SAMPLE", len(TEXTS[0]) + 1)
    train(texts(), 200)
    assert len(read) == 3  # the third is asked for and not read into the vocabulary


def test_coverage_and_fit():
    found = coverage(["the cat sat", "on the mat"], ["The cat, the dog!", "zzz"])
    # t h e _ c a t _ t h e _ are in the sample, as are "o" and "_": T , d g ! z z z are not
    assert found.characters == pytest.approx(sum(c in "the catsonm" for c in "The cat, the dog!zzz") / 20)
    assert found.words == pytest.approx(3 / 5)
    assert coverage([], ["a"]) == (0, 0)
    assert coverage(["a"], []) == (0, 0)
    assert "60.0%" in str(found)
    made = train(["ab ab ab abc"] * 9, 20)
    ids = made.encode(["ab abc ☃"])[0]
    table = np.bincount(ids, minlength=made.size)
    assert fit(made, table, 10) == (1 / len(ids), 10 / len(ids))


def test_what_cannot_be(kind):
    with pytest.raises(BadInput, match=r"too small.*say --vocabulary (7|262) at least"):
        train(TEXTS, 5, kind)
    with pytest.raises(BadInput, match="choose one of: wordpiece, bpe, unigram, character"):
        train(TEXTS, 300, "sentencepiece")  # type: ignore[arg-type]


def test_the_least_size_is_said_and_is_enough():
    text = ["".join(map(chr, range(0x100 + 7 * i, 0x160 + 7 * i))) for i in range(20)]
    with pytest.raises(BadInput) as said:
        train(text, 40)
    least = int(str(said.value).split("--vocabulary ")[1].split()[0])
    assert train(text, least).size <= least
    with pytest.raises(BadInput, match=f"--vocabulary {least} at least"):
        train(text, least - 1)
