"""Holds docs/word-vectors.md to the truth: its commands and its Python run, and it names every command."""

import contextlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from masklab.cli import app
from masklab.cli.words import words

PAGE = (Path(__file__).parents[2] / "docs" / "word-vectors.md").read_text("utf-8")
TRAINS = {
    "skipgram": "--min-count 1 --epochs 1 --threads 1",
    "cbow": "--min-count 1 --epochs 1 --threads 1",
    "glove": "--min-count 1 --epochs 1 --threads 1 --dim 8",
    "fasttext": "--min-count 1 --epochs 1 --threads 1 --buckets 500",
    "supervised": "--epochs 1 --threads 1 --buckets 500",
    "ratio": "--min-count 1 --threads 1",
    "glyph": "--min-count 1 --epochs 1 --threads 1 --dim 8 --size 8",
    "phrases": "--threads 1",
}
"""What is added to a command, for a text of a few hundred words."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the page speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    facts = [
        "the king of france and the queen of spain drink tea and coffee at breakfast",
        "a man and a woman hear music in new york over lunch and dinner",
        "ice is solid water and steam is water as gas",
    ]
    (folder / "mytext.txt").write_text(
        "\n\n".join(f"{fact} {number}." for number in range(40) for fact in facts), "utf-8"
    )
    (folder / "more.txt").write_text("the emperor of japan drinks tea\n" * 9, "utf-8")
    (folder / "questions-words.txt").write_text(": family\nman woman king queen\nking queen man woman\n", "utf-8")
    for name in ("wordsim353.tsv", "simlex999.txt"):
        (folder / name).write_text("king\tqueen\t8\ntea\tcoffee\t9\nice\tmusic\t1\n", "utf-8")
    for name in ("reviews.txt", "held_out.txt"):
        (folder / name).write_text("__label__good what a film\n__label__bad what a bore\n" * 9, "utf-8")
    chinese = ["我们去北京看长城", "北京是中国的首都", "东京是日本的首都", "他喜欢喝茶"]
    (folder / "chinese.txt").write_text(
        "\n\n".join(f"{text}{number}。" for number in range(20) for text in chinese), "utf-8"
    )
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_commands_of_the_page_run(desk, make_font, monkeypatch):
    pytest.importorskip("rjieba")
    characters = {*(desk / "chinese.txt").read_text("utf-8")} - {"\n"}
    bars = {one: [(0, 0, 9 * i + 9, 880)] for i, one in enumerate(sorted(characters))}
    make_font(desk / "NotoSansSC-Regular.otf", bars)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("masklab ")]
    assert len(lines) > 30
    with contextlib.chdir(desk):
        for line in lines:
            arguments = shlex.split(re.sub(r" > \S+$", "", line).replace("--time 90s", "--time 1s"))[1:]
            if arguments[0] == "prepare":
                arguments += ["--vocabulary", "300", "--held-out", "0.05"]
            arguments += shlex.split(TRAINS.get(arguments[1], "") if arguments[0] == "words" else "")
            done = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert done.exit_code == 0, f"{line}\n{done.output}"
        torch.set_num_threads(1)
        assert all(
            (desk / name).stat().st_size for name in ("map.png", "royal.svg", "many.pdf", "texts.npy", "joined.txt")
        )


@pytest.mark.filterwarnings("ignore")
def test_the_python_of_the_page_runs(desk, tmp_path, capsys):
    pytest.importorskip("gensim")
    first, second = blocks("python")
    shutil.copytree(desk, tmp_path, dirs_exist_ok=True)
    with contextlib.chdir(tmp_path):
        exec(first.replace("Settings(", "Settings(threads=1, "), {})
        assert len(capsys.readouterr().out.splitlines()) == 6
        for out in ("vectors", "vectors.vec"):
            done = CliRunner().invoke(app, ["words", "convert", "mine", out], catch_exceptions=False)
            assert done.exit_code == 0, done.output
        exec(second, {})
        assert (tmp_path / "from_gensim.bin").stat().st_size


def test_the_table_names_every_command():
    names = {command.name or command.callback.__name__ for command in words.registered_commands}  # type: ignore[union-attr]
    names |= {group.name or "" for group in words.registered_groups}
    listed = set(re.findall(r"`words (\w+)`", PAGE.split("## The commands")[1]))
    assert listed == names
