"""fastText's vectors: steps beside autograd, tiles beside plain loops, and training from a text to its end."""

from typing import Any

import numba
import numpy as np
import pytest
import torch

from masklab.errors import BadInput
from masklab.word_vectors import fasttext
from masklab.word_vectors.fasttext import Settings, train
from masklab.word_vectors.fasttext_kernels import (
    LOOK,
    Groups,
    all_groups,
    desk_for,
    empty_groups,
    learn,
    pieces_of,
    read_text,
    tree_groups,
)
from masklab.word_vectors.fasttext_rows import Unseen, as_read, input_rows, rows_of
from masklab.word_vectors.hot_rows import copies, room
from masklab.word_vectors.keyed import WordVectors
from masklab.word_vectors.ngrams import Ngrams
from masklab.word_vectors.sampling import Draws, huffman, negative, reach
from masklab.word_vectors.tiles import TILE, TILES, aligned
from masklab.word_vectors.trained import Trained

RATE, WINDOW, NEGATIVES = 0.05, 2, 3
WORDS = ["</s>", "aaaaaa", "bab", "cab", "dogs", "a"]
COUNTS = np.array([4, 6, 5, 4, 2, 1])
# Lines of no word, of one, two, many; a word beside itself; word number 64, whose loss is looked at.
IDS = as_read(np.array([1, 2, 1, 1, 0, -1, 3, -1, 5, 4, -1, 2, 3, 2, 1, 0, 4, -1, 3, 2, 1, 0, -1, -1] * 3, np.int32))


class Desk:
    """A small model and everything that `read_text` takes."""

    def __init__(self, dim: int, loss: str, cbow: bool):
        random = np.random.default_rng(dim)
        buckets = 7  # so few that the same bucket occurs twice in a word
        table = Ngrams(2, 3, buckets).table(WORDS)
        rows = rows_of(table, np.arange(buckets), buckets, len(WORDS))
        self.pieces = pieces_of(np.arange(len(WORDS), dtype=np.int32), rows)
        self.tree = huffman(COUNTS) if loss == "hs" else None
        self.groups = tree_groups(*self.tree) if self.tree else empty_groups(2 * WINDOW, NEGATIVES + 1)
        self.inputs, self.outputs = aligned(len(WORDS) + buckets, dim), aligned(len(WORDS), dim)
        for table in (self.inputs, self.outputs):
            table[:, :dim] = random.normal(size=(len(table), dim)) / dim**0.5
        self.draws = Draws.of(COUNTS, sample=0, power=0.5, window=WINDOW, negatives=NEGATIVES, key=(3,))
        self.cbow = cbow
        most = int(np.diff(self.pieces.offsets).max()) * 2 * WINDOW
        self.desk = desk_for(dim, self.groups, most, 2 * WINDOW)

    def copied(self) -> tuple[slice, slice]:
        """Two threads are to have copies of most rows, and this is the second; says which rows."""
        found = []
        for name in ("inputs", "outputs"):
            rows = getattr(self, name)
            hot = range(1, len(rows))
            table = aligned(len(rows) + room(hot, 2), rows.shape[1])
            table[: len(rows)] = rows
            setattr(self, name, table)
            self.desk = self.desk._replace(**{f"hot_{name}": copies(table, hot, 2, turns=5)[1]})
            found.append(slice(1, len(rows)))
        return found[0], found[1]

    def read(self, tile: Any) -> tuple[float, int]:
        return read_text(
            tile, self.inputs, self.outputs, IDS, 0, len(IDS), 0, self.draws, self.pieces, self.groups, self.cbow,
            self.tree is not None, RATE, RATE, self.desk,
        )  # fmt: skip

    def rows(self, word: int) -> list[int]:
        return self.pieces.rows[self.pieces.offsets[word] : self.pieces.offsets[word + 1]].tolist()

    def questions(self, word: int, number: int) -> list[tuple[int, int]]:
        """(row of the output table, right or wrong) of what a word is told by."""
        if self.tree:
            return [(s >> 1, s & 1) for s in self.tree.steps[self.tree.start[word] : self.tree.start[word + 1]]]
        drawn = [int(negative(self.draws, number * NEGATIVES + i)) for i in range(NEGATIVES)]
        return [(word, 1), *((other, 0) for other in drawn if other != word)]


