"""Turns text into numbers and back, by a vocabulary of our own (train_tokenizer.py) or any that others made.

The work is done by the `tokenizers` library; this file knows the special tokens of every family by role, lets no text
forge one, and writes a folder that `transformers.AutoTokenizer` opens.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Encoding

from masklab.errors import BadInput
from masklab.files import atomic_write

ROLES = ("cls", "pad", "sep", "unk", "mask")
_USUAL = {"cls": ("[CLS]", "<s>", "<cls>"), "pad": ("[PAD]", "<pad>"), "sep": ("[SEP]", "</s>", "<sep>"),
          "unk": ("[UNK]", "<unk>"), "mask": ("[MASK]", "<mask>")}  # fmt: skip
_STANDS_IN = {"cls": "bos_token", "sep": "eos_token"}  # what begins and ends a text frames a document as well
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Tokenizer:
    """A `tokenizers.Tokenizer` and the ids of its five special tokens."""

    def __init__(self, inner: tokenizers.Tokenizer, names: dict[str, str], config: dict[str, Any] | None = None):
        """names: the special token of each of ROLES; config: what stands in tokenizer_config.json, if it exists."""
        inner.no_padding()
        inner.no_truncation()
        inner.add_special_tokens(list(names.values()))  # some files have them as plain entries
        self.inner = inner
        self.names = names
        self.config = config or _config(names)
        vocabulary = inner.get_vocab(with_added_tokens=True)
        ids = {role: vocabulary[name] for role, name in names.items()}
        self.cls, self.pad, self.sep, self.unk, self.mask = (ids[role] for role in ROLES)
        self.size: int = max(vocabulary.values()) + 1  # ids may have holes; a model's table may not
        added = {id for id, token in inner.get_added_tokens_decoder().items() if token.special}
        self.special: list[int] = sorted(added | set(ids.values()))
        self.ordinary = np.setdiff1d(np.arange(self.size), self.special)  # ids that stand for text
        self.dtype = np.dtype("<u2" if self.size <= 1 << 16 else "<u4")
        text = json.dumps([json.loads(inner.to_str()), names], sort_keys=True, ensure_ascii=True)
        self.hash: str = hashlib.sha256(text.encode()).hexdigest()
        self._plain = _without_specials(inner, {*self.special} - {self.unk})

    def __reduce__(self):
        return _rebuild, (self.inner.to_str(), self.names, self.config)

    def __len__(self) -> int:
        return self.size

    def encode(self, texts: Sequence[str], specials: bool = False) -> list[list[int]]:
        """Ids of each text, with no [CLS] or [SEP] around. With `specials`, "[MASK]" in a text is the mask token."""
        tokenizer = self.inner if specials else self._plain
        return [e.ids for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encodings(self, texts: Sequence[str], specials: bool = False) -> list[Encoding]:
        """As `encode`, with `.offsets` (characters) and `.tokens`; slower."""
        tokenizer = self.inner if specials else self._plain
        return tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def decode(self, ids: Iterable[int], keep_special: bool = False) -> str:
        return self.inner.decode([int(id) for id in ids], skip_special_tokens=not keep_special)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each token's own spelling, such as "##ing"."""
        return [self.inner.id_to_token(int(id)) or f"<{id}>" for id in ids]

    def with_sentinels(self, count: int) -> "Tokenizer":
        """The same vocabulary with T5's <extra_id_0>, <extra_id_1>, ... at its end, the first one last, as there."""
        names = [f"<extra_id_{k}>" for k in reversed(range(count))]
        if all(self.inner.token_to_id(name) is not None for name in names):
            return self
        inner = tokenizers.Tokenizer.from_str(self.inner.to_str())
        inner.add_special_tokens(names)
        return Tokenizer(inner, self.names, self.config)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json."""
        folder = Path(folder)
        for name, text in self.files().items():
            with atomic_write(folder / name, "w") as file:
                file.write(text)

    def files(self) -> dict[str, str]:
        """The contents that `save` writes, by file name."""
        named = {f"{role}_token": name for role, name in self.names.items()}
        return {
            "tokenizer.json": self.inner.to_str(pretty=True),
            "tokenizer_config.json": json.dumps({**self.config, **named}, indent=2, ensure_ascii=False),
            "special_tokens_map.json": json.dumps(named, indent=2, ensure_ascii=False),
        }

    @classmethod
    def open(cls, what: str | Path) -> "Tokenizer":
        """A tokenizer.json, a folder with one, a corpus' first, an older folder (vocab.txt, .model), or a hub name.

        Only a name that is no path of this machine is asked for in the network.
        """
        path = Path(what)
        if (path / "store.json").exists():
            path = path / str(_json(path / "store.json").get("tokens"))
        there = path.exists()
        if path.is_file() or (path / "tokenizer.json").exists():
            return cls.from_file(path)
        if not there and (not _HUB_NAME.fullmatch(str(what)) or path.suffix == ".json"):
            return cls.from_file(path)  # says what is wrong with it
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise BadInput(
                f"{what}: no tokenizer.json is there, and anything else needs transformers: pip install 'masklab[hub]'"
            ) from None
        try:
            found = AutoTokenizer.from_pretrained(str(what))
        except Exception as error:  # of many kinds
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            where = "the folder holds no tokenizer" if there else "no such file here, and the hub did not give it"
            raise BadInput(f"{what}: {where} ({why})") from None
        if not getattr(found, "is_fast", False):
            raise BadInput(
                f"{what}: {type(found).__name__} has no fast form (tokenizer.json); choose another tokenizer"
            )
        with tempfile.TemporaryDirectory() as folder:
            found.save_pretrained(folder)
            return cls.from_file(folder, str(what))

    @classmethod
    def from_file(cls, path: str | Path, called: str = "") -> "Tokenizer":
        """Open a tokenizer.json, or a folder that holds one; `called` is its name in messages."""
        path = Path(path)
        if not path.exists():
            raise BadInput(f"{path} does not exist; name a tokenizer.json or a folder that holds one")
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.exists():
            raise BadInput(
                f"{path} holds no tokenizer.json; make one with transformers: "
                f"AutoTokenizer.from_pretrained({str(path)!r}).save_pretrained({str(path)!r})"
            )
        try:
            text = file.read_text(encoding="utf-8")
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise BadInput(f"{file} is not a tokenizer file ({error}); save it again") from None
        config = _json(file.with_name("tokenizer_config.json"))
        said = {**_json(file.with_name("special_tokens_map.json")), **config}
        return cls(inner, _roles(called or str(file), inner, said), config or None)


def _config(names: dict[str, str]) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }


def _roles(file: str, inner: tokenizers.Tokenizer, said: dict[str, Any]) -> dict[str, str]:
    """The token that plays each of ROLES, as the files say or by its usual name."""
    found, missing = {}, []
    for role in ROLES:
        name = _named(said, f"{role}_token")
        if name is not None and inner.token_to_id(name) is None:
            raise BadInput(
                f"{file} has no token {name!r}, which its tokenizer_config.json names as {role}_token; mend it"
            )
        usual = (*_USUAL[role], _named(said, _STANDS_IN.get(role, "")))
        name = name or next((n for n in usual if n and inner.token_to_id(n) is not None), None)
        if name is None:
            missing.append(role)
        else:
            found[role] = name
    if missing:
        cure = ", ".join(f"'{role}_token': '{_USUAL[role][0]}'" for role in missing)
        raise BadInput(
            f"{file} has no {', '.join(missing)} token, which masked training needs; add what is missing in "
            f"transformers: tokenizer.add_special_tokens({{{cure}}}), then tokenizer.save_pretrained(FOLDER), and name "
            f"that folder"
        )
    for role in ROLES[:-1]:
        if found[role] == found["mask"]:
            raise BadInput(
                f"{file}: {found['mask']!r} is both the mask and the {role} token; give the mask one of its own in "
                f"transformers: tokenizer.add_special_tokens({{'mask_token': '[MASK]'}}), then save_pretrained"
            )
    return found


def _named(said: dict[str, Any], key: str) -> str | None:
    name = said.get(key)
    return name.get("content") if isinstance(name, dict) else name


def _without_specials(inner: tokenizers.Tokenizer, special: set[int]) -> tokenizers.Tokenizer:
    """The same tokenizer for which "[MASK]" in a text is just six characters.

    Some models would find it among their ordinary pieces again; there it gets a name that no text spells.
    """
    made = json.loads(inner.to_str())
    model = made["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [
            [f"\n{id}\uffff" if id in special else piece, score] for id, (piece, score) in enumerate(model["vocab"])
        ]
    elif model["type"] == "WordLevel":
        model["vocab"] = {f"\n{id}\uffff" if id in special else word: id for word, id in model["vocab"].items()}
    plain = tokenizers.Tokenizer.from_str(
        json.dumps(made) if model["type"] in ("Unigram", "WordLevel") else inner.to_str()
    )
    plain.encode_special_tokens = True
    return plain


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON ({error}); save the tokenizer again") from None
    return found if isinstance(found, dict) else {}


def _rebuild(text: str, names: dict[str, str], config: dict[str, Any]) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text), names, config)
