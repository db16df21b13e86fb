"""word2vec on vector tiles: the kernels of plain.py, which they equal to float32's last digits, several times faster.

What is done for speed, beside the tiles themselves (tiles.py): the next window's targets are drawn while this window
is computed, and their rows are asked for from memory; nothing is drawn that the window does not use, because random
numbers depend on the place alone; a Huffman path or the negatives are gathered once for all contexts of a window; and
no references to arrays are counted, so that scratch memory is made outside (`desk_for`).

The arguments are those of plain.py, with the tile first, `most` in groups of tile.columns targets, and the desk last.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from masklab.word_vectors.compiling import inlined, kernel
from masklab.word_vectors.hot_rows import COLD, Hot, mine, take_turn
from masklab.word_vectors.plain import LOOK, STEP
from masklab.word_vectors.sampling import SENTENCE, negative, reach, read_sentence
from masklab.word_vectors.tiles import (
    LANES,
    add_changes,
    add_to_all,
    aligned,
    alone,
    mean,
    prefetch,
    slopes,
    update,
    update_outputs,
)


class Desk(NamedTuple):
    """Where one thread works. Targets and what belongs to them stand twice: for this window and for the next."""

    words: np.ndarray  # (SENTENCE,) int32
    places: np.ndarray  # (SENTENCE,) int64
    seen: np.ndarray  # (V,) int32: where each word stood last, so that words that repeat in a window are known
    earlier: np.ndarray  # (SENTENCE,) int32, `repeats`
    contexts: np.ndarray  # (2, 2 * window) int32
    times: np.ndarray  # (at least STEP,) int32
    targets: np.ndarray  # (2 * groups, LANES) int32
    labels: np.ndarray  # (2 * groups, LANES) float32
    weights: np.ndarray  # (2 * groups, LANES) float32
    found: np.ndarray  # (2 * groups, STEP + LANES, LANES) float32, slopes
    changes: np.ndarray  # (STEP, D) float32, zero between steps
    hidden: np.ndarray  # (1, D) float32
    hot: Hot  # copies of output rows


def desk_for(vocabulary: int, dim: int, window: int, most: int, per_pair: bool = False, hot: Hot = COLD) -> Desk:
    """Room for targets in up to `most` groups: for each pair of words, or for each window. hot: see hot_rows.py."""
    groups = 2 * most * (2 * window if per_pair else 1)
    desk = Desk(
        words=alone((SENTENCE,), np.int32),
        places=alone((SENTENCE,), np.int64),
        seen=alone((vocabulary,), np.int32),
        earlier=alone((SENTENCE,), np.int32),
        contexts=alone((2, 2 * window), np.int32),
        times=alone((STEP,), np.int32),
        targets=alone((groups, LANES), np.int32),
        labels=alone((groups, LANES), np.float32),
        weights=alone((groups, LANES), np.float32),
        found=alone((groups, STEP + LANES, LANES), np.float32),
        changes=aligned(STEP, dim),
        hidden=aligned(1, dim),
        hot=hot,
    )
    desk.times[:] = 1
    desk.labels[::most, 0] = 1  # the word itself; a tree's labels are written for every word
    desk.weights[::most, 0] = 1
    return desk


@inlined
def choose(tile, outputs, draws, tree, word, number, group, desk):
    """As in plain.py, into groups of tile.columns targets from `group` on; says how many groups. Prefetches."""
    columns, targets, labels, weights = tile.columns, desk.targets, desk.labels, desk.weights
    if tree is None:
        targets[group, 0] = word
        prefetch(tile, outputs, word)
        g, k = group, 1
        for i in range(draws.negatives):
            if k == columns:
                g, k = g + 1, 0
            noise = negative(draws, number * draws.negatives + i)
            targets[g, k], weights[g, k] = noise, noise != word
            prefetch(tile, outputs, noise)
            k += 1
        if g > group:  # several groups are updated one after the other: none may see what another did
            count_repeats(targets, weights, group, columns, 1 + draws.negatives)
        return g - group + 1
    else:
        g, k = group, 0
        for i in range(tree.start[word], tree.start[word + 1]):
            if k == columns:
                g, k = g + 1, 0
            step = tree.steps[i]
            node = mine(desk.hot, step >> 1)
            targets[g, k], labels[g, k], weights[g, k] = node, 1 - (step & 1), 1
            prefetch(tile, outputs, node)
            k += 1
        for i in range(k, columns):
            targets[g, i], weights[g, i] = targets[g, 0], 0
        for h in range(group, g + 1):
            take_turn(outputs, desk.hot, targets[h], columns, number + h)
        return g - group + 1


@inlined
def count_repeats(targets, weights, group, columns, size):
    """A target that was drawn twice counts twice at its first place and nothing at its second."""
    for i in range(2, size):
        g, k = group + i // columns, i % columns
        for j in range(1, i):
            h, l = group + j // columns, j % columns
            if targets[g, k] == targets[h, l] and weights[h, l] > 0:
                weights[h, l] += weights[g, k]
                weights[g, k] = 0
                break


@inlined
def look_at(group, groups, columns, count, times, weights, rate, found):
    """The loss, read off the slopes: a pair that was right with chance c has the slope (1 - c) * weight * rate.

    times (count,): how often each context stands in the window.
    """
    loss = 0.0
    for g in range(group, group + groups):
        for k in range(columns):
            if weights[g, k] > 0:
                for n in range(count):
                    wrong = abs(found[g, n, k]) / (weights[g, k] * rate)
                    loss -= times[n] * weights[g, k] * math.log(max(1 - wrong, np.float32(1e-9)))
    return loss


@inlined
def once_each(contexts, first, count, times):
    """Put together what stands several times among some contexts: how many differ; times[n]: how often each stands."""
    different = 0
    for n in range(first, first + count):
        m = 0
        while m < different and contexts[first + m] != contexts[n]:
            m += 1
        if m == different:
            contexts[first + m] = contexts[n]
            times[m] = 0
            different += 1
        times[m] += 1
    return different


@inlined
def repeats(words, length, seen, earlier):
    """earlier[p]: of all words up to p that stood before in this sentence, the last such place; -1 if none did."""
    last = -1
    for p in range(length):
        before = seen[words[p]]
        if before < p and words[before] == words[p]:  # `seen` may be of another sentence
            last = max(last, before)
        seen[words[p]] = p
        earlier[p] = last


@partial(kernel, counted=False)
def skipgram(tile, inputs, outputs, ids, begin, end, place, draws, tree, most, rate, rate_end, desk):
    """plain.skipgram with one set of targets a window: shared negatives, or the tree."""
    window, columns = draws.window, tile.columns
    words, places, contexts, times = desk.words, desk.places, desk.contexts[0], desk.times
    targets, labels, weights, found = desk.targets, desk.labels, desk.weights, desk.found
    loss, pairs = 0.0, 0
    at = begin
    while at < end:
        now = np.float32(rate + (rate_end - rate) * (at - begin) / (end - begin))
        length, at = read_sentence(ids, at, end, place - begin, draws.keep, draws.keep_key, words, places)
        if length == 0:
            break
        repeats(words, length, desk.seen, desk.earlier)
        ready = choose(tile, outputs, draws, tree, words[0], places[0], 0, desk)
        for p in range(length):
            group, groups = (p & 1) * most, ready
            if p + 1 < length:
                after = most - group
                ready = choose(tile, outputs, draws, tree, words[p + 1], places[p + 1], after, desk)
            if p + window + 1 < length:
                prefetch(tile, inputs, words[p + window + 1])
            around = reach(draws, places[p])
            low, high = max(0, p - around), min(length, p + around + 1)
            count = 0
            for j in range(low, high):
                if j != p:
                    contexts[count] = words[j]
                    count += 1
            repeated = desk.earlier[high - 1] >= low
            for first in range(0, count, STEP):
                some = min(STEP, count - first)
                if repeated:
                    some = once_each(contexts, first, some, times)
                for g in range(group, group + groups):
                    slopes(tile, inputs, contexts, first, some, outputs, targets, labels, weights, g, now, found)
                if places[p] % LOOK == 0:
                    if not repeated:
                        times[:some] = 1
                    loss += look_at(group, groups, columns, some, times, weights, now, found)
                if repeated:
                    for g in range(group, group + groups):
                        for n in range(some):
                            for k in range(columns):
                                found[g, n, k] *= times[n]
                if groups == 1:
                    update(tile, inputs, contexts, first, some, outputs, targets, group, found)
                else:
                    for g in range(group, group + groups):
                        update_outputs(tile, inputs, contexts, first, some, outputs, targets, g, found, desk.changes)
                    add_changes(tile, inputs, contexts, first, some, desk.changes)
            if places[p] % LOOK == 0:
                pairs += count
    return loss, pairs


@partial(kernel, counted=False)
def skipgram_strict(tile, inputs, outputs, ids, begin, end, place, draws, most, rate, rate_end, desk):
    """plain.skipgram with negatives of its own for each pair."""
    window, columns = draws.window, tile.columns
    words, places, contexts = desk.words, desk.places, desk.contexts
    targets, labels, weights, found = desk.targets, desk.labels, desk.weights, desk.found
    size = 2 * window * most
    loss, pairs = 0.0, 0
    at = begin
    while at < end:
        now = np.float32(rate + (rate_end - rate) * (at - begin) / (end - begin))
        length, at = read_sentence(ids, at, end, place - begin, draws.keep, draws.keep_key, words, places)
        ready = 0
        for p in range(-1, length):  # window p is computed while window p + 1 is gathered, pair by pair
            now_half, next_half = p & 1, 1 - (p & 1)
            count, ready = ready, 0
            q = p + 1
            if q < length:
                around = reach(draws, places[q])
                for j in range(max(0, q - around), min(length, q + around + 1)):
                    if j != q:
                        contexts[next_half, ready] = words[j]
                        ready += 1
                if q + window + 1 < length:
                    prefetch(tile, inputs, words[q + window + 1])
            rows = contexts[now_half]
            for n in range(max(count, ready)):
                if n < ready:
                    number = places[q] * 2 * window + n
                    group = next_half * size + n * most
                    choose(tile, outputs, draws, None, words[q], number, group, desk)
                if n >= count:
                    continue
                group = now_half * size + n * most
                for g in range(group, group + most):
                    slopes(tile, inputs, rows, n, 1, outputs, targets, labels, weights, g, now, found)
                if places[p] % LOOK == 0:
                    loss += look_at(group, most, columns, 1, desk.times, weights, now, found)
                    pairs += 1
                if most == 1:
                    update(tile, inputs, rows, n, 1, outputs, targets, group, found)
                else:
                    for g in range(group, group + most):
                        update_outputs(tile, inputs, rows, n, 1, outputs, targets, g, found, desk.changes)
                    add_to_all(tile, inputs, rows[n:], 1, desk.changes)
    return loss, pairs


@partial(kernel, counted=False)
def cbow(tile, inputs, outputs, ids, begin, end, place, draws, tree, most, rate, rate_end, desk):
    """plain.cbow."""
    window, columns = draws.window, tile.columns
    words, places, contexts, first = desk.words, desk.places, desk.contexts[0], desk.contexts[1]
    targets, labels, weights, found = desk.targets, desk.labels, desk.weights, desk.found
    hidden, change = desk.hidden, desk.changes
    first[0] = 0  # the row of `hidden`
    loss, pairs = 0.0, 0
    at = begin
    while at < end:
        now = np.float32(rate + (rate_end - rate) * (at - begin) / (end - begin))
        length, at = read_sentence(ids, at, end, place - begin, draws.keep, draws.keep_key, words, places)
        if length == 0:
            break
        ready = choose(tile, outputs, draws, tree, words[0], places[0], 0, desk)
        for p in range(length):
            group, groups = (p & 1) * most, ready
            if p + 1 < length:
                after = most - group
                ready = choose(tile, outputs, draws, tree, words[p + 1], places[p + 1], after, desk)
            if p + window + 1 < length:
                prefetch(tile, inputs, words[p + window + 1])
            around = reach(draws, places[p])
            count = 0
            for j in range(max(0, p - around), min(length, p + around + 1)):
                if j != p:
                    contexts[count] = words[j]
                    count += 1
            if count == 0:
                continue
            mean(tile, inputs, contexts, count, hidden)
            for g in range(group, group + groups):
                slopes(tile, hidden, first, 0, 1, outputs, targets, labels, weights, g, now, found)
            if places[p] % LOOK == 0:
                loss += look_at(group, groups, columns, 1, desk.times, weights, now, found)
                pairs += 1
            for g in range(group, group + groups):
                update_outputs(tile, hidden, first, 0, 1, outputs, targets, g, found, change)
            add_to_all(tile, inputs, contexts, count, change)
    return loss, pairs
