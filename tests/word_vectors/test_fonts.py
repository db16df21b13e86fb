"""Fonts: the one that has the text's characters is found, and what it draws is what it holds."""

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors.fonts import code_points, draw, find_font

FULL = (0, -120, 1000, 880)
LEFT, RIGHT, LOW = (0, -120, 400, 880), (600, -120, 1000, 880), (0, -120, 1000, 280)


@pytest.fixture
def installed(monkeypatch):
    """installed([paths]): the fonts of this machine are these, and no others."""

    def only(found):
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda folder=None: [] if folder else found)

    return only


def test_pictures_show_what_the_font_holds(make_font):
    font = make_font("bars.ttf", {"左": [LEFT], "右": [RIGHT], "下": [LOW], "全": [FULL]})
    assert [chr(point) for point in code_points(font)] == sorted("左右下全")
    for size in (16, 24, 32):
        pictures, drawn = draw(list("左右下全缺"), font, size)
        assert (pictures.shape, pictures.dtype) == ((5, size, size), np.uint8)
        assert drawn.tolist() == [True] * 4 + [False]
        left, right, low, full, missing = pictures.astype(int)
        assert left[:, : size // 3].sum() > 20 * left[:, size // 2 :].sum()
        assert abs(left - right[:, ::-1]).mean() < 50  # edges are rounded to pixels
        assert low[2 * size // 3 :].sum() > 5 * low[: size // 2].sum()
        assert full.mean() > 0.8 * 255
        assert not missing.any()


def test_ink_stays_inside_at_one_scale(make_font):
    """A dot does not grow to fill its picture, and what reaches over the square is cut."""
    font = make_font("dots.ttf", {"丶": [(450, 330, 550, 430)], "大": [(-500, -600, 1500, 1400)]})
    (dot, large), drawn = draw(["丶", "大"], font, 32)
    assert drawn.all()
    assert 0 < (dot > 0).sum() < 30
    assert large.min() == 255


def test_characters_without_ink_or_of_several_code_points_have_no_picture(make_font):
    font = make_font("bars.ttf", {"左": [LEFT], "　": []})
    _, drawn = draw(["左", "　"], font)
    assert drawn.tolist() == [True, False]


def test_the_font_that_has_the_text_is_found(make_font, installed):
    latin = make_font("a.ttf", {"a": [FULL]})
    little = make_font("b.ttf", {"河": [LEFT], "海": [LEFT], "湖": [LEFT]})
    much = make_font("c.ttf", {character: [LEFT] for character in "河海湖林"})
    broken = much.with_name("d.ttf")
    broken.write_bytes(b"no font")
    installed([str(path) for path in (broken, latin, little, much)])
    assert find_font("河海湖林") == much
    assert find_font("河海湖林", [100, 100, 100, 1]) == little  # enough, and the first to be
    assert find_font("河海湖林" + "缺" * 2) == much  # no font has them all


def test_well_known_fonts_come_first(make_font, installed):
    drawings = {character: [LEFT] for character in "河海"}
    names = "aaa.ttf", "wqy-zenhei-bold.ttf", "wqy-zenhei.ttf"
    installed([str(make_font(name, drawings)) for name in names])
    assert find_font("河海").name == "wqy-zenhei.ttf"


def test_no_font_is_an_error_that_names_a_package(make_font, installed):
    little = make_font("b.ttf", {"河": [LEFT]})
    installed([])
    with pytest.raises(BadInput, match=r"fonts-noto-cjk.*or give the path of a font"):
        find_font("河海湖林")
    installed([str(little)])
    with pytest.raises(BadInput, match=r"b\.ttf has 25%"):
        find_font("河海湖林")


def test_what_is_no_font(tmp_path):
    with pytest.raises(BadInput, match=r"absent\.ttf does not exist; install one"):
        code_points(tmp_path / "absent.ttf")
    (tmp_path / "text.ttf").write_text("text")
    with pytest.raises(BadInput, match=r"text\.ttf is not a font that can be read"):
        draw(["a"], tmp_path / "text.ttf")
    with pytest.raises(BadInput, match="is not a font"):
        draw(["a"], tmp_path)
