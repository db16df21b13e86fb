"""What tests of several files need: a font of a few characters, made of bars, so that none has to be installed; what
copies of hot rows must not change."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from masklab.word_vectors import runner
from masklab.word_vectors.hot_rows import settle

Bars = list[tuple[int, int, int, int]]  # left, bottom, right, top; a character fills 1000 by 1000


@pytest.fixture
def copies_change_nothing() -> Callable[[Any, Any, int | None], None]:
    """Two test desks read the same text, `hot` with copies of its hot rows: put together, its tables are cold's."""

    def check(cold: Any, hot: Any, tile: int | None) -> None:
        cold.read(tile)
        inputs, outputs = hot.copied()
        hot.read(tile)
        assert np.abs(hot.inputs[inputs] - cold.inputs[inputs]).max() > 1e-3  # not put together yet
        assert np.abs(hot.outputs[outputs] - cold.outputs[outputs]).max() > 1e-3
        settle(hot.inputs, hot.desk.hot_inputs)
        settle(hot.outputs, hot.desk.hot_outputs)
        assert np.allclose(hot.inputs[: len(cold.inputs)], cold.inputs, atol=1e-4)
        assert np.allclose(hot.outputs[: len(cold.outputs)], cold.outputs, atol=1e-4)

    return check


def write_font(path: Path, drawings: dict[str, Bars]) -> Path:
    """A TrueType font with these characters."""
    names = {ord(character): f"g{ord(character)}" for character in drawings}
    glyphs = {".notdef": TTGlyphPen(None).glyph()}
    for character, bars in drawings.items():
        pen = TTGlyphPen(None)
        for left, bottom, right, top in bars:
            pen.moveTo((left, bottom))
            for corner in ((left, top), (right, top), (right, bottom)):
                pen.lineTo(corner)
            pen.closePath()
        glyphs[names[ord(character)]] = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap(names)
    builder.setupGlyf(glyphs)
    table: Any = builder.font["glyf"]
    builder.setupHorizontalMetrics({name: (1000, getattr(table[name], "xMin", 0)) for name in glyphs})
    builder.setupHorizontalHeader(ascent=880, descent=-120)
    builder.setupNameTable({"familyName": "Bars", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=880, sTypoDescender=-120)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def make_font(tmp_path):
    """make_font(name, {character: bars}) -> the font's path."""
    return lambda name, drawings: write_font(tmp_path / name, drawings)


@pytest.fixture
def can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks begin a moment after each other, so that a stop is asked for in time, however busy the machine is."""
    take = runner._State.take

    def slowly(state: Any, last: float) -> int | None:
        time.sleep(0.01)
        return take(state, last)

    monkeypatch.setattr(runner, "PICTURE", 0.001)
    monkeypatch.setattr(runner._State, "take", slowly)
