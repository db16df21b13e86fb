"""Analogies and judged pairs: gensim's figures to the last digit, whatever the file and the options."""

import math
import sys

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors import evaluation
from masklab.word_vectors.evaluation import Analogies, Pairs, analogies, evaluate, kind_of, pairs, ranks, read_pairs
from masklab.word_vectors.keyed import WordVectors

KINGDOMS = [("man", "woman"), ("king", "queen"), ("boy", "girl"), ("uncle", "aunt"), ("actor", "actress")]
CITIES = [("北京", "中国"), ("东京", "日本"), ("巴黎", "法国"), ("Berlin", "Germany"), ("Rome", "Italy")]


@pytest.fixture(scope="module")
def vectors():
    """Pairs with a common step among 800 others, noisy enough that some analogies fail; some words in two cases."""
    rng = np.random.default_rng(0)
    rows: dict[str, np.ndarray] = {}
    for pairs_ in (KINGDOMS, CITIES):
        step = rng.standard_normal(16)
        for a, b in pairs_:
            rows[a] = rng.standard_normal(16)
            rows[b] = rows[a] + step + 0.9 * rng.standard_normal(16)
    for i in range(800):
        rows[f"w{i}"] = rng.standard_normal(16)
    for word in ("King", "berlin", "GIRL"):
        rows[word] = rng.standard_normal(16)
    words = list(rows)
    rng.shuffle(words)
    return WordVectors(words, np.array([rows[word] for word in words], np.float32))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")

    def questions(some):
        return "".join(f"{a} {b} {c} {d}\n" for a, b in some for c, d in some if a != c)

    (folder / "questions-words.txt").write_text(
        f": family\n{questions([*KINGDOMS, ('him', 'her')])}: gram1-capitals\n{questions(CITIES)}", "utf-8"
    )
    rng = np.random.default_rng(1)
    words = [word for pair in (*KINGDOMS, *CITIES) for word in pair] + ["nowhere", "W12"]
    rows = [(*rng.choice(words, 2).tolist(), float(rng.integers(0, 20)) / 2) for _ in range(60)]
    lines = [f"{a}\t{b}\t{score}" for a, b, score in rows]
    (folder / "wordsim353.tsv").write_text("# people's judgement\n" + "\n".join(lines) + "\n", "utf-8")
    return folder


