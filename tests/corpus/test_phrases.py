"""Phrases: gensim's scores, counts by hand, and none that reaches over a sign, a line end or a segmented word."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from gensim.models.phrases import Phrases as Gensim

from masklab.corpus.phrases import PhraseFinder, Thresholds, phrases
from masklab.corpus.words_zh import ChineseWords
from masklab.errors import BadInput


def prose(seed: int, count: int = 300) -> list[str]:
    draw = random.Random(seed)
    words = ["new", "york", "the", "of", "city", "machine", "learning", "a", "neural", "network", "deep"]
    found: list[str] = []
    while len(found) < count:
        together = draw.choice([["new", "york", "city"], ["machine", "learning"], ["deep", "neural", "network"], []])
        found += [*together, draw.choice(words), draw.choice(words)]
    return found


SENTENCES = [prose(seed) for seed in range(8)]
TEXTS = [" ".join(sentence) for sentence in SENTENCES]


def found(texts: list[str], *asked, **more) -> dict[str, tuple[int, float, int]]:
    made = phrases(((text, None) for text in texts), Thresholds(*asked), **more)
    assert made == sorted(made, key=lambda phrase: (-phrase.count, phrase.text))
    return {phrase.text: (phrase.count, phrase.npmi, phrase.words) for phrase in made}


def test_pairs_are_scored_as_gensim_does():
    theirs = Gensim(SENTENCES, min_count=5, threshold=0.05, scoring="npmi", delimiter=" ", connector_words=frozenset())
    expected = theirs.export_phrases()
    ours = found(TEXTS, 5, 0.05, 2)
    assert set(ours) == set(expected)
    assert len(ours) > 10
    for pair, score in expected.items():
        assert ours[pair][1] == pytest.approx(score)
        assert ours[pair][0] == theirs.vocab[pair]


def test_longer_ones_by_hand():
    """log(p(w1...wn) / (p(w1)...p(wn))) / (-(n - 1) log p(w1...wn)), all runs counted."""
    ours = found(TEXTS, 4, -1, 4)
    alone = Counter(word for sentence in SENTENCES for word in sentence)
    total = sum(alone.values())
    wanted = {}
    for n in (2, 3, 4):
        runs = Counter(tuple(sentence[i : i + n]) for sentence in SENTENCES for i in range(len(sentence) - n + 1))
        for run, count in runs.items():
            if count >= 4:
                p = count / total
                chance = math.prod(alone[word] / total for word in run)
                wanted[" ".join(run)] = (count, math.log(p / chance) / (-(n - 1) * math.log(p)), n)
    assert set(ours) == set(wanted)
    for text, (count, score, n) in wanted.items():
        assert ours[text] == (count, pytest.approx(score), n)
    assert "deep neural network" in found(TEXTS, 20, 0.3)


def test_no_phrase_reaches_over_a_sign_or_a_line_end():
    texts = ["New York is. New York, New\nYork new  york! York-new"] * 10
    ours = found(texts, 2, -1, 2)
    # "is. New", "New\nYork" and "York-new" are no pairs, nor is what two documents' ends make
    pairs = {"new york": 30, "york is": 10, "york new": 10}
    assert {text.lower(): count for text, (count, _, _) in ours.items()} == pairs
    assert "New York" in ours  # spelled as it was met first


def test_bounded_counting_and_nothing_to_count():
    assert found([], 2) == {}
    assert found(["a b c"], 2) == {}
    texts = ["red moon rises " * 70_000, "blue sun sets " * 70_000]
    assert set(found(texts, 20, -1, 2, most=100)) == {"red moon", "moon rises", "rises red"}


def test_segmented_words_are_the_words():
    text = "机器学习很有用。机器学习很难。我们研究机器学习。" * 10
    cut = ChineseWords()([text])[0]
    made = phrases([(text, cut)], Thresholds(20, 0.3, 2))
    assert [phrase.text for phrase in made] == ["机器学习"]
    assert "机器" in [text[a:b] for a, b in cut.tolist()]


def test_they_are_found_again():
    finder = PhraseFinder(["new york", "New York City", "machine learning", "c a"])
    texts = ["In NEW\n York city, machine   learning; machine-learning", "", "c a c a", "anew york"]
    spans = finder(texts)
    spelled = [[text[a:b] for a, b in some.tolist()] for text, some in zip(texts, spans, strict=True)]
    assert spelled == [["NEW\n York city", "machine   learning"], [], ["c a", "c a"], []]
    # none cuts through a segmented word, however long it is
    text = "中华人民共和国"
    assert PhraseFinder(["人民共和"])([text])[0].tolist() == [[2, 6]]
    assert PhraseFinder(["人民共和"])([text], [np.array([[2, 4], [4, 7]])])[0].tolist() == []
    assert PhraseFinder(["人民共和国"])([text], [np.array([[2, 4], [4, 7]])])[0].tolist() == [[2, 7]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [((1,), "what occurs once is no phrase"), ((5, 1.5), "between -1 and 1"), ((5, 0.5, 1), "choose 2 to 8")],
)
def test_thresholds_that_make_no_sense(asked, message):
    with pytest.raises(BadInput, match=message):
        Thresholds(*asked)
