"""Words on a map: where the points are, that labels keep apart, that the same picture has the same bytes."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from masklab.errors import BadInput
from masklab.word_vectors import pictures
from masklab.word_vectors.keyed import WordVectors
from masklab.word_vectors.pictures import COLOURS, FAINT, flatten, save, word_map

NONE = np.empty((0, 2), np.int64)


@pytest.fixture(scope="module")
def vectors():
    """a0 .. a9 and b0 .. b9, where each b is its a and the same step."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, 12))
    rows = np.vstack([rows, rows + 3 * rng.standard_normal(12)])
    return WordVectors([f"{x}{i}" for x in "ab" for i in range(10)], rows.astype(np.float32))


def labels(figure: Figure) -> dict[str, Text]:
    return {text.get_text(): text for text in figure.axes[0].texts if text.get_text()}


def test_pca_is_that_of_scikit_learn(vectors):
    decomposition = pytest.importorskip("sklearn.decomposition")
    flat = flatten(vectors.unit, "pca", NONE)
    theirs = decomposition.PCA(2)
    points = theirs.fit_transform(vectors.unit.astype(float))
    assert np.allclose(np.abs(flat.points), np.abs(points), atol=1e-6)
    shares = [f"{share:.0%}" for share in theirs.explained_variance_ratio_]
    assert shares[0] in flat.across
    assert shares[1] in flat.up


def test_the_common_step_of_pairs_runs_from_left_to_right(vectors):
    steps = np.array([[i, 10 + i] for i in range(10)])
    points = flatten(vectors.vectors, "pairs", steps).points
    arrows = points[10:] - points[:10]
    assert np.allclose(arrows[:, 1], 0, atol=1e-5)
    assert np.allclose(arrows[:, 0], arrows[0, 0])
    assert arrows[0, 0] > 0


def test_tsne_keeps_heaps_apart_and_is_the_same_every_time():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(1)
    rows = np.repeat(rng.standard_normal((2, 8)), 12, axis=0) + 0.05 * rng.standard_normal((24, 8))
    one, two = (flatten(rows, "tsne", NONE).points for _ in range(2))
    assert (one == two).all()
    middle = one[:12].mean(0), one[12:].mean(0)
    assert np.linalg.norm(middle[0] - middle[1]) > np.linalg.norm(one[:12] - middle[0], axis=1).max()


def test_labels_name_all_words_and_cover_no_other(vectors):
    figure = word_map(vectors, [vectors.words[:10], vectors.words[10:]])
    found = labels(figure)
    assert set(found) == set(vectors.words)
    assert found["a3"].get_color() == COLOURS[0]
    assert found["b3"].get_color() == COLOURS[1]
    boxes = [text.get_window_extent() for text in found.values()]
    inside = figure.axes[0].get_window_extent()
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1


def test_a_word_stands_beside_its_own_point(vectors):
    figure = word_map(vectors, vectors.words)
    axes = figure.axes[0]
    points = np.asarray(axes.collections[0].get_offsets())
    at = axes.transData.transform(points)
    for word, (x, y) in zip(vectors.words, at, strict=True):
        box = labels(figure)[word].get_window_extent()
        away = np.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
        assert away < 40 * figure.dpi / 72


def test_two_pairs_are_a_parallelogram(vectors):
    figure = word_map(vectors, pairs=[("a0", "b0"), ("a1", "b1")])
    axes = figure.axes[0]
    a, b, c, d = np.asarray(axes.collections[0].get_offsets())
    corner = np.asarray(axes.collections[1].get_offsets())[0]
    assert np.allclose(corner, c + b - a)
    text = labels(figure)["a1 − a0 + b0"]
    assert text.get_color() == FAINT
    dashed = [line.get_xydata() for line in axes.lines]
    assert np.allclose(dashed[0], [a, c])
    assert np.allclose(dashed[1], [b, d])
    three = word_map(vectors, pairs=[("a0", "b0"), ("a1", "b1"), ("a2", "b2")])
    assert len(labels(three)) == 6  # arrows only
    assert len(three.axes[0].collections) == 1


def test_a_word_in_two_groups_has_the_first_ones_colour(vectors):
    figure = word_map(vectors, [["a0", "a1"], ["a1", "a2"]], pairs=[("a2", "b2")])
    colours = {word: text.get_color() for word, text in labels(figure).items()}
    assert colours == {"a0": COLOURS[0], "a1": COLOURS[0], "a2": COLOURS[1], "b2": COLOURS[2]}


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_picture_has_the_same_bytes(kind, begins, vectors, tmp_path):
    for name in ("one", "two"):
        save(word_map(vectors, ["a0", "a1", "a2"]), tmp_path / f"{name}.{kind}")
    written = (tmp_path / f"one.{kind}").read_bytes()
    assert written.startswith(begins)
    assert written == (tmp_path / f"two.{kind}").read_bytes()


def test_letters_that_no_font_has_are_said(monkeypatch):
    made = WordVectors(["北", "b", "c"], np.eye(3, dtype=np.float32))
    told = []

    def none(characters):
        raise BadInput(f"no font has {characters}")

    monkeypatch.setattr(pictures, "find_font", none)
    word_map(made, made.words, say=told.append)
    assert told == ["some letters are drawn as empty boxes: no font has ['北']"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"words": ["a0", "a1"]}, "at least three words"),
        ({"words": ["a0", "a1", "zebra"]}, "'zebra' is not among"),
        ({"words": ["a0", "a1", "a2"], "method": "pairs"}, "--pair man:woman"),
        ({"words": ["a0", "a1", "a2"], "method": "umap"}, "choose pca, tsne or pairs"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(arguments, said, vectors):
    with pytest.raises(BadInput, match=said):
        word_map(vectors, **arguments)


def test_a_picture_has_an_ending_that_says_its_kind(vectors, tmp_path):
    with pytest.raises(BadInput, match=r"\.png, \.svg or \.pdf"):
        save(word_map(vectors, ["a0", "a1", "a2"]), tmp_path / "map.txt")
    assert list(tmp_path.iterdir()) == []
