"""Word vectors in use: gensim's answers, whatever the size of the blocks, and clear words for unknown ones."""

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors import keyed
from masklab.word_vectors.keyed import UnknownWord, WordVectors

gensim = pytest.importorskip("gensim.models")
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated")
WORDS = [f"w{i}" for i in range(700)]


@pytest.fixture(scope="module")
def vectors():
    """Five heaps of words, so that some are near each other."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 20))[rng.integers(0, 5, 700)] + rng.standard_normal((700, 20))
    return WordVectors(WORDS, rows.astype(np.float32), np.arange(700, 0, -1))


@pytest.fixture(scope="module")
def theirs(vectors):
    return vectors.to_gensim()


def same(ours, theirs):
    assert [near.word for near in ours] == [word for word, _ in theirs]
    assert [near.similarity for near in ours] == pytest.approx([value for _, value in theirs], abs=1e-6)


def test_nearest_words_are_gensims(vectors, theirs):
    for word in WORDS[:20]:
        same(vectors.nearest(word, 12), theirs.most_similar(word, topn=12))
    same(vectors.nearest(["w1", "w2"], negative=["w3"]), theirs.most_similar(["w1", "w2"], ["w3"]))
    same(vectors.nearest(["w1", vectors["w2"]]), theirs.most_similar(["w1", theirs["w2"]]))
    same(vectors.nearest(vectors["w9"], 3), theirs.similar_by_vector(theirs["w9"], topn=3))
    same(vectors.nearest("w500", 5, among=50), theirs.most_similar("w500", topn=5, restrict_vocab=50))


def test_analogies_are_gensims(vectors, theirs):
    for a, b, c in np.random.default_rng(1).choice(WORDS, (30, 3), replace=True).tolist():
        if len({a, b, c}) == 3:
            same(vectors.analogy(a, b, c, 6), theirs.most_similar([b, c], [a], topn=6))
            same(vectors.analogy(a, b, c, 6, method="mul"), theirs.most_similar_cosmul([b, c], [a], topn=6))


def test_similarity_and_the_odd_one_out_are_gensims_to_the_last_digit(vectors, theirs):
    rng = np.random.default_rng(2)
    for a, b in rng.choice(WORDS, (300, 2)).tolist():
        assert vectors.similarity(a, b) == float(theirs.similarity(a, b))
    for some in rng.choice(WORDS, (40, 6)).tolist():
        if len(set(some)) == 6:
            assert vectors.odd_one_out(some) == theirs.doesnt_match(some)


@pytest.mark.parametrize("method", ["add", "mul"])
def test_blocks_of_any_size_give_the_same_answers(vectors, method, monkeypatch):
    questions = np.random.default_rng(3).integers(0, 700, (40, 3))
    whole = vectors.answers(questions, 7, method), vectors.nearest_to_each(WORDS[:40], 5)
    for size in (1, 40 * 13, 40 * 300):
        monkeypatch.setattr(keyed, "_SCORES", size)
        monkeypatch.setattr(keyed, "_NUMBERS", size)
        monkeypatch.setattr(keyed, "_FIRST", 16)
        numbers, scores = vectors.answers(questions, 7, method)
        assert (numbers == whole[0][0]).all()
        assert np.allclose(scores, whole[0][1], atol=1e-6)
        for a, b in zip(vectors.nearest_to_each(WORDS[:40], 5), whole[1], strict=True):
            same(a, b)


def test_many_questions_at_once_are_the_same_as_one_by_one(vectors, monkeypatch):
    monkeypatch.setattr(keyed, "_TOGETHER", 7)
    words = WORDS[:30]
    for word, found in zip(words, vectors.nearest_to_each(words, 4), strict=True):
        same(found, vectors.nearest(word, 4))
    by_rows = vectors.nearest_to_each(vectors[words], 4)
    assert [found[0].word for found in by_rows] == words  # nothing is left out of what is near a vector
    assert vectors.nearest_to_each([], 4) == []
    numbers, scores = vectors.answers(np.empty((0, 3), np.int64), 4)
    assert numbers.shape == scores.shape == (0, 4)


def test_more_answers_than_there_are_words():
    few = WordVectors(["a", "b", "c"], np.eye(3, dtype=np.float32))
    assert [near.word for near in few.nearest("a", 10)] == ["b", "c"]
    assert [near.word for near in few.analogy("a", "b", "c", 10)] == []


def test_a_vector_of_zeros_is_like_nothing(vectors):
    rows = np.vstack([np.zeros(3), np.eye(3)]).astype(np.float32)
    made = WordVectors(["none", "x", "y", "z"], rows)
    assert made.similarity("none", "x") == 0
    assert made.nearest("none", 2) == [("x", 0.0), ("y", 0.0)]
    assert np.isfinite(made.unit).all()
    assert made.nearest("x", 3)[-1].similarity == 0


def test_unknown_words_name_those_that_look_like_them():
    made = WordVectors(["king", "new_york", "Paris", "queen"], np.eye(4, dtype=np.float32))
    for asked, said in [("kinh", "king"), ("new york", "new_york"), ("paris", "Paris"), ("KING", "king")]:
        with pytest.raises(UnknownWord, match=f"did you mean {said}"):
            made[asked]
    with pytest.raises(KeyError, match=r"'zebra' is not among the 4 words$"):
        made["zebra"]
    with pytest.raises(BadInput, match="at least two words"):
        made.odd_one_out(["king"])
    with pytest.raises(BadInput, match=r"add .* or mul"):
        made.analogy("king", "queen", "Paris", method="div")  # type: ignore[arg-type]


def test_words_and_rows(vectors):
    assert len(vectors) == 700
    assert vectors.dim == 20
    assert "w3" in vectors
    assert "x" not in vectors
    assert vectors[["w3", "w5"]].shape == (2, 20)
    assert vectors[[]].shape == (0, 20)
    assert (vectors.first(10).vectors == vectors.vectors[:10]).all()
    some = vectors.some(["w5", "w2"])
    assert some.words == ["w5", "w2"]
    assert some.counts is not None
    assert some.counts.tolist() == [695, 698]
    with pytest.raises(ValueError, match="2 words"):
        WordVectors(["a", "b"], np.zeros((3, 2), np.float32))


def test_means_of_documents(vectors):
    v = vectors
    assert np.allclose(v.mean("w1 w2 nowhere  w2"), (v["w1"] + 2 * v["w2"]) / 3)
    assert np.allclose(v.mean(["w1", "w2"], unit=True), v.unit[1:3].mean(0))
    assert (v.mean("nothing known") == 0).all()
    assert v.means([]).shape == (0, 20)


def test_smooth_inverse_frequency_step_by_step(vectors):
    """Arora et al. 2017, algorithm 1."""
    texts = ["w1 w699 w5", "w5 w7", "w100 w100 w200 w3"]
    total = sum(vectors.counts)
    rows = []
    for text in texts:
        weighted = [1e-2 / (1e-2 + vectors.counts[vectors.index[w]] / total) * vectors[w] for w in text.split()]
        rows.append(sum(weighted) / len(weighted))
    common = np.linalg.svd(np.array(rows))[2][0]
    wanted = [row - common * (common @ row) for row in rows]
    assert np.allclose(vectors.means(texts, sif=1e-2), wanted, atol=1e-5)
    assert np.allclose(vectors.means(texts[:1], sif=1e-2), rows[:1], atol=1e-5)  # one text has nothing in common
    with pytest.raises(BadInput, match="--counts"):
        WordVectors(vectors.words, vectors.vectors).means(texts, sif=1e-3)


def test_gensim_both_ways(vectors, theirs):
    back = WordVectors.from_gensim(theirs)
    assert back.words == WORDS
    assert (back.vectors == vectors.vectors).all()
    assert back.counts is not None
    assert back.counts.tolist() == vectors.counts.tolist()
    assert theirs.get_vecattr("w3", "count") == 697
    bare = WordVectors.from_gensim(WordVectors(["a"], np.ones((1, 2), np.float32)).to_gensim())
    assert bare.counts is None


def test_fasttext_of_gensim_gives_unseen_words_their_vector():
    model = gensim.FastText([["hello", "world"] * 3] * 3, vector_size=8, min_count=1, epochs=1, bucket=50, workers=1)
    made = WordVectors.from_gensim(model)
    assert (made["worlds"] == model.wv["worlds"]).all()
    assert "worlds" not in made
    assert np.allclose(made.mean("hello worlds"), (model.wv["hello"] + model.wv["worlds"]) / 2)
    unit = [row / np.linalg.norm(row) for row in (model.wv["hello"], model.wv["worlds"])]
    assert np.allclose(made.mean("hello worlds", unit=True), np.mean(unit, 0), atol=1e-6)
    assert made.some(["worlds", "world"]).words == ["worlds", "world"]


def test_the_native_folder_is_memory_mapped_and_whole(vectors, tmp_path):
    vectors.save(tmp_path / "own")
    opened = WordVectors.open(tmp_path / "own")
    assert isinstance(opened.vectors.base, np.memmap) or isinstance(opened.vectors, np.memmap)
    assert (opened.vectors == vectors.vectors).all()
    assert opened.words == WORDS
    assert opened.counts is not None
    assert opened.counts.tolist() == vectors.counts.tolist()
    same(opened.nearest("w1"), vectors.nearest("w1"))
    few = WordVectors.open(tmp_path / "own", limit=10)
    assert len(few) == 10
    few.save(tmp_path / "own")  # over the file that it is mapped from
    assert WordVectors.open(tmp_path / "own").words == WORDS[:10]
    assert (few.vectors == vectors.vectors[:10]).all()


def test_counts_from_a_file(vectors, tmp_path):
    vectors.save(tmp_path / "v.bin")
    (tmp_path / "counts").write_text("w2 30\nw0 50\nother 7\n", "utf-8")
    opened = WordVectors.open(tmp_path / "v.bin", counts=tmp_path / "counts")
    assert opened.counts is not None
    assert opened.counts[:4].tolist() == [50, 0, 30, 0]
    (tmp_path / "counts").write_text("w2 30\nw0 many\n", "utf-8")
    with pytest.raises(BadInput, match=r"counts, line 2: not 'word count'"):
        WordVectors.open(tmp_path / "v.bin", counts=tmp_path / "counts")