def by_autograd(desk: Desk) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Gradient descent on the paper's loss in float64, one example after the other.

    The gradient of a row is that of the mean of n rows, so n times smaller than that of the mean; fastText lets every
    row take the step of the mean.
    """
    inputs, outputs = (torch.from_numpy(t.astype(np.float64)).requires_grad_() for t in (desk.inputs, desk.outputs))
    looked = float("nan")
    ends = np.flatnonzero(IDS < 0)
    for begin, end in zip([0, *(ends[:-1] + 1)], ends, strict=True):
        for p in range(begin, end):
            place = p + 1  # words are numbered from 1
            around = int(reach(desk.draws, place))
            others = [j for j in range(max(begin, p - around), min(end, p + around + 1)) if j != p]
            if desk.cbow:
                examples = [([r for j in others for r in desk.rows(IDS[j])], IDS[p])] if others else []
            else:
                examples = [(desk.rows(IDS[p]), IDS[j]) for j in others]
            for count, (rows, word) in enumerate(examples):
                hidden = inputs[rows].mean(0)
                loss = torch.zeros((), dtype=torch.float64)
                for target, right in desk.questions(word, place * 2 * WINDOW + count):
                    score = hidden @ outputs[target]
                    loss -= torch.nn.functional.logsigmoid(score if right else -score)
                if place == LOOK and count == 0:
                    looked = loss.item()
                of_inputs, of_outputs = torch.autograd.grad(loss, [inputs, outputs])
                with torch.no_grad():
                    inputs -= RATE * len(rows) * of_inputs
                    outputs -= RATE * of_outputs
    return inputs.detach(), outputs.detach(), looked


@pytest.mark.parametrize("loss", ["ns", "hs"])
@pytest.mark.parametrize("cbow", [False, True])
def test_steps_are_those_of_autograd(loss, cbow):
    desk = Desk(5, loss, cbow)
    assert not np.allclose(desk.pieces.carry, 1)  # a piece that repeats is tried
    inputs, outputs, looked = by_autograd(desk)
    before = desk.inputs.copy()
    total, count = desk.read(None)
    assert np.allclose(desk.inputs, inputs, atol=2e-6)
    assert np.allclose(desk.outputs, outputs, atol=2e-6)
    assert not np.allclose(desk.inputs, before, atol=1e-2)
    assert count == 1
    assert total == pytest.approx(looked, rel=1e-5)


@pytest.mark.skipif(TILE is None, reason="this CPU has plain loops only")
@pytest.mark.parametrize("loss", ["ns", "hs"])
@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("dim", [1, 33, 100])
def test_tiles_read_as_plain_loops_do(loss, cbow, dim):
    theirs, ours = Desk(dim, loss, cbow), Desk(dim, loss, cbow)
    for _ in range(3):
        total, count = theirs.read(None)
        assert ours.read(TILE) == (pytest.approx(total, rel=1e-4), count)
    assert np.allclose(ours.inputs, theirs.inputs, atol=1e-5)
    assert np.allclose(ours.outputs, theirs.outputs, atol=1e-5)
    assert not ours.inputs[:, dim:].any()


@numba.njit(fastmath=True)
def learnt(tile, inputs, outputs, rows, carry, groups, count, softmax, shrink, desk):
    return learn(
        tile, inputs, outputs, rows, len(rows), carry, groups, count, np.float32(0.1), softmax, shrink, desk, True
    )


def drawn_groups(random: np.random.Generator, examples: int, size: int, outputs: int) -> Groups:
    groups = empty_groups(examples, size)
    groups.targets[:] = random.integers(0, outputs, groups.targets.shape)  # some of them twice in a group
    return groups


@pytest.mark.parametrize("width", [width for width in sorted(TILES) if TILES[width] is not TILE])
def test_tiles_of_other_cpus_learn_as_plain_loops_do(width):
    """One word with a piece twice, examples of one or several groups; one softmax over all outputs."""
    rows = np.array([3, 0, 4, 4, 1], np.int32)
    carry = np.float32((1 + 1 + 4 + 1) / 5)
    for dim in (1, 15, 16, 47, 100):
        for size in (2, 6, 7, 20):
            for softmax, shrink in ((False, False), (True, True)):
                random = np.random.default_rng(dim + size)
                first = [aligned(5, dim), aligned(size, dim)]
                for table in first:
                    table[:, :dim] = random.normal(size=(len(table), dim)) / dim**0.5
                groups = all_groups(size) if softmax else drawn_groups(random, 3, size, size)
                if softmax:
                    groups.labels[0, 1] = 1
                results = []
                for tile in (None, TILES[width]):
                    inputs, outputs = aligned(5, dim), aligned(size, dim)
                    inputs[:], outputs[:] = first
                    desk = desk_for(dim, groups, len(rows), 3)
                    count = 1 if softmax else 3
                    desk.examples[:count] = range(count)
                    moves = np.float32(1 / len(rows)) * carry if shrink else carry
                    loss = learnt(tile, inputs, outputs, rows, moves, groups, count, softmax, shrink, desk)
                    results.append((inputs, outputs, loss))
                (a, b, theirs), (c, d, ours) = results
                assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
                assert np.allclose(a, c, atol=1e-5)
                assert np.allclose(b, d, atol=1e-5)


# ---------------------------------------------------------------- training

STEMS = ("kalam", "morit")
ENDINGS = ("a", "ibo", "ude", "en", "oli", "eke")


def lines(seed: int = 0, size: int = 300, endings: tuple[str, ...] = ENDINGS) -> list[list[str]]:
    """Lines about one of two topics: each topic's words have a stem in common, and there are words of both."""
    random = np.random.default_rng(seed)
    choices = [[*(stem + ending for ending in endings), "the", "of"] for stem in STEMS]
    return [[str(random.choice(choices[k % 2])) for _ in range(12)] for k in range(size)]


