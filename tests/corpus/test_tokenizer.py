"""Vocabularies: the same ids as transformers, trained reproducibly, special tokens by role in every family."""

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import AddedToken, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

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


def _byte_level(names: list[str], special: bool = True) -> tokenizers.Tokenizer:
    vocabulary = {t: i for i, t in enumerate([*names, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if special:
        inner.add_special_tokens(names)
    return inner


def _folder(path, inner: tokenizers.Tokenizer, **config):
    path.mkdir(exist_ok=True)
    inner.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def test_what_begins_and_ends_a_text_stands_in(tmp_path):
    """GPT-like vocabularies have no [CLS] and [SEP]; names that are not the usual ones are found by the file's word."""
    inner = _byte_level(["<|begin|>", "<|end|>", "<|fill|>", "<|nothing|>", "<|what|>"])
    said = {
        "bos_token": "<|begin|>",
        "eos_token": {"__type": "AddedToken", "content": "<|end|>"},
        "mask_token": "<|fill|>",
    }
    said |= {"pad_token": "<|nothing|>", "unk_token": "<|what|>"}
    made = Tokenizer.from_file(_folder(tmp_path / "gpt", inner, **said))
    assert (made.cls, made.sep, made.mask, made.pad, made.unk) == (0, 1, 2, 3, 4)
    made.save(tmp_path / "ours")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert [getattr(theirs, f"{role}_token_id") for role in ROLES] == [0, 3, 1, 4, 2]


def test_special_tokens_that_a_file_has_as_plain_entries(tmp_path):
    names = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    made = Tokenizer.from_file(_folder(tmp_path / "plain", _byte_level(names, special=False)))
    assert made.special == [0, 1, 2, 3, 4]
    assert made.encode(["a[MASK]b"], specials=True)[0][1] == made.mask
    assert not set(made.encode(["a[MASK]b"])[0]) & set(made.special)
    other = _byte_level(names, special=False)
    other.add_tokens([AddedToken("[MASK]", special=False)])  # found in any text, if nothing is done
    made = Tokenizer.from_file(_folder(tmp_path / "added", other))
    assert not set(made.encode(["a[MASK]b"])[0]) & set(made.special)


@pytest.mark.parametrize("model", [models.WordLevel, models.Unigram])
def test_models_that_have_special_tokens_among_their_pieces(tmp_path, model):
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "<", "mask", ">"]
    if model is models.Unigram:
        inner = tokenizers.Tokenizer(models.Unigram([(name, -1.0) for name in names], unk_id=3))
    else:
        inner = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = Tokenizer.from_file(_folder(tmp_path / "pieces", inner))
    text = "<mask>" if model is models.WordLevel else "a<mask>b"
    assert made.mask in made.encode([text], specials=True)[0]
    assert not {made.cls, made.pad, made.sep, made.mask} & set(made.encode([text])[0])
    assert Tokenizer.from_file(tmp_path / "pieces").hash == pickle.loads(pickle.dumps(made)).hash == made.hash


def test_mismatches_are_refused(tmp_path):
    inner = _byte_level(["<s>", "</s>", "<unk>"])
    with pytest.raises(
        BadInput, match=r"no pad, mask token.*'pad_token': '\[PAD\]', 'mask_token': '\[MASK\]'"
    ) as error:
        Tokenizer.from_file(_folder(tmp_path / "half", inner, bos_token="<s>", eos_token="</s>"))
    assert "\n" not in str(error.value)
    both = _byte_level(["<s>", "</s>", "<pad>", "<unk>"])
    with pytest.raises(BadInput, match="'<unk>' is both the mask and the unk token"):
        Tokenizer.from_file(_folder(tmp_path / "both", both, mask_token="<unk>"))
    cured = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    roles: dict[str, Any] = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    cured.add_special_tokens(roles)  # as the message says
    cured.save_pretrained(tmp_path / "cured")
    made = Tokenizer.open(tmp_path / "cured")
    assert made.size == inner.get_vocab_size() + 4
    assert made.tokens([made.mask]) == ["[MASK]"]


def test_an_older_folder_and_a_name_on_the_hub(tmp_path, trained, monkeypatch):
    pieces = trained.tokens(range(trained.size))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vocab.txt").write_text("\n".join(pieces))
    (tmp_path / "old" / "config.json").write_text('{"model_type": "bert"}')
    old = Tokenizer.open(tmp_path / "old")
    assert old.encode(TEXTS[:5]) == trained.encode(TEXTS[:5])
    trained.save(tmp_path / "new")
    assert Tokenizer.open(tmp_path / "new").hash == Tokenizer.open(tmp_path / "new/tokenizer.json").hash == trained.hash
    asked = []

    def hub(name, *_, **__):
        asked.append(name)
        if name == "someone/slow":
            return object()
        if name != "someone/model":
            raise OSError(f"{name} is not a valid model identifier\nand so on")
        return PreTrainedTokenizerFast.from_pretrained(tmp_path / "new")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", hub)
    assert Tokenizer.open("someone/model").encode(TEXTS[:5]) == trained.encode(TEXTS[:5])
    with pytest.raises(BadInput, match=r"no such file here, and the hub did not give it \(nobody/none is not") as error:
        Tokenizer.open("nobody/none")
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="object has no fast form"):
        Tokenizer.open("someone/slow")
    assert asked == ["someone/model", "nobody/none", "someone/slow"]
    for path in ("missing/folder/tokenizer.json", "missing.json", "/missing/folder"):  # no names: nobody is asked
        with pytest.raises(BadInput, match="does not exist"):
            Tokenizer.open(path)
    assert len(asked) == 3
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BadInput, match=r"pip install 'masklab\[hub\]'"):
        Tokenizer.open("someone/model")
    assert Tokenizer.open(tmp_path / "new").hash == trained.hash  # needs nothing
