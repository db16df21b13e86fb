"""What word2vec draws at random: which words stay, how far a window reaches, which words serve as negatives.

Every random number is a function of (key, place in the text), as everywhere in masklab: no state is carried along, so
the plain kernels and the tiled ones draw the same numbers, negatives can be drawn long before they are needed, and
where the text is cut into chunks changes nothing. The generator is splitmix64 (Steele, Lea and Flood 2014, "Fast
splittable pseudorandom number generators"), whose n-th number is a mixture of key + n * constant.

Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality": subsampling (2.3),
negatives from counts**0.75 (2.2), the Huffman tree (2.1).
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from masklab.rng import integer
from masklab.word_vectors.compiling import inlined, kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
S30, S27, S31, S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)
SENTENCE = 1000  # kept words; longer sentences are cut, as in word2vec.c


@inlined
def random(key, place):
    """64 random bits that belong to `place` (any integer) under this key."""
    x = key + np.uint64(place) * GOLDEN
    x = (x ^ (x >> S30)) * MIX_1
    x = (x ^ (x >> S27)) * MIX_2
    return x ^ (x >> S31)


@inlined
def below(bits, n):
    """A number of range(n), from the upper half of 64 random bits."""
    return np.int64(((bits >> S32) * np.uint64(n)) >> S32)


def keep_chances(counts: np.ndarray, sample: float) -> np.ndarray:
    """The chance that a word stays, per word, as thresholds on 32 random bits: (V,) uint32.

    A word of frequency f = count / total stays with chance sqrt(t / f) + t / f at most 1: the formula of word2vec.c
    (the paper's has no second term). t = `sample`; 0 keeps every word.
    """
    if not sample or not counts.sum():
        return np.full(len(counts), 2**32 - 1, np.uint32)
    share = sample * counts.sum() / np.maximum(counts, 1)
    return (np.minimum(np.sqrt(share) + share, 1) * (2**32 - 1)).astype(np.uint32)


def alias_table(counts: np.ndarray, power: float = 0.75) -> np.ndarray:
    """A table from which one random number draws a word with chance proportional to counts**power: (V,) uint64.

    Walker's alias method in Vose's form (1991, "A linear algorithm for generating random numbers with a given
    distribution"). Cell i holds, in one word of memory so that a draw costs one load, the chance that the cell stands
    for i itself (upper 32 bits) and the word it stands for otherwise (lower 32 bits).
    """
    weights = np.where(counts > 0, counts.astype(np.float64), 0) ** power * (counts > 0)
    share = (weights * (len(counts) / weights.sum())).tolist()  # mean 1
    alias = list(range(len(share)))
    small = [i for i, s in enumerate(share) if s < 1]
    large = [i for i, s in enumerate(share) if s >= 1]
    own = [1.0] * len(share)
    while small and large:
        i, j = small.pop(), large[-1]
        own[i], alias[i] = share[i], j
        share[j] -= 1 - share[i]
        if share[j] < 1:
            small.append(large.pop())
    chance = np.minimum(np.array(own) * 2.0**32, 2**32 - 1).astype(np.uint64)
    return (chance << S32) | np.array(alias, np.uint64)


@inlined
def draw(table, bits):
    """A word from an alias table: the upper half of `bits` picks the cell, the lower half the word in it."""
    cell = below(bits, len(table))
    entry = table[cell]
    if (bits & LOW) <= (entry >> S32):
        return np.int32(cell)
    return np.int32(entry & LOW)


class Tree(NamedTuple):
    """A binary Huffman tree over the words: the way from the root to word w is steps[start[w]:start[w + 1]].

    A step holds the inner node (a row of the output table, 0 .. V - 2) times two plus the branch taken there.
    """

    start: np.ndarray  # (V + 1,) int64
    steps: np.ndarray  # (all steps,) int32


def huffman(counts: np.ndarray) -> Tree:
    """The tree in which frequent words have short ways; (V,) counts in any order, V at least 2."""
    size = len(counts)
    order = np.argsort(-counts, kind="stable")
    weight = [*np.maximum(counts[order], 1).tolist(), *[0] * (size - 1)]
    parent = np.zeros(2 * size - 1, np.int64)
    branch = np.zeros(2 * size - 1, np.int64)
    leaf, node = size - 1, size  # the two smallest weights are always at one of these two
    for new in range(size, 2 * size - 1):
        for side in (0, 1):
            if leaf >= 0 and (node == new or weight[leaf] < weight[node]):
                child, leaf = leaf, leaf - 1
            else:
                child, node = node, node + 1
            weight[new] += weight[child]
            parent[child], branch[child] = new, side
    root = 2 * size - 2
    at, words, levels, depth = np.arange(size), np.arange(size), [], np.zeros(size, np.int64)
    while len(words):  # all words climb towards the root together
        levels.append((words, (parent[at] - size) * 2 + branch[at]))
        depth[words] += 1
        at = parent[at]
        words, at = words[at != root], at[at != root]
    start = np.zeros(size + 1, np.int64)
    depths = np.zeros(size, np.int64)
    depths[order] = depth
    np.cumsum(depths, out=start[1:])
    steps = np.zeros(start[-1], np.int32)
    for height, (words, step) in enumerate(levels):  # the first step of the climb is the last of the way down
        steps[start[order[words] + 1] - 1 - height] = step
    return Tree(start, steps)


@partial(kernel, counted=False)
def read_sentence(ids, at, end, first_place, keep, keep_key, words, places):
    """Read the next sentence of ids[at:end], dropping words by chance: how many words stayed, and where to read on.

    Fills `words` (numbers) and `places` (each word's place in the run, on which its further random numbers depend).
    -1 in `ids` ends a sentence; empty ones are passed over.
    """
    kept = 0
    while at < end:
        word = ids[at]
        at += 1
        if word < 0:
            if kept:
                break
            continue
        place = first_place + at
        if np.uint32(random(keep_key, place) >> S32) > keep[word]:
            continue
        words[kept] = word
        places[kept] = place
        kept += 1
        if kept == len(words):
            break
    return kept, at


class Draws(NamedTuple):
    """All that a kernel needs in order to draw: tables per word, keys, and how far and how many."""

    keep: np.ndarray  # (V,) uint32, `keep_chances`
    noise: np.ndarray  # (V,) uint64, `alias_table`
    keep_key: np.uint64
    reach_key: np.uint64
    noise_key: np.uint64
    window: int
    negatives: int

    @classmethod
    def of(
        cls, counts: np.ndarray, *, sample: float, power: float, window: int, negatives: int, key: tuple[int, ...]
    ) -> "Draws":
        keep, reach, noise = (
            np.uint64(integer(key[0], f"word vectors: {what}", *key[1:])) for what in ("keep", "reach", "noise")
        )
        return cls(keep_chances(counts, sample), alias_table(counts, power), keep, reach, noise, window, negatives)


@inlined
def reach(draws, place):
    """How many words on each side of the word at `place` are its context: 1 .. window, all equally likely."""
    return 1 + below(random(draws.reach_key, place), draws.window)


@inlined
def negative(draws, number):
    """Noise word `number`: words that have n negatives use the numbers n * place .. n * place + n - 1."""
    return draw(draws.noise, random(draws.noise_key, number))
