"""Chooses the documents that are kept from training: whole groups at a time, by a hash.

A group is of near-duplicates, or of what the user says belongs together. Memory is in proportion to what is held out,
not to the corpus.
"""

import hashlib
from typing import Any

import numpy as np

_SLAB = 1 << 17  # documents looked at together


def choose(digests: Any, roots: Any, sizes: Any, share: float, seed: int) -> np.ndarray:
    """The numbers of the documents that are held out, in order.

    digests: (documents, ...) an array whose rows are hashes of the texts; roots: (documents,) the first document of
    each one's group; sizes: (documents,) how many have it for their first.

    A group's place in the queue is a hash of the seed and its first text, so that it does not depend on the rest of the
    corpus; groups are taken from the front until the share is reached: first those of at most a tenth of the share, as
    a larger one would be most of what is measured, then, where they do not suffice, larger ones that still fit, and in
    the end the smallest one that is left if that comes nearer to the share than nothing. With two groups or more, at
    least one is held out and one is not.
    """
    total = len(digests)
    slabs = [slice(at, min(at + _SLAB, total)) for at in range(0, total, _SLAB)]
    groups = sum(int(np.count_nonzero(sizes[slab])) for slab in slabs)
    if groups < 2 or share == 0:
        return np.zeros(0, np.int64)
    budget = max(1, round(share * total))
    reach = min(1.0, 2 * share + 4096 / total)  # of all keys; the smallest ones are the front of the queue
    while True:
        keys, number = _front(digests, sizes, slabs, seed, reach)
        queue = number[np.argsort(keys, kind="stable")]
        size = sizes[queue].astype(np.int64)
        taken, room = _taken(size, budget, reach == 1)
        if reach == 1 or not room:
            break
        reach = min(1.0, 4 * reach)
    chosen = np.sort(queue[taken[: groups - 1]])
    return np.concatenate([np.flatnonzero(np.isin(roots[slab], chosen)) + slab.start for slab in slabs])


def _front(digests: Any, sizes: Any, slabs: list[slice], seed: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Keys and numbers of the groups' first documents whose key is in the lowest `reach` of all."""
    keys, numbers = [], []
    prefix, highest = b"%d" % seed, np.uint64(min(int(reach * 2.0**64), 2**64 - 1))
    for slab in slabs:
        number = np.flatnonzero(sizes[slab])
        some = digests[slab]
        found = b"".join([hashlib.blake2b(prefix + bytes(some[i])).digest()[:8] for i in number.tolist()])
        key = np.frombuffer(found, ">u8").astype(np.uint64)
        keys.append(key[key <= highest])
        numbers.append(number[key <= highest] + slab.start)
    return np.concatenate(keys), np.concatenate(numbers)


def _taken(sizes: np.ndarray, budget: int, all_there: bool) -> tuple[np.ndarray, int]:
    """Places in the queue that are taken, and the room that is left. sizes: (groups,) in the queue's order.

    all_there: the queue holds every group, so that it is known whether the small ones suffice.
    """
    room, small = budget, max(1, budget // 10)
    taken: list[int] = []
    for fits in (sizes <= small, sizes > small)[: 1 + all_there]:
        for i in np.flatnonzero(fits & (sizes <= room)).tolist():
            if sizes[i] <= room:
                taken.append(i)
                room -= int(sizes[i])
            if not room:
                return np.array(taken, np.int64), 0
    if all_there and len(taken) < len(sizes):
        left = np.setdiff1d(np.arange(len(sizes)), taken)
        smallest = int(left[np.argmin(sizes[left])])
        if not taken or sizes[smallest] - room < room:
            taken.append(smallest)
    return np.array(taken, np.int64), room
