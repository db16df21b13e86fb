"""Finds a font on this machine that has the characters of a text, and draws them as small pictures.

The pictures are what glyph vectors are made of (glyph.py). No font comes with masklab: a path is given, or the fonts
that matplotlib finds are looked through, well-known ones for Chinese first.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from masklab.errors import BadInput

KNOWN = [
    "Noto Sans CJK", "NotoSansCJK", "NotoSansSC", "SourceHanSans", "wqy-zenhei", "wqy-microhei", "PingFang", "STHeiti",
    "Hiragino Sans GB", "Songti", "msyh", "simsun", "simhei", "uming", "ukai", "DroidSansFallback",
]  # fmt: skip
"""Beginnings of the names of files in which Chinese characters are found, best first."""

ENOUGH = 0.95  # a font that has this share of the text's characters is taken
LEAST = 0.5  # and one that has less than this is none
CURE = (
    "install one, such as the package fonts-noto-cjk or fonts-wqy-zenhei for Chinese, or give the path of a font file"
)


def find_font(characters: Sequence[str], weights: Iterable[float] | None = None) -> Path:
    """The font file of this machine that has these characters.

    weights: how much each character counts, e.g. how often it stands in the text; all the same if None.
    """
    from matplotlib.font_manager import findSystemFonts

    wanted = np.array([ord(character) for character in characters])
    weight = np.ones(len(wanted)) if weights is None else np.fromiter(weights, np.float64)
    best, most = None, 0.0
    for path in sorted(map(Path, findSystemFonts() + findSystemFonts(_matplotlib_fonts())), key=_rank):
        try:
            share = weight[np.isin(wanted, code_points(path))].sum() / weight.sum()
        except BadInput:
            continue
        if share > most:
            best, most = path, share
        if share >= ENOUGH:
            break
    if best is None or most < LEAST:
        there = f"; {best.name} has {most:.0%}, more than the others" if best else ""
        raise BadInput(f"no font on this machine has the characters of the text{there}: {CURE}")
    return best


def _rank(path: Path) -> tuple[int, str]:
    name = path.name.lower()
    known = (k for k, start in enumerate(KNOWN) if name.startswith(start.lower().replace(" ", "")))
    regular = any(style in name for style in ("bold", "italic", "oblique", "light", "thin", "black"))
    return next(known, len(KNOWN)) * 2 + regular, str(path)


def _matplotlib_fonts() -> str:
    from matplotlib import get_data_path

    return f"{get_data_path()}/fonts/ttf"


def code_points(font: str | Path) -> np.ndarray:
    """The code points that a font has, in order."""
    from matplotlib.ft2font import FT2Font

    try:
        return np.array(sorted(FT2Font(str(font)).get_charmap()))
    except FileNotFoundError:
        raise BadInput(f"{font} does not exist; {CURE}") from None
    except (RuntimeError, OSError) as error:
        raise BadInput(f"{font} is not a font that can be read ({error}); {CURE}") from None


def draw(characters: Sequence[str], font: str | Path, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of characters, (n, size, size) uint8, ink is 255; and (n,) bool, whether the font has the character.

    All stand on one line and at one scale, each in the middle from left to right. A character that the font lacks, or
    that is no single letter or sign, has an empty picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    have = np.isin([ord(character) for character in characters], code_points(font))
    face = ImageFont.truetype(str(font), round(size * 0.92))  # a Chinese character fills its square
    pictures = np.zeros((len(characters), size, size), np.uint8)
    for k, character in enumerate(characters):
        if have[k]:
            picture = Image.new("L", (size, size))
            ImageDraw.Draw(picture).text((size / 2, size / 2), character, 255, face, anchor="mm")
            pictures[k] = np.asarray(picture)
    return pictures, have & pictures.any(axis=(1, 2))