OPTIONS = {
    "as it is": ({}, {}),
    "few words": ({"among": 650}, {"restrict_vocab": 650}),
    "case matters": ({"ignore_case": False}, {"case_insensitive": False}),
    "unknown is wrong": ({"unknown_is_wrong": True}, {"dummy4unknown": True}),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_analogies_are_gensims_to_the_last_digit(kind, vectors, files):
    pytest.importorskip("gensim")
    ours, theirs = OPTIONS[kind]
    path = files / "questions-words.txt"
    found = evaluate(vectors, path, **ours)
    score, sections = vectors.to_gensim().evaluate_word_analogies(path, **theirs)
    assert isinstance(found, Analogies)
    assert found.total.accuracy == score
    assert 0 < score < 1
    assert [section.name for section in found.sections] == [s["section"] for s in sections[:-1]]
    for mine, other in zip([*found.sections, found.total], sections, strict=True):
        right = [answer.question for answer in mine.answers if answer.right]
        if ours.get("ignore_case", True):
            right = [tuple(word.upper() for word in question) for question in right]
        assert right == other["correct"]
        assert mine.right == len(other["correct"])
        assert mine.asked == len(other["correct"]) + len(other["incorrect"])


@pytest.mark.parametrize("kind", OPTIONS)
def test_pairs_are_gensims_to_the_last_digit(kind, vectors, files):
    pytest.importorskip("gensim")
    ours, theirs = OPTIONS[kind]
    path = files / "wordsim353.tsv"
    found = evaluate(vectors, path, **ours)
    pearson, spearman, unknown = vectors.to_gensim().evaluate_word_pairs(path, **theirs)
    assert isinstance(found, Pairs)
    assert found.pearson == tuple(pearson)
    assert found.spearman == tuple(spearman)
    assert found.unknown / found.pairs * 100 == unknown
    assert found.asked == found.pairs - (0 if "unknown_is_wrong" in ours else found.unknown)


def test_coverage_counts_every_question(vectors, files):
    found = analogies(vectors, files / "questions-words.txt")
    family, capitals = found.sections
    assert (family.questions, family.unknown, family.asked) == (30, 10, 20)
    assert (capitals.questions, capitals.unknown, capitals.asked) == (20, 0, 20)
    assert (found.total.questions, found.total.asked) == (50, 40)
    semantic, syntactic = found.halves
    assert (semantic.name, semantic.asked, semantic.right) == ("semantic", 20, family.right)
    assert (syntactic.name, syntactic.asked, syntactic.right) == ("syntactic", 20, capitals.right)
    wrong = analogies(vectors, files / "questions-words.txt", unknown_is_wrong=True)
    assert wrong.total.asked == 50
    assert wrong.total.accuracy < found.total.accuracy


def test_three_cosine_multiplied_by_its_definition(vectors, files):
    """Levy and Goldberg 2014, eq. 4, one question after the other."""
    found = analogies(vectors, files / "questions-words.txt", method="mul", ignore_case=False)
    unit = vectors.unit.astype(float)
    for answer in found.sections[0].answers:
        a, b, c = (vectors.index[word] for word in answer.question[:3])
        like = [(1 + unit @ unit[i]) / 2 for i in (a, b, c)]
        score = like[1] * like[2] / (like[0] + 1e-6)
        score[[a, b, c]] = -1
        assert answer.given == vectors.words[score.argmax()]


def test_a_tie_is_asked_again_in_gensims_own_steps():
    """Two words with the same vector: which is the answer depends on the order of additions."""
    gensim = pytest.importorskip("gensim")
    assert gensim
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((60, 8)).astype(np.float32)
    rows[30:60] = rows[:30] * rng.uniform(0.5, 2, (30, 1)).astype(np.float32)  # as near to all, but for the last bits
    made = WordVectors([f"w{i}" for i in range(60)], rows)
    theirs = made.to_gensim()
    choose = evaluation._Chooser(made, str, None, "add")
    for a, b, c in rng.integers(0, 60, (40, 3)).tolist():
        if len({a, b, c}) == 3:
            numbers, scores = made.answers(np.array([[a, b, c]]), 9)
            given = choose([a, b, c, 0], numbers[0].tolist(), scores[0].tolist())
            assert given == theirs.most_similar([f"w{b}", f"w{c}"], [f"w{a}"], topn=5)[0][0]


def test_ca8_and_files_without_sections(vectors, tmp_path):
    text = "".join(f"{a} {b} {c} {d}\n" for a, b in CITIES[:3] for c, d in CITIES[:3] if a != c)
    for head in (": geography-capital\n", ""):
        (tmp_path / "ca8.txt").write_text(head + text, "utf-8")
        assert kind_of(tmp_path / "ca8.txt") == "analogies"
        found = evaluate(vectors, tmp_path / "ca8.txt")
        assert isinstance(found, Analogies)
        assert found.sections[0].name == ("geography-capital" if head else "ca8")
        assert found.total.questions == found.total.asked == 6
        assert found.halves == []
    (tmp_path / "ca8.txt").write_text(": a\n北京 中国\n" + text, "utf-8")
    assert analogies(vectors, tmp_path / "ca8.txt").skipped == 1


PAIRS = {
    "wordsim's tabs": "# a comment\nking\tqueen\t8.5\nman\tboy\t3\n",
    "with a header": "Word 1,Word 2,Human (mean)\nking,queen,8.5\nman,boy,3\n",
    "semicolons": "king;queen;8.5\nman;boy;3\n",
    "spaces": "king queen 8.5\nman boy 3\n",
    "simlex": "word1\tword2\tPOS\tSimLex999\tconc(w1)\nking\tqueen\tN\t8.5\t1\nman\tboy\tN\t3\t2\n",
    "several numbers": "king\tqueen\t8.5\t1\t2\nman\tboy\t3\t5\t6\n",
}


@pytest.mark.parametrize("kind", PAIRS)
def test_pairs_in_many_shapes(kind, tmp_path):
    (tmp_path / "pairs").write_text(PAIRS[kind], "utf-8")
    assert kind_of(tmp_path / "pairs") == "pairs"
    assert read_pairs(tmp_path / "pairs") == ([("king", "queen", 8.5), ("man", "boy", 3.0)], 0)


def test_without_scipy_the_figures_are_the_same(vectors, files, monkeypatch):
    whole = pairs(vectors, files / "wordsim353.tsv")
    monkeypatch.setitem(sys.modules, "scipy", None)
    bare = pairs(vectors, files / "wordsim353.tsv")
    assert bare.pearson.p is None
    assert bare.pearson.value == pytest.approx(whole.pearson.value, abs=1e-12)
    assert bare.spearman.value == pytest.approx(whole.spearman.value, abs=1e-12)
    assert ranks(np.array([5, 3, 5, 1])).tolist() == [3.5, 2, 3.5, 1]


def test_unknown_words_of_a_subword_model_can_be_composed(vectors, files):
    made = WordVectors(vectors.words, vectors.vectors, unseen=lambda word: np.full(16, len(word), np.float32))
    known, composed = (pairs(made, files / "wordsim353.tsv", compose=compose) for compose in (False, True))
    assert known.asked < composed.asked == composed.pairs
    with pytest.raises(BadInput, match="only a fastText model"):
        pairs(vectors, files / "wordsim353.tsv", compose=True)


def test_too_little_to_judge_is_no_number(tmp_path, vectors):
    (tmp_path / "pairs").write_text("king queen 8\nnowhere else 3\n", "utf-8")
    assert math.isnan(pairs(vectors, tmp_path / "pairs").spearman.value)
    (tmp_path / "questions").write_text(": a\nnowhere else or other\n", "utf-8")
    assert analogies(vectors, tmp_path / "questions").total.accuracy == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (": family\n", "holds no questions; write lines 'a b c d'"),
        (": family\nking queen man\n", "line 2: not four words"),
        ("word word\nking queen\n", "line 2: not two words and a number"),
        ("# nothing\n", "holds no pairs"),
    ],
)
def test_files_that_are_none_are_refused_in_one_line(text, said, tmp_path, vectors):
    (tmp_path / "file").write_text(text, "utf-8")
    with pytest.raises(BadInput, match=said) as error:
        evaluate(vectors, tmp_path / "file")
    assert str(error.value).startswith(str(tmp_path / "file"))
    assert "\n" not in str(error.value)
