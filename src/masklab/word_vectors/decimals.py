"""Decimal numbers in text, read and written by the million: each float32 exactly as Python would read or write it.

Reading: up to 19 digits make an integer, a power of ten is multiplied or divided in, and the double is rounded to
float32 (Clinger 1990, "How to read floating point numbers accurately"). The double is off by a few units in its last
place at most, so only one that close to the middle between two float32 is left to the caller, who asks Python.
Writing: the shortest of 6 to 9 digits that reads back as the same float32 (9 always do).
"""

import math
from functools import partial

import numpy as np

from masklab.word_vectors.compiling import kernel

exact = partial(kernel, fastmath=False)  # the last bit of every number matters here

FINE, SHORT, LONG, ODD, NAMELESS = range(5)  # what `parse` says of a line

_TENS = 10.0 ** np.arange(23)  # the powers of ten that a double holds exactly
_SPACE, _TAB, _RETURN, _NEWLINE = ord(" "), ord("\t"), ord("\r"), ord("\n")
_PLUS, _MINUS, _POINT, _ZERO, _NINE = ord("+"), ord("-"), ord("."), ord("0"), ord("9")
_E, _UPPER_E = ord("e"), ord("E")
_FULL = np.uint64(10**18)  # an integer of 64 bits has room for one digit more
_MIDDLE, _LOW = 1 << 28, (1 << 29) - 1  # of a double's 52 bits of fraction float32 keeps the upper 23
_NEAR = 16  # units in a double's last place; the arithmetic below is off by less than 4
_SMALLEST, _LARGEST = 2.0**-126, 3.4e38  # between them float32 has all its 24 bits


@exact
def parse(text, dim, out, spans, states):
    """Lines "word number ... number" of `text` (bytes, the last line ended) -> how many lines there were.

    out: (lines, dim) float32. spans: (lines, 4) int64, where a line's word begins and ends, then its numbers.
    states: (lines,) uint8, FINE or what is wrong; the numbers of an ODD line must be read by someone slower. The word
    is all that stands before the last `dim` fields and may have spaces in it. Blank lines are SHORT, without a span.
    """
    scratch = np.zeros(1, np.float64)
    bits = scratch.view(np.int64)
    at = 0
    line = 0
    while at < text.size:
        start = at
        while text[at] != _NEWLINE and not _is_gap(text[at]):
            at += 1
        word = at
        at = _behind_gap(text, at)
        numbers = at
        state = FINE if word > start else NAMELESS
        for column in range(dim):
            at, value, exact = _number(text, at, scratch, bits)
            at = _behind_gap(text, at)
            out[line, column] = value
            if not exact:
                state = ODD
                break
        spans[line, 0], spans[line, 1], spans[line, 2], spans[line, 3] = start, word, numbers, at
        if state != FINE or text[at] != _NEWLINE:  # a word with spaces, an odd number, or a fault
            while text[at] != _NEWLINE:
                at += 1
            state = _look_again(text, start, at, out[line], spans[line], scratch, bits)
        states[line] = state
        line += 1
        at += 1
    return line


@exact
def _look_again(text, start, end, row, span, scratch, bits):
    """The line between `start` and `end` from its end backwards: the last fields are the numbers, all else the word."""
    while end > start and _is_gap(text[end - 1]):
        end -= 1
    cut = end
    fields = 0
    while fields < len(row) and cut > start:
        while cut > start and _is_gap(text[cut - 1]):
            cut -= 1
        while cut > start and not _is_gap(text[cut - 1]):
            cut -= 1
        fields += 1
    span[2], span[3] = cut, end
    while cut > start and _is_gap(text[cut - 1]):
        cut -= 1
    span[0], span[1] = start, cut
    if fields < len(row) or span[2] == start:
        return SHORT
    if cut == start:
        return NAMELESS
    last = cut
    while last > start and not _is_gap(text[last - 1]):
        last -= 1
    if last > start:
        after, _, _ = _number(text, last, scratch, bits)
        if after == cut and _has_digit(text, last):
            return LONG
    at = span[2]
    for column in range(len(row)):
        at, row[column], exact = _number(text, at, scratch, bits)
        if not exact:
            return ODD
        at = _behind_gap(text, at)
    return FINE


@exact
def _has_digit(text, at):
    """Whether what stands at `at` can be a number: "-.5" can, ".", "e5" and "-" cannot."""
    at += text[at] == _PLUS or text[at] == _MINUS
    at += text[at] == _POINT
    return _ZERO <= text[at] <= _NINE


@exact
def _is_gap(byte):
    return byte in (_SPACE, _TAB, _RETURN)


@exact
def _behind_gap(text, at):
    while _is_gap(text[at]):
        at += 1
    return at


