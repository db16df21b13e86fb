"""Decimal numbers: read as Python reads them, written as short as can be and read back the same."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.word_vectors.decimals import FINE, ODD, parse, render


def parsed(texts):
    """Each number's value, and whether it could be told exactly."""
    text = "".join(f"w {one}\n" for one in texts).encode()
    out, spans = np.empty((len(texts), 1), np.float32), np.empty((len(texts), 4), np.int64)
    states = np.empty(len(texts), np.uint8)
    assert parse(np.frombuffer(text, np.uint8), 1, out, spans, states) == len(texts)
    return out[:, 0], states


def rendered(values):
    text, stops = np.empty(20 * len(values), np.uint8), np.empty(len(values), np.int64)
    states = np.empty(len(values), np.uint8)
    names, ends = np.full(len(values), ord("w"), np.uint8), np.arange(1, len(values) + 1)
    render(names, ends, values[:, None], text, stops, states)
    return [line[2:].decode() for line in text[: stops[-1]].tobytes().splitlines()], states


def agrees(texts):
    values, states = parsed(texts)
    with np.errstate(over="ignore"):
        right = np.array([float(text) for text in texts]).astype(np.float32)
    fine = states == FINE
    assert set(states.tolist()) <= {FINE, ODD}
    assert (values[fine].view(np.uint32) == right[fine].view(np.uint32)).all()
    return fine.mean()


def test_numbers_as_programs_write_them():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(3000) * 0.3
    for form in ("{:.6f}", "{:.9g}", "{:.17g}", "{:e}", "{:.25f}", "{:+.3f}", "{!r}"):
        assert agrees([form.format(x) for x in values.tolist()]) > 0.999  # hardly any is left to Python
    spread = np.exp(rng.uniform(-70, 70, 3000))
    assert agrees([f"{x:.12g}" for x in spread.tolist()]) > 0.99


def test_numbers_in_the_middle_between_two_floats():
    """Where the last bit decides: they must be left to Python, or right."""
    low = np.random.default_rng(1).standard_normal(2000).astype(np.float32)
    middle = (low.astype(float) + np.nextafter(low, np.float32(9)).astype(float)) / 2
    agrees([repr(x) for x in middle.tolist()])
    agrees([f"{x:.30f}" for x in middle.tolist()])
    agrees([repr(float(np.nextafter(x, 9))) for x in middle.tolist()])


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"\A[+-]?([0-9]{1,25}\.?[0-9]{0,25}|\.[0-9]{1,25})([eE][+-]?[0-9]{1,4})?\Z"))
def test_any_number(text):
    agrees([text])


def test_what_is_no_number_is_left_alone():
    for text in ("x", "1x", "--1", "1e", "1e+", ".", "+", "nan", "inf", "0x10", "1_0", "1,5", "1.5.2"):
        assert parsed([text])[1].tolist() == [ODD], text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=50))
def test_any_float_reads_back_the_same_and_is_short(bits):
    values = np.array(bits, np.uint32).view(np.float32)
    values = values[np.isfinite(values) & ((values == 0) | ((np.abs(values) > 1e-12) & (np.abs(values) < 1e14)))]
    texts, states = rendered(values) if len(values) else ([], np.empty(0))
    assert (states == FINE).all()
    for text, value in zip(texts, values, strict=True):
        assert np.float32(float(text)).view(np.uint32) == value.view(np.uint32)
        assert len(text) <= len(str(value))  # numpy's shortest


def test_examples():
    values = np.array([0.5, 3, 1.2e-6, -0.0, 123456.7, 1e10, 0.1, 1 / 3], np.float32)
    texts, _ = rendered(values)
    assert texts == ["0.5", "3.0", "1.2e-06", "-0.0", "123456.7", "1e+10", "0.1", "0.33333334"]
    _, states = rendered(np.array([np.nan, np.inf, 1e-30, 1e30], np.float32))
    assert (states == ODD).all()
