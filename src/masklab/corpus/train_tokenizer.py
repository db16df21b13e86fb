"""Learns a vocabulary from text: WordPiece, byte-level BPE, Unigram, or one entry per character.

WordPiece: Schuster and Nakajima 2012; Devlin et al. 2019, section 3. Byte-level BPE: Sennrich et al. 2016 on bytes, as
Radford et al. 2019, section 2.2, and RoBERTa. Unigram: unigram.py. The same texts give the same vocabulary, byte for
byte, in every process; memory is bounded by the sample that is read, whatever the size of the corpus.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from itertools import chain, count
from typing import Literal, NamedTuple, get_args

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from masklab.corpus import unigram
from masklab.corpus.duplicates import word_hashes
from masklab.corpus.tokenizer import ROLES, Tokenizer
from masklab.corpus.units import batched, code_points, kinds, unspaced, word_characters, written_starts
from masklab.errors import BadInput

Kind = Literal["wordpiece", "bpe", "unigram", "character"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPECIALS: dict[str, str] = dict(zip(ROLES, ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"), strict=True))  # ids 0 to 4
SAMPLE = 30_000_000  # characters that are enough to train a vocabulary on; memory is bounded by it
_COVERAGE = 0.9999  # share of the characters that the alphabet covers; rarer ones become [UNK]
_RARE = 20  # in Chinese: neighbours met less often than this are not learned across, so that memory stays small
_HASHED = 1 << 22
_PARTS = 500_000  # different ones counted at a time
_CUT = 0xFFFF  # stands in no text: it is no character

# Unigram pieces never reach over a change of Chinese and other script or over a sign, so that they nest in words.
_PIECES = r" ?\p{Han}+| ?(?:(?!\p{Han})[^\s\p{P}\p{S}])+| ?[\p{P}\p{S}]|\s+"


def train(texts: Iterable[str], size: int = 8192, kind: Kind = "wordpiece", lowercase: bool | None = None) -> Tokenizer:
    """A vocabulary of at most `size` entries; the first SAMPLE characters of `texts` are used.

    lowercase: None is the family's custom: WordPiece and characters without case (BERT uncased), BPE and Unigram with
    it (RoBERTa, XLM-R).
    """
    must_be_size(size, kind)
    lower = kind in ("wordpiece", "character") if lowercase is None else lowercase
    sample = list(up_to(texts, SAMPLE))
    learned = {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram, "character": _character}[kind]
    inner = learned(sample, size, lower)
    inner.add_special_tokens(list(SPECIALS.values()))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, inner.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return Tokenizer(inner, dict(SPECIALS))


def must_be_size(size: int, kind: Kind) -> None:
    """Refuse, before any text is read, a vocabulary that no text could fill a model with."""
    if kind not in KINDS:
        raise BadInput(f"there is no kind of vocabulary {kind!r}; choose one of: {', '.join(KINDS)}")
    taken = len(SPECIALS) + (len(pre_tokenizers.ByteLevel.alphabet()) if kind == "bpe" else 1)
    if size <= taken:
        raise _too_small(size, taken + 1)


def train_wordpiece(texts: Iterable[str], size: int = 8192, lowercase: bool = True) -> Tokenizer:
    return train(texts, size, "wordpiece", lowercase)


def up_to(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The texts' first so many characters."""
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)


# --- the four kinds --------------------------------------------------------------------------------------------------


def _wordpiece(sample: list[str], size: int, lowercase: bool) -> tokenizers.Tokenizer:
    """By itself the library numbers the continuing characters, "##e", in the order of a randomly seeded hash table, and
    merges of equal count follow those numbers: here they come in order."""
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    spelled, continuing = _letters(sample, normalizer)
    alphabet = _alphabet(spelled, size, continuing)
    inside = [f"##{letter}" for letter in sorted(continuing.intersection(alphabet))]
    learner = tokenizers.Tokenizer(models.WordPiece(unk_token=SPECIALS["unk"]))
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, show_progress=False, special_tokens=[*SPECIALS.values(), *inside],
        initial_alphabet=alphabet, limit_alphabet=len(alphabet),
    )  # fmt: skip
    learner.train_from_iterator(sample, trainer)
    inner = tokenizers.Tokenizer(models.WordPiece(learner.get_vocab(), unk_token=SPECIALS["unk"]))
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##")
    return inner