SMALL = Settings(dim=12, min_count=1, buckets=5000, epochs=5, sample=0, deterministic=True)


def cosines(vectors: WordVectors, query: np.ndarray) -> dict[str, float]:
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    return dict(zip(vectors.words, (unit @ query / np.linalg.norm(query)).tolist(), strict=True))


@pytest.mark.parametrize(("model", "loss"), [("skipgram", "ns"), ("cbow", "hs")])
def test_words_never_seen_lie_with_those_of_their_stem(model, loss):
    records: list[dict[str, Any]] = []
    trained = train(lines(), Settings(**{**vars(SMALL), "model": model, "loss": loss}), watch=records.append)
    assert trained.vocabulary.words[0] == "</s>"
    vectors = WordVectors.from_trained(trained)
    for stem, other in (STEMS, STEMS[::-1]):
        assert stem + "ists" not in vectors
        near = cosines(vectors, vectors[stem + "ists"])
        assert min(near[stem + e] for e in ENDINGS) > max(near[other + e] for e in ENDINGS)
    kinds = [record["kind"] for record in records]
    assert kinds[0] == "reading"
    assert "begin" in kinds
    assert kinds[-1] == "end"
    assert records[-1]["words"] == trained.words_read == 5 * (12 + 1) * 300  # "</s>" ends each line
    assert records[-1]["loss"] > 0


def test_vectors_are_means_and_unused_buckets_take_no_memory():
    trained = train(lines(), SMALL)
    ngrams = Ngrams(SMALL.shortest, SMALL.longest, SMALL.buckets)
    used = sorted({int(b) for word in trained.vocabulary.words for b in ngrams.ids(word)})
    assert sorted(trained.arrays["bucket_numbers"].tolist()) == used
    row_of = {int(bucket): row for bucket, row in
              zip(trained.arrays["bucket_numbers"], trained.arrays["buckets"], strict=True)}  # fmt: skip
    for i, word in enumerate(trained.vocabulary.words):
        rows = [trained.arrays["words"][i], *(row_of[int(b)] for b in ngrams.ids(word))]
        assert np.allclose(trained.vectors[i], np.mean(rows, axis=0), atol=1e-6)
    unseen = Unseen(trained)
    rows = [row_of.get(int(b), np.zeros(12)) for b in ngrams.ids("kalamists")]
    assert np.allclose(unseen("kalamists"), np.mean(rows, axis=0), atol=1e-6)
    assert not unseen("</s>").any()
    with pytest.raises(BadInput, match="whole words only"):
        Unseen(Trained("skipgram", trained.vocabulary, {}, trained.vectors))


def test_one_thread_gives_the_same_bits_and_two_learn_too():
    one, again, other = (train(lines(), Settings(**{**vars(SMALL), "seed": seed})) for seed in (0, 0, 1))
    for name in ("words", "buckets", "output"):
        assert np.array_equal(one.arrays[name], again.arrays[name])
    assert not np.allclose(one.vectors, other.vectors, atol=0.01)
    two = train(lines(), Settings(**{**vars(SMALL), "threads": 2, "deterministic": False}))
    near = cosines(WordVectors.from_trained(two), two.vectors[two.vocabulary.index["kalama"]])
    assert near["kalamibo"] > near["moritibo"] + 0.2


def test_training_with_the_plain_kernels(monkeypatch):
    """What a CPU without tiles runs; not the same bits, but the same within float tolerance after little training."""
    short = Settings(**{**vars(SMALL), "epochs": 1})
    tiled = train(lines(size=20), short)
    monkeypatch.setattr(fasttext, "TILE", None)
    assert np.allclose(train(lines(size=20), short).vectors, tiled.vectors, atol=1e-4)


