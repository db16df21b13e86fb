"""Turns text into numbers and back: a WordPiece vocabulary trained on one's own text, or any given tokenizer.json.

WordPiece: Schuster and Nakajima 2012; Devlin et al. 2019, section 3. The work is done by the `tokenizers` library; this
file trains it reproducibly, knows the special tokens of every family by role, and writes a folder that
`transformers.AutoTokenizer` opens.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Encoding

from masklab.errors import BadInput
from masklab.files import atomic_write

ROLES = ("cls", "pad", "sep", "unk", "mask")
_USUAL = {"cls": ("[CLS]", "<s>"), "pad": ("[PAD]", "<pad>"), "sep": ("[SEP]", "</s>"), "unk": ("[UNK]", "<unk>"),
          "mask": ("[MASK]", "<mask>")}  # fmt: skip


class Tokenizer:
    """A `tokenizers.Tokenizer` and the ids of its five special tokens."""

    def __init__(self, inner: tokenizers.Tokenizer, names: dict[str, str], config: dict[str, Any] | None = None):
        """names: the special token of each of ROLES; config: what stands in tokenizer_config.json, if it exists."""
        inner.no_padding()
        inner.no_truncation()
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
        # The same tokenizer for which "[MASK]" in a text is just five characters: no text can forge a special token.
        self._plain = tokenizers.Tokenizer.from_str(inner.to_str())
        self._plain.encode_special_tokens = True

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
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Open a tokenizer.json, or a folder that holds one."""
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
        return cls(inner, {role: _special(file, inner, role, said) for role in ROLES}, config or None)


def _config(names: dict[str, str]) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }


def _special(file: Path, inner: tokenizers.Tokenizer, role: str, said: dict[str, Any]) -> str:
    """The token that plays a role, as the files say or by its usual name."""
    name = said.get(f"{role}_token")
    name = name.get("content") if isinstance(name, dict) else name
    if name is not None:
        if inner.token_to_id(name) is None:
            raise BadInput(
                f"{file} has no token {name!r}, which its tokenizer_config.json names as {role}_token; mend it"
            )
        return name
    for name in _USUAL[role]:
        if inner.token_to_id(name) is not None:
            return name
    raise BadInput(
        f"{file} has no {role} token, which masked training needs; add one in transformers: "
        f"tokenizer.add_special_tokens({{'{role}_token': '{_USUAL[role][0]}'}}), then save_pretrained"
    )


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
