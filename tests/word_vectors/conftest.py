"""What tests of several files need: a font of a few characters, made of bars, so that none has to be installed."""

import time
from pathlib import Path
from typing import Any

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from masklab.word_vectors import runner

Bars = list[tuple[int, int, int, int]]  # left, bottom, right, top; a character fills 1000 by 1000


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
