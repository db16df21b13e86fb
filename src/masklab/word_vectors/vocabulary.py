"""The words that get a vector: each word's number, and how often it stands in the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """`words[i]` is word number i and stands `counts[i]` times in the text.

    The numbers go by falling count, and for words of equal count by their first appearance: a small number is a
    frequent word. (Where words were added later, they stand behind the old ones.)
    """

    words: list[str]
    counts: np.ndarray  # (words,) int64
    total: int  # words read, the rare ones that are left out included; their lines' ends too where they are words

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def numbers(self, words: Sequence[str], missing: int = -1) -> np.ndarray:
        """(len(words),) int64: where each word stands here; `missing` for those that do not."""
        return np.fromiter((self.index.get(word, missing) for word in words), np.int64, len(words))

    def merged(self, other: "Vocabulary") -> "Vocabulary":
        """These words under their old numbers, counts added up, then the other's new ones in the other's order."""
        at = self.numbers(other.words)
        new = np.flatnonzero(at < 0)
        at[new] = len(self) + np.arange(len(new))
        counts = np.concatenate([self.counts, np.zeros(len(new), np.int64)])
        counts[at] += other.counts
        return Vocabulary(self.words + [other.words[i] for i in new.tolist()], counts, self.total + other.total)
