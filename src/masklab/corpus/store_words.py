"""The words of a prepared corpus as numbers, for models that read words and their letters instead of tokens.

Words and signs are those of units.py, or of the corpus' layer of words (segmented Chinese), exactly as they are
written, upper case and all, whatever the tokenizer made of them. They are found once and kept beside the text:

    words-HASH/           of the text and its layer of words
        words.json        counts, and the size and SHA-256 of the files
        words.txt         every different word, one a line, by falling count in the training part
        counts.npy        (words,) int64: how often each occurs there
        spellings.npy     (words, 50) uint16: its letters, see spelling.py
        train/, held_out/ numbers.npy (n,) int32: line numbers in words.txt; documents.npy (documents + 1,) int64
"""

import errno
import hashlib
import itertools
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masklab import files
from masklab.corpus import packing
from masklab.corpus.arrays import Growing, write_array
from masklab.corpus.layers import Layer, layers
from masklab.corpus.packing import Rows
from masklab.corpus.spelling import marks, read, spelled
from masklab.corpus.store import PARTS, Store, checked, describe, described, mapped, still_whole
from masklab.corpus.units import WORD_START, batched, code_points
from masklab.corpus.word_items import BETWEEN, items, text_begins
from masklab.errors import BadInput
from masklab.files import atomic_write

FILE = "words.txt"
UNKNOWN = 0  # the class of all words that are too rare to be predicted
_BATCH = 4_000_000  # characters looked at together
_SLAB = 1 << 22  # numbers exchanged together


class WordList:
    """The words that a model can predict: class k is words[k - 1], class 0 any other. Word-reading models have this
    where others have a tokenizer."""

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        self.size = len(self.words) + 1
        self.special: list[int] = []
        self.hash = hashlib.sha256("\n".join(self.words).encode("utf-8", "surrogatepass")).hexdigest()

    def __len__(self) -> int:
        return self.size

    def word(self, number: int) -> str:
        """Of a class."""
        return self.words[number - 1] if number else "<UNK>"

    def encode(self, texts: Sequence[str], specials: bool = False) -> Any:
        raise BadInput(
            "this model reads words by their letters and knows no tokens; masklab finetune --task tag uses it"
        )

    encodings = encode

    def save(self, folder: str | Path) -> None:
        with atomic_write(Path(folder) / FILE, "w", errors="surrogatepass", newline="\n") as file:
            file.writelines(word + "\n" for word in self.words)

    @classmethod
    def from_file(cls, folder: str | Path) -> "WordList":
        return cls(_first_words(Path(folder) / FILE, None))


class WordPart:
    """The training documents, or the held-out ones, as numbers of words."""

    def __init__(self, folder: Path, name: str, vocabulary: WordList, hash: str):
        self.folder, self.name, self.tokenizer, self.hash = folder, name, vocabulary, hash
        self.ids = mapped(folder / name / "numbers.npy")  # (n,) int32
        self.documents = mapped(folder / name / "documents.npy")  # (documents + 1,) int64
        self.spellings = mapped(folder / "spellings.npy")  # (words, 50) uint16
        counts = np.load(folder / "counts.npy")
        words = list(_first_words(folder / FILE, None))
        place = {word: number for number, word in enumerate(vocabulary.words, 1)}
        self.classes = np.fromiter((place.get(word, UNKNOWN) for word in words), np.int64, len(words))  # (words,)
        self.counts = np.bincount(self.classes, counts, minlength=vocabulary.size)  # (classes,) in the training part
        self._marks = marks(self.spellings.shape[1])
        self._rows: dict[int, Rows] = {}

    def __len__(self) -> int:
        return len(self.documents) - 1

    def must_be_whole(self) -> None:
        still_whole(self.ids, self.documents, self.spellings)

    def rows(self, length: int, overhead: int = 2) -> Rows:
        """Documents, cut between words, packed into rows of `length` slots; `overhead` marks around each piece."""
        if length not in self._rows:
            every = np.broadcast_to(np.uint8(WORD_START), len(self.ids))  # a cut may fall anywhere
            self._rows[length] = packing.rows(self.documents, every, np.zeros(0, np.int64), length, overhead)
        return self._rows[length]

    def spell(self, number: int) -> tuple[str, bool]:
        """A word as a person reads it, by its number; -2 and -3 are the marks before and after the words."""
        return read(self.spellings[number] if number >= 0 else self._marks[-2 - number]), False


