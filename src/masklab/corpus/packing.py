"""Packs documents into rows of one length so that almost no slot is padding.

Documents are cut into pieces that fit a row, where words (phrases, entities) begin, and the pieces are packed best fit
first, longest first (Ding et al. 2024, "Fewer truncations improve language modeling", section 3). Rows still half empty
then, for want of short pieces, are filled with pieces cut to measure. A row is pieces side by side, kept apart by their
document numbers.
"""

from itertools import pairwise

import numpy as np

from masklab.corpus.units import WORD_START
from masklab.errors import BadInput

_WORTH = 8  # room for fewer tokens than this is left empty rather than filled with a scrap
_LOOK_BACK = 24  # a cut is looked for in this many tokens first: words longer than that are rare


class Rows:
    """Which pieces of the corpus make up each row: `rows[i] -> (n, 2)` token offsets [start, end)."""

    def __init__(self, pieces: np.ndarray, offsets: np.ndarray, length: int, overhead: int):
        self.pieces = pieces  # (pieces, 2) int64, row by row
        self.offsets = offsets  # (rows + 1,) int64: row i is pieces[offsets[i]:offsets[i + 1]]
        self.length, self.overhead = length, overhead

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        return self.pieces[self.offsets[row] : self.offsets[row + 1]]

    @property
    def fill(self) -> float:
        """Share of the slots that hold a token (the special tokens around pieces count as tokens)."""
        used = int((self.pieces[:, 1] - self.pieces[:, 0] + self.overhead).sum())
        return used / (len(self) * self.length) if len(self) else 0.0


def rows(documents: np.ndarray, units: np.ndarray, sentences: np.ndarray, length: int, overhead: int,
         packed: bool = True, uncut: int = WORD_START) -> Rows:  # fmt: skip
    """Cut and pack. documents: (n + 1,) token offsets; sentences: (m,) token offsets of sentence starts.

    uncut: the start bits of the units that no cut may go through: one falls where a unit of every such layer begins.
    """
    room = length - overhead
    if room < 1:
        raise BadInput(f"a row of {length} has no room for text beside {overhead} special tokens; ask for longer rows")
    found = pieces(documents, units, sentences, room, uncut)
    row = np.arange(len(found))
    if packed:
        row = pack(found[:, 1] - found[:, 0] + overhead, length)
        found, row = _topped_up(found, row, units, length, overhead, uncut)
    order = np.argsort(row, kind="stable")  # within a row: in the corpus' order
    sizes = np.bincount(row)
    return Rows(found[order], np.cumsum([0, *sizes[sizes > 0]], dtype=np.int64), length, overhead)


def pieces(documents: np.ndarray, units: np.ndarray, sentences: np.ndarray, room: int,
           uncut: int = WORD_START) -> np.ndarray:  # fmt: skip
    """(pieces, 2) int64 [start, end): each document in stretches of at most `room` tokens, in order.

    A cut falls on a sentence start if there is one in the last 1/64 of the stretch (earlier ones would cost more
    padding than they are worth), else on the last unit's start; inside a unit only when one fills the whole stretch.
    """
    start, end = documents[:-1].astype(np.int64), documents[1:].astype(np.int64)
    some = end > start
    start, end = start[some], end[some]
    found = []
    while len(start):  # one round takes the next piece of every document that is not done
        long = end - start > room
        cut = end.copy()
        cut[long] = _cuts(start[long], start[long] + room, units, sentences, room, uncut)
        found.append(np.stack([start, cut], 1))
        start, end = cut[long], end[long]
    if not found:
        return np.zeros((0, 2), np.int64)
    every = np.concatenate(found)
    return every[np.argsort(every[:, 0], kind="stable")]


