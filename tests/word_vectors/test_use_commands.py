"""The commands that use vectors: what they print, in tables and as JSON, and one line for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from masklab.cli import app
from masklab.word_vectors.keyed import WordVectors

PAIRS = {"man": "woman", "king": "queen", "boy": "girl"}


def call(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["words", *map(str, arguments)], input=stdin)


def right(*arguments: str | Path, stdin: str | None = None) -> str:
    done = call(*arguments, stdin=stdin)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def own():
    rng = np.random.default_rng(0)
    rows = {"music": rng.standard_normal(12), "[b]": rng.standard_normal(12)}
    step = rng.standard_normal(12)
    kings = 2 * rng.standard_normal(12)
    for a, b in PAIRS.items():
        rows[a] = kings + rng.standard_normal(12)
        rows[b] = rows[a] + step
    return WordVectors(list(rows), np.array(list(rows.values()), np.float32), np.arange(8, 0, -1))


@pytest.fixture(scope="module")
def folder(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    own.save(folder / "v")
    own.save(folder / "v.vec")
    questions = [f"{a} {b} {c} {d}\n" for a, b in PAIRS.items() for c, d in PAIRS.items() if a != c]
    (folder / "questions.txt").write_text(": gram1-royal\n" + "".join(questions) + ": other\na b c d\n", "utf-8")
    (folder / "pairs.tsv").write_text("man\tking\t9\nman\tmusic\t1\nboy\tgirl\t8\nboy\tnowhere\t3\n", "utf-8")
    return folder


def test_nearest(own, folder):
    said = right("nearest", folder / "v", "king", "--top", "3")
    found = own.nearest("king", 3)
    assert [line.split() for line in said.splitlines() if line.strip()][2:] == [[w, f"{s:.4f}"] for w, s in found]
    said = right("nearest", folder / "v.vec", "king", "woman", "--less", "man", "--json")
    line = json.loads(said)
    assert (line["words"], line["less"]) == (["king", "woman"], ["man"])
    assert [near["word"] for near in line["found"]] == [
        near.word for near in own.nearest(["king", "woman"], negative="man")
    ]
    lines = right(
        "nearest", folder / "v", "--json", "--top", "1", "--among", "3", stdin="king\n\nboy girl\n"
    ).splitlines()
    assert [json.loads(line)["words"] for line in lines] == [["king"], ["boy", "girl"]]
    assert "[b]" in right("nearest", folder / "v", "music", "--top", "9")  # no markup of rich's


def test_analogy(own, folder):
    for method in ("add", "mul"):
        line = json.loads(right("analogy", folder / "v", "man", "woman", "king", "--method", method, "--json"))
        assert line["found"][0]["word"] == own.analogy("man", "woman", "king", method=method)[0].word == "queen"
    said = right("analogy", folder / "v", "--top", "1", stdin="man woman boy\n")
    assert "man : woman = boy : ?" in said
    assert "girl" in said


def test_similarity(own, folder):
    assert right("similarity", folder / "v", "king", "queen") == f"{own.similarity('king', 'queen'):.4f}\n"
    said = right("similarity", folder / "v", stdin="king queen\nman boy\n")
    assert said.splitlines()[1] == f"{own.similarity('man', 'boy'):.4f}  man boy"
    table = json.loads(right("similarity", folder / "v", "man", "boy", "king", "--json"))["similarity"]
    assert np.allclose(table, np.transpose(table))
    assert np.allclose(np.diag(table), 1)
    assert f"{table[0][2]:.3f}" in right("similarity", folder / "v", "man", "boy", "king")


def test_odd(folder):
    assert "odd one out: music" in right("odd", folder / "v", "man", "king", "music", "boy")
    assert json.loads(right("odd", folder / "v", "man", "king", "music", "--json"))["odd"] == "music"


def test_mean(own, folder, tmp_path):
    lines = [json.loads(line) for line in right("mean", folder / "v", "the KING", "man", "--lowercase").splitlines()]
    assert [line["text"] for line in lines] == ["the KING", "man"]
    assert np.allclose(lines[0]["vector"], own["king"], atol=1e-6)
    (tmp_path / "texts").write_text("king man\nnothing known\n", "utf-8")
    done = call("mean", folder / "v", "--file", tmp_path / "texts", "--sif", "1e-3", "--out", tmp_path / "m.npy")
    assert "1 of 2 texts have no word with a vector" in done.stderr
    assert np.allclose(np.load(tmp_path / "m.npy"), own.means(["king man", "nothing known"], sif=1e-3))
    (tmp_path / "counts").write_text("king 5\nman 3\n", "utf-8")
    counted = right("mean", folder / "v.vec", "king man", "--sif", "1e-3", "--counts", tmp_path / "counts")
    assert len(json.loads(counted)["vector"]) == 12


def test_evaluate(folder):
    said = right("evaluate", folder / "v", folder / "questions.txt", folder / "pairs.tsv", "--mistakes", "3")
    total = next(line for line in said.splitlines() if "total" in line).split()
    assert total == ["total", "6", "6", "100.00%", "7", "(85.7%)"]
    assert "semantic" in said
    assert "pairs.tsv" in said
    assert "4 (75.0%)" in said
    lines = right("evaluate", folder / "v", folder / "questions.txt", folder / "pairs.tsv", "--json").splitlines()
    analogies, pairs = map(json.loads, lines)
    assert analogies["total"] == {"name": "total", "right": 6, "asked": 6, "questions": 7, "accuracy": 1.0}
    assert (pairs["asked"], pairs["unknown"], pairs["pairs"]) == (3, 1, 4)
    strict = json.loads(
        right(
            "evaluate", folder / "v", folder / "questions.txt", "--unknown-is-wrong", "--case", "--among", "0", "--json"
        )
    )
    assert strict["total"]["asked"] == 7
    few = right("evaluate", folder / "v", folder / "questions.txt", "--among", "6", "--json")
    assert json.loads(few)["total"]["asked"] == 2
    (folder / "music.txt").write_text("man woman king boy\n", "utf-8")
    assert "man : woman = king : queen (not boy)" in right(
        "evaluate", folder / "v", folder / "music.txt", "--mistakes", "3"
    )


def test_map(folder, tmp_path):
    right("map", folder / "v", "man,king", "woman,queen", "--out", tmp_path / "a.png")
    right("map", folder / "v", "--pair", "man:woman", "--pair", "king:queen", "--out", tmp_path / "b.svg")
    (tmp_path / "groups").write_text("man king\nmusic\n", "utf-8")
    right(
        "map",
        folder / "v",
        "--file",
        tmp_path / "groups",
        "--first",
        "3",
        "--method",
        "pca",
        "--out",
        tmp_path / "c.pdf",
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "man" in (tmp_path / "b.svg").read_text("utf-8")
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


def test_convert(own, folder, tmp_path):
    for name in ("v.bin", "v.vec.gz", "v.glove.txt", "folder"):
        assert "8 words, vectors of 12" in right("convert", folder / "v.vec", tmp_path / name)
        opened = WordVectors.open(tmp_path / name)
        assert opened.words == own.words
        assert (opened.vectors == own.vectors).all()
    (tmp_path / "only").write_text("queen\nking\nqueen\nnowhere\n", "utf-8")
    done = call("convert", folder / "v", tmp_path / "few.vec", "--only", tmp_path / "only")
    assert done.stderr == f"masklab: 1 of the 3 words in {tmp_path}/only have no vector\n"
    assert WordVectors.open(tmp_path / "few.vec").words == ["queen", "king"]
    right("convert", folder / "v", tmp_path / "first", "--limit", "2", "--format", "glove")
    assert (tmp_path / "first").read_text("utf-8").startswith("music ")


BAD = [
    (["nearest", "nowhere", "king"], "nowhere does not exist; name a folder of `masklab words`"),
    (["nearest", "V", "kinh"], "'kinh' is not among the 8 words; did you mean king?"),
    (["nearest", "prose.txt", "king"], "prose.txt holds no word vectors"),
    (["nearest", "cut.vec", "king"], "cut.vec: it ends after 1 of the 3 words"),
    (["nearest", "empty", "king"], "empty is a folder without words.json"),
    (["analogy", "V", "man", "woman"], "an analogy takes three words"),
    (["similarity", "V", "man"], "name at least two words"),
    (["odd", "V", "man"], "name at least two words"),
    (["mean", "V.vec", "king", "--sif", "1e-3"], "--counts"),
    (["mean", "V", "--file", "nowhere"], "nowhere"),
    (["evaluate", "V", "prose.txt"], "prose.txt"),
    (["evaluate", "V", "nowhere"], "nowhere"),
    (["evaluate", "V", "pairs.tsv", "--compose"], "only a fastText model"),
    (["map", "V", "man,king"], "name at least three words"),
    (["map", "V", "--pair", "man"], "--pair man: name two words with a colon"),
    (["map", "V", "man,king,boy", "--out", "map.gif"], ".png, .svg or .pdf"),
    (["map", "V", "man,king,boy", "--method", "pairs"], "--pair man:woman"),
    (["convert", "V", "v.npy"], "which format is that?"),
    (["convert", "V", "v.vec", "--only", "prose.txt"], "none of its 1 words has a vector"),
    (["convert", "V", "v.bin", "--format", "fasttext"], "only a fastText model"),
    (["skipgram", "--corpus", "prose.txt", "--out", "v.npy"], "which format is that?"),
    (["skipgram", "--corpus", "prose.txt", "--out", "."], "a folder with other files in it"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_mistakes_are_one_line_and_exit_code_2(arguments, said, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prose.txt").write_text("once upon a time there was\n", "utf-8")
    (tmp_path / "pairs.tsv").write_text("man\tking\t9\n", "utf-8")
    (tmp_path / "cut.vec").write_text("3 2\na 1 2\n", "utf-8")
    (tmp_path / "empty").mkdir()
    done = call(*(str(folder / a.lower()) if a in ("V", "V.vec") else a for a in arguments))
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("masklab: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_help_is_there_at_once():
    code = (
        "import sys\nfrom masklab.cli import app\n"
        "for name in ([], ['nearest'], ['skipgram'], ['map']):\n"
        "    app(['words', *name, '--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'numba', 'numpy', 'matplotlib', 'gensim') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr
