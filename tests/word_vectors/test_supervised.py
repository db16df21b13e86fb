"""fastText's classifier: steps beside autograd, tiles beside plain loops, and labels for texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masklab.errors import BadInput
from masklab.word_vectors import supervised
from masklab.word_vectors.fasttext_files import read_bin, write_bin
from masklab.word_vectors.fasttext_kernels import (
    LOOK,
    Task,
    all_groups,
    desk_for,
    empty_groups,
    read_lines,
    survey,
    tree_groups,
)
from masklab.word_vectors.fasttext_rows import as_read
from masklab.word_vectors.hot_rows import copies, room
from masklab.word_vectors.keyed import WordVectors
from masklab.word_vectors.ngrams import Ngrams, hashes_of, word_ngram_ids
from masklab.word_vectors.sampling import Draws, below, huffman, negative, random
from masklab.word_vectors.supervised import Classifier, Settings, best, labelled, lines_of, train
from masklab.word_vectors.tiles import TILE, aligned
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

LOSSES = ["softmax", "ns", "hs", "ova"]
RATE, NEGATIVES, BUCKETS = 0.2, 3, 11
WORDS = ["</s>", "aaaa", "bab", "cab", "@x", "@y", "@z", "@q", "@v", "@u", "@t", "rare", "@rare"]
LABELS = ["@x", "@y", "@z", "@q", "@v", "@u", "@t"]
LABEL_COUNTS = np.array([9, 7, 5, 4, 3, 2, 2])
KNOWN = Vocabulary(WORDS[:4], np.array([9, 5, 4, 3]), 21)
# Lines with one label and with two, without a label, with labels alone, a rare word and a rare label.
LINES = [[4, 1, 2, 3, 1, 0], [1, 3, 5, 2, 6, 0], [1, 2, 0], [7], [8, 11, 1, 0], [9, 12, 3, 2, 0], [], [10, 2, 2, 5, 0]]
IDS = as_read(np.array([word for _ in range(4) for line in LINES for word in [*line, -1]], np.int32))


class Desk:
    """A small model and everything that `read_lines` takes: n-grams of 2 letters and of up to 3 words."""

    def __init__(self, dim: int, loss: str):
        generator = np.random.default_rng(dim)
        row_of = np.arange(len(KNOWN), len(KNOWN) + BUCKETS, dtype=np.int32)
        self.lines = lines_of(WORDS, KNOWN, LABELS, "@", Ngrams(2, 2, BUCKETS), 3, row_of)
        self.tree = huffman(LABEL_COUNTS) if loss == "hs" else None
        self.task = Task(loss == "softmax", loss == "ova", loss == "hs")
        if self.tree is not None:
            self.groups = tree_groups(*self.tree)
        else:
            self.groups = empty_groups(1, NEGATIVES + 1) if loss == "ns" else all_groups(len(LABELS))
        self.inputs, self.outputs = aligned(len(KNOWN) + BUCKETS, dim), aligned(len(LABELS), dim)
        for table in (self.inputs, self.outputs):
            table[:, :dim] = generator.normal(size=(len(table), dim)) / dim**0.5
        self.draws = Draws.of(LABEL_COUNTS, sample=0, power=0.5, window=1, negatives=NEGATIVES, key=(5,))
        most = survey(IDS, self.lines, np.zeros(BUCKETS, np.int64))
        self.desk = desk_for(dim, self.groups, most[0], words=most[1], labels=most[2])

    def copied(self) -> tuple[slice, slice]:
        """Two threads are to have copies of words and outputs, and this is the second; says which rows."""
        found = []
        for name, end in (("inputs", len(KNOWN)), ("outputs", len(LABELS))):
            rows = getattr(self, name)
            hot = range(1, end)
            table = aligned(len(rows) + room(hot, 2), rows.shape[1])
            table[: len(rows)] = rows
            setattr(self, name, table)
            self.desk = self.desk._replace(**{f"hot_{name}": copies(table, hot, 2, turns=5)[1]})
            found.append(slice(1, end))
        return found[0], found[1]

    def read(self, tile: Any) -> tuple[float, int]:
        return read_lines(
            tile, self.inputs, self.outputs, IDS, 0, len(IDS), 0, self.draws, self.lines, self.groups, self.task, RATE,
            RATE, self.desk,
        )  # fmt: skip

    def loss_of(self, scores: torch.Tensor, labels: list[int], place: int) -> torch.Tensor:
        """-log of the chance of the right answers. scores: (labels,), or of the nodes of the tree."""
        target = labels[below(np.uint64(random(self.draws.reach_key, place)), len(labels))]
        if self.task.softmax:
            return -torch.log_softmax(scores[: len(LABELS)], 0)[target]
        if self.tree is not None:
            steps = self.tree.steps[self.tree.start[target] : self.tree.start[target + 1]]
            questions = [(int(s) >> 1, bool(s & 1)) for s in steps]
        elif self.task.each:
            questions = [(label, label in labels) for label in range(len(LABELS))]
        else:
            drawn = [int(negative(self.draws, place * NEGATIVES + i)) for i in range(NEGATIVES)]
            questions = [(target, True), *((label, False) for label in drawn if label != target)]
        signed = torch.stack([scores[row] if right else -scores[row] for row, right in questions])
        return -torch.nn.functional.logsigmoid(signed).sum()


def by_autograd(desk: Desk) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Gradient descent in float64, one line after the other; and the loss of every line."""
    inputs, outputs = (torch.from_numpy(t.astype(np.float64)).requires_grad_() for t in (desk.inputs, desk.outputs))
    ngrams, losses, place = Ngrams(2, 2, BUCKETS), [], 0
    for line in LINES * 4:
        words = [w for w in line if not WORDS[w].startswith("@")]
        labels = [LABELS.index(WORDS[w]) for w in line if WORDS[w] in LABELS]
        rows = [w for w in words if w < len(KNOWN)]
        buckets = [b for w in words for b in ngrams.ids(WORDS[w]).tolist()]
        buckets += word_ngram_ids(hashes_of([WORDS[w] for w in words]), 3, BUCKETS)
        rows += [len(KNOWN) + b for b in buckets]
        if rows and labels:
            loss = desk.loss_of(outputs @ inputs[rows].mean(0), labels, place)
            losses.append(loss.item())
            of_inputs, of_outputs = torch.autograd.grad(loss, [inputs, outputs])
            with torch.no_grad():
                inputs -= RATE * of_inputs
                outputs -= RATE * of_outputs
        place += len(line) + 1
    return inputs.detach(), outputs.detach(), losses


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_are_those_of_autograd(loss):
    desk = Desk(5, loss)
    inputs, outputs, losses = by_autograd(desk)
    total, count = desk.read(None)
    assert np.allclose(desk.inputs, inputs, atol=2e-6)
    assert np.allclose(desk.outputs, outputs, atol=2e-6)
    assert 1 < count <= len(IDS) / LOOK + 1  # one line in a while is looked at
    assert total / count == pytest.approx(np.mean(losses), rel=0.5)


