"""Words as rows of character numbers: the UTF-8 bytes of a word between marks for its begin and end, always 50 long.

The table of 262 symbols is that of the released models of Peters et al. 2018, "Deep contextualized word
representations", so that a word of any script can be read and none is unknown.

    spelled(["cat"], 7) -> [[259, 100, 98, 117, 260, 261, 261]]     byte + 1; 261 fills
"""

from collections.abc import Sequence

import numpy as np

LENGTH = 50
SYMBOLS = 262
NOTHING = 0  # a slot without a word
FIRST, LAST = 257, 258  # the one symbol of the marks before the first and after the last word
BEGIN, END, FILL = 259, 260, 261


def spelled(words: Sequence[str], length: int = LENGTH) -> np.ndarray:
    """(words, length) uint16; of a word with more bytes than fit between its marks, the first ones."""
    written = [word.encode("utf-8", "surrogatepass")[: length - 2] for word in words]
    sizes = np.fromiter(map(len, written), np.int64, len(written))
    rows = np.full((len(written), length), FILL, np.uint16)
    place = np.arange(length)
    rows[:, 0] = BEGIN
    rows[(place >= 1) & (place <= sizes[:, None])] = np.frombuffer(b"".join(written), np.uint8).astype(np.uint16) + 1
    rows[place == sizes[:, None] + 1] = END
    return rows


def marks(length: int = LENGTH) -> np.ndarray:
    """(2, length) uint16: what stands before the first and after the last word of a text."""
    rows = np.full((2, length), FILL, np.uint16)
    rows[:, 0], rows[:, 1], rows[:, 2] = BEGIN, (FIRST, LAST), END
    return rows


def read(row: np.ndarray) -> str:
    """The word that a row spells: the inverse of `spelled`, but for what was cut off."""
    symbols = row[1 : int(np.flatnonzero(row == END)[0])]
    if len(symbols) == 1 and symbols[0] in (FIRST, LAST):
        return "<S>" if symbols[0] == FIRST else "</S>"
    return (symbols - 1).astype(np.uint8).tobytes().decode("utf-8", "replace")
