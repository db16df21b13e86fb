"""Learns a Unigram vocabulary: many candidate pieces, of which the least useful are dropped until few enough are left.

Kudo 2018, "Subword regularization", section 3.2: a text's probability is the sum over all its cuts into pieces of the
product of the pieces' probabilities; these are fitted by expectation maximisation, and each round keeps the pieces
whose loss would cost the likelihood most. Candidates are the recurring substrings of the largest count x length. It is
numpy over distinct words, with no hash table's order in it, so the same counts give the same vocabulary to the byte,
and memory is bounded by _CHARACTERS.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from masklab.corpus.units import code_points

LONGEST = 16  # characters of a piece
_WORD = 32  # longer words are read in parts of so many
_CHARACTERS = 3_000_000  # of distinct words; the most frequent come first
_CANDIDATES = 10  # times as many as are asked for
_KEEP = 0.75  # of the pieces, in each round
_ODD = np.uint64(0x9E3779B97F4A7C15)


def learn(counts: dict[str, int], alphabet: list[str], size: int) -> list[tuple[str, float]]:
    """(piece, log-probability) by falling probability: at most `size`, among them every character of `alphabet`.

    counts: how often each distinct word occurs. learn({"ab": 9, "abab": 5}, ["a", "b"], 3) -> "ab", then "a" and "b".
    """
    words = _Words.of(counts)
    pieces, weight = _candidates(words, alphabet, size * _CANDIDATES)
    required = np.array([len(piece) == 1 for piece in pieces])
    groups = list(words.groups(pieces))
    probability = weight / weight.sum()
    while True:
        for _ in range(2):
            expected = _expected(groups, probability)
            keep = required | (expected >= 0.5)
            pieces, required = [p for p, k in zip(pieces, keep, strict=True) if k], required[keep]
            _renumber(groups, keep)
            weight = np.maximum(expected[keep], 0.5)  # a letter that only longer pieces spell now may be needed again
            probability = np.exp(_digamma(weight) - _digamma(weight.sum()))
        if len(pieces) <= size:
            break
        keep = _worth_keeping(pieces, required, weight, probability, max(size, int(len(pieces) * _KEEP)))
        pieces, required = [p for p, k in zip(pieces, keep, strict=True) if k], required[keep]
        _renumber(groups, keep)
        probability = probability[keep] / probability[keep].sum()
    scores = np.log(np.maximum(probability, 1e-30))
    return sorted(zip(pieces, scores.tolist(), strict=True), key=lambda entry: (-entry[1], entry[0]))


@dataclass
class _Group:
    """Words of one length: which piece stands at each place, for each length; -1 where none does."""

    weight: np.ndarray  # (W,) float64: how often each word occurs
    ids: np.ndarray  # (length, W, min(length, LONGEST)) int32: piece [start, start + k + 1) of each word


class _Words:
    """Distinct words as code points, by length."""

    def __init__(self, by_length: dict[int, tuple[np.ndarray, np.ndarray]]):
        self.by_length = by_length  # length -> (W, length) uint32, (W,) float64

    @classmethod
    def of(cls, counts: dict[str, int], room: int = _CHARACTERS) -> "_Words":
        parts: dict[str, int] = {}
        for word, count in counts.items():
            for at in range(0, len(word), _WORD):
                part = word[at : at + _WORD]
                parts[part] = parts.get(part, 0) + count
        listed: dict[int, list[str]] = {}
        for word in sorted(parts, key=lambda word: (-parts[word], word)):
            room -= len(word)
            if room < 0:
                break
            listed.setdefault(len(word), []).append(word)
        return cls(
            {
                length: (
                    code_points("".join(words)).reshape(-1, length),
                    np.array([parts[word] for word in words], np.float64),
                )
                for length, words in sorted(listed.items())
            }
        )

    def runs(self, length: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each group's word length, its (W, places) hashes of the runs of so many characters, its weights."""
        for size, (code, weight) in self.by_length.items():
            if size >= length:
                yield size, _hashes(code, length), weight

    def spelled(self, stands: np.ndarray, length: int) -> list[str]:
        """stands: (n, 3) word length, word and place of so many characters."""
        return ["".join(map(chr, self.by_length[s][0][r, p : p + length])) for s, r, p in stands.tolist()]

    def groups(self, pieces: list[str]) -> Iterator[_Group]:
        numbered: dict[int, list[tuple[int, str]]] = {length: [] for length in range(1, LONGEST + 1)}
        for number, piece in enumerate(pieces):
            numbered[len(piece)].append((number, piece))
        table = {length: _sorted_hashes(some, length) for length, some in numbered.items()}
        for size, (code, weight) in self.by_length.items():
            ids = np.full((size, len(code), min(size, LONGEST)), -1, np.int32)
            for length in range(1, min(size, LONGEST) + 1):
                ids[: size - length + 1, :, length - 1] = _looked_up(_hashes(code, length), *table[length]).T
            yield _Group(weight, ids)


