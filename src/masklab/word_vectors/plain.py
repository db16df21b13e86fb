"""word2vec in plain loops: the definition that the tiled kernels are tested against, and what CPUs without tiles run.

A window is one step of gradient descent: every slope is computed from the vectors as they stand at its beginning, then
both tables take their change. (Where word2vec.c goes through the pairs one by one, the differences are of the order of
the learning rate squared.) Wide windows take a step for every ten contexts, so that no step is too long. A word that
occurs twice in a step, or is drawn twice, takes both changes.

Mikolov et al. 2013, "Efficient Estimation of Word Representations in Vector Space" (the two models) and "Distributed
Representations of Words and Phrases and their Compositionality" (negative sampling, the tree). Negatives shared by the
contexts of a window: Ji et al. 2016, "Parallelizing Word2Vec in Shared and Distributed Memory".

Each kernel trains on ids[begin:end], whose first word has the number `place` in the whole run (all random draws depend
on it), with a learning rate that falls from `rate` to `rate_end` on the way. It returns a sum of losses and
over how many pairs. inputs (V, D) and outputs (V, D) float32 are changed in place. `hot`: this thread's copies of
output rows (hot_rows.py).
"""

import math

import numpy as np

from masklab.word_vectors.compiling import inlined, kernel
from masklab.word_vectors.hot_rows import mine, take_turn
from masklab.word_vectors.sampling import SENTENCE, negative, reach, read_sentence

STEP = 10  # contexts that take a step together, at most
LOOK = 64  # the loss is looked at in one window of so many: logarithms cost time
FAR = np.float32(30)  # sigmoid(30) is 1 in float32


@inlined
def choose(outputs, draws, tree, hot, word, number, targets, labels, weights):
    """What a word is trained against: how many targets (rows of the output table), each with its label and weight.

    Negative sampling (`tree` is None): the word itself with label 1, and noise words with label 0; one that happens to
    be the word counts nothing. Hierarchical softmax: the inner nodes on the way to the word, label 1 where it turns
    to branch 0.
    """
    if tree is None:
        targets[0], labels[0], weights[0] = word, 1, 1
        for k in range(draws.negatives):
            noise = negative(draws, number * draws.negatives + k)
            targets[1 + k], labels[1 + k], weights[1 + k] = noise, 0, noise != word
        return 1 + draws.negatives
    else:
        first = tree.start[word]
        size = tree.start[word + 1] - first
        for k in range(size):
            step = tree.steps[first + k]
            targets[k], labels[k], weights[k] = mine(hot, step >> 1), 1 - (step & 1), 1
        take_turn(outputs, hot, targets, size, number)
        return size


@inlined
def step(inputs, rows, count, outputs, targets, labels, weights, size, rate, slopes, changes, look):
    """One step for `count` input rows against `size` targets. Returns the loss over all of them if `look` says so.

    The loss of a pair is -log sigmoid(x . y) for label 1 and -log sigmoid(-x . y) for label 0, times its weight; its
    slope is (label - sigmoid(x . y)), along y for x and along x for y.
    """
    dim = inputs.shape[1]
    loss = 0.0
    for n in range(count):
        x = inputs[rows[n]]
        for k in range(size):
            y = outputs[targets[k]]
            dot = np.float32(0)
            for d in range(dim):
                dot += x[d] * y[d]
            slope = labels[k] - np.float32(1 / (1 + math.exp(-max(-FAR, min(FAR, dot)))))
            slopes[n, k] = slope * weights[k] * rate
            if look:
                loss -= weights[k] * math.log(max(1 - abs(slope), 1e-9))
    for n in range(count):
        x, change = inputs[rows[n]], changes[n]
        for d in range(dim):
            change[d] = 0
        for k in range(size):
            y, slope = outputs[targets[k]], slopes[n, k]
            for d in range(dim):
                change[d] += slope * y[d]
    for k in range(size):
        change = changes[count + k]
        for d in range(dim):
            change[d] = 0
        for n in range(count):
            x, slope = inputs[rows[n]], slopes[n, k]
            for d in range(dim):
                change[d] += slope * x[d]
    for n in range(count):
        x, change = inputs[rows[n]], changes[n]
        for d in range(dim):
            x[d] += change[d]
    for k in range(size):
        y, change = outputs[targets[k]], changes[count + k]
        for d in range(dim):
            y[d] += change[d]
    return loss


