"""Glyph vectors: the loss beside skip-gram's, characters read, unseen ones known by their components, the command."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from masklab.cli import app
from masklab.errors import BadInput
from masklab.word_vectors.glyph import Settings, radical, read_characters, train, unseen
from masklab.word_vectors.glyph_model import Model, _Shares, as_input, look, losses
from masklab.word_vectors.keyed import WordVectors
from masklab.word_vectors.trained import Trained

# A component on the left says what a character is about, one on the right says nothing.
LEFT = [
    [(0, -120, 150, 880)], [(0, 280, 400, 480)], [(0, -120, 100, 880), (250, -120, 350, 880)],
    [(0, 700, 400, 880), (0, -120, 400, 60)],
]  # fmt: skip
RIGHT = [
    [(500, -100 + 160 * k, 980, 20 + 160 * k)] + [(500 + 80 * m, -120, 540 + 80 * m, 100)] * (m > 0)
    for k in range(6) for m in range(2)
]  # fmt: skip
CHARACTERS = [[chr(0x4E00 + 20 * topic + k) for k in range(len(RIGHT))] for topic in range(len(LEFT))]
HELD = [topic[-1] for topic in CHARACTERS]


@pytest.fixture
def font(make_font):
    return make_font("bars.ttf", {
        CHARACTERS[topic][k]: [*LEFT[topic], *RIGHT[k]] for topic in range(len(LEFT)) for k in range(len(RIGHT))
    })  # fmt: skip


def text(held: bool = False, size: int = 600, seed: int = 0) -> list[list[str]]:
    random = np.random.default_rng(seed)
    known = [topic if held else topic[:-1] for topic in CHARACTERS]
    return [["".join(random.choice(known[k % len(known)], 12)), "甲"] for k in range(size)]


def small(path, **changes) -> Settings:
    return Settings(**{"font": path and str(path), "dim": 16, "window": 3, "epochs": 20, "batch": 16, "min_count": 1,
                       "size": 16, "threads": 1} | changes)  # fmt: skip


def test_the_loss_is_that_of_skipgram_on_average():
    """Every pair of the counts and every negative, each in its share."""
    random = np.random.default_rng(0)
    words, dim, negatives = 5, 3, 4
    word, context = np.triu_indices(words)
    number = random.integers(0, 4, len(word)).astype(np.float32)
    shares = _Shares((word.astype(np.int32), context.astype(np.int32), number), words)
    near, weight = shares.of(np.arange(words))
    full = np.zeros((words, words))
    full[word, context] = full[context, word] = number
    assert near.numpy() == pytest.approx(full / full.sum(1, keepdims=True))
    assert weight.numpy() == pytest.approx(np.minimum(full.sum(1) / 30, 1))
    noise = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1])
    rows, contexts = torch.randn(words, dim), torch.randn(words, dim)
    scores = rows @ contexts.T
    ours = losses(scores, near, negatives * noise)
    for c in range(words):
        expected = -sum(near[c, o] * F.logsigmoid(scores[c, o]) for o in range(words))
        expected -= negatives * sum(noise[o] * F.logsigmoid(-scores[c, o]) for o in range(words))
        assert ours[c].item() == pytest.approx(float(expected), rel=1e-4)


def test_a_vector_is_the_picture_and_a_row_of_its_own():
    model = Model(4, 16, 6, torch.randn(4, 6)).eval()
    with torch.no_grad():
        model.own.normal_()
        model.bias.normal_()
    images = as_input(np.random.default_rng(0).integers(0, 255, (4, 16, 16), np.uint8))
    numbers, one, none = torch.arange(4), torch.ones(4, 1), torch.zeros(4, 1)
    looked = model.network(images)
    for drawn, own, expected in ((one, one, looked + model.own), (one, none, looked), (none, one, model.own)):
        scores = model(numbers, images, drawn, own)
        assert torch.allclose(scores, expected @ model.contexts.T + model.bias, atol=1e-5)


def test_unseen_characters_go_by_their_component(font):
    trained = train(text(), small(font))
    assert not set(HELD) & set(trained.vocabulary.words)
    vectors = WordVectors.from_trained(trained)
    for topic, held in zip(CHARACTERS, HELD, strict=True):
        near = [word for word, _ in vectors.nearest(unseen(trained, [held])[0], 5)]
        assert len(set(near) & set(topic)) >= 4
        assert [word for word, _ in vectors.nearest(held, 5)] == near


def test_kept_and_continued(font, tmp_path):
    first = train(text(), small(font, epochs=4))
    first.save(tmp_path / "glyphs")
    again = Trained.load(tmp_path / "glyphs")
    assert np.array_equal(unseen(again, HELD), unseen(first, HELD))
    second = train(text(held=True, size=200), small(None, epochs=4), start=again)
    assert second.vocabulary.words[: len(first.vocabulary)] == first.vocabulary.words
    assert set(second.vocabulary.words) - set(first.vocabulary.words) == set(HELD)
    assert second.words_read == first.words_read + 200 * 13
    still = train(text(), small(font, epochs=1, rate=1e-9), start=first)
    assert np.allclose(still.vectors, first.vectors, atol=1e-4)
    with pytest.raises(BadInput, match="glyph with dim=17"):
        train(text(), small(font, dim=17), start=first)
    moved = Trained(first.method, first.vocabulary, first.settings | {"font": str(tmp_path / "gone.ttf")},
                    first.vectors, first.arrays)  # fmt: skip
    with pytest.raises(BadInput, match=r"gone\.ttf, with which .* name another font"):
        unseen(moved, HELD)
    assert np.array_equal(unseen(moved, HELD, font), unseen(first, HELD))
    with pytest.raises(BadInput, match="has no character '缺'"):
        unseen(first, ["缺"])


def test_the_same_seed_gives_the_same_bits(font):
    one, two, other = (
        train(text(), small(font, epochs=2, threads=0, deterministic=True, seed=seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(one.vectors, two.vectors)
    assert not np.allclose(one.vectors, other.vectors, atol=0.01)


def test_centring_changes_no_score(font):
    """What is taken off the vectors is in the biases: the network's pictures and rows still add up to the vectors."""
    trained = train(text(), small(font, epochs=2))
    from masklab.word_vectors.fonts import draw

    pictures, drawn = draw(trained.vocabulary.words, font, 16)
    assert not drawn[trained.vocabulary.index["甲"]]
    looked = look(trained.arrays, pictures, 16) * drawn[:, None]
    assert np.allclose(looked + trained.arrays["own"], trained.vectors, atol=1e-4)
    for part in (trained.vectors, looked, trained.arrays["own"]):
        assert np.allclose(part[drawn].mean(0), 0, atol=1e-5)


