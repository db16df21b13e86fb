"""Rows as a model reads them: pieces of documents framed by [CLS] and [SEP], side by side until the row is full."""

from typing import Any, NamedTuple

import numpy as np

from masklab.corpus.units import WORD_START
from masklab.models.pattern import Inputs


class Row(NamedTuple):
    """A framed row before anything is hidden in it."""

    inputs: Inputs  # (T,) int32
    units: np.ndarray  # (T,) uint8: unit bits of the tokens, 0 at special tokens and padding
    text: np.ndarray  # (T,) bool: slots that hold the author's tokens, not [CLS], [SEP] or padding
    starts: np.ndarray  # (n,) int64: the slot of each document's [CLS]
    full: bool


def frame(tokenizer: Any, pieces: list[tuple[list[np.ndarray], list[np.ndarray]]], length: int) -> Row:
    """Documents, each a list of one or two segments of token ids (and their unit bits), laid out in one row.

    One segment gives [CLS] a [SEP], two give [CLS] a [SEP] b [SEP] with segments 0 and 1 (Devlin et al. 2019, fig. 2).
    Positions start at 0 in every document; padding has document -1.
    """
    tokens = np.full(length, tokenizer.pad, np.int32)
    position, segment, nothing = np.zeros((3, length), np.int32)
    document = np.full(length, -1, np.int32)
    units = np.zeros(length, np.uint8)
    text = np.zeros(length, bool)
    starts = np.empty(len(pieces), np.int64)
    slot = 0
    for d, (segments, bits) in enumerate(pieces):
        starts[d] = first = slot
        tokens[slot] = tokenizer.cls
        slot += 1
        for s, (ids, unit) in enumerate(zip(segments, bits, strict=True)):
            end = slot + len(ids)
            tokens[slot:end] = ids
            units[slot:end] = unit
            text[slot:end] = True
            tokens[end] = tokenizer.sep
            segment[slot if s else first : end + 1] = s
            slot = end + 1
        position[first:slot] = np.arange(slot - first)
        document[first:slot] = d
    # Bidirectional: everybody asks at time 0 and is visible from time 0 (the table in models/pattern.py).
    inputs = Inputs(tokens, position, segment, document, nothing, nothing)
    return Row(inputs, units, text, starts, len(pieces) == 1 and slot == length)


def plain_row(source: Any, index: int, length: int) -> Row:
    """Row `index` of the packed corpus: [CLS] piece [SEP] [CLS] piece [SEP] ..."""
    spans = source.rows(length, 2)[index]
    return frame(source.tokenizer, [([source.ids[a:b]], [source.units[a:b]]) for a, b in spans], length)


def words(row: Row) -> int:
    """How many words start in the row."""
    return int(np.count_nonzero(row.units & WORD_START))