@pytest.mark.parametrize("loss", ["ns", "hs"])
def test_training_goes_on_with_new_words(tmp_path, loss):
    settings = Settings(**{**vars(SMALL), "loss": loss})
    train(lines(), settings).save(tmp_path / "first")
    first = Trained.load(tmp_path / "first")
    more = lines(1, 100, (*ENDINGS, "ungo"))
    known = len(first.vocabulary)
    assert "moritungo" not in first.vocabulary
    records: list[dict[str, Any]] = []
    second = train(more, settings, start=first, watch=records.append)
    assert second.vocabulary.words[:known] == first.vocabulary.words
    assert {"kalamungo", "moritungo"} == set(second.vocabulary.words[known:])
    assert second.words_read == first.words_read + 5 * 13 * 100
    buckets = first.arrays["bucket_numbers"]
    assert np.array_equal(second.arrays["bucket_numbers"][: len(buckets)], buckets)
    assert any("new tree" in record.get("text", "") for record in records) == (loss == "hs")
    still = train(more, Settings(**{**vars(settings), "rate": 1e-9, "epochs": 1}), start=first)
    for name in ("words", "buckets"):
        assert np.allclose(still.arrays[name][: len(first.arrays[name])], first.arrays[name], atol=1e-6)
    same = train(lines(2, 100), Settings(**{**vars(settings), "rate": 1e-9, "epochs": 1}), start=first)
    assert np.allclose(same.arrays["output"], first.arrays["output"], atol=1e-6)  # the tree is the same, too
    with pytest.raises(BadInput, match="longest=5"):
        train(more, Settings(**{**vars(settings), "longest": 5}), start=first)
    first.method = "glove"
    with pytest.raises(BadInput, match="glove vectors"):
        train(more, settings, start=first)


def test_without_ngrams_it_is_word2vec(tmp_path):
    trained = train(lines(), Settings(**{**vars(SMALL), "longest": 0}))
    assert len(trained.arrays["buckets"]) == 0
    assert np.array_equal(trained.vectors, trained.arrays["words"])
    trained.save(tmp_path / "plain")
    assert not WordVectors.open(tmp_path / "plain")["unheardof"].any()


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, can_be_stopped):
    long, records = Settings(**{**vars(SMALL), "epochs": 40}), []
    stopped = train(lines(), long, watch=records.append, stop=lambda: records and records[-1].get("words"))
    assert records[-1]["kind"] == "stopped"
    assert 0 < stopped.words_read < 40 * 13 * 300
    stopped.save(tmp_path / "stopped")
    going_on = Trained.load(tmp_path / "stopped")
    second = train(lines(), long, start=going_on, watch=records.append)
    assert [record["resumed"] for record in records if record["kind"] == "begin"] == [False, True]
    whole = train(lines(), long)
    assert second.words_read == whole.words_read
    assert np.array_equal(second.vectors, whole.vectors)
    assert np.array_equal(second.arrays["output"], whole.arrays["output"])
    begin_again = train(lines(), Settings(**{**vars(long), "epochs": 1}), start=going_on)
    assert begin_again.words_read == going_on.words_read + 13 * 300


def test_training_can_be_timed():
    free = {**vars(SMALL), "deterministic": False, "threads": 1}
    assert np.isfinite(train(lines(), Settings(**{**free, "seconds": 0.2})).vectors).all()
    with pytest.raises(BadInput, match="smaller rate"):
        train(lines(), Settings(**{**free, "rate": 1e30}))


def test_more_rows_come_in_blocks():
    """Rows of a large table begin differently from each other, evenly between -1 / dim and 1 / dim."""
    table, numbers = input_rows(20_000, np.array([3, 0, 5]), 4, seed=1)
    assert numbers.tolist() == [2, 0]
    rows = table[:, :4]
    assert len(np.unique(rows, axis=0)) == 20_002
    assert abs(rows).max() <= 0.25
    assert abs(rows.mean()) < 0.01
    assert rows.std() == pytest.approx(0.5 / 12**0.5, rel=0.02)


def test_bad_settings():
    for wrong in (
        {"dim": 0}, {"window": 0}, {"negatives": 0}, {"min_count": 0}, {"sample": -1}, {"model": "glove"},
        {"loss": "softmax"}, {"shortest": 7}, {"buckets": 0}, {"epochs": 0}, {"rate": 0}, {"threads": -1},
    ):  # fmt: skip
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no word occurs 3 times"):
        train([["a", "a"]], Settings(min_count=3, threads=1))


@pytest.mark.parametrize(("tile", "cbow"), [(None, False), (TILE, False), (TILE, True)])
def test_copies_change_nothing_for_a_thread_that_is_alone(copies_change_nothing, tile, cbow):
    copies_change_nothing(Desk(20, "hs", cbow), Desk(20, "hs", cbow), tile)
