"""Several corpora in one stream of rows, each with a fixed share: a domain beside a general corpus, or many languages.

Which corpus a place of the stream is read from is a closed form of the place, so a mixed run, too, resumes, splits
into micro-batches and is printed at any step without anything being remembered. Shares may be given, or follow from the
sizes raised to a power below 1, which lifts small languages (multilingual BERT: 0.7; XLM-R, Conneau et al. 2020,
section 3.1: 0.3).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masklab.errors import BadInput

_UNIT = 1 << 20  # shares are multiples of a millionth or so, and quotas exact integers


class Mixture:
    """Sources that share a vocabulary, with the share of the rows that each one gives."""

    def __init__(self, names: Sequence[str], sources: Sequence[Any], shares: Sequence[float] | np.ndarray):
        self.names, self.sources, self.shares = list(names), list(sources), np.asarray(shares, float)
        self.tokenizer = self.sources[0].tokenizer
        for name, source in zip(self.names[1:], self.sources[1:], strict=True):
            if source.tokenizer.hash != self.tokenizer.hash:
                raise BadInput(
                    f"{name}: made with another vocabulary than {names[0]}; give it that one too: "
                    f"masklab tokenize {name} --tokenizer {names[0]}"
                )

    @property
    def unigram(self) -> np.ndarray:
        """(V,) float64: how often each id is read, in so many tokens as the first corpus has."""
        counts = [source.unigram / max(1, source.unigram.sum()) for source in self.sources]
        return np.sum([share * count for share, count in zip(self.shares, counts, strict=True)], 0) * max(
            1, self.sources[0].unigram.sum()
        )

    def must_be_whole(self) -> None:
        for source in self.sources:
            source.must_be_whole()

    def divide(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) which source each place of the stream is read from, and (n,) the place in that source's own stream.

        Shares (0.5, 0.25, 0.25), places 0 to 7 -> [2, 0, 1, 0, 2, 0, 1, 0], [0, 0, 0, 1, 1, 2, 1, 3].

        Source 0 takes floor((n + 1) p) - floor(n p) of place n, and what it leaves is divided likewise among the rest,
        so that after n places it has had floor(n p) of them.
        """
        which = np.full(len(place), len(self.sources) - 1)
        inner = np.asarray(place, np.int64).copy()
        open_ = np.ones(len(place), bool)
        left = 1.0
        for number, share in enumerate(self.shares[:-1]):
            quota = round(share / left * _UNIT) if left > 0 else 0
            before = inner * quota // _UNIT
            taken = open_ & ((inner + 1) * quota // _UNIT > before)
            which[taken] = number
            inner = np.where(taken, before, np.where(open_, inner - before, inner))
            open_ &= ~taken
            left -= share
        return which, inner


def open_sources(recipe: Any, part: str, tokenizer: Any = None) -> Any:
    """What a recipe reads: one source, or a Mixture if it names more corpora."""
    first = recipe.objective.open(recipe.data, part, tokenizer)
    if not recipe.mix:
        return first
    if not hasattr(first, "unigram"):
        raise BadInput(
            f"mix: only tokens of prepared corpora can be mixed, not what {recipe.name} reads of {recipe.data}"
        )
    names = [recipe.data, *(name for name, _ in recipe.mix)]
    if len(set(names)) < len(names):
        raise BadInput(f"mix names a corpus twice: {', '.join(names)}; name each once")
    sources = [first, *(recipe.objective.open(name, part, tokenizer) for name in names[1:])]
    given = [None, *(share for _, share in recipe.mix)]
    return Mixture(names, sources, shares(names, sources, given, recipe.smoothing))


def shares(names: Sequence[str], sources: Sequence[Any], given: Sequence[float | None], smoothing: float) -> np.ndarray:
    """(n,) adding up to 1. Shares that are given hold; the others divide the rest by their tokens ** smoothing.

    Two corpora of 9 and 1 million tokens, none given: smoothing 1 -> [0.9, 0.1], 0.5 -> [0.75, 0.25], 0 -> [0.5, 0.5].
    """
    fixed = np.array([0.0 if share is None else share for share in given])
    if (fixed < 0).any() or fixed.sum() >= 1:
        raise BadInput(
            f"the shares of mix add up to {fixed.sum():g}; they must leave something for {names[0]}: less than 1"
        )
    sizes = np.array([len(source.ids) for source in sources], float)
    if (sizes == 0).any():
        raise BadInput(f"{names[int(sizes.argmin())]}: has nothing in this part; mix corpora with text in both parts")
    free = np.array([share is None for share in given])
    weight = np.where(free, (sizes / sizes.max()) ** smoothing, 0)
    return fixed + (1 - fixed.sum()) * weight / weight.sum()


def short(name: str) -> str:
    """A corpus' name in a table: "corpora/general" -> "general"."""
    return Path(name).name
