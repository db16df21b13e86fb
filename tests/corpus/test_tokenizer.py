"""Vocabularies: the same ids as transformers, trained reproducibly, special tokens by role in every family."""

import json
import pickle
import subprocess
import sys

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer

from masklab.corpus.tokenizer import ROLES, Tokenizer
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.errors import BadInput

TEXTS = [
    f"The {a} {b}ed over the {c}, naïvely; Zoë {b}s {a}s and {c}s in 19{i}."
    for i, (a, b, c) in enumerate(
        [("cat", "jump", "moon"), ("dog", "walk", "street"), ("bird", "climb", "mountain")] * 30
    )
]
NASTY = ["", " ", "The cat", "unknowable ☃ thing", "[MASK] and [SEP]", "好 naïve\n\nZOË", "a" * 300, "moon\u200b\x00s"]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_wordpiece(TEXTS, 200)


def test_special_tokens_and_size(trained):
    assert [trained.cls, trained.pad, trained.sep, trained.unk, trained.mask] == [0, 1, 2, 3, 4] == trained.special
    assert trained.size == trained.inner.get_vocab_size() <= 200
    assert trained.tokens([0, 1, 2, 3, 4]) == ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    assert trained.dtype == "uint16"


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_gives_the_same_ids(tmp_path, lowercase):
    ours = train_wordpiece(TEXTS, 250, lowercase)
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS[:5] + NASTY:
        ids = ours.encode([text], specials=True)[0]
        assert theirs(text)["input_ids"] == [ours.cls, *ids, ours.sep]
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
    pair = theirs("The cat", "the dog jumped")
    a, b = ours.encode(["The cat", "the dog jumped"])
    assert pair["input_ids"] == [0, *a, 2, *b, 2]
    assert pair["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert [theirs.convert_tokens_to_ids(getattr(theirs, f"{role}_token")) for role in ROLES] == [0, 1, 2, 3, 4]
    assert theirs.model_max_length == 512
    assert len(theirs) == ours.size
    again = Tokenizer.from_file(tmp_path)
    assert again.hash == ours.hash
    assert again.encode(NASTY) == ours.encode(NASTY)


def test_no_text_can_forge_a_special_token(trained):
    plain, parsed = trained.encode(["moon [MASK]"])[0], trained.encode(["moon [MASK]"], specials=True)[0]
    assert not set(plain) & {0, 1, 2, 4}
    assert parsed[-1] == trained.mask
    assert trained.decode([0, *trained.encode(["the cat jumped"])[0], 2]) == "the cat jumped"


def test_fast_and_full_encodings_agree(trained):
    assert [e.ids for e in trained.encodings(TEXTS + NASTY)] == trained.encode(TEXTS + NASTY)
    assert pickle.loads(pickle.dumps(trained)).hash == trained.hash


def test_training_is_the_same_in_every_process(trained):
    code = (
        "import json, sys; from masklab.corpus.train_tokenizer import train_wordpiece;"
        "print(train_wordpiece(json.load(sys.stdin), 200).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(TEXTS), text=True, capture_output=True
        ).stdout.strip()
        for _ in range(3)
    }
    assert hashes == {trained.hash}


def test_chinese_and_cased_text():
    made = train_wordpiece(["你好世界 Hello World ﬁne Zoë 각각"] * 9, 200, lowercase=False)
    assert "[UNK]" not in made.tokens(made.encode(["你好世界 Hello World Zoë 각각"])[0])
    with pytest.raises(BadInput, match="too small"):
        train_wordpiece(["abcdefghijklmnop"] * 9, 7)


def test_a_given_roberta_like_tokenizer(tmp_path):
    vocabulary = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", "a", "b", "<mask>"])}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel()
    inner.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    inner.enable_truncation(2)
    inner.save(str(tmp_path / "tokenizer.json"))
    made = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert (made.cls, made.pad, made.sep, made.unk, made.mask) == (0, 1, 2, 3, 6)
    assert made.special == [0, 1, 2, 3, 6]
    assert made.size == 7
    assert made.encode(["ababab"], specials=True)[0][-6:] == [4, 5] * 3  # the file's truncation is not ours


def test_roles_come_from_the_configuration_and_must_exist(tmp_path, trained):
    trained.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "mask_token": {"content": "<gap>"}}))
    with pytest.raises(BadInput, match=r"no token '<gap>'.*mask_token"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        Tokenizer.from_file(tmp_path)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        Tokenizer.from_file(tmp_path / "none")
    with pytest.raises(BadInput, match="holds no tokenizer"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="is not a tokenizer file"):
        Tokenizer.from_file(tmp_path)
    tokenizers.Tokenizer(models.WordLevel({"a": 0}, "a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BadInput, match="no cls, pad, sep, unk, mask token"):
        Tokenizer.from_file(tmp_path)