@pytest.mark.skipif(TILE is None, reason="this CPU has plain loops only")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dim", [1, 33, 100])
def test_tiles_read_as_plain_loops_do(loss, dim):
    theirs, ours = Desk(dim, loss), Desk(dim, loss)
    for _ in range(3):
        total, count = theirs.read(None)
        assert ours.read(TILE) == (pytest.approx(total, rel=1e-4), count)
    assert np.allclose(ours.inputs, theirs.inputs, atol=2e-5)
    assert np.allclose(ours.outputs, theirs.outputs, atol=2e-5)


# ---------------------------------------------------------------- training

TOPICS = {"sea": ["wave", "ship", "salt", "fish"], "wood": ["tree", "moss", "deer", "fern"], "sky": ["star", "cloud"]}


def topics(size: int = 300, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of three topics of different size, with words of all, and their labels."""
    generator = np.random.default_rng(seed)
    names = [str(n) for n in generator.choice(list(TOPICS), size, p=[0.5, 0.3, 0.2])]
    return [" ".join(generator.choice([*TOPICS[n], "the", "and", "of"], 6)) for n in names], names


SMALL = Settings(dim=8, epochs=10, rate=0.5, deterministic=True)


def settings_with(**changes: Any) -> Settings:
    return Settings(**{**vars(SMALL), **changes})


def right(classifier: Classifier, texts: list[str], names: list[str]) -> float:
    answers = classifier.predict(texts)
    return float(np.mean([a[0].label == f"__label__{name}" for a, name in zip(answers, names, strict=True)]))


@pytest.mark.parametrize("loss", LOSSES)
def test_topics_are_told_apart(tmp_path, loss):
    """After training, after saving, and after going through fastText's own file."""
    texts, names = topics()
    trained = train(labelled(texts, names), settings_with(loss=loss))
    assert trained.settings["labels"] == ["__label__sea", "__label__wood", "__label__sky"]  # by falling count
    assert "__label__sea" not in trained.vocabulary
    held_out, truth = topics(200, seed=1)
    classifier = Classifier(trained)
    assert right(classifier, held_out, truth) > 0.93  # a text of "the", "and", "of" alone cannot be told
    chances = [[a.chance for a in answers] for answers in classifier.predict(held_out, k=-1)]
    assert {len(row) for row in chances} == {3}
    assert all(row == sorted(row, reverse=True) for row in chances)
    if loss in ("softmax", "hs"):
        assert np.allclose(np.sum(chances, axis=1), 1)
    trained.save(tmp_path / "labels")
    write_bin(trained, tmp_path / "labels.bin")
    for again in (Trained.load(tmp_path / "labels"), read_bin(tmp_path / "labels.bin")):
        assert list(Classifier(again).predict(held_out)) == list(classifier.predict(held_out))
    assert WordVectors.open(tmp_path / "labels").similarity("wave", "ship") > 0.5


def test_word_ngrams_see_the_order():
    """Two words mean one thing in one order and another in the other."""
    generator = np.random.default_rng(0)
    pairs = [("not", "good"), ("good", "not"), ("so", "far"), ("far", "so")]
    chosen = generator.integers(0, 4, 400)
    texts = [" ".join(["the", *pairs[i], "of", "it"]) for i in chosen]
    names = [str(i % 2) for i in chosen]
    alone = Classifier(train(labelled(texts, names), settings_with(buckets=1000)))
    ordered = Classifier(train(labelled(texts, names), settings_with(word_ngrams=2, buckets=1000)))
    assert right(alone, texts, names) < 0.8
    assert right(ordered, texts, names) == 1


def test_character_ngrams_know_misspelt_words():
    texts, names = topics()
    trained = train(labelled(texts, names), settings_with(shortest=2, longest=3, buckets=1000))
    assert right(Classifier(trained), ["waves shippe", "trees deere", "starr clouds"], ["sea", "wood", "sky"]) == 1
    words_alone = Classifier(train(labelled(texts, names), SMALL))
    assert next(words_alone.predict(["waves shippe"])) == next(words_alone.predict([""]))  # "</s>" is all it knows


def test_scores_are_those_of_the_official_test(tmp_path):
    """precision: right answers of those given; recall: right answers of all labels there are."""
    texts, names = topics()
    classifier = Classifier(train(labelled(texts, names), settings_with(loss="ova")))
    held_out, truth = topics(100, seed=2)
    lines = [" ".join(line) for line in labelled(held_out, truth)]
    lines[0] += " __label__sky"
    wanted = [{word for word in line.split() if word.startswith("__label__")} for line in lines]
    score = classifier.test([*lines, "no label here", "__label__unknown wave"], k=2)
    answers = [[a.label for a in found] for found in classifier.predict(held_out, k=2)]
    hits = sum(len(w & set(a)) for w, a in zip(wanted, answers, strict=True))
    assert score.lines == 100
    assert score.precision == pytest.approx(hits / 200)
    assert score.recall == pytest.approx(hits / sum(map(len, wanted)))
    for label, (precision, recall, count) in score.labels.items():
        with_it = [label in w for w in wanted]
        given = [label in a for a in answers]
        both = sum(w and g for w, g in zip(with_it, given, strict=True))
        assert (precision, recall) == pytest.approx((both / sum(given), both / sum(with_it)))
        assert count == sum(with_it)
    assert classifier.test(lines, threshold=2).precision == 0
    with pytest.raises(BadInput, match="no line has words and a known label"):
        classifier.test(["wave"])


def test_one_thread_gives_the_same_bits_and_two_learn_too():
    texts, names = topics()
    one, again, other = (train(labelled(texts, names), settings_with(seed=seed)) for seed in (0, 0, 1))
    for name in ("words", "output"):
        assert np.array_equal(one.arrays[name], again.arrays[name])
    assert not np.array_equal(one.vectors, other.vectors)
    two = train(labelled(texts, names), settings_with(threads=2, deterministic=False))
    assert right(Classifier(two), texts, names) > 0.93


def test_training_with_the_plain_kernels(monkeypatch):
    texts, names = topics()
    tiled = train(labelled(texts, names), settings_with(word_ngrams=2, buckets=500))
    monkeypatch.setattr(supervised, "TILE", None)
    plain = train(labelled(texts, names), settings_with(word_ngrams=2, buckets=500))
    assert np.allclose(plain.arrays["output"], tiled.arrays["output"], atol=1e-3)


def test_training_goes_on_with_new_words_and_labels(tmp_path):
    texts, names = topics()
    train(labelled(texts, names), SMALL).save(tmp_path / "first")
    first = Trained.load(tmp_path / "first")
    more = ["lava smoke the", "smoke ash and", "wave fish of", "tree moss the", "star cloud of"] * 40
    truth = ["fire", "fire", "sea", "wood", "sky"] * 40
    second = train(labelled(more, truth), SMALL, start=first)
    assert second.settings["labels"] == [*first.settings["labels"], "__label__fire"]
    assert second.vocabulary.words[: len(first.vocabulary)] == first.vocabulary.words
    assert second.arrays["label_counts"].sum() == 500
    assert right(Classifier(second), ["ash lava", *more], ["fire", *truth]) == 1
    with pytest.raises(BadInput, match="no line has both words and a label"):
        train([["wave", "fish"]], SMALL, start=first)
    tree = train(labelled(texts, names), settings_with(loss="hs"))
    with pytest.raises(BadInput, match="__label__fire is a new label"):
        train(labelled(more, truth), settings_with(loss="hs"), start=tree)
    still = train(labelled(texts, names), settings_with(loss="hs", rate=1e-9, epochs=1), start=tree)
    assert right(Classifier(still), texts, names) == right(Classifier(tree), texts, names)
    with pytest.raises(BadInput, match="loss=softmax"):
        train(labelled(texts, names), SMALL, start=tree)


def test_a_run_that_was_stopped_ends_with_the_same_bits(can_be_stopped):
    texts, names = topics()
    lines = list(labelled(texts, names))
    long, records = settings_with(epochs=300), []
    stopped = train(lines, long, watch=records.append, stop=lambda: records and records[-1].get("words"))
    assert records[-1]["kind"] == "stopped"
    second, whole = train(lines, long, start=stopped), train(lines, long)
    assert 0 < stopped.words_read < second.words_read == whole.words_read
    assert np.array_equal(second.arrays["output"], whole.arrays["output"])
    assert np.array_equal(second.arrays["label_counts"], whole.arrays["label_counts"])


def test_a_file_with_labels_of_another_kind(tmp_path: Path):
    """Another prefix, labels in the middle of lines, rare words and labels left out, Windows' ends of lines."""
    texts, names = topics(100)
    lines = [f"{text} #{name} end\r\n" for text, name in zip(texts, names, strict=True)]
    (tmp_path / "train.txt").write_text("".join(lines) + "once #odd\n", "utf-8", newline="")
    trained = train(tmp_path / "train.txt", settings_with(label="#", min_count=2, min_count_label=2))
    assert set(trained.settings["labels"]) == {"#sea", "#wood", "#sky"}
    assert "once" not in trained.vocabulary
    assert Classifier(trained).test(lines).precision > 0.9


def test_what_cannot_be_answered():
    texts, names = topics(50)
    classifier = Classifier(train(iter(list(labelled(texts, names))), settings_with(epochs=1)))
    assert list(classifier.predict(["wave", "unheard"], threshold=1.1)) == [[], []]
    assert list(classifier.predict([])) == []
    for k in (0, -2):
        with pytest.raises(BadInput, match=f"k={k}"):
            list(classifier.predict(["wave"], k=k))
    assert best(np.array([[0.2, 0.7, 0.1], [np.nan] * 3]), 2, 0.0) == [[(1, 0.7), (0, 0.2)], []]
    assert list(labelled(["so good"], ["very  fine"])) == [["__label__very_fine", "so", "good"]]
    vectors = Trained("skipgram", KNOWN, {}, np.zeros((4, 2), np.float32))
    with pytest.raises(BadInput, match="no classifier"):
        Classifier(vectors)
    with pytest.raises(BadInput, match="there is no label in the corpus"):
        train([["wave", "ship"]], SMALL)
    for wrong in (
        {"dim": 0}, {"word_ngrams": 0}, {"loss": "mse"}, {"label": ""}, {"word_ngrams": 2, "buckets": 0},
        {"min_count_label": 0}, {"longest": 3, "shortest": 0}, {"rate": -1},
    ):  # fmt: skip
        with pytest.raises(BadInput):
            Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("tile", "loss"), [(None, "softmax"), (TILE, "softmax"), (TILE, "hs")])
def test_copies_change_nothing_for_a_thread_that_is_alone(copies_change_nothing, tile, loss):
    copies_change_nothing(Desk(20, loss), Desk(20, loss), tile)