class StoreWords:
    """The words of a corpus. `part("train", vocabulary)` is what training reads."""

    def __init__(self, data: str | Path):
        self.store = Store(data)
        segmented = next((layer for layer in layers(self.store.path) if layer.name == "words"), None)
        text = self.store.text_description["corpus"] + (segmented.hash if segmented else "") + self._held_out()
        self.hash = hashlib.sha256(text.encode()).hexdigest()
        self.folder = self.store.path / f"words-{self.hash[:12]}"
        files.settle(self.folder)
        if not (self.folder / "words.json").exists():
            self._make(segmented)
        checked(self.folder, described(self.folder, "words.json")["files"])

    def vocabulary(self, size: int) -> WordList:
        """The most frequent words of the training part; with the unknown one they are at most `size`."""
        counts = np.load(self.folder / "counts.npy")
        return WordList(_first_words(self.folder / FILE, min(size - 1, int(np.count_nonzero(counts)))))

    def part(self, name: str, vocabulary: WordList) -> WordPart:
        if name not in PARTS:
            raise BadInput(f"a corpus has no part {name!r}; choose one of: {', '.join(PARTS)}")
        return WordPart(self.folder, name, vocabulary, self.hash)

    def _held_out(self) -> str:
        return hashlib.sha256(np.packbits(self.store.held_out).tobytes()).hexdigest()

    def _make(self, segmented: Layer | None) -> None:
        try:
            with files.atomic_folder(self.folder) as new:
                _write(self.store, segmented, new)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # a corpus that may only be read: found again by each process
            place = tempfile.TemporaryDirectory(prefix="masklab-words-")
            self._scratch = weakref.finalize(self, place.cleanup)
            self.folder = Path(place.name)
            _write(self.store, segmented, self.folder)


def reader_of(folder: str | Path) -> Any:
    """What turns text into a model's numbers: the words that its folder lists, or else its tokenizer."""
    from masklab.corpus.tokenizer import Tokenizer

    return WordList.from_file(folder) if (Path(folder) / FILE).exists() else Tokenizer.from_file(folder)


def _write(store: Store, segmented: Layer | None, folder: Path) -> None:
    known = np.zeros(0, np.uint64)  # hashes of the words met, sorted ...
    numbers = np.zeros(0, np.int64)  # ... and their numbers, in the order of first appearance
    words: list[str] = []
    made = []
    for part in PARTS:
        (folder / part).mkdir()
        grown = Growing(folder / part / "numbers.npy", "<i4")
        ends = [0]
        of_part = np.flatnonzero(store.held_out == (part == "held_out"))
        first = 0
        for texts in batched(store.texts(part), _BATCH):
            spans = None
            if segmented is not None:
                spans = [segmented.of(int(i)) for i in of_part[first : first + len(texts)]]
            first += len(texts)
            found = items(texts, spans, case=True)
            joined = BETWEEN.join(texts)
            begin = text_begins(texts)
            own = code_points(joined)[found.begin] != 0xFFFF  # what stands between two texts
            distinct, where, inverse = np.unique(found.hash[own], return_index=True, return_inverse=True)
            place = np.minimum(np.searchsorted(known, distinct), max(0, len(known) - 1))
            new = known[place] != distinct if len(known) else np.ones(len(distinct), bool)
            first_seen = np.argsort(where[new], kind="stable")
            for at in np.flatnonzero(own)[where[new][first_seen]].tolist():
                words.append(joined[found.begin[at] : found.end[at]])
            fresh = np.empty(int(new.sum()), np.int64)
            fresh[first_seen] = np.arange(len(words) - len(fresh), len(words))
            own_numbers = np.empty(len(distinct), np.int64)
            own_numbers[~new] = numbers[place[~new]] if len(known) else 0
            own_numbers[new] = fresh
            known, numbers = np.concatenate([known, distinct[new]]), np.concatenate([numbers, fresh])
            order = np.argsort(known, kind="stable")
            known, numbers = known[order], numbers[order]
            grown.add(own_numbers[inverse])
            upto = np.searchsorted(found.begin[own], np.append(begin[1:], len(joined)))
            ends += (upto + ends[-1]).tolist()
        grown.close()
        with open(folder / part / "documents.npy", "wb") as file:
            write_array(file, np.array(ends, np.int64))
        made += [folder / part / "numbers.npy", folder / part / "documents.npy"]
    counts = _count(folder / "train" / "numbers.npy", len(words))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(words), np.int32)
    rank[order] = np.arange(len(words), dtype=np.int32)
    for part in PARTS:
        given = np.load(folder / part / "numbers.npy", mmap_mode="r+") if len(words) else np.zeros(0, np.int32)
        for a in range(0, len(given), _SLAB):
            given[a : a + _SLAB] = rank[given[a : a + _SLAB]]
    words = [words[i] for i in order.tolist()]
    with open(folder / "counts.npy", "wb") as file:
        write_array(file, counts[order])
    rows = Growing(folder / "spellings.npy", "<u2", marks().shape[1])
    for a in range(0, len(words), 1 << 16):
        rows.add(spelled(words[a : a + (1 << 16)]))
    rows.close()
    WordList(words).save(folder)
    made += [folder / "counts.npy", folder / "spellings.npy", folder / FILE]
    describe(folder / "words.json", {"words": int(counts.sum()), "different": len(words)}, made)


def _count(file: Path, size: int) -> np.ndarray:
    found = np.zeros(size, np.int64)
    numbers = mapped(file)
    for a in range(0, len(numbers), _SLAB):
        found += np.bincount(numbers[a : a + _SLAB], minlength=size)
    return found


def _first_words(file: Path, count: int | None) -> list[str]:
    """The first lines of words.txt."""
    try:
        with open(file, encoding="utf-8", errors="surrogatepass", newline="\n") as lines:
            return [line.rstrip("\n") for line in itertools.islice(lines, count)]
    except FileNotFoundError:
        raise BadInput(f"{file}: missing; it lists the words that the model knows, so save the model again") from None
