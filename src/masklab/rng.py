"""Randomness without state: every random number is a function of (seed, purpose, where).

A run that is stopped, resumed, split over workers or replayed at one step therefore draws the same numbers.
Philox: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The permutation is a Feistel network with
cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

import hashlib
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def _key(seed: int, purpose: str) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=16).digest(), np.uint64)


def rng(seed: int, purpose: str, *where: int) -> np.random.Generator:
    """A generator of its own for each (seed, purpose, up to three integers), e.g. `rng(0, "mask", step, row)`.

    `where` fills the upper words of Philox's 256-bit counter, so streams cannot overlap before 2**64 draws.
    """
    counter = np.zeros(4, np.uint64)
    counter[1 : 1 + len(where)] = where
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose), counter=counter))


def integer(seed: int, purpose: str, *where: int) -> int:
    """One 63-bit integer of (seed, purpose, where): a seed for generators that are not ours (torch's dropout)."""
    text = ":".join(map(str, (seed, purpose, *where)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def shuffled(index: np.ndarray, n: int, key: int) -> np.ndarray:
    """Where a permutation of range(n) sends each `index`, without ever storing the permutation.

    shuffled(arange(5), 5, key=1) -> the five numbers 0..4 in another order; any slice of it costs only that slice.
    """
    if n <= 1:
        return np.zeros_like(index)
    half = max(1, (int(n - 1).bit_length() + 1) // 2)  # bits in each half of the Feistel network: 4**half >= n
    mask = np.uint64((1 << half) - 1)
    rounds = np.frombuffer(hashlib.blake2b(str(key).encode(), digest_size=48).digest(), np.uint64)

    def network(x: np.ndarray) -> np.ndarray:
        left, right = x >> np.uint64(half), x & mask
        for k in rounds:
            left, right = right, left ^ (_mix(right ^ k) & mask)
        return (left << np.uint64(half)) | right

    x = network(np.asarray(index, np.uint64))
    outside = x >= n
    while outside.any():  # walk the cycle until it comes back into range(n): at most a few times, as 4**half < 16 n
        x[outside] = network(x[outside])
        outside = x >= n
    return x.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """Stafford's 64-bit finaliser (mix13): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