@kernel
def skipgram(inputs, outputs, ids, begin, end, place, draws, tree, most, rate, rate_end, hot, shared):
    """Each word of a window predicts the word in its middle. `most`: targets a word can have.

    `shared`: all contexts of a window meet the same negatives; else each has its own.
    """
    window = draws.window
    words, places = np.empty(SENTENCE, np.int32), np.empty(SENTENCE, np.int64)
    rows = np.empty(2 * window, np.int32)
    targets, labels, weights = np.empty(most, np.int32), np.empty(most, np.float32), np.empty(most, np.float32)
    slopes = np.empty((STEP, most), np.float32)
    changes = np.empty((STEP + most, inputs.shape[1]), np.float32)
    loss, pairs = 0.0, 0
    at = begin
    while at < end:
        now = np.float32(rate + (rate_end - rate) * (at - begin) / (end - begin))
        length, at = read_sentence(ids, at, end, place - begin, draws.keep, draws.keep_key, words, places)
        for p in range(length):
            around = reach(draws, places[p])
            look = places[p] % LOOK == 0
            count = 0
            for j in range(max(0, p - around), min(length, p + around + 1)):
                if j != p:
                    rows[count] = words[j]
                    count += 1
            if look:
                pairs += count
            if shared or tree is not None:
                size = choose(outputs, draws, tree, hot, words[p], places[p], targets, labels, weights)
                for n in range(0, count, STEP):
                    some = min(STEP, count - n)
                    loss += step(
                        inputs, rows[n:], some, outputs, targets, labels, weights, size, now, slopes, changes, look
                    )
            else:
                for n in range(count):
                    number = places[p] * 2 * window + n
                    size = choose(outputs, draws, tree, hot, words[p], number, targets, labels, weights)
                    loss += step(
                        inputs, rows[n:], 1, outputs, targets, labels, weights, size, now, slopes, changes, look
                    )
    return loss, pairs


@kernel
def cbow(inputs, outputs, ids, begin, end, place, draws, tree, most, rate, rate_end, hot):
    """The mean of a window's words predicts the word in its middle; each of them takes the whole change of the mean."""
    dim = inputs.shape[1]
    words, places = np.empty(SENTENCE, np.int32), np.empty(SENTENCE, np.int64)
    mean, first = np.empty((1, dim), np.float32), np.zeros(1, np.int32)
    targets, labels, weights = np.empty(most, np.int32), np.empty(most, np.float32), np.empty(most, np.float32)
    slopes = np.empty((1, most), np.float32)
    changes = np.empty((1 + most, dim), np.float32)
    hidden, change = mean[0], changes[0]
    loss, pairs = 0.0, 0
    at = begin
    while at < end:
        now = np.float32(rate + (rate_end - rate) * (at - begin) / (end - begin))
        length, at = read_sentence(ids, at, end, place - begin, draws.keep, draws.keep_key, words, places)
        for p in range(length):
            around = reach(draws, places[p])
            look = places[p] % LOOK == 0
            low, high = max(0, p - around), min(length, p + around + 1)
            if high - low == 1:
                continue
            share = np.float32(1 / (high - low - 1))
            for d in range(dim):
                hidden[d] = 0
            for j in range(low, high):
                if j != p:
                    x = inputs[words[j]]
                    for d in range(dim):
                        hidden[d] += x[d] * share
            size = choose(outputs, draws, tree, hot, words[p], places[p], targets, labels, weights)
            loss += step(mean, first, 1, outputs, targets, labels, weights, size, now, slopes, changes, look)
            if look:
                pairs += 1
            for j in range(low, high):
                if j != p:
                    x = inputs[words[j]]
                    for d in range(dim):
                        x[d] += change[d]
    return loss, pairs
