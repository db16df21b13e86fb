"""Training skip-gram and CBOW from a text to its end: the same bits again, going on, every kind of corpus, quality."""

import gzip
import threading
import time
from dataclasses import replace

import gensim
import numpy as np
import pytest
from typer.testing import CliRunner

from masklab.cli import app
from masklab.errors import BadInput
from masklab.word_vectors import runner, tiles, word2vec
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.word2vec import Settings, train

SMALL = Settings(dim=20, epochs=2, min_count=2, deterministic=True, sample=0, seed=3)
KINDS = [
    SMALL,
    replace(SMALL, shared=False),
    replace(SMALL, loss="hs"),
    replace(SMALL, model="cbow"),
    replace(SMALL, model="cbow", loss="hs"),
]


def sentences(topics: int = 8, each: int = 60, seed: int = 0) -> list[list[str]]:
    """Sentences about topics, each with six words of its own among some that go with all."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(topics * each):
        topic = random.integers(topics)
        own = [f"t{topic}w{i}" for i in random.integers(0, 6, 8)]
        found.append([w for word in own for w in (word, f"all{random.integers(5)}")])
    return found


def same_topic(words: list[str], vectors: np.ndarray) -> float:
    """Of the words of topics: how often is the nearest other one of the same topic?"""
    own = [i for i, word in enumerate(words) if word.startswith("t")]
    x = vectors[own] / np.linalg.norm(vectors[own], axis=1, keepdims=True)
    alike = x @ x.T - 2 * np.eye(len(own))
    return float(np.mean([words[own[i]][:2] == words[own[j]][:2] for i, j in enumerate(alike.argmax(1))]))


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: f"{s.model} {s.loss} {s.shared}")
def test_topics_are_found_and_the_same_bits_come_again(settings):
    text = sentences()
    one, two = train(text, replace(settings, epochs=8)), train(text, replace(settings, epochs=8))
    assert one.vectors.shape == (len(one.vocabulary), 20)
    assert one.words_read == 8 * one.vocabulary.total
    assert np.array_equal(one.vectors, two.vectors)
    assert np.array_equal(one.arrays["output"], two.arrays["output"])
    assert same_topic(one.vocabulary.words, one.vectors) > 0.95
    other = train(text, replace(settings, seed=4))
    assert not np.array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize("sg", [1, 0])
@pytest.mark.parametrize("hs", [0, 1])
def test_quality_is_that_of_gensim(sg, hs):
    """On an amount of text from which the topics can just about be learnt: neither finds all, neither more."""
    text = sentences(topics=30, each=12)
    scores: dict[str, list[float]] = {"gensim": [], "masklab": []}
    for seed in range(3):
        model = gensim.models.Word2Vec(
            text, vector_size=20, window=5, min_count=2, sample=0, sg=sg, hs=hs, negative=0 if hs else 5, epochs=5,
            alpha=0.025 if sg else 0.05, workers=1, seed=seed, batch_words=100,
        )  # fmt: skip  # (its rate falls once a batch)
        scores["gensim"].append(same_topic([str(word) for word in model.wv.index_to_key], model.wv.vectors))
        settings = replace(SMALL, model="skipgram" if sg else "cbow", loss="hs" if hs else "ns", epochs=5, seed=seed)
        mine = train(text, settings)
        scores["masklab"].append(same_topic(mine.vocabulary.words, mine.vectors))
    assert np.mean(scores["masklab"]) > np.mean(scores["gensim"]) - 0.1, scores


def test_without_tiles_the_plain_loops_train_the_same(monkeypatch):
    text = sentences()
    for settings in KINDS:
        tiled = train(text, settings)
        with monkeypatch.context() as patch:
            patch.setattr(tiles, "TILE", None)
            loops = train(text, settings)
        assert np.abs(loops.vectors - tiled.vectors).max() < 1e-3
        assert np.abs(loops.vectors - tiled.vectors).mean() < 1e-5


def test_threads_train_as_well():
    text = sentences()
    found = train(text, replace(SMALL, deterministic=False, threads=2, epochs=8))
    assert same_topic(found.vocabulary.words, found.vectors) > 0.95


def test_all_kinds_of_corpus_give_the_same_vectors(tmp_path):
    text = sentences(each=10)
    lines = [" ".join(words) + "\n" for words in text]
    (tmp_path / "all.txt").write_text("".join(lines))
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "1.txt").write_text("".join(lines[:40]))
    with gzip.open(folder / "2.txt.gz", "wt") as file:
        file.writelines(lines[40:])
    expected = train(text, SMALL)
    corpora = [tmp_path / "all.txt", [folder / "1.txt", folder / "2.txt.gz"], folder, (words for words in text)]
    for corpus in corpora:
        found = train(corpus, SMALL)
        assert found.vocabulary.words == expected.vocabulary.words
        assert np.array_equal(found.vectors, expected.vectors)


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, loss="hs")], ids=["ns", "hs"])
def test_training_goes_on_with_new_text_and_new_words(settings, tmp_path):
    first = train(sentences(topics=4), replace(settings, epochs=8))
    first.save(tmp_path / "v")
    start = Trained.load(tmp_path / "v")
    told = []
    more = train(sentences(topics=6, seed=1), replace(settings, epochs=8), start=start, watch=told.append)
    assert more.vocabulary.words[: len(first.vocabulary)] == first.vocabulary.words
    assert len(more.vocabulary) == len(first.vocabulary) + 12
    assert more.words_read > first.words_read
    assert same_topic(more.vocabulary.words, more.vectors) > 0.95
    assert np.array_equal(first.vectors, start.vectors)
    warned = [record["text"] for record in told if record["kind"] == "warning"]
    assert any("new tree" in text for text in warned) == (settings.loss == "hs")


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, loss="hs")], ids=["ns", "hs"])
def test_a_stopped_run_is_taken_up_to_the_same_bits(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(word2vec, "borders_of", lambda ids: np.arange(0, len(ids) + 1, len(ids) // 4))
    text = sentences(each=20)
    whole = train(text, settings)
    kernel_for, chunks, asked = word2vec._work, [], threading.Event()

    def stop() -> bool:
        if len(chunks) >= 3:
            asked.set()
        return asked.is_set()

    def slow(*arguments):
        kernel = kernel_for(*arguments)

        def work(chunk: runner.Chunk) -> runner.Loss:
            if chunk.end:  # not the first, empty one, for which kernels are compiled
                chunks.append(chunk)
                if len(chunks) >= 3:
                    asked.wait(10)
                    time.sleep(0.05)  # so that the run is ended before all chunks are done
            return kernel(chunk)

        return work

    with monkeypatch.context() as patch:
        patch.setattr(word2vec, "_work", slow)
        patch.setattr(runner, "PICTURE", 0.01)
        half = train(text, settings, stop=stop)
    assert half.words_read < whole.words_read
    half.save(tmp_path / "v")
    told = []
    rest = train(text, settings, start=Trained.load(tmp_path / "v"), watch=told.append)
    assert next(record for record in told if record["kind"] == "begin")["resumed"]
    assert np.array_equal(rest.vectors, whole.vectors)
    assert rest.words_read == whole.words_read
    assert "stopped" not in rest.settings


def test_a_time_budget():
    found = train(sentences(), replace(SMALL, deterministic=False, threads=1, seconds=0.5))
    assert found.words_read > 0
    assert np.isfinite(found.vectors).all()


def test_compiling_is_said_and_progress_told():
    told = []
    train(sentences(), replace(SMALL, epochs=1), watch=told.append)
    kinds = [record["kind"] for record in told]
    assert kinds[-1] == "end"
    begin = told[kinds.index("begin")]
    assert begin["threads"] == 1
    assert begin["vocabulary"] == 53
    assert told[-1]["words"] == begin["words"] == 8 * 60 * 16
    assert 0 < told[-1]["loss"] < 6


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(BadInput, match="min_count"):
        train([["a", "b"]], Settings(min_count=5))
    with pytest.raises(BadInput, match="two words"):
        train([["a", "a"]], Settings(min_count=1, loss="hs"))
    with pytest.raises(BadInput, match="smaller than"):
        train(sentences(), replace(SMALL, rate=1e4))
    start = train(sentences(each=5), SMALL)
    with pytest.raises(BadInput, match="dim=20, but cbow with loss=ns and dim=20"):
        train(sentences(each=5), replace(SMALL, model="cbow"), start=start)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "glove"}, "skipgram or cbow"),
        ({"loss": "softmax"}, "ns .negative sampling"),
        ({"dim": 0}, "dim=0"),
        ({"window": 0}, "window=0"),
        ({"negatives": 0}, "negatives=0"),
        ({"sample": -1}, "sample=-1"),
        ({"noise": float("nan")}, "noise"),
        ({"epochs": 0}, "epochs=0"),
    ],
)
def test_nonsense_is_refused(options, says):
    with pytest.raises(BadInput, match=says):
        Settings(**options)


def test_the_commands(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(" ".join(words) + "\n" for words in sentences(each=20)))

    def call(*arguments: object):
        return CliRunner().invoke(app, ["words", *map(str, arguments)])

    options = ("--dim", 20, "--deterministic", "--epochs", 1)
    done = call("skipgram", "--corpus", text, "--out", tmp_path / "v", *options)
    assert done.exit_code == 0, done.output
    assert "53 words, vectors of 20" in done.output
    assert "16 floats a register" in done.output or tiles.TILE is None or tiles.TILE.width != 16
    again = call("skipgram", "--corpus", text, "--out", tmp_path / "w", *options, "--continue", tmp_path / "v")
    assert again.exit_code == 0, again.output
    assert Trained.load(tmp_path / "w").words_read == 2 * Trained.load(tmp_path / "v").words_read
    done = call("cbow", "--corpus", text, "--out", tmp_path / "c.vec", *options, "--loss", "hs")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c.vec").read_text().startswith("53 20\n")
    done = call("cbow", "--corpus", text, "--out", tmp_path / "c", "--deterministic", "--time", "5s")
    assert done.exit_code == 2
    assert "cannot follow the clock" in done.output
    done = call("skipgram", "--corpus", tmp_path / "none.txt", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert "none.txt" in done.output


def test_chinese_that_is_not_cut_into_words_is_said(tmp_path):
    """Its "words" would be whole sentences; cut text, and single characters, say nothing."""
    for text, warned in (
        ("今天天气很好我们走吧\n他说他明天不来了\n", True),
        ("今天 天气 很 好\n他 说 明天 不 来\n", False),
    ):
        corpus = tmp_path / "zh.txt"
        corpus.write_text(text * 3, "utf-8")
        arguments = ["words", "cbow", "--corpus", str(corpus), "--out", str(tmp_path / "v"), "--dim", "4"]
        done = CliRunner().invoke(app, [*arguments, "--min-count", "1", "--epochs", "1", "--threads", "1"])
        assert done.exit_code == 0, done.output
        assert ("masklab units corpus --words" in " ".join(done.output.split())) == warned