@exact
def _number(text, at, scratch, bits):
    """What stands at `at`, read as a number -> (where that ends, its value, whether it is exactly the nearest float32).

    scratch: (1,) float64, and bits: the same memory as int64. Some byte behind the number is no part of one.
    """
    negative = text[at] == _MINUS
    at += negative or text[at] == _PLUS
    first = at
    digits = np.uint64(0)
    power = 0
    while _ZERO <= text[at] <= _NINE:
        if digits < _FULL:
            digits = digits * np.uint64(10) + np.uint64(text[at] - _ZERO)
        else:
            power += 1  # the digit changes less than the last place of a double
        at += 1
    seen = at > first
    if text[at] == _POINT:
        at += 1
        first = at
        while _ZERO <= text[at] <= _NINE and digits < _FULL:
            digits = digits * np.uint64(10) + np.uint64(text[at] - _ZERO)
            at += 1
        power -= at - first
        seen = seen or at > first
        while _ZERO <= text[at] <= _NINE:
            at += 1
    if text[at] == _E or text[at] == _UPPER_E:
        at += 1
        down = text[at] == _MINUS
        at += down or text[at] == _PLUS
        seen = seen and _ZERO <= text[at] <= _NINE
        raised = 0
        while _ZERO <= text[at] <= _NINE:
            raised = min(raised * 10 + text[at] - _ZERO, 10000)
            at += 1
        power += -raised if down else raised
    value = float(digits)
    if -22 <= power < 0:
        value /= _TENS[-power]
    elif power < -44 or power > 44:
        seen = seen and digits == 0
    elif power < 0:
        value = value / _TENS[22] / _TENS[-power - 22]
    elif power > 0:
        value = value * _TENS[min(power, 22)] * _TENS[max(power - 22, 0)]
    scratch[0] = value
    near = abs((bits[0] & _LOW) - _MIDDLE) < _NEAR or not _SMALLEST < value < _LARGEST
    exact = seen and (digits == 0 or not near) and (text[at] == _NEWLINE or _is_gap(text[at]))
    return at, (-value if negative else value), exact


@exact
def render(names, ends, vectors, text, stops, states):
    """Lines "word number ... number\\n" into `text` (bytes, room for every name and 17 bytes a number).

    names: the words' bytes, one after the other; ends: (lines,) int64, where each ends. vectors: (lines, dim) float32.
    stops: (lines,) int64, where each line's text ends. states: (lines,) uint8, ODD where a number needs someone slower:
    not finite, or too small or large for the powers of ten at hand.
    """
    digits = np.empty(20, np.uint8)
    at = 0
    for line in range(len(ends)):
        for i in range(ends[line - 1] if line else 0, ends[line]):
            text[at] = names[i]
            at += 1
        states[line] = FINE
        for column in range(vectors.shape[1]):
            text[at] = _SPACE
            at, fine = _write(text, at + 1, vectors[line, column], digits)
            if not fine:
                states[line] = ODD
        text[at] = _NEWLINE
        at += 1
        stops[line] = at


@exact
def _write(text, at, value, digits):
    """One number at `at` -> (where it ends, whether it is there). 0.5 -> "0.5", 3 -> "3.0", 0.0000012 -> "1.2e-06"."""
    size = abs(float(value))
    if math.copysign(1.0, value) < 0:
        text[at] = _MINUS
        at += 1
    if value == 0:
        text[at], text[at + 1], text[at + 2] = _ZERO, _POINT, _ZERO
        return at + 3, True
    if not 1e-13 < size < 1e15:
        return at, False
    first = int(np.floor(np.log10(size)))  # the power of ten of the first digit
    whole = 0
    power = 0
    for kept in range(6, 10):
        power = kept - 1 - first
        whole = int(np.rint(size * _TENS[power] if power >= 0 else size / _TENS[-power]))
        back = whole / _TENS[power] if power >= 0 else whole * _TENS[-power]
        if np.float32(back) == np.float32(size):
            break
        whole = 0
    if whole == 0:
        return at, False
    while whole % 10 == 0:
        whole //= 10
        power -= 1
    count = 0
    while whole > 0:
        digits[count] = _ZERO + whole % 10  # the last one first
        whole //= 10
        count += 1
    first = count - 1 - power  # the logarithm may have been off by one next to a power of ten
    last = first - count + 1
    plain = -4 <= first < 9
    top, bottom = (max(first, 0), min(last, -1)) if plain else (first, last)
    for place in range(top, bottom - 1, -1):
        text[at] = digits[place - last] if last <= place <= first else _ZERO
        at += 1
        if place == (0 if plain else first) and place > bottom:
            text[at] = _POINT
            at += 1
    if not plain:
        text[at], text[at + 1] = _E, (_MINUS if first < 0 else _PLUS)
        text[at + 2], text[at + 3] = _ZERO + abs(first) // 10, _ZERO + abs(first) % 10
        at += 4
    return at, True
