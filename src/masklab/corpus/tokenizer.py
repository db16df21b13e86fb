"""Turns text into numbers and back: a WordPiece vocabulary trained on one's own text, or any given tokenizer.json.

WordPiece: Schuster and Nakajima 2012; Devlin et al. 2019, section 3. The work is done by the `tokenizers` library; this
file trains it reproducibly, knows the special tokens of every family by role, and writes a folder that
`transformers.AutoTokenizer` opens.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Encoding, decoders, models, normalizers, pre_tokenizers, processors, trainers

from masklab.corpus.units import batched, code_points, kinds, word_characters, word_starts
from masklab.errors import BadInput
from masklab.files import atomic_write

ROLES = ("cls", "pad", "sep", "unk", "mask")
_TRAINED: dict[str, str] = dict(zip(ROLES, ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"), strict=True))  # ids 0 to 4
_USUAL = {"cls": ("[CLS]", "<s>"), "pad": ("[PAD]", "<pad>"), "sep": ("[SEP]", "</s>"), "unk": ("[UNK]", "<unk>"),
          "mask": ("[MASK]", "<mask>")}  # fmt: skip
SAMPLE = 30_000_000  # characters that are enough to train a vocabulary on (8192 pieces: 4 s); memory is bounded by it
_COVERAGE = 0.9999  # share of the characters that the alphabet covers; rarer ones make their word [UNK]


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


def train_wordpiece(texts: Iterable[str], size: int = 8192, lowercase: bool = True) -> Tokenizer:
    """A WordPiece vocabulary of at most `size` entries; the first SAMPLE characters of `texts` are used.

    The same texts give the same vocabulary. (By itself the library numbers the continuing characters, "##e", in the
    order of a randomly seeded hash table, and merges of equal count follow those numbers: here they come in order.)
    """
    sample = list(_up_to(texts, SAMPLE))
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    alphabet, continuing = _alphabet(sample, normalizer, size)
    specials = list(_TRAINED.values())
    least = len(specials) + len(alphabet) + len(continuing)
    if size <= least:
        raise BadInput(f"a vocabulary of {size} is too small: special tokens and letters take {least}; ask for more")
    learner = tokenizers.Tokenizer(models.WordPiece(unk_token=_TRAINED["unk"]))
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, show_progress=False, special_tokens=specials + continuing,
        initial_alphabet=alphabet, limit_alphabet=len(alphabet),
    )  # fmt: skip
    learner.train_from_iterator(sample, trainer)
    inner = tokenizers.Tokenizer(models.WordPiece(learner.get_vocab(), unk_token=_TRAINED["unk"]))
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(specials)
    inner.decoder = decoders.WordPiece(prefix="##")
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, inner.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return Tokenizer(inner, dict(_TRAINED))


def _up_to(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)


def _alphabet(sample: list[str], normalizer: normalizers.Normalizer, size: int) -> tuple[list[str], list[str]]:
    """The characters worth an entry, and those of them seen inside words ("##e"); both in order."""
    counts = np.zeros(0x110000, np.int64)
    inside = np.zeros(0x110000, bool)
    for some in batched(sample, 1_000_000):
        code = code_points("\n".join(some))
        kind = kinds(code)
        seen = np.bincount(code)
        counts[: len(seen)] += seen
        inside[code[word_characters(kind) & ~word_starts(kind)]] = True
    spelled: dict[str, int] = {}
    continuing: set[str] = set()
    for point in np.flatnonzero(counts).tolist():
        # "É" is "e" to a lower-casing normaliser; Korean syllables come apart into letters
        letters = "".join(normalizer.normalize_str(chr(point)).split())
        for letter in letters:
            spelled[letter] = spelled.get(letter, 0) + int(counts[point])
        continuing.update(letters if inside[point] else letters[1:])
    ranked = sorted(spelled, key=lambda letter: (-spelled[letter], letter))
    covered = np.cumsum([spelled[letter] for letter in ranked]) / max(1, sum(spelled.values()))
    kept = ranked[: min(int(np.searchsorted(covered, _COVERAGE)) + 1, size // 2)]
    return sorted(kept), [f"##{letter}" for letter in sorted(continuing.intersection(kept))]


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
        f"tokenizer.add_special_tokens({{'{role}_token': '{_TRAINED[role]}'}}), then save_pretrained"
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
