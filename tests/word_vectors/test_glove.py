"""GloVe: gradients beside autograd, tiles beside plain loops, and training from a text to its end."""

import numpy as np
import pytest
import torch

from masklab.errors import BadInput
from masklab.word_vectors.cooccurrences import count
from masklab.word_vectors.glove import Settings, train, train_on
from masklab.word_vectors.glove_kernels import by_context, new_rows, plain, tiled, word_and_context
from masklab.word_vectors.tiles import TILES
from masklab.word_vectors.vocabulary import Vocabulary

RATE = np.float32(0.05)


def entries(words: int, size: int, seed: int = 0):
    random = np.random.default_rng(seed)
    pairs = np.sort(random.integers(0, words, (size, 2)), axis=1).astype(np.int32)
    number = random.gamma(1, 20, size).astype(np.float32)
    weight = np.minimum((number / 100) ** 0.75, 1).astype(np.float32)
    return pairs[:, 0].copy(), pairs[:, 1].copy(), np.log(number), weight


def parts(rows: np.ndarray, dim: int) -> dict[str, torch.Tensor]:
    """The parameters of the paper, out of the rows."""
    part = rows.shape[1] // 4
    found = {"w": rows[:, :dim], "b": rows[:, dim], "c": rows[:, 2 * part : 2 * part + dim],
             "d": rows[:, 2 * part + dim + 1]}  # fmt: skip
    return {name: torch.from_numpy(value.astype(np.float64)).requires_grad_() for name, value in found.items()}


def paper_loss(p: dict[str, torch.Tensor], i: int, j: int, log_count: float, weight: float) -> torch.Tensor:
    return weight / 2 * (p["w"][i] @ p["c"][j] + p["b"][i] + p["d"][j] - log_count) ** 2


def test_gradients_are_those_of_autograd():
    dim = 5
    for k in range(6):
        rows = new_rows(5, dim, seed=1)
        word, context, log_count, weight = (column[k : k + 1] for column in entries(5, 6))
        before = parts(rows, dim)
        loss = paper_loss(before, int(word[0]), int(context[0]), float(log_count[0]), float(weight[0]))
        loss.backward()
        found = plain(rows, word, context, log_count, weight, False, np.float32(1e-3))
        assert found == pytest.approx(loss.item(), rel=1e-5)
        for name, after in parts(rows, dim).items():
            gradient = (before[name] - after) / 1e-3  # the sums of squares are still 1
            expected = before[name].grad
            assert expected is not None
            assert torch.allclose(gradient, expected, rtol=1e-3, atol=2e-4), name


def test_training_is_adagrad_on_the_papers_loss():
    """Three passes in float64: autograd's gradient times the rate, over the root of 1 + the squares before it."""
    dim = 6
    rows = new_rows(5, dim, seed=2)
    table = entries(5, 8, seed=3)
    p = parts(rows, dim)
    squares = {name: torch.ones_like(value) for name, value in p.items()}
    for _ in range(3):
        found = plain(rows, *table, True, RATE)
        total = 0.0
        for a, b, log_count, weight in zip(*(column.tolist() for column in table), strict=True):
            for i, j in {(a, b), (b, a)}:
                loss = paper_loss(p, i, j, log_count, weight)
                total += loss.item()
                gradients = torch.autograd.grad(loss, list(p.values()))
                with torch.no_grad():
                    for (name, value), gradient in zip(p.items(), gradients, strict=True):
                        step = float(RATE) * gradient
                        value -= step / squares[name].sqrt()
                        squares[name] += step**2
        assert found == pytest.approx(total, rel=1e-5)
    for name, value in parts(rows, dim).items():
        assert torch.allclose(value, p[name], atol=1e-6), name


@pytest.mark.parametrize("width", sorted(TILES))
@pytest.mark.parametrize("both", [True, False])
def test_tiles_are_equal_to_plain_loops(width, both):
    for dim in (1, 13, 14, 15, 50, 100):  # with the two columns of biases: one row of registers, or more
        table = entries(9, 60, seed=dim)
        theirs, ours = new_rows(9, dim, seed=4), new_rows(9, dim, seed=4)
        for _ in range(3):
            loss = plain(theirs, *table, both, RATE)
            assert tiled(TILES[width], ours, *table, both, RATE) == pytest.approx(loss, rel=1e-4)
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sorting_by_context_keeps_the_entries():
    word, context, number, _ = entries(50, 1000)
    sorted_word, sorted_context, sorted_number = by_context(word, context, number, 50)
    order = np.argsort(context, kind="stable")
    for ours, theirs in ((sorted_word, word), (sorted_context, context), (sorted_number, number)):
        assert np.array_equal(ours, theirs[order])


