"""fastText's own files: what the official program writes is read, and what is written here opens elsewhere."""

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from gensim.models.fasttext import FastText, load_facebook_model, load_facebook_vectors, save_facebook_model

from masklab.errors import BadInput
from masklab.word_vectors import fasttext, supervised
from masklab.word_vectors.fasttext_files import is_bin, read_bin, write_bin
from masklab.word_vectors.fasttext_rows import Unseen
from masklab.word_vectors.keyed import WordVectors
from masklab.word_vectors.trained import Trained

DIM, BUCKETS = 3, 50
WORDS = {"</s>": 9, "the": 7, "größe": 4, "語言學": 2}
LABELS = {"__label__good": 5, "__label__bad": 4}


def bucket(ngram: str) -> int:
    """FNV-1a over bytes taken as signed numbers, as in the released program."""
    hashed = 2166136261
    for byte in ngram.encode():
        hashed = (hashed ^ (byte if byte < 128 else byte + 0xFFFFFF00)) * 16777619 % 2**32
    return hashed % BUCKETS


def ngrams(word: str) -> list[str]:
    """Two and three characters, the brackets among them."""
    text = f"<{word}>"
    return [text[i : i + n] for i in range(len(text)) for n in (2, 3) if i + n <= len(text)]


def rows_for(dim: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype("<f4")


INPUT, OUTPUT = rows_for(DIM, len(WORDS) + BUCKETS, 1), rows_for(DIM, len(WORDS), 2)
LABEL_OUTPUT = rows_for(DIM, len(LABELS), 3)


def official(model: int = 2, loss: int = 2, version: int = 12, pruned: int = -1, quantised: bool = False) -> bytes:
    """A model byte by byte, by the layout of the released program. model: 1 cbow, 2 skipgram, 3 supervised."""
    entries = {word: (count, 0) for word, count in WORDS.items()}
    entries |= {label: (count, 1) for label, count in LABELS.items()} if model == 3 else {}
    made = struct.pack("<ii", 793712314, version)
    made += struct.pack("<12id", DIM, 4, 6, 2, 5, 2 if model == 3 else 1, loss, model, BUCKETS, 2, 3, 100, 1e-3)
    made += struct.pack("<iiiqq", len(entries), len(WORDS), len(entries) - len(WORDS), 31, pruned)
    for word, (count, kind) in entries.items():
        made += word.encode() + b"\0" + struct.pack("<qb", count, kind)
    output = LABEL_OUTPUT if model == 3 else OUTPUT
    made += struct.pack("<?", quantised) + struct.pack("<qq", *INPUT.shape) + INPUT.tobytes()
    return made + struct.pack("<?", False) + struct.pack("<qq", *output.shape) + output.tobytes()


def vector(word: str, places: dict[str, int]) -> np.ndarray:
    own = [INPUT[places[word]]] if word in places else []
    pieces = [] if word == "</s>" else [INPUT[len(places) + bucket(gram)] for gram in ngrams(word)]
    return np.mean([*own, *pieces], axis=0)


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "official.bin"
    path.write_bytes(official())
    return path


def test_the_official_layout_is_read(model):
    assert is_bin(model)
    trained = read_bin(model)
    assert (trained.method, trained.vocabulary.words) == ("fasttext", list(WORDS))
    assert trained.vocabulary.counts.tolist() == list(WORDS.values())
    assert trained.vocabulary.total == 31
    assert trained.settings == {
        "dim": 3, "window": 4, "epochs": 6, "min_count": 2, "negatives": 5, "loss": "ns", "model": "skipgram",
        "buckets": 50, "shortest": 2, "longest": 3, "sample": 1e-3,
    }  # fmt: skip
    places = {word: i for i, word in enumerate(WORDS)}
    for i, word in enumerate(WORDS):
        assert np.allclose(trained.vectors[i], vector(word, places), atol=1e-6)
    opened = WordVectors.open(model)
    for word in ("größen", "學", "theatre"):
        assert word not in opened
        assert np.allclose(opened[word], vector(word, places), atol=1e-6)
    assert np.array_equal(trained.arrays["output"], OUTPUT)
    theirs = load_facebook_vectors(str(model))
    for word in (*WORDS, "größen", "學"):
        if word != "</s>":  # gensim gives it n-grams
            assert np.allclose(theirs[word], opened[word], atol=1e-6)


@pytest.mark.parametrize(("kind", "loss"), [(1, 1), (2, 2), (3, 3), (3, 1)])
def test_what_is_read_is_written_byte_for_byte(tmp_path, kind, loss):
    (tmp_path / "in.bin").write_bytes(official(kind, loss))
    write_bin(read_bin(tmp_path / "in.bin"), tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == official(kind, loss)


def test_a_classifier_of_the_official_layout(tmp_path):
    (tmp_path / "labels.bin").write_bytes(official(3, 3))
    trained = read_bin(tmp_path / "labels.bin")
    assert (trained.method, trained.settings["labels"]) == ("supervised", list(LABELS))
    classifier = supervised.Classifier(trained)
    places = {word: i for i, word in enumerate(WORDS)}

    def chances(text: str) -> np.ndarray:
        """The mean of all rows: of words, of their n-grams, and of the pairs of words, "</s>" being the last."""
        words = [*text.split(), "</s>"]
        rows, hashes = [], []
        for word in words:
            if word in places:
                rows.append(INPUT[places[word]])
            if word != "</s>":
                rows += [INPUT[len(places) + bucket(gram)] for gram in ngrams(word)]
            hashed = 2166136261
            for byte in word.encode():
                hashed = (hashed ^ (byte if byte < 128 else byte + 0xFFFFFF00)) * 16777619 % 2**32
            hashes.append(hashed if hashed < 2**31 else hashed + 2**64 - 2**32)
        for one, two in pairwise(hashes):
            rows.append(INPUT[len(places) + (one * 116049371 + two) % 2**64 % BUCKETS])
        powers = np.exp(LABEL_OUTPUT @ np.mean(rows, axis=0))
        return powers / powers.sum()

    for text in ("the größe", "the cat", "語言學", ""):
        (answers,) = classifier.predict([text], k=2)
        expected = dict(zip(LABELS, chances(text), strict=True))
        assert {a.label: a.chance for a in answers} == pytest.approx(expected, abs=1e-6)


def lines() -> list[list[str]]:
    random = np.random.default_rng(0)
    words = ["groß", "größe", "größer", "klein", "kleiner", "語言", "語言學"]
    return [[str(w) for w in random.choice(words, 8)] for _ in range(60)]


SMALL = fasttext.Settings(dim=6, min_count=1, buckets=500, epochs=2, deterministic=True)


@pytest.mark.parametrize("loss", ["ns", "hs"])
def test_gensim_opens_what_is_written(tmp_path, loss):
    trained = fasttext.train(lines(), fasttext.Settings(**{**vars(SMALL), "loss": loss}))
    write_bin(trained, tmp_path / "ours.bin")
    again = read_bin(tmp_path / "ours.bin")
    assert np.array_equal(again.vectors, trained.vectors)
    assert again.vocabulary.words == trained.vocabulary.words
    keyed = load_facebook_vectors(str(tmp_path / "ours.bin"))
    unseen, unseen_again = Unseen(trained), Unseen(again)
    for i, word in enumerate(trained.vocabulary.words):
        if word != "</s>":
            assert np.allclose(keyed[word], trained.vectors[i], atol=1e-6)
    for word in ("größeren", "kleinste", "語"):
        assert np.array_equal(unseen(word), unseen_again(word))
        assert np.allclose(keyed[word], unseen(word), atol=1e-6)
    model = load_facebook_model(str(tmp_path / "ours.bin"))
    assert (model.hs, model.vector_size, model.wv.bucket) == (loss == "hs", 6, 500)
    model.train(lines(), total_examples=60, epochs=1)
    assert np.isfinite(model.wv["größer"]).all()


def test_what_gensim_writes_is_read(tmp_path):
    model = FastText(lines(), vector_size=5, min_count=1, bucket=300, epochs=1, workers=1, min_n=2, max_n=4)
    save_facebook_model(model, str(tmp_path / "gensim.bin"))
    opened = WordVectors.open(tmp_path / "gensim.bin")
    for word in ("größe", "語言學", "größeren", "語"):
        assert np.allclose(opened[word], model.wv[word], atol=1e-6)


def test_training_goes_on_with_the_official_file(model):
    start = read_bin(model)
    settings = fasttext.Settings(
        dim=3, shortest=2, longest=3, buckets=BUCKETS, min_count=1, deterministic=True, sample=0, rate=0.1, epochs=1
    )
    trained = fasttext.train([["the", "größe", "new"]] * 9, settings, start=start)
    assert trained.vocabulary.words == [*WORDS, "new"]
    assert not np.allclose(trained.vectors[:4], start.vectors, atol=1e-4)
    assert np.allclose(trained.vectors[3], start.vectors[3], atol=0.5)


def test_damage_is_told_in_one_line(tmp_path):
    path = tmp_path / "damaged.bin"
    whole = official()

    def refused(made: bytes, why: str) -> None:
        path.write_bytes(made)
        with pytest.raises(BadInput, match=why) as caught:
            read_bin(path)
        assert "\n" not in str(caught.value)
        assert "damaged.bin" in str(caught.value)

    for end in range(0, len(whole), 7):
        refused(whole[:end], "ends too early")
    refused(b"word 0.1 0.2\n", "no fastText model")
    refused(official(version=13), "version 13")
    refused(official(pruned=5), "quantised")
    refused(official(quantised=True), "quantised")
    refused(official(model=7), "settings make no sense")
    refused(whole[:60] + struct.pack("<iiiqq", 4, 5, 0, 31, -1) + whole[88:], "dictionary makes no sense")
    with pytest.raises(BadInput, match="is no file"):
        read_bin(tmp_path)


def test_words_that_are_no_text_and_models_of_other_kinds(tmp_path):
    """Some released models hold words cut in the middle of a character."""
    raw = official().replace("größe".encode() + b"\0", b"gr\xf6\xc3\x9fe\0")
    (tmp_path / "raw.bin").write_bytes(raw)
    assert read_bin(tmp_path / "raw.bin").vocabulary.words[2] == "gr\\xf6ße"
    trained = fasttext.train(lines(), SMALL)
    other = Trained("skipgram", trained.vocabulary, trained.settings, trained.vectors)
    with pytest.raises(BadInput, match=r"not skipgram; use \.vec"):
        write_bin(other, tmp_path / "other.bin")
    assert not (tmp_path / "other.bin").exists()
