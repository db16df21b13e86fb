"""Documents that share text fall into one group, others do not; and the leak says what is left."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masklab.corpus import duplicates
from masklab.corpus.duplicates import Shingles, joined, leak, shingles, united, word_hashes


def prose(seed: int, words: int = 200) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 7))) for _ in range(words))


def groups(texts, **options):
    found = Shingles(**options)
    for text in texts:  # one at a time: groups reach over batches
        found.add([text])
    return found.groups().tolist()


def test_words_are_compared_without_case_and_punctuation():
    hashes, text = word_hashes(["The cat, Élan", "(the) CAT élan?", "", "你好"])
    assert text.tolist() == [0, 0, 0, 1, 1, 1, 3, 3]
    assert hashes[:3].tolist() == hashes[3:6].tolist()
    assert len(set(hashes.tolist())) == 5


def test_shingles_stay_inside_documents():
    one, two = prose(1, 20), prose(2, 20)
    hashes, document = shingles([one, two], 16)
    assert document.tolist() == [0] * 5 + [1] * 5
    assert hashes.tolist() == [*shingles([one], 16)[0].tolist(), *shingles([two], 16)[0].tolist()]
    assert len(shingles(["too short"], 16)[0]) == 0


def test_shingles_of_a_long_text_are_found_a_little_at_a_time(monkeypatch):
    texts = [prose(1, 300), prose(2, 5), "", prose(3, 90).replace(" ", "\n"), "你好" * 50]
    hashes, document = shingles(texts, 16)
    monkeypatch.setattr(duplicates, "_AT_A_TIME", 100)
    parts = list(duplicates.shingled(iter(texts), 16))
    assert len(parts) > 10
    assert np.array_equal(np.concatenate([some for some, _ in parts]), hashes)
    assert np.array_equal(np.concatenate([some for _, some in parts]), document)


def test_shared_stretches_join_documents_and_chains_of_them():
    first, second, third, other = prose(1), prose(2), prose(3), prose(4)
    texts = [first, other, first[300:] + " " + second, prose(5), second[200:] + " " + third, "short"]
    assert groups(texts) == [0, 1, 0, 3, 0, 5]


def test_boilerplate_joins_nothing():
    licence = prose(0)
    assert groups([licence + " " + prose(seed) for seed in range(1, 30)]) == list(range(29))


def test_memory_is_bounded_and_copies_are_still_found():
    texts = [prose(seed) for seed in range(40)] * 2
    found = Shingles(at_most=1000)
    found.add(texts)
    assert found._count <= 1000 < 80 * 185 / 4
    assert found.groups().tolist() == list(range(40)) * 2


def test_leak():
    train = [prose(seed) for seed in range(10)]
    assert leak(train, [prose(20), "short"]) == 0
    assert leak(train, [prose(3)]) == 1
    half = " ".join(prose(3).split()[:100]) + " " + prose(30, 100)
    assert leak(train, [half]) == pytest.approx(85 / 185)
    assert leak(train, []) == 0
    assert leak([], [prose(1)]) == 0


def test_hashes_spread():
    hashes = shingles([prose(7, 20_000)], 16)[0]
    assert len(np.unique(hashes)) == len(hashes)
    assert abs((hashes % np.uint64(4) == 0).mean() - 0.25) < 0.02


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_groups_are_the_connected_ones(pairs):
    group = list(range(31))
    for a, b in pairs:  # the slow twin: rename the later group
        low, high = sorted((group[a], group[b]))
        group = [low if g == high else g for g in group]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    assert united(np.arange(31), table).tolist() == group
    ids, roots = joined(table)
    assert ids.tolist() == sorted({i for pair in pairs for i in pair})
    assert roots.tolist() == [group[i] for i in ids]


def test_a_long_chain_is_one_group():
    n = 100_000
    order = np.random.default_rng(0).permutation(n)
    assert (united(np.arange(n), np.stack([order[:-1], order[1:]], 1)) == 0).all()
