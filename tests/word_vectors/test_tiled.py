"""The word2vec kernels: gradients are autograd's, and the tiled kernels do what the plain loops do."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from masklab.word_vectors import plain, tiled, tiles
from masklab.word_vectors.hot_rows import COLD, Hot, copies, room, settle
from masklab.word_vectors.sampling import Draws, Tree, huffman, negative, reach, read_sentence
from masklab.word_vectors.tiles import TILES, aligned

TILE = tiles.TILE or TILES[8]
RATES = (0.1, 0.05)
KINDS = ["skip-gram shared", "skip-gram per pair", "skip-gram tree", "cbow negatives", "cbow tree"]


class Case(NamedTuple):
    ids: np.ndarray
    draws: Draws
    tree: Tree
    dim: int
    scale: float = 1.0  # of the rows at first

    @classmethod
    def of(cls, words: int, size: int, dim: int, *, window: int, negatives: int, sentence: int = 30) -> "Case":
        random = np.random.default_rng(size)
        ids = (random.zipf(1.3, size) % words).astype(np.int32)
        ids[sentence - 1 :: sentence] = -1
        ids.flags.writeable = False
        counts = np.bincount(ids[ids >= 0], minlength=words)
        draws = Draws.of(counts, sample=0.05, power=0.75, window=window, negatives=negatives, key=(1,))
        return cls(ids, draws, huffman(counts), dim)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        words = len(self.draws.keep)
        inputs, outputs = aligned(words, self.dim), aligned(words, self.dim)
        random = np.random.default_rng(7)
        inputs[:, : self.dim] = random.normal(size=(words, self.dim)) / self.dim**0.5
        outputs[:, : self.dim] = random.normal(size=(words, self.dim)) / 2
        inputs *= np.float32(self.scale)
        outputs *= np.float32(self.scale)
        return inputs, outputs

    def most(self, kind: str) -> int:
        return int(np.diff(self.tree.start).max()) if "tree" in kind else 1 + self.draws.negatives

    def plain(
        self, kind: str, hot: Hot = COLD, outputs: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        inputs, _outputs = self.tables()
        outputs = _outputs if outputs is None else outputs
        tree = self.tree if "tree" in kind else None
        text = (self.ids, 0, len(self.ids), 5, self.draws, tree, self.most(kind), *RATES)
        if "cbow" in kind:
            return plain.cbow(inputs, outputs, *text, hot), inputs, outputs
        return plain.skipgram(inputs, outputs, *text, hot, "shared" in kind), inputs, outputs

    def tiled(
        self, kind: str, tile: tiles.Tile = TILE, hot: Hot = COLD, outputs: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        inputs, _outputs = self.tables()
        outputs = _outputs if outputs is None else outputs
        tree = self.tree if "tree" in kind else None
        text, groups = (self.ids, 0, len(self.ids), 5, self.draws), -(-self.most(kind) // tile.columns)
        desk = tiled.desk_for(len(inputs), self.dim, self.draws.window, groups, "pair" in kind, hot)
        desk.seen[:] = 10**6  # what another text may have left there
        if "pair" in kind:
            found = tiled.skipgram_strict(tile, inputs, outputs, *text, groups, *RATES, desk)
        else:
            kernel = tiled.cbow if "cbow" in kind else tiled.skipgram
            found = kernel(tile, inputs, outputs, *text, tree, groups, *RATES, desk)
        return found, inputs, outputs

    def by_autograd(self, kind: str) -> tuple[tuple[float, int], np.ndarray, np.ndarray]:
        """The same in float64: a loss as in the papers, its gradient by autograd, a step down, window by window."""
        inputs, outputs = (torch.from_numpy(table.astype(np.float64)) for table in self.tables())
        words, places = np.empty(1000, np.int32), np.empty(1000, np.int64)
        total, pairs, at = 0.0, 0, 0
        while at < len(self.ids):
            rate = RATES[0] + (RATES[1] - RATES[0]) * at / len(self.ids)
            length, at = read_sentence(
                self.ids, at, len(self.ids), 5, self.draws.keep, self.draws.keep_key, words, places
            )
            for p in range(length):
                around, place = reach(self.draws, places[p]), int(places[p])
                contexts = [int(words[j]) for j in range(max(0, p - around), min(length, p + around + 1)) if j != p]
                if not contexts:
                    continue
                if "pair" in kind:
                    parts = [([c], place * 2 * self.draws.window + n) for n, c in enumerate(contexts)]
                elif "cbow" in kind:
                    parts = [(contexts, place)]
                else:
                    parts = [(contexts[i : i + plain.STEP], place) for i in range(0, len(contexts), plain.STEP)]
                for rows, number in parts:
                    loss = self.step(kind, inputs, outputs, rows, int(words[p]), number, rate)
                    if place % plain.LOOK == 0:
                        total += loss
                        pairs += 1 if "cbow" in kind else len(rows)
        return (total, pairs), inputs.numpy(), outputs.numpy()

    def step(
        self,
        kind: str,
        inputs: torch.Tensor,
        outputs: torch.Tensor,
        rows: list[int],
        word: int,
        number: int,
        rate: float,
    ) -> float:
        if "tree" in kind:
            steps = self.tree.steps[self.tree.start[word] : self.tree.start[word + 1]].tolist()
            targets, signs = [s >> 1 for s in steps], [1 - 2 * (s & 1) for s in steps]
        else:
            n = self.draws.negatives
            noise = [int(negative(self.draws, number * n + i)) for i in range(n)]
            noise = [w for w in noise if w != word]
            targets, signs = [word, *noise], [1, *[-1] * len(noise)]
        x = inputs[rows]  # a row for each context, so that a word that stands twice counts twice
        if "cbow" in kind:
            x = x.mean(0, keepdim=True)
        y = outputs[targets]
        x.requires_grad_()
        y.requires_grad_()
        loss = -logsigmoid(x @ y.T * torch.tensor(signs)).sum()
        loss.backward()
        assert x.grad is not None
        assert y.grad is not None
        with torch.no_grad():
            for row, gradient in zip(rows, x.grad.expand(len(rows), -1), strict=True):
                inputs[row] -= rate * gradient
            for target, gradient in zip(targets, y.grad, strict=True):
                outputs[target] -= rate * gradient
        return loss.item()


@pytest.mark.parametrize("kind", ["skip-gram tree", "cbow tree"])
def test_copies_of_the_top_of_the_tree_change_nothing_for_a_thread_that_is_alone(kind):
    case = Case.of(40, 2000, 20, window=4, negatives=4)
    for run in (case.plain, case.tiled):
        (loss, _), inputs, outputs = run(kind)
        nodes = len(case.draws.keep) - 1
        top = range(nodes - 12, nodes)
        table = aligned(len(outputs) + room(top, 2), case.dim)
        table[: len(outputs)] = case.tables()[1]
        hot = copies(table, top, 2)[1]
        (loss_by_copies, _), inputs_by_copies, _ = run(kind, hot=hot, outputs=table)
        assert np.abs(table[top.start : top.stop] - outputs[top.start : top.stop]).max() > 1e-3  # not put together yet
        settle(table, hot)
        assert np.allclose(inputs_by_copies, inputs, atol=1e-4)
        assert np.allclose(table[: len(outputs)], outputs, atol=1e-4)
        assert loss_by_copies == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_autograd(kind):
    case = Case.of(12, 260, 5, window=7, negatives=4)
    (loss, pairs), inputs, outputs = case.by_autograd(kind)
    before = case.tables()
    assert min(np.abs(inputs - before[0]).max(), np.abs(outputs - before[1]).max()) > 0.2
    for found, mine, theirs in (case.plain(kind), case.tiled(kind)):
        assert np.abs(mine - inputs).max() < 1e-5
        assert np.abs(theirs - outputs).max() < 1e-5
        assert found == (pytest.approx(loss, rel=1e-4), pairs)
        assert pairs > 2


ODD = {
    "common": Case.of(50, 600, 100, window=5, negatives=5),
    "three words, each many times in a window": Case.of(3, 60, 7, window=12, negatives=5),
    "two words, windows of one": Case.of(2, 200, 1, window=1, negatives=1),
    "sentences of one word": Case.of(9, 100, 8, window=5, negatives=3, sentence=2),
    "more negatives than columns": Case.of(200, 600, 33, window=10, negatives=15),
    "very many negatives": Case.of(20, 200, 16, window=2, negatives=40),
    "long rows": Case.of(100, 200, 300, window=5, negatives=9),
    "sentences cut at 1,000": Case.of(30, 2500, 4, window=3, negatives=2, sentence=2500),
    "no sentence ends": Case.of(30, 90, 4, window=3, negatives=2, sentence=91),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_do_what_plain_loops_do(name, kind):
    case = ODD[name]
    (loss, pairs), inputs, outputs = case.plain(kind)
    found, mine, theirs = case.tiled(kind)
    assert np.abs(mine - inputs).max() < 2e-5
    assert np.abs(theirs - outputs).max() < 2e-5
    assert found == (pytest.approx(loss, rel=1e-3, abs=1e-6), pairs)
    changed = np.abs(inputs - case.tables()[0]).max() > 0.01
    assert changed == (name != "sentences of one word")
    assert not mine[:, case.dim :].any()


@pytest.mark.parametrize("width", sorted(set(TILES) - {TILE.width}))
def test_kernels_on_tiles_of_other_machines(width):
    case, kind = ODD["common"], "cbow negatives"
    _, inputs, outputs = case.plain(kind)
    _, mine, theirs = case.tiled(kind, TILES[width])
    assert np.abs(mine - inputs).max() < 2e-5
    assert np.abs(theirs - outputs).max() < 2e-5


def test_where_the_text_is_cut_changes_nothing_but_the_windows_at_the_cut():
    case = Case.of(30, 300, 4, window=3, negatives=2)
    (whole, _), inputs, outputs = case.plain("cbow negatives")
    mine, theirs = case.tables()
    loss = 0.0
    for begin in range(0, 300, 30):  # at sentence ends
        rates = [RATES[0] + (RATES[1] - RATES[0]) * at / 300 for at in (begin, begin + 30)]
        text = (case.ids, begin, begin + 30, 5 + begin, case.draws, None, 3, *rates)
        loss += plain.cbow(mine, theirs, *text, COLD)[0]
    assert loss == pytest.approx(whole)
    assert np.abs(mine - inputs).max() < 1e-6
    assert np.abs(theirs - outputs).max() < 1e-6


@pytest.mark.parametrize("kind", ["skip-gram shared", "cbow tree"])
def test_far_vectors_give_finite_steps(kind):
    """Beyond the range of exp: the sigmoid is 0 or 1, not NaN."""
    case = Case.of(10, 100, 16, window=3, negatives=3)._replace(scale=1e4)
    for (loss, pairs), inputs, outputs in (case.plain(kind), case.tiled(kind)):
        assert np.isfinite(loss)
        assert pairs
        assert np.isfinite(inputs).all()
        assert np.isfinite(outputs).all()


def test_the_tree_is_a_distribution_over_the_words():
    """The chances of all leaves, as products along their ways, sum to one: hierarchical softmax is a softmax."""
    case = Case.of(23, 400, 6, window=2, negatives=1)
    _, outputs = case.tables()
    x = np.random.default_rng(0).normal(size=outputs.shape[1])
    total = 0.0
    for word in range(23):
        steps = case.tree.steps[case.tree.start[word] : case.tree.start[word + 1]]
        total += np.prod(1 / (1 + np.exp(-(1 - 2.0 * (steps & 1)) * (outputs[steps >> 1].astype(float) @ x))))
    assert total == pytest.approx(1)
