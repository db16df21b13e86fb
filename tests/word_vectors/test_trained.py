"""The native folder holds all that was trained, opens without reading it, and says what is wrong with it."""

import json

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary


@pytest.fixture
def trained() -> Trained:
    words = ["the", "naïve", "a\tb", "水", "x\u2028y"]  # a tab and a line separator within words
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2)
    vocabulary = Vocabulary(words, np.array([9, 5, 3, 2, 1]), 25)
    return Trained("skipgram", vocabulary, {"dim": 2, "rate": None}, vectors, {"output": vectors + 1}, 100)


def test_everything_comes_back_memory_mapped(trained, tmp_path):
    trained.save(tmp_path / "v")
    again = Trained.load(tmp_path / "v", check=True)
    assert (again.method, again.settings, again.words_read) == ("skipgram", {"dim": 2, "rate": None}, 100)
    assert again.vocabulary.words == trained.vocabulary.words
    assert again.vocabulary.counts.tolist() == [9, 5, 3, 2, 1]
    assert again.vocabulary.total == 25
    assert isinstance(again.vectors, np.memmap)
    assert np.array_equal(again.vectors, trained.vectors)
    assert np.array_equal(again.arrays["output"], trained.arrays["output"])
    again.save(tmp_path / "v")  # onto itself
    assert np.array_equal(Trained.load(tmp_path / "v").vectors, trained.vectors)


def test_padded_rows_are_written_without_their_padding(trained, tmp_path):
    wide = np.zeros((5, 16), np.float32)
    wide[:, :2] = trained.vectors
    trained.vectors = wide[:, :2]
    trained.save(tmp_path / "v")
    assert (tmp_path / "v/vectors.npy").stat().st_size < 200
    assert np.array_equal(Trained.load(tmp_path / "v").vectors, wide[:, :2])


def test_what_is_wrong_with_a_folder_is_said(trained, tmp_path):
    folder = tmp_path / "v"
    with pytest.raises(BadInput, match="holds no words"):
        Trained.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file"):
        Trained.load(tmp_path / "file")
    trained.save(folder)
    whole = (folder / "vectors.npy").read_bytes()
    (folder / "vectors.npy").write_bytes(whole[:-1] + b"!")
    Trained.load(folder)  # the size is right
    with pytest.raises(BadInput, match=r"vectors\.npy is not the file"):
        Trained.load(folder, check=True)
    (folder / "vectors.npy").write_bytes(whole[:-1])
    with pytest.raises(BadInput, match=r"vectors\.npy is not the file"):
        Trained.load(folder)
    (folder / "vectors.npy").unlink()
    with pytest.raises(BadInput, match=r"vectors\.npy is missing"):
        Trained.load(folder)
    about = json.loads((folder / "words.json").read_text())
    (folder / "words.json").write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(BadInput, match="version 99"):
        Trained.load(folder)
    (folder / "words.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        Trained.load(folder)
