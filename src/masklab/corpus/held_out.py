"""Chooses the documents that are kept from training: whole groups of near-duplicates at a time, by a hash.

Memory is in proportion to what is held out and to the groups, not to the corpus.
"""

import hashlib
from typing import Any

import numpy as np

_SLAB = 1 << 17  # documents looked at together


def choose(digests: Any, members: np.ndarray, roots: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The numbers of the documents that are held out, in order.

    digests: (documents, ...) an array whose rows are hashes of the texts; members: the documents that are in a group
    with others, in order, and roots: the first of each one's group.

    A group's place in the queue is a hash of the seed and its first text, so that it does not depend on the rest of the
    corpus; groups are taken from the front until the share is reached. A group larger than a tenth of the share stays
    in training, as it would be most of what is measured, unless nothing smaller exists. With two groups or more, at
    least one is held out and one is not.
    """
    total = len(digests)
    heads, sizes = np.unique(roots, return_counts=True)
    followers = members[members != roots]
    groups = total - len(followers)
    if groups < 2 or share == 0:
        return np.zeros(0, np.int64)
    budget = max(1, round(share * total))
    reach = min(1.0, 2 * share + 4096 / total)  # of all keys; the smallest ones are the front of the queue
    while True:
        keys, number = _front(digests, followers, seed, reach)
        order = np.argsort(keys, kind="stable")
        queue = number[order]
        size = np.ones(len(queue), np.int64)
        if len(heads):
            place = np.minimum(np.searchsorted(heads, queue), len(heads) - 1)
            size = np.where(heads[place] == queue, sizes[place], 1)
        taken, room = _taken(size, budget)
        if reach == 1 or (not room and len(taken)):
            break
        reach = min(1.0, 4 * reach)
    if not len(taken):
        taken = np.array([np.argmin(size)])  # the first of the smallest
    chosen = queue[taken[: groups - 1]]
    return np.union1d(chosen, members[np.isin(roots, chosen)])


def _front(digests: Any, followers: np.ndarray, seed: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Keys and numbers of the groups' first documents whose key is in the lowest `reach` of all."""
    keys, numbers = [], []
    prefix = b"%d" % seed
    for at in range(0, len(digests), _SLAB):
        some = digests[at : at + _SLAB]
        found = b"".join([hashlib.blake2b(prefix + bytes(row)).digest()[:8] for row in some])
        key = np.frombuffer(found, ">u8").astype(np.uint64)
        number = np.arange(at, at + len(some))
        wanted = (key <= np.uint64(min(int(reach * 2.0**64), 2**64 - 1))) & ~np.isin(number, followers)
        keys.append(key[wanted])
        numbers.append(number[wanted])
    return np.concatenate(keys), np.concatenate(numbers)


def _taken(sizes: np.ndarray, budget: int) -> tuple[np.ndarray, int]:
    """Places in the queue that are taken, and the room that is left. sizes: (groups,) in the queue's order."""
    room, largest = budget, max(1, budget // 10)
    taken = []
    for i in np.flatnonzero(sizes <= largest).tolist():
        if sizes[i] <= room:
            taken.append(i)
            room -= int(sizes[i])
        if not room:
            break
    return np.array(taken, np.int64), room