def _bpe(sample: list[str], size: int, lowercase: bool) -> tokenizers.Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner = tokenizers.Tokenizer(models.BPE())
    if lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, show_progress=False, special_tokens=list(SPECIALS.values()),
        initial_alphabet=alphabet,
    )  # fmt: skip
    inner.train_from_iterator(chain.from_iterable(_learnable(sample, size)), trainer)
    return inner


def _unigram(sample: list[str], size: int, lowercase: bool) -> tokenizers.Tokenizer:
    # the spaces and signs of SentencePiece's nmt_nfkc
    steps = [normalizers.Nmt(), normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(r"\s+"), " ")])

    def before(scheme: str) -> pre_tokenizers.PreTokenizer:
        pieces = pre_tokenizers.Split(Regex(_PIECES), "isolated")
        return pre_tokenizers.Sequence([pieces, pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)])

    counts: dict[str, int] = {}
    cut = before("never")  # a cut through Chinese is no beginning

    def tell_apart(parts: Counter[str]) -> None:
        for part, times in parts.items():
            for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(part)):
                counts[word] = counts.get(word, 0) + times
        parts.clear()

    parts = Counter[str]()  # most come again and again, and are looked at once
    for some in _learnable(sample, size, at_spaces=True):
        parts.update(some)
        if len(parts) > _PARTS:
            tell_apart(parts)
    tell_apart(parts)
    spelled: dict[str, int] = {}
    for word, times in counts.items():
        for letter in word:
            spelled[letter] = spelled.get(letter, 0) + times
    alphabet = _alphabet(spelled, size)
    scores = unigram.learn(counts, alphabet, size - len(SPECIALS))
    # the library reads numbers of more digits back a little wrong, and the vocabulary would no longer be the same one
    entries = [(name, 0.0) for name in SPECIALS.values()] + [(piece, round(score, 9)) for piece, score in scores]
    inner = tokenizers.Tokenizer(models.Unigram(entries, unk_id=list(SPECIALS).index("unk")))
    inner.normalizer = normalizer
    inner.pre_tokenizer = before("first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    return inner


def _character(sample: list[str], size: int, lowercase: bool) -> tokenizers.Tokenizer:
    """Every character an entry, the space (as U+2581) too: BPE without a merge."""
    normalizer = normalizers.Sequence(
        [
            normalizers.BertNormalizer(handle_chinese_chars=False, lowercase=lowercase),
            normalizers.Replace(Regex(r"\s+"), " "),
        ]
    )
    spelled, _ = _letters(sample, normalizer)
    kept = sorted(_ranked(spelled)[: size - len(SPECIALS) - 1])
    vocabulary = {name: id for id, name in enumerate([*SPECIALS.values(), "▁", *kept])}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=SPECIALS["unk"]))
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    inner.decoder = decoders.Metaspace(prepend_scheme="never")
    return inner


def _too_small(size: int, least: int) -> BadInput:
    return BadInput(
        f"a vocabulary of {size:,} is too small for this text's letters and the special tokens: say --vocabulary "
        f"{least} at least; more is better, such as 8000"
    )


# --- counting the sample ---------------------------------------------------------------------------------------------


def _letters(sample: list[str], normalizer: normalizers.Normalizer) -> tuple[dict[str, int], set[str]]:
    """How often each character is spelled, after normalising, and those of them that continue words ("##e")."""
    counts = np.zeros(0x110000, np.int64)
    inside = np.zeros(0x110000, bool)
    for some in batched(sample, 1_000_000):
        code = code_points("\n".join(some))
        kind = kinds(code)
        seen = np.bincount(code)
        counts[: len(seen)] += seen
        inside[code[word_characters(kind) & ~written_starts(kind)]] = True
    spelled: dict[str, int] = {}
    continuing: set[str] = set()
    for point in np.flatnonzero(counts).tolist():
        # "É" is "e" to a lower-casing normaliser; Korean syllables come apart into letters
        letters = "".join(normalizer.normalize_str(chr(point)).split())
        for letter in letters:
            spelled[letter] = spelled.get(letter, 0) + int(counts[point])
        continuing.update(letters if inside[point] else letters[1:])
    return spelled, continuing


def _ranked(spelled: dict[str, int]) -> list[str]:
    return sorted(spelled, key=lambda letter: (-spelled[letter], letter))