def _cuts(start: np.ndarray, limit: np.ndarray, units: np.ndarray, sentences: np.ndarray, room: int,
          uncut: int) -> np.ndarray:  # fmt: skip
    """The best place to cut in (start, limit] for each stretch."""
    if not len(start):
        return limit
    cut = _last_start(start, limit, units, min(room, _LOOK_BACK), uncut)
    missing = cut < 0
    if missing.any() and room > _LOOK_BACK:
        cut[missing] = _last_start(start[missing], limit[missing], units, room, uncut)
    cut = np.where(cut < 0, limit, cut)
    if len(sentences):
        sentence = sentences[np.maximum(np.searchsorted(sentences, limit, side="right") - 1, 0)]
        near = (sentence > start) & (sentence <= limit) & (limit - sentence <= room // 64)
        near &= units[np.minimum(sentence, len(units) - 1)] & uncut == uncut  # a layer's unit may reach over it
        cut = np.where(near, sentence, cut)
    return cut


def _last_start(start: np.ndarray, limit: np.ndarray, units: np.ndarray, back: int, uncut: int) -> np.ndarray:
    """The last token in (limit - back, limit] where units of all layers begin, or -1."""
    cut = np.empty(len(start), np.int64)
    for a in range(0, len(start), 1 << 16):  # bounded memory: the table below is (65536, back)
        at = limit[a : a + (1 << 16), None] - np.arange(back)
        good = ((units[at] & uncut) == uncut) & (at > start[a : a + (1 << 16), None])
        cut[a : a + (1 << 16)] = np.where(good.any(1), limit[a : a + (1 << 16)] - good.argmax(1), -1)
    return cut


def pack(costs: np.ndarray, length: int) -> np.ndarray:
    """(pieces,) row of each piece, best fit decreasing: the longest first, each into the fullest row that takes it.

    pack([3, 2, 2, 1], 4) -> [0, 1, 1, 0]. Equal pieces are placed together, so the work is one step per pair of
    (cost, room left) that occurs, not one per piece.
    """
    costs = np.asarray(costs)
    row = np.empty(len(costs), np.int64)
    order = np.argsort(-costs, kind="stable")
    edges = [*np.flatnonzero(np.diff(costs[order], prepend=-1)).tolist(), len(costs)]
    open_rows: dict[int, np.ndarray] = {}  # room left -> rows
    made = 0
    for a, b in pairwise(edges):
        todo, cost = order[a:b], int(costs[order[a]])
        for left in sorted(room for room in open_rows if room >= cost):
            if not len(todo):
                break
            todo = _place(todo, row, cost, left, open_rows.pop(left), open_rows)
        if len(todo):
            new = np.arange(made, made - (-len(todo) // (length // cost)))
            made += len(new)
            _place(todo, row, cost, length, new, open_rows)
    return row


def _place(todo: np.ndarray, row: np.ndarray, cost: int, left: int, into: np.ndarray,
           open_rows: dict[int, np.ndarray]) -> np.ndarray:  # fmt: skip
    """Put equal pieces into equally full rows, as many as fit in each before the next; what is over comes back."""
    each = left // cost
    used = into[: -(-len(todo) // each)]
    place = np.repeat(used, each)[: len(todo)]
    row[todo[: len(place)]] = place
    whole, rest = divmod(len(place), each)
    kept = [(left - each * cost, used[:whole]), (left - rest * cost, used[whole:]), (left, into[len(used) :])]
    for room, group in kept:
        if len(group):
            open_rows[room] = np.concatenate([open_rows[room], group]) if room in open_rows else group
    return todo[len(place) :]


def _topped_up(
    found: np.ndarray, row: np.ndarray, units: np.ndarray, length: int, overhead: int, uncut: int
) -> tuple[np.ndarray, np.ndarray]:
    """Dissolve the emptiest rows into the room that is left in the others, cutting at unit starts; few rows need it."""
    room = length - np.bincount(row, found[:, 1] - found[:, 0] + overhead).astype(np.int64)
    sparse = np.flatnonzero(room >= overhead + _WORTH)
    sparse = sparse[np.argsort(room[sparse], kind="stable")]
    member = np.isin(row, sparse)
    kept, kept_row = found[~member], row[~member]
    of: dict[int, list[tuple[int, int]]] = {int(r): [] for r in sparse}
    for (start, end), r in zip(found[member].tolist(), row[member].tolist(), strict=True):
        of[r].append((start, end))
    takers = sparse.tolist()
    taker, giver = 0, len(takers)  # takers[:giver] are rows still to be filled, the rest are dissolved
    loose: list[tuple[int, int]] = []
    while taker < giver:
        if not loose:
            giver -= 1
            loose = of.pop(takers[giver])
            continue
        into = takers[taker]
        start, end = loose.pop()
        cut = min(end, start + int(room[into]) - overhead)
        while start < cut < end and units[cut] & uncut != uncut:
            cut -= 1
        if cut > start:
            of[into].append((start, cut))
            room[into] -= cut - start + overhead
        if cut < end:
            loose.append((cut, end))
        if cut < end or room[into] < overhead + _WORTH:
            taker += 1
    if loose:  # they came from one row, so one row holds them
        of[takers[giver]] = loose
    more = [(start, end, r) for r, some in of.items() for start, end in some]
    table = np.array(more, np.int64).reshape(-1, 3)
    return np.concatenate([kept, table[:, :2]]), np.concatenate([kept_row, table[:, 2]])