def _hashes(code: np.ndarray, length: int) -> np.ndarray:
    """(W, n) code points -> (W, n - length + 1) uint64, a hash of each run of so many."""
    places = code.shape[1] - length + 1
    found = np.zeros((len(code), places), np.uint64)
    for k in range(length):
        found = (found ^ code[:, k : k + places].astype(np.uint64)) * _ODD
        found ^= found >> np.uint64(29)
    return found


def _sorted_hashes(numbered: list[tuple[int, str]], length: int) -> tuple[np.ndarray, np.ndarray]:
    if not numbered:
        return np.zeros(0, np.uint64), np.zeros(0, np.int32)
    code = code_points("".join(piece for _, piece in numbered)).reshape(-1, length)
    found = _hashes(code, length)[:, 0]
    order = np.argsort(found, kind="stable")
    return found[order], np.array([i for i, _ in numbered], np.int32)[order]


def _looked_up(asked: np.ndarray, hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    if not len(hashes):
        return np.full(asked.shape, -1, np.int32)
    at = np.minimum(np.searchsorted(hashes, asked), len(hashes) - 1)
    return np.where(hashes[at] == asked, numbers[at], -1)


def _candidates(words: _Words, alphabet: list[str], most: int) -> tuple[list[str], np.ndarray]:
    """The alphabet, and the recurring substrings with the largest count x length; with those products."""
    found: dict[str, float] = dict.fromkeys(alphabet, 1.0)
    letters = np.zeros(0x110000, bool)
    letters[[ord(letter) for letter in alphabet]] = True
    longer: list[tuple[int, np.ndarray, np.ndarray]] = []  # length, count x length, where each stands
    before: tuple[np.ndarray, np.ndarray] | None = None  # hashes that recur, and their counts
    for length in range(1, LONGEST + 1):
        hashes, weights, where = [], [], []
        for size, run, weight in words.runs(length):
            usable = np.lib.stride_tricks.sliding_window_view(letters[words.by_length[size][0]], length, 1).all(2)
            if before is not None:  # only what recurs can go on to recur
                usable &= _among(_hashes(words.by_length[size][0], length - 1)[:, : run.shape[1]], before[0])
            row, place = np.nonzero(usable)
            hashes.append(run[row, place])
            weights.append(weight[row])
            where.append(np.stack([np.full(len(row), size), row, place], 1))
        if not hashes or not sum(map(len, hashes)):
            break
        every, place = np.concatenate(hashes), np.concatenate(where)
        distinct, first, inverse = np.unique(every, return_index=True, return_inverse=True)
        count = np.bincount(inverse, np.concatenate(weights))
        recurs = count >= 2
        stands, count = place[first[recurs]], count[recurs]
        if length == 1:
            found |= dict(zip(words.spelled(stands, 1), count.tolist(), strict=True))
        else:
            longer.append((length, count * length, stands))
        before = distinct[recurs], count
    room = max(0, most - len(found))
    value = np.concatenate([np.zeros(0), *(some for _, some, _ in longer)])
    least = np.partition(value, -room)[-room] if 0 < room < len(value) else 0.0
    best: list[tuple[str, float]] = []
    for length, some, stands in longer:
        good = some >= least  # a few more than there is room for, where many have the same
        best += zip(words.spelled(stands[good], length), some[good].tolist(), strict=True)
    found |= dict(sorted(best, key=lambda entry: (-entry[1], entry[0]))[:room])
    return list(found), np.array(list(found.values()))


def _among(asked: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    if not len(hashes):
        return np.zeros(asked.shape, bool)
    return hashes[np.minimum(np.searchsorted(hashes, asked), len(hashes) - 1)] == asked


def _expected(groups: list[_Group], probability: np.ndarray) -> np.ndarray:
    """(pieces,) how often each piece is expected over all cuts of all words: forward and backward sums."""
    p = np.append(probability, 0.0)  # at -1
    total = np.zeros(len(p))
    for group in groups:
        size, most = len(group.ids), group.ids.shape[2]
        chance = p[group.ids]  # (length, W, LONGEST)
        ahead = np.zeros((size + 1, len(group.weight)))
        behind = np.zeros_like(ahead)
        ahead[0] = behind[size] = 1
        for end in range(1, size + 1):
            for k in range(1, min(end, most) + 1):
                ahead[end] += ahead[end - k] * chance[end - k, :, k - 1]
        for start in range(size - 1, -1, -1):
            for k in range(1, min(size - start, most) + 1):
                behind[start] += chance[start, :, k - 1] * behind[start + k]
        # words with a character outside the alphabet have no cut at all
        share = np.divide(group.weight, ahead[size], out=np.zeros_like(group.weight), where=ahead[size] > 0)
        for start in range(size):
            for k in range(1, min(size - start, most) + 1):
                chance[start, :, k - 1] *= ahead[start] * behind[start + k] * share
        total += np.bincount(group.ids.ravel() % len(p), chance.ravel(), len(p))
    return total[:-1]


def _renumber(groups: list[_Group], keep: np.ndarray) -> None:
    number = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1).astype(np.int32)
    for group in groups:
        group.ids = number[group.ids]


def _worth_keeping(
    pieces: list[str], required: np.ndarray, expected: np.ndarray, probability: np.ndarray, most: int
) -> np.ndarray:
    """(pieces,) bool: the required ones, and those whose loss would cost the likelihood most."""
    total = expected.sum()
    cost = np.zeros(len(pieces))
    listed = _Words.of(dict.fromkeys(pieces, 1), sum(map(len, pieces)))
    number = {piece: i for i, piece in enumerate(pieces)}
    for group, (code, _) in zip(listed.groups(pieces), listed.by_length.values(), strict=True):
        size = len(group.ids)
        if size == 1:
            continue
        text = ["".join(map(chr, row)) for row in code.tolist()]
        own = np.array([number[piece] for piece in text])
        parts = _second_best(group.ids, np.log(np.append(probability, 0.0) + 1e-300))  # (W, size) ids, -1: none
        some = parts >= 0
        # without the piece, its count goes to its parts, and there are more tokens in all
        after = total + expected[own] * (some.sum(1) - 1)
        part = np.log(np.where(some, expected[parts] + expected[own][:, None], 1.0)).sum(1)
        alternative = part - some.sum(1) * np.log(after)
        cost[own] = expected[own] / total * (np.log(expected[own]) - np.log(total) - alternative)
    cost[required] = np.inf
    keep = np.zeros(len(pieces), bool)
    keep[np.lexsort((np.arange(len(pieces)), -cost))[: max(most, int(required.sum()))]] = True
    return keep


def _second_best(ids: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(W, length) the pieces of each word's best cut into two or more, -1 after the last."""
    size, count, most = ids.shape
    best = np.full((size + 1, count), -np.inf)
    best[0] = 0
    back = np.zeros((size + 1, count), np.int64)
    for end in range(1, size + 1):
        for k in range(1, min(end, most) + 1):
            if k == size:
                continue  # the piece itself
            value = best[end - k] + score[ids[end - k, :, k - 1]]
            better = value > best[end]
            best[end][better] = value[better]
            back[end][better] = k
    parts = np.full((count, size), -1, np.int64)
    at, rows = np.full(count, size), np.arange(count)
    for slot in range(size):
        k = back[at, rows]
        alive = (at > 0) & (k > 0)
        parts[alive, slot] = ids[(at - k)[alive], rows[alive], k[alive] - 1]
        at = np.where(alive, at - k, 0)
    return parts


def _digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log gamma, for x > 0: raised by recurrence to where the asymptotic series is exact."""
    x = np.asarray(x, np.float64).copy()
    found = np.zeros_like(x)
    for _ in range(7):
        small = x < 7
        found -= np.where(small, 1 / x, 0)
        x = np.where(small, x + 1, x)
    inverse = 1 / (x * x)
    return found + np.log(x) - 0.5 / x - inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))
