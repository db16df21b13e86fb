"""Byte-pair encoding: words in pieces, the most frequent neighbours joined first; trained by `tokenizers`, shown here.

Sennrich et al. 2016, "Neural machine translation of rare words with subword units", section 3.2; over bytes as in
Radford et al. 2019 (GPT-2), section 2.2. docs/byte-pair-encoding.md works an example by hand.
"""

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.word_vectors.sources import Corpus, blocks

END = "▁"  # ends every word, so that "est▁" is another piece than "est" (the lecture's _ or </w>)
UNKNOWN = "<unk>"  # a character that was not in the text
_BLOCK = 1 << 18  # bytes of text given to the library at a time

Pair = tuple[str, str]
Word = tuple[str, ...]  # in pieces


def texts(corpus: Corpus) -> Iterator[str]:
    """The corpus in stretches of text that end between words."""
    for block in blocks(corpus, _BLOCK, warnings.warn):
        yield block.text.decode(errors="replace")


def train(
    corpus: Corpus, merges: int = 1000, *, over_bytes: bool = False, lowercase: bool = False
) -> tokenizers.Tokenizer:
    """Learn at most `merges` merges (fewer if no pair is left that occurs twice).

    The text is cut at white space, a word is its letters and END. over_bytes: GPT-2's way: the alphabet is the 256
    bytes, so that no text is unknown, and a word keeps the space before it. The same text gives the same merges: of
    equally frequent pairs the one of older symbols wins (letters by code point, then pieces as they came).
    """
    if merges < 1:
        raise BadInput(f"merges={merges}: give 1 or more")
    if not isinstance(corpus, list | tuple) and isinstance(corpus, Iterator):
        corpus = list(corpus)  # it is read twice
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=None if over_bytes else UNKNOWN))
    lower = [normalizers.Lowercase()] if lowercase else []
    if over_bytes:
        tokenizer.normalizer = normalizers.Sequence(lower)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        specials, alphabet = [], set(pre_tokenizers.ByteLevel.alphabet())
    else:
        spaces = normalizers.Replace(Regex(r"\s+|(?<=\S)\z"), END)
        tokenizer.normalizer = normalizers.Sequence([*lower, normalizers.Strip(), spaces])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(END, "merged_with_previous")
        tokenizer.decoder = decoders.Sequence([decoders.Replace(END, " "), decoders.Fuse(), decoders.Strip(" ", 0, 1)])
        specials, alphabet = [UNKNOWN], set()
        for text in texts(corpus):
            alphabet.update(tokenizer.normalizer.normalize_str(text))
        if not alphabet:
            raise BadInput("the corpus holds no word; name files with text in them")
    tokenizer.train_from_iterator(
        texts(corpus),
        trainers.BpeTrainer(
            vocab_size=len(specials) + len(alphabet) + merges, min_frequency=2, show_progress=False,
            special_tokens=specials, initial_alphabet=sorted(alphabet),
        ),
    )  # fmt: skip
    return tokenizer


def save(tokenizer: tokenizers.Tokenizer, path: str | Path) -> None:
    """Write a tokenizer.json."""
    with atomic_write(path, "w") as file:
        file.write(tokenizer.to_str(pretty=True))


def load(path: str | Path) -> tokenizers.Tokenizer:
    """Open any tokenizer.json that is byte-pair encoding, or a folder with one in it (GPT-2's)."""
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.exists():
        raise BadInput(f"{file} does not exist; make one: masklab words bpe train --corpus TEXT --out {file}")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(file.read_text("utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise BadInput(f"{file} is not a tokenizer file ({error}); train one again") from None
    if not isinstance(tokenizer.model, models.BPE):
        raise BadInput(f"{file} is {type(tokenizer.model).__name__}, not byte-pair encoding; name another file")
    return tokenizer


def merges(tokenizer: tokenizers.Tokenizer) -> list[Pair]:
    """The pairs in the order in which they were joined."""
    found = json.loads(tokenizer.to_str())["model"]["merges"]
    split = (pair.split(" ") if isinstance(pair, str) else pair for pair in found)
    return [(left, right) for left, right in split]


def cut(tokenizer: tokenizers.Tokenizer, text: str) -> list[Word]:
    """The words of a text, in letters, as training sees them: "low  lower" -> l o w ▁ and l o w e r ▁."""
    return [_letters(tokenizer, word) for word in _words(tokenizer, text)]


def count(tokenizer: tokenizers.Tokenizer, corpus: Corpus) -> Counter[Word]:
    """How often each word stands in a corpus, in letters."""
    found: Counter[str] = Counter()
    for text in texts(corpus):
        found.update(_words(tokenizer, text))
    return Counter({_letters(tokenizer, word): times for word, times in found.items()})


def _words(tokenizer: tokenizers.Tokenizer, text: str) -> list[str]:
    text = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    parts = tokenizer.pre_tokenizer.pre_tokenize_str(text) if tokenizer.pre_tokenizer else [(text, None)]
    return [word for word, _ in parts if word]


def _letters(tokenizer: tokenizers.Tokenizer, word: str) -> Word:
    suffix = getattr(tokenizer.model, "end_of_word_suffix", None) or ""  # in other people's files, on the last letter
    return (*word[:-1], word[-1] + suffix)


class Step(NamedTuple):
    pair: Pair
    times: int  # how often the two stood side by side
    words: dict[Word, int]  # the words in which they did, as they read now, most frequent first


def steps(counts: Counter[Word], pairs: Iterable[Pair]) -> Iterator[Step]:
    """Training once more, a merge at a time: how often each pair stood in the words, and what became of them."""
    spelled = counts.most_common()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # the words in which a pair is, or was
    for number, (word, _) in enumerate(spelled):
        for pair in pairwise(word):
            where[pair].add(number)
    for pair in pairs:
        total, changed = 0, {}
        for number in sorted(where.pop(pair, ())):
            word, count = spelled[number]
            stood = sum(here == pair for here in pairwise(word))
            if stood:
                word = join(word, pair)
                total += count * stood
                spelled[number] = word, count
                changed[word] = count
                for new in pairwise(word):
                    where[new].add(number)
        yield Step(pair, total, changed)


def spelling(word: Word, pairs: list[Pair]) -> Iterator[Word]:
    """How a word comes together: its letters, then after each merge; of the pairs in it, the one learned first is next.

    l o w e s t ▁ -> l o w e s t ▁, l o w es t ▁, ...
    """
    rank = {pair: number for number, pair in enumerate(pairs)}
    yield word
    while known := [pair for pair in pairwise(word) if pair in rank]:
        word = join(word, min(known, key=rank.__getitem__))
        yield word


def join(word: Word, pair: Pair) -> Word:
    """("l", "o", "w", "l", "o"), ("l", "o") -> ("lo", "w", "lo")."""
    joined: list[str] = []
    for symbol in word:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return tuple(joined)