def test_it_can_be_stopped_or_timed(font):
    records = []
    stopped = train(text(), small(font, epochs=10**6), stop=lambda: True, watch=records.append)
    assert np.isfinite(stopped.vectors).all()
    assert records[-1]["kind"] == "stopped"
    timed = train(text(), small(font, seconds=0.2), watch=records.append)
    assert np.isfinite(timed.vectors).all()
    assert records[-1]["kind"] == "end"
    with pytest.raises(BadInput, match="smaller rate"):
        train(text(), small(font, rate=1e20, epochs=5))


def test_characters_are_read(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("甲乙 甲　a\n乙丙\n\n𠀀", "utf-8")
    vocabulary, ids = read_characters(path, min_count=1)
    assert vocabulary.words == ["甲", "乙", "a", "丙", "𠀀"]
    assert vocabulary.counts.tolist() == [2, 2, 1, 1, 1]
    assert "".join("|" if i < 0 else vocabulary.words[i] for i in ids.tolist()).replace("||", "|").strip("|") == (
        "甲乙甲a|乙丙|𠀀"
    )
    assert read_characters(path, min_count=2).vocabulary.words == ["甲", "乙"]
    assert read_characters(path, min_count=1, max_characters=3).vocabulary.words == ["甲", "乙", "a"]
    grown, ids = read_characters([["丙丁"]], 1, vocabulary=vocabulary)
    assert grown.words == [*vocabulary.words, "丁"]
    assert [i for i in ids.tolist() if i >= 0] == [3, 5]
    with pytest.raises(BadInput, match="min_count=9"):
        read_characters(path, min_count=9)


def test_bad_settings(font):
    for name, value in {"dim": 0, "size": 7, "own_dropout": 1, "epochs": 0, "rate": 0, "batch": 0}.items():
        with pytest.raises(BadInput, match=name):
            Settings(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no two characters"):
        train([["甲"], ["一"]], small(font))
    with pytest.raises(BadInput, match="has no character of the corpus"):
        train([["缺無缺"]], small(font))
    with pytest.raises(BadInput, match=r"absent\.ttf does not exist"):
        train(text(), small("absent.ttf"))


def test_radicals_are_those_of_dictionaries():
    expected = {
        "一": 1,
        "河": 85,
        "海": 85,
        "林": 75,
        "鐵": 167,
        "铁": 167,
        "說": 149,
        "说": 149,
        "妈": 38,
        "龠": 214,
        "鸟": 196,
    }
    assert {character: radical(character) for character in expected} == expected
    assert [radical(other) for other in "a，あ"] == [0, 0, 0]


def test_the_command(font, tmp_path):
    corpus, out = tmp_path / "text.txt", tmp_path / "glyphs"
    corpus.write_text("\n".join("".join(line) for line in text(size=60)), "utf-8")

    def run(*arguments: object):
        return CliRunner().invoke(app, ["words", *map(str, arguments)], catch_exceptions=False)

    done = run("glyph", "--corpus", corpus, "--font", font, "--out", out, "--dim", 8, "--epochs", 2, "--min-count", 1,
               "--size", 16, "--threads", 1)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert Trained.load(out).settings["font"] == str(font)
    done = run("nearest", out, HELD[0])
    assert done.exit_code == 0, done.output
    done = run("glyph", "--corpus", corpus, "--font", tmp_path / "absent.ttf", "--out", out)
    assert (done.exit_code, "absent.ttf does not exist" in done.output) == (2, True)