def _alphabet(spelled: dict[str, int], size: int, continuing: Container[str] = ()) -> list[str]:
    """The characters worth an entry, in order; those that continue words take another one."""
    ranked = _ranked(spelled)
    covered = np.cumsum([spelled[letter] for letter in ranked]) / max(1, sum(spelled.values()))
    worth = ranked[: int(np.searchsorted(covered, _COVERAGE)) + 1]
    taken = len(SPECIALS) + np.cumsum([0, *(1 + (letter in continuing) for letter in worth)])
    if size <= taken[min(len(worth), size // 2)]:
        raise _too_small(size, next(n for n in count(size + 1) if n > taken[min(len(worth), n // 2)]))
    return sorted(worth[: size // 2])


def _learnable(sample: list[str], size: int, at_spaces: bool = False) -> Iterator[list[str]]:
    """The sample, with text that has no spaces (Chinese, Thai) cut where two neighbours hardly ever meet.

    With at_spaces, it is cut before spaces too.

    Such text comes as whole clauses that hardly ever recur: a gigabyte and minutes for three million characters. At
    most `size` entries are learned, half of them for single characters or so: hardly one across neighbours that meet
    less often than the size / 2 most frequent pairs do, so cutting there loses next to nothing.
    """
    met = np.zeros(_HASHED, np.int64)
    for some in batched(sample, 1_000_000):
        pair, _ = _neighbours(some)
        met += np.bincount(pair, minlength=_HASHED)
    rank = min(size // 2, _HASHED - 1)
    rare = max(_RARE, int(np.partition(met, -rank - 1)[-rank - 1]))
    for some in batched(sample, 1_000_000):
        pair, at = _neighbours(some)
        code, cut = code_points("\n".join(some)), at[met[pair] < rare]
        if at_spaces:
            space = code == ord(" ")
            cut = np.append(cut, np.flatnonzero(space[1:] & ~space[:-1]) + 1)
        yield np.insert(code, cut, _CUT).tobytes().decode("utf-32-le").split(chr(_CUT))


def _neighbours(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of two neighbouring characters of unspaced scripts, and the place of the second in the joined texts."""
    code = code_points("\n".join(texts))
    alone = unspaced(code)
    at = np.flatnonzero(alone[1:] & alone[:-1]) + 1
    return ((code[at - 1].astype(np.int64) * 0x9E3779B1 + code[at]) * 0x85EBCA6B >> 7) % _HASHED, at


# --- how good the sample was, and the vocabulary is ------------------------------------------------------------------


class Coverage(NamedTuple):
    """How much of a corpus occurs in the sample that a vocabulary was learned from."""

    characters: float  # share of the corpus' running characters that are among the sample's
    words: float  # share of its running words

    def __str__(self) -> str:
        return f"{self.characters:.2%} of its characters and {self.words:.1%} of its words occur in the sample"


def coverage(sample: Iterable[str], corpus: Iterable[str]) -> Coverage:
    """What share of the running characters and words of `corpus` occur in `sample`.

    For a corpus too large to count, `corpus` may be texts drawn from outside the sample: an estimate for the rest.
    Words are compared without case and punctuation. Memory: 8 bytes for each distinct word of the sample.
    """
    letters = np.zeros(0x110000, bool)
    words = np.zeros(0, np.uint64)
    for some in batched(sample, 2_000_000):
        letters[code_points("".join(some))] = True
        words = np.union1d(words, word_hashes(some)[0])
    held, seen = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for some in batched(corpus, 2_000_000):
        code, hashes = code_points("".join(some)), word_hashes(some)[0]
        place = np.minimum(np.searchsorted(words, hashes), max(0, len(words) - 1))
        held += [int(letters[code].sum()), int((words[place] == hashes).sum()) if len(words) else 0]
        seen += [len(code), len(hashes)]
    return Coverage(*(held / np.maximum(seen, 1)).tolist())


class Fit(NamedTuple):
    """How well a vocabulary fits a corpus."""

    unknown: float  # share of the tokens that are [UNK]
    bytes_per_token: float  # of UTF-8; fewer: longer rows, more: coarser pieces

    def __str__(self) -> str:
        return f"{self.unknown:.3%} of the tokens are [UNK], {self.bytes_per_token:.2f} bytes a token"


def fit(tokenizer: Tokenizer, unigram: np.ndarray, text_bytes: int) -> Fit:
    """unigram: (V,) how often each id occurs in the text; text_bytes: the text's length in UTF-8."""
    tokens = max(1, int(unigram.sum()))
    return Fit(float(unigram[tokenizer.unk] / tokens), text_bytes / tokens)