def lines(seed: int = 0, size: int = 400) -> list[list[str]]:
    """Lines about one of two topics, with words of both."""
    random = np.random.default_rng(seed)
    topics = [[f"{letter}{number}" for number in range(6)] for letter in "ab"]
    return [[str(random.choice([*topics[k % 2], "the", "of"])) for _ in range(12)] for k in range(size)]


SMALL = Settings(dim=10, window=5, epochs=8, min_count=1, threads=1, x_max=50)


def test_words_of_a_topic_become_neighbours():
    records = []
    trained = train(lines(), SMALL, watch=records.append)
    unit = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    for word in trained.vocabulary.words:
        if word[0] in "ab" and len(word) == 2:
            near = np.argsort(unit @ unit[trained.vocabulary.index[word]])[::-1]
            of_topic = [trained.vocabulary.words[i] for i in near if len(trained.vocabulary.words[i]) == 2]
            assert {other[0] for other in of_topic[:6] if other != "of"} == {word[0]}
    word, context = word_and_context(trained.arrays["rows"], 10)
    assert np.array_equal(trained.vectors, word + context)
    assert {record["kind"] for record in records} >= {"reading", "counting"}


def test_the_loss_falls_and_the_same_seed_gives_the_same_bits(tmp_path):
    from masklab.word_vectors.scan import encode

    vocabulary, ids = encode(lines(), min_count=1)
    counts = count(ids, len(vocabulary), tmp_path, window=5)
    runs = [train_on(counts, vocabulary, Settings(dim=7, epochs=epochs, deterministic=True, seed=seed))
            for epochs, seed in ((1, 0), (9, 0), (9, 0), (9, 1))]  # fmt: skip
    word, context, number = counts.read(0, counts.entries)
    table = word, context, np.log(number), np.minimum((number / 100) ** 0.75, 1).astype(np.float32)
    losses = [plain(run.arrays["rows"].copy(), *table, True, np.float32(0)) for run in runs]
    assert losses[1] < losses[0] / 2
    assert np.array_equal(runs[1].arrays["rows"], runs[2].arrays["rows"])
    assert not np.allclose(runs[1].vectors, runs[3].vectors, atol=0.01)
    threads = train_on(counts, vocabulary, Settings(dim=7, epochs=9, threads=2))
    assert plain(threads.arrays["rows"], *table, True, np.float32(0)) < losses[0] / 2


def test_training_goes_on_with_new_words(tmp_path):
    from masklab.word_vectors.trained import Trained

    train(lines(), SMALL).save(tmp_path / "first")
    first = Trained.load(tmp_path / "first")
    more = [[*line[:6], "new", *line[6:]] for line in lines(1, 100)]
    second = train(more, SMALL, start=first)
    assert second.vocabulary.words == [*first.vocabulary.words, "new"]
    assert second.words_read == first.words_read + 1300
    assert np.isfinite(second.vectors).all()
    known = len(first.vectors)
    still = train(more, Settings(dim=10, window=5, epochs=1, min_count=1, threads=1, rate=1e-9), start=first)
    assert np.allclose(still.vectors[:known], first.vectors, atol=1e-6)
    with pytest.raises(BadInput, match="dim=11"):
        train(more, Settings(dim=11, min_count=1), start=first)


def test_training_can_be_stopped(tmp_path):
    ids = np.random.default_rng(0).integers(0, 300, 30_000).astype(np.int32)
    counts = count(ids, 300, tmp_path, window=5)
    words = Vocabulary([f"w{i}" for i in range(300)], np.full(300, 100), 30_000)
    stopped = train_on(counts, words, Settings(dim=4, epochs=10**6, threads=1), stop=lambda: True)
    assert np.isfinite(stopped.vectors).all()
    timed = train_on(counts, words, Settings(dim=4, seconds=0.3, threads=2))
    assert np.isfinite(timed.vectors).all()
    with pytest.raises(BadInput, match="smaller rate"):
        train_on(counts, words, Settings(dim=4, rate=1e30, epochs=3, threads=1))


def test_bad_settings():
    for wrong in ({"dim": 0}, {"x_max": 0}, {"alpha": -1}, {"window": 0}, {"memory": 0}, {"epochs": 0}, {"rate": 0},
                  {"threads": 2, "deterministic": True}, {"seconds": 1.0, "deterministic": True}):  # fmt: skip
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no two words"):
        train([["a"], ["b"]], Settings(min_count=1, threads=1))
