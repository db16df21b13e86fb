"""fastText's inner loop: a word is the mean of its pieces, and every piece moves by what the mean should have moved.

Bojanowski et al. 2017, section 3. For a group of input rows (a word's own and its n-grams', or those of all words of a
window for CBOW) and the examples they are to predict, one after another:

    hidden     = mean of the rows
    slope[k]   = (label[k] - sigmoid(hidden . output[k])) * rate
    change     = sum over k of slope[k] * output[k]
    output[k] += slope[k] * hidden
    row       += change, for each row                       (as often as it is in the list)

`_learn_plain` is exactly that. `_learn_tiled` does the same with fewer steps: all examples of a window have the same
rows, so the mean is not taken anew for each; it is carried along. If every row moves by `change`, and row r is m(r)
times among n, the mean moves by carry * change with carry = sum of m(r)**2 / n (1 unless a piece repeats). The rows
themselves take their step once, at the end, by the sum of the changes.

Which of the two runs is decided by the type of `tile` (None: plain), so that all else stands here once.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from masklab.word_vectors.compiling import inlined, kernel
from masklab.word_vectors.hot_rows import COLD, Hot, mine, take_turn
from masklab.word_vectors.ngrams import Table, word_ngram
from masklab.word_vectors.sampling import SENTENCE, below, negative, random, reach, read_sentence
from masklab.word_vectors.tiles import I64, LANES, LINE, add_to_all, aligned, alone, instructions, mean, prefetch

LOOK = 64  # the loss is looked at for one word of so many: logarithms cost time
COLUMNS = 6  # outputs in a group; its last two lanes are empty


class Pieces(NamedTuple):
    """The input rows of each word: rows[offsets[w] : offsets[w + 1]], its own first."""

    offsets: np.ndarray  # (V + 1,) int64
    rows: np.ndarray  # (n,) int32
    carry: np.ndarray  # (V,) float32: how far a word's mean moves when all its rows move by 1


class Groups(NamedTuple):
    """What is to be predicted, in groups of up to six outputs; the groups of example e are start[e] to start[e + 1].

    Lanes that are empty have weight 0 and name an output of their group, so that nothing else is touched.
    """

    start: np.ndarray  # (examples + 1,) int64
    targets: np.ndarray  # (groups, 8) int32: rows of the output table
    labels: np.ndarray  # (groups, 8) float32: 1 for yes, 0 for no
    weights: np.ndarray  # (groups, 8) float32


def pieces_of(own: np.ndarray, table: Table) -> Pieces:
    """Each word's own row, then the rows of its n-grams.

    own (V,) int32: -1 for a word without a row. table: -1 for a bucket without a row, which counts as one of zeros
    (`hidden_of`); training meets none.
    """
    rows = np.insert(table.ids, table.offsets[:-1], own)
    word = np.repeat(np.arange(len(own)), np.diff(table.offsets) + 1)
    there = np.ones(len(rows), bool)
    there[table.offsets[:-1] + np.arange(len(own))] = own >= 0
    word, rows = word[there], rows[there]
    offsets = np.zeros(len(own) + 1, np.int64)
    np.cumsum(np.bincount(word, minlength=len(own)), out=offsets[1:])
    span = int(rows.max(initial=0)) + 2
    pairs, times = np.unique(word * span + rows + 1, return_counts=True)
    squares = np.bincount(pairs // span, times.astype(np.float64) ** 2, minlength=len(own))
    return Pieces(offsets, rows.astype(np.int32), (squares / np.maximum(1, np.diff(offsets))).astype(np.float32))


def empty_groups(examples: int, outputs: int) -> Groups:
    """Room for so many examples with so many outputs each, of which the first is right and all others wrong."""
    each = -(-outputs // COLUMNS)
    weights = alone((examples * each, LANES), np.float32)
    for k in range(outputs):
        weights[k // COLUMNS :: each, k % COLUMNS] = 1
    labels = alone(weights.shape, np.float32)
    labels[::each, 0] = 1
    start = np.arange(examples + 1, dtype=np.int64) * each
    return Groups(start, alone(weights.shape, np.int32), labels, weights)


def all_groups(outputs: int) -> Groups:
    """One example with all outputs, which are the rows of the output table in order; no label is set."""
    targets = alone((-(-outputs // COLUMNS), LANES), np.int32)
    targets[:, :COLUMNS] = np.minimum(np.arange(len(targets) * COLUMNS), outputs - 1).reshape(-1, COLUMNS)
    weights = alone(targets.shape, np.float32)
    weights[:, :COLUMNS] = (np.arange(len(targets) * COLUMNS) < outputs).reshape(-1, COLUMNS)
    return Groups(np.array([0, len(targets)]), targets, alone(weights.shape, np.float32), weights)


def tree_groups(start: np.ndarray, steps: np.ndarray) -> Groups:
    """The way from the root to each word (`sampling.huffman`): a node for an output, the branch taken for its label."""
    lengths = np.diff(start)
    each = -(-lengths // COLUMNS)
    first = np.zeros(len(each) + 1, np.int64)
    np.cumsum(each, out=first[1:])
    within = np.arange(len(steps)) - np.repeat(start[:-1], lengths)
    group = np.repeat(first[:-1], lengths) + within // COLUMNS
    lane = within % COLUMNS
    last = np.repeat(steps[start[1:] - 1] >> 1, each) if len(steps) else np.zeros(0, np.int32)
    targets = np.repeat(last[:, None], LANES, axis=1).astype(np.int32)
    labels, weights = np.zeros(targets.shape, np.float32), np.zeros(targets.shape, np.float32)
    targets[group, lane] = steps >> 1
    labels[group, lane] = steps & 1
    weights[group, lane] = 1
    return Groups(first, targets, labels, weights)


# ---------------------------------------------------------------- building blocks for one hidden vector


@intrinsic
def scores(typing, tile, hidden, outputs, targets, group, result, place):
    """result[place, k] = hidden[0] . outputs[targets[group, k]] for the six lanes."""

    def write(w, hidden, outputs, targets, group, result, place):
        b = w.builder
        lanes = b.mul(group, I64(LANES))
        target = [w.row(outputs, w.number(targets, b.add(lanes, I64(k)))) for k in range(COLUMNS)]
        sums = [w.variable() for _ in range(COLUMNS)]
        with w.loop(w.slices(hidden)) as loop:
            offset = b.mul(loop.index, I64(w.tile.width))
            left = w.load(w.at(w.data(hidden), offset))
            for k in range(COLUMNS):
                right = w.load(w.at(target[k], offset))
                b.store(w.multiply_add(left, right, w.get(sums[k])), sums[k])
        totals = w.fold([*map(w.get, sums), *[w.constant(0.0)] * (LANES - COLUMNS)])
        place = w.at(w.data(result), b.mul(place, I64(LANES)))
        if w.tile.width > LANES:
            totals = [w.shuffle(totals[0], totals[0], list(range(LANES)))]
        for register, total in enumerate(totals):
            w.store(total, w.at(place, I64(register * w.tile.width)))

    return instructions(write, tile, hidden, outputs, targets, types.int64, result, types.int64)


@intrinsic
def slopes_of(typing, tile, scores, place, labels, weights, group, rate):
    """scores[place, k] = (labels[group, k] - sigmoid(scores[place, k])) * weights[group, k] * rate."""

    def write(w, scores, place, labels, weights, group, rate):
        b = w.builder
        width = w.tile.width
        first, lanes = b.mul(place, I64(LANES)), b.mul(group, I64(LANES))
        rate = w.spread(rate)

        def part(place):
            """Eight lanes from memory, twice where a register holds sixteen."""
            some = w.load(place, ir.VectorType(ir.FloatType(), min(LANES, width)))
            return w.shuffle(some, some, [lane % LANES for lane in range(width)]) if width > LANES else some

        for register in range(0, LANES, width):
            here = w.at(w.data(scores), b.add(first, I64(register)))
            there = b.add(lanes, I64(register))
            x = part(here)
            slope = b.fsub(part(w.at(w.data(labels), there)), w.sigmoid(x), flags=("fast",))
            weight = b.fmul(part(w.at(w.data(weights), there)), rate, flags=("fast",))
            slope = b.fmul(slope, weight, flags=("fast",))
            if width > LANES:
                slope = w.shuffle(slope, slope, list(range(LANES)))
            w.store(slope, here)

    return instructions(write, tile, scores, types.int64, labels, weights, types.int64, types.float32)


def _step(last: bool):
    """The step of one group of outputs; after the last group of an example the hidden vector moves too."""

    def write(w, hidden, change, total, outputs, targets, group, slopes, place, *carry):
        b = w.builder
        lanes, first = b.mul(group, I64(LANES)), b.mul(place, I64(LANES))
        target = [w.row(outputs, w.number(targets, b.add(lanes, I64(k)))) for k in range(COLUMNS)]
        slope = [w.scalar(w.at(w.data(slopes), b.add(first, I64(k)))) for k in range(COLUMNS)]
        carry = [w.spread(value) for value in carry]
        with w.loop(w.slices(hidden)) as loop:
            offset = b.mul(loop.index, I64(w.tile.width))
            hidden_at, change_at, total_at = (w.at(w.data(row), offset) for row in (hidden, change, total))
            old = w.load(hidden_at)
            sums = [w.load(change_at), w.constant(0.0)]  # two chains, so that one need not wait for the other
            for k in range(COLUMNS):
                sums[k % 2] = w.multiply_add(slope[k], w.load(w.at(target[k], offset)), sums[k % 2])
            moved = w.add(*sums)
            for k in range(COLUMNS):  # read again: two targets may be the same row
                place = w.at(target[k], offset)
                w.store(w.multiply_add(slope[k], old, w.load(place)), place)
            if last:
                w.store(w.multiply_add(carry[0], moved, old), hidden_at)
                w.store(w.add(w.load(total_at), moved), total_at)
            w.store(w.constant(0.0) if last else moved, change_at)

    return write


@intrinsic
def step(typing, tile, hidden, change, total, outputs, targets, group, slopes, place):
    """outputs[target] += slope * hidden for the group, and change += sum of slope * output."""
    return instructions(_step(False), tile, hidden, change, total, outputs, targets, types.int64, slopes, types.int64)


@intrinsic
def last_step(typing, tile, hidden, change, total, outputs, targets, group, slopes, place, carry):
    """As `step`; then hidden += carry * change, total += change, change = 0: the example is done."""
    return instructions(
        _step(True), tile, hidden, change, total, outputs, targets, types.int64, slopes, types.int64, types.float32
    )


# ---------------------------------------------------------------- a window


class Desk(NamedTuple):
    """Where one thread works; the first three are (1, dim) and zero between windows."""

    hidden: np.ndarray
    change: np.ndarray
    total: np.ndarray
    slopes: np.ndarray  # (groups of an example, 8) float32
    targets: np.ndarray  # (groups of an example, 8) int32
    words: np.ndarray  # (SENTENCE,) int32
    places: np.ndarray  # (SENTENCE,) int64
    rows: np.ndarray  # (3, most rows of a window or line) int32
    examples: np.ndarray  # (most examples of a window,) int32
    hashes: np.ndarray  # (most words of a line,) int32
    labels: np.ndarray  # (3, most labels of a line) int32
    lines: np.ndarray  # (3, 4) int64, of each line in hand: rows, the first that is a bucket, labels, where it begins
    turn: np.ndarray  # (1,) int64: of the output rows
    hot_inputs: Hot  # copies of rows that all threads use (hot_rows.py); of labelled lines, words' own rows alone
    hot_outputs: Hot


def desk_for(
    dim: int, groups: Groups, rows: int, examples: int = 1, words: int = 0, labels: int = 0,
    hot_inputs: Hot = COLD, hot_outputs: Hot = COLD,
) -> Desk:  # fmt: skip
    """Room for one thread: at most so many rows and examples in a window, words and labels in a line."""
    lines = [aligned(1, dim) for _ in range(3)]
    most = int(np.diff(groups.start).max())

    def numbers(*shape: int) -> np.ndarray:
        return alone(shape, np.int32)

    return Desk(
        lines[0], lines[1], lines[2], alone((most, LANES), np.float32), numbers(most, LANES), numbers(SENTENCE),
        alone((SENTENCE,), np.int64), numbers(3, rows), numbers(examples), numbers(words), numbers(3, labels),
        alone((3, 4), np.int64), alone((1,), np.int64), hot_inputs, hot_outputs,
    )  # fmt: skip


@inlined
def learn(tile, inputs, outputs, rows, n, carry, groups, count, rate, softmax, shrink, desk, look):
    """Predict the examples desk.examples[:count] of `groups` from the mean of inputs[rows[:n]], one after another.

    `softmax`: the outputs of an example exclude each other, instead of each being right or wrong by itself. `shrink`:
    each row moves by change / n (fastText's classifier) instead of change. With `look` it returns the loss of the
    first example: the sum of -log(chance of the right answer) over its outputs.
    """
    if tile is None:
        return _learn_plain(inputs, outputs, rows, n, groups, count, rate, softmax, shrink, desk, look)
    return _learn_tiled(tile, inputs, outputs, rows, n, carry, groups, count, rate, softmax, shrink, desk, look)


@inlined
def _learn_plain(inputs, outputs, rows, n, groups, count, rate, softmax, shrink, desk, look):
    dim = inputs.shape[1]
    hidden, change, slopes = desk.hidden[0], desk.change[0], desk.slopes
    loss = np.float32(0)
    for e in range(count):
        hidden[:] = 0
        for r in rows[:n]:
            for d in range(dim):
                hidden[d] += inputs[r, d]
        for d in range(dim):
            hidden[d] /= np.float32(n)
            change[d] = 0
        first, end = groups.start[desk.examples[e]], groups.start[desk.examples[e] + 1]
        find_targets(outputs, groups, first, end, desk)
        for g in range(first, end):
            for k in range(COLUMNS):
                score = np.float32(0)
                for d in range(dim):
                    score += hidden[d] * outputs[desk.targets[g - first, k], d]
                if not softmax:
                    chance = 1 / (1 + np.exp(-score))
                    score = (groups.labels[g, k] - chance) * groups.weights[g, k] * rate
                slopes[g - first, k] = score
        if softmax:
            softmax_slopes(slopes, groups.labels, groups.weights, first, end, rate)
        if look and e == 0:
            loss = loss_of(slopes, groups.labels, groups.weights, first, end, rate, softmax)
        for g in range(first, end):
            for k in range(COLUMNS):
                for d in range(dim):
                    change[d] += slopes[g - first, k] * outputs[desk.targets[g - first, k], d]
            for k in range(COLUMNS):
                for d in range(dim):
                    outputs[desk.targets[g - first, k], d] += slopes[g - first, k] * hidden[d]
        end_turn(outputs, end - first, desk)
        for r in rows[:n]:
            for d in range(dim):
                inputs[r, d] += change[d] / np.float32(n) if shrink else change[d]
    return loss


@inlined
def _learn_tiled(tile, inputs, outputs, rows, n, carry, groups, count, rate, softmax, shrink, desk, look):
    mean(tile, inputs, rows, n, desk.hidden)  # pyright: ignore[reportCallIssue]
    loss = np.float32(0)
    for e in range(count):
        first, end = groups.start[desk.examples[e]], groups.start[desk.examples[e] + 1]
        find_targets(outputs, groups, first, end, desk)
        for g in range(first, end):
            scores(tile, desk.hidden, outputs, desk.targets, g - first, desk.slopes, g - first)  # pyright: ignore[reportCallIssue]
            if not softmax:
                slopes_of(tile, desk.slopes, g - first, groups.labels, groups.weights, g, rate)
        if softmax:
            softmax_slopes(desk.slopes, groups.labels, groups.weights, first, end, rate)
        if look and e == 0:
            loss = loss_of(desk.slopes, groups.labels, groups.weights, first, end, rate, softmax)
        take_steps(tile, outputs, end - first, carry, desk)
        end_turn(outputs, end - first, desk)
    if shrink:
        for d in range(inputs.shape[1]):
            desk.total[0, d] /= np.float32(n)
    add_to_all(tile, inputs, rows, n, desk.total)
    return loss


@inlined
def softmax_slopes(slopes, labels, weights, first, end, rate):
    """Scores become (label - softmax) * rate; empty lanes become 0."""
    highest = -np.float32(np.inf)
    for g in range(first, end):
        for k in range(COLUMNS):
            if weights[g, k] > 0:
                highest = max(highest, slopes[g - first, k])
    total = np.float32(0)
    for g in range(first, end):
        for k in range(COLUMNS):
            slopes[g - first, k] = np.exp(slopes[g - first, k] - highest) * weights[g, k]
            total += slopes[g - first, k]
    for g in range(first, end):
        for k in range(COLUMNS):
            slopes[g - first, k] = (labels[g, k] - slopes[g - first, k] / total) * rate


@inlined
def take_steps(tile, outputs, count, carry, desk):
    """The steps of an example's groups, whose slopes are there."""
    for g in range(count - 1):
        step(tile, desk.hidden, desk.change, desk.total, outputs, desk.targets, g, desk.slopes, g)  # pyright: ignore[reportCallIssue]
    g = count - 1
    last_step(tile, desk.hidden, desk.change, desk.total, outputs, desk.targets, g, desk.slopes, g, carry)  # pyright: ignore[reportCallIssue]


@inlined
def find_targets(outputs, groups, first, end, desk):
    """The targets of an example's groups, as this thread has them: its copies, where it has some."""
    hot = desk.hot_outputs
    for g in range(first, end):
        for k in range(LANES):
            desk.targets[g - first, k] = mine(hot, groups.targets[g, k])


@inlined
def end_turn(outputs, count, desk):
    """After an example: some of its targets' copies are put together with their rows."""
    if desk.hot_outputs.size:
        desk.turn[0] += 1
        for g in range(count):
            take_turn(outputs, desk.hot_outputs, desk.targets[g], COLUMNS, desk.turn[0] + g)


@inlined
def loss_of(slopes, labels, weights, first, end, rate, softmax):
    """The sum of -log(chance of the right answer): a slope is how far off the answer was times weight times rate."""
    loss = np.float32(0)
    for g in range(first, end):
        for k in range(COLUMNS):
            if weights[g, k] > 0 and (labels[g, k] > 0 or not softmax):
                wrong = abs(slopes[g - first, k]) / (weights[g, k] * rate)
                loss -= weights[g, k] * np.log(max(1 - wrong, np.float32(1e-9)))
    return loss


# ---------------------------------------------------------------- a stretch of text


@partial(kernel, counted=False)
def read_text(tile, inputs, outputs, ids, begin, end, place, draws, pieces, groups, cbow, tree, rate, rate_end, desk):
    """Skip-gram or CBOW over ids[begin:end], whose first word has number `place` in the whole run: (losses, how many).

    Skip-gram predicts the words around from the pieces of the one in the middle; CBOW the other way round.
    With `tree`, `groups` are the ways to all words (`tree_groups`); else it is room for the examples of a window
    (`empty_groups`), and negatives are drawn for each. (To draw them once for a window, as for word2vec, is no faster
    here, as each row meets only one hidden vector, and the analogies come out a third worse.)
    """
    words, places, rows = desk.words, desk.places, desk.rows[0]
    loss, losses = 0.0, 0
    at = begin
    while at < end:
        now = np.float32(rate + (rate_end - rate) * (at - begin) / (end - begin))
        length, at = read_sentence(ids, at, end, place - begin, draws.keep, draws.keep_key, words, places)
        for p in range(length):
            around = reach(draws, places[p])
            low, high = max(0, p - around), min(length, p + around + 1)
            if high - low == 1:
                continue
            n, count = 0, 0
            if not cbow:
                if p + 1 < length:
                    prefetch_rows(tile, inputs, pieces, words[p + 1])
                n = append_rows(pieces, words[p], rows, n)
            for j in range(low, high):
                if cbow and j != p:
                    n = append_rows(pieces, words[j], rows, n)
                elif cbow or j != p:
                    example = words[j]
                    if not tree:
                        number = places[p] * 2 * draws.window + count
                        example = fill_negatives(tile, outputs, groups, count, example, draws, number)
                    desk.examples[count] = example
                    count += 1
            for i in range(n):
                rows[i] = mine(desk.hot_inputs, rows[i])
            take_turn(inputs, desk.hot_inputs, rows, n, places[p])
            look = places[p] % LOOK == 0
            carry = pieces.carry[words[p]]
            loss += learn(tile, inputs, outputs, rows, n, carry, groups, count, now, False, False, desk, look)
            losses += look
    return loss, losses


@inlined
def fill_negatives(tile, outputs, groups, example, word, draws, number):
    """Example `example` becomes: `word`, right; drawn words, wrong. A draw that hits the word counts nothing."""
    g, k = groups.start[example], 0
    groups.targets[g, 0] = word
    if tile is not None:
        prefetch(tile, outputs, word)  # pyright: ignore[reportCallIssue]
    for i in range((groups.start[example + 1] - g) * COLUMNS - 1):
        k += 1
        if k == COLUMNS:
            g, k = g + 1, 0
        other = word  # in the lanes that stay empty
        if i < draws.negatives:
            other = negative(draws, number * draws.negatives + i)
            groups.weights[g, k] = np.float32(other != word)
            if tile is not None:
                prefetch(tile, outputs, other)  # pyright: ignore[reportCallIssue]
        groups.targets[g, k] = other
    return example


@inlined
def append_rows(pieces, word, rows, n):
    """The rows of a word behind the first n of `rows`; how many there are then."""
    for q in range(pieces.offsets[word], pieces.offsets[word + 1]):
        rows[n] = pieces.rows[q]
        n += 1
    return n


@inlined
def prefetch_rows(tile, inputs, pieces, word):
    """Ask for the rows of a word that comes next."""
    if tile is not None:
        for q in range(pieces.offsets[word], pieces.offsets[word + 1]):
            prefetch(tile, inputs, pieces.rows[q])  # pyright: ignore[reportCallIssue]


# ---------------------------------------------------------------- lines with labels


class Lines(NamedTuple):
    """What the words of labelled lines stand for; T different words, labels among them."""

    pieces: Pieces
    hashes: np.ndarray  # (T,) int32, of which word n-grams are made
    labels: np.ndarray  # (T,) int32: the label's number, NO_LABEL for a word, DROPPED for a label that is not learnt
    longest: int  # word n-grams have up to so many words
    buckets: int
    row_of: np.ndarray  # (buckets / LINE, LINE) int32: the row of each bucket, -1 for none


NO_LABEL, DROPPED, NOTHING = -1, -2, -3


class Task(NamedTuple):
    """How labels are learnt; none of the three: negative sampling."""

    softmax: bool
    each: bool  # each label is a question of its own (one-vs-all)
    tree: bool


@kernel
def survey(ids, lines, seen):
    """How many rows, words and labels the largest line has; seen[bucket] grows by each word n-gram's occurrences."""
    most_rows, most_words, most_labels = 0, 0, 0
    at = 0
    while at < len(ids):
        begin, rows, words, labels = at, 0, 0, 0
        while at < len(ids) and ids[at] >= 0:
            label = lines.labels[ids[at]]
            labels += label >= 0
            if label == NO_LABEL:
                words += 1
                rows += lines.pieces.offsets[ids[at] + 1] - lines.pieces.offsets[ids[at]]
            at += 1
        at += 1
        rows += words * (lines.longest - 1)
        most_rows, most_words, most_labels = max(most_rows, rows), max(most_words, words), max(most_labels, labels)
        if lines.longest > 1 and len(seen):
            for i in range(begin, at - 1):
                if lines.labels[ids[i]] == NO_LABEL:
                    hashed, words = np.uint64(np.int64(lines.hashes[ids[i]])), 1
                    for j in range(i + 1, at - 1):
                        if words == lines.longest:
                            break
                        if lines.labels[ids[j]] == NO_LABEL:
                            hashed = word_ngram(hashed, lines.hashes[ids[j]])
                            seen[hashed % np.uint64(len(seen))] += 1
                            words += 1
    return most_rows, most_words, most_labels


@inlined
def read_line(tile, ids, at, end, lines, rows, hashes, labels):
    """The next line: how many of `rows` it fills, from which on these are buckets, how many labels, and where to go on.

    Which row a bucket has (`find_rows`) is a matter of looking far away, and is on its way when this returns.
    """
    stop = at
    while stop < end and ids[stop] >= 0:
        stop += 1
    first, words, found = 0, 0, 0
    for i in range(at, stop):
        label = lines.labels[ids[i]]
        if label >= 0:
            labels[found] = label
            found += 1
        elif label == NO_LABEL:
            first = append_rows(lines.pieces, ids[i], rows, first)
            hashes[words] = lines.hashes[ids[i]]
            words += 1
    n = first
    for i in range(words):
        hashed = np.uint64(np.int64(hashes[i]))
        for j in range(i + 1, min(words, i + lines.longest)):
            hashed = word_ngram(hashed, hashes[j])
            rows[n] = hashed % np.uint64(lines.buckets)
            if tile is not None:
                prefetch(tile, lines.row_of, rows[n] // LINE)  # pyright: ignore[reportCallIssue]
            n += 1
    return n, first, found, min(stop + 1, end)


@inlined
def find_rows(lines, rows, first, n):
    """rows[first:n]: each bucket becomes its row."""
    for i in range(first, n):
        rows[i] = lines.row_of[rows[i] // LINE, rows[i] % LINE]


@partial(kernel, counted=False)
def read_lines(tile, inputs, outputs, ids, begin, end, place, draws, lines, groups, task, rate, rate_end, desk):
    """Learn the labels of the lines ids[begin:end], whose first word has number `place` in the run: (losses, how many).

    Of a line's labels one is drawn each time, unless task.each asks for all of them at once. Three lines are in hand:
    one is read, the rows of the one before are sent for, the one before that is learnt.
    """
    loss, losses = 0.0, 0
    at, turn, idle = begin, 0, 0
    desk.lines[:] = 0
    while idle < 2:
        newest, middle, oldest = turn % 3, (turn + 2) % 3, (turn + 1) % 3
        line = desk.lines[newest]
        line[0], line[1], line[2], line[3] = 0, 0, 0, at
        if at < end:
            line[0], line[1], line[2], at = read_line(
                tile, ids, at, end, lines, desk.rows[newest], desk.hashes, desk.labels[newest]
            )
            for i in range(line[1]):
                desk.rows[newest, i] = mine(desk.hot_inputs, desk.rows[newest, i])
            take_turn(inputs, desk.hot_inputs, desk.rows[newest], line[1], turn)
        else:
            idle += 1
        find_rows(lines, desk.rows[middle], desk.lines[middle, 1], desk.lines[middle, 0])
        if tile is not None:
            for i in range(desk.lines[middle, 0]):
                prefetch(tile, inputs, desk.rows[middle, i])  # pyright: ignore[reportCallIssue]
        n, found, line_at = desk.lines[oldest, 0], desk.lines[oldest, 2], desk.lines[oldest, 3]
        if n and found:
            now = np.float32(rate + (rate_end - rate) * (line_at - begin) / (end - begin))
            number = place + line_at - begin
            labels = desk.labels[oldest]
            target = labels[below(random(draws.reach_key, number), found)]
            desk.examples[0] = target if task.tree else 0
            if task.softmax:
                groups.labels[target // COLUMNS, target % COLUMNS] = 1
            elif task.each:
                for i in range(found):
                    groups.labels[labels[i] // COLUMNS, labels[i] % COLUMNS] = 1
            elif not task.tree:
                fill_negatives(tile, outputs, groups, 0, target, draws, number)
            look = losses * LOOK <= number - place
            one, rows = np.float32(1), desk.rows[oldest]
            lost = learn(tile, inputs, outputs, rows, n, one, groups, 1, now, task.softmax, True, desk, look)
            loss += lost
            losses += look
            if task.softmax:
                groups.labels[target // COLUMNS, target % COLUMNS] = 0
            elif task.each:
                for i in range(found):
                    groups.labels[labels[i] // COLUMNS, labels[i] % COLUMNS] = 0
        turn += 1
    return loss, losses


@kernel
def hidden_of(words, buckets, ids, lines, most, hidden, labels):
    """The mean of each line's rows: hidden (lines, D), and its labels, (lines, any) int32 with -1 behind the last.

    A line without rows has the label NOTHING throughout. words (V, D), buckets (n, D): the two parts of the table.
    """
    rows, hashes, found = np.empty(most[0], np.int32), np.empty(most[1], np.int32), np.empty(most[2], np.int32)
    at = 0
    for i in range(len(hidden)):
        n, first, count, at = read_line(None, ids, at, len(ids), lines, rows, hashes, found)
        find_rows(lines, rows, first, n)
        labels[i, :count] = found[:count]
        labels[i, count:] = -1
        for r in rows[:n]:
            if r >= len(words):
                for d in range(hidden.shape[1]):
                    hidden[i, d] += buckets[r - len(words), d]
            elif r >= 0:
                for d in range(hidden.shape[1]):
                    hidden[i, d] += words[r, d]
        for d in range(hidden.shape[1]):
            hidden[i, d] /= np.float32(max(n, 1))
        if n == 0:
            labels[i, :] = NOTHING
