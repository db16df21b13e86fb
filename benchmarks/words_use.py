"""Word vectors in use: opening files, writing them, nearest words, evaluation; masklab beside gensim.

    python benchmarks/words_use.py --questions questions-words.txt --pairs wordsim353.tsv --vectors vectors.bin

Without --vectors a table of random vectors is made (--words 30000 --dim 100), and nothing is evaluated. Every answer is
compared with gensim's, too. One core (OMP_NUM_THREADS=2 gives both two, which matrix products use). Takes about 4
minutes; --rounds 3 shortens it, --every 1 times all questions and not each fifth.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # set to 2 to let both use two cores

import numpy as np  # noqa: E402
from _rounds import cores, peak_memory, report, rounds  # noqa: E402

from masklab.word_vectors.evaluation import analogies, pairs  # noqa: E402
from masklab.word_vectors.keyed import WordVectors  # noqa: E402

try:
    from gensim.models import KeyedVectors
except ImportError:
    sys.exit("gensim is the peer: pip install gensim")

FILES = {"v.bin": {"binary": True}, "v.vec": {}, "v.glove.txt": {"no_header": True}}


def rate(count: int, call: Callable[[], Any]) -> float:
    """How many a second."""
    began = time.perf_counter()
    call()
    return count / (time.perf_counter() - began)


def compare(title: str, count: int, ours: Callable[[], Any], theirs: Callable[[], Any], unit: str, number: int) -> None:
    """Both once for the cache and the comparison, then in rounds."""
    print(title, flush=True)
    found = rounds(
        {"gensim": lambda: rate(count, theirs), "masklab": lambda: rate(count, ours)}, number, unit, warm_up=True
    )
    report(found, "masklab", unit)


def check(said: str, right: bool) -> None:
    print(f"  {said}: {'the same' if right else 'NOT THE SAME'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help="a word2vec binary file")
    parser.add_argument("--questions", type=Path, help="analogies, such as questions-words.txt")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[], help="scored pairs, such as wordsim353.tsv")
    parser.add_argument("--words", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--every", type=int, default=5, help="time so much of the questions: each fifth")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if (asked.questions or asked.pairs) and not asked.vectors:
        parser.error("--questions and --pairs ask for real words: give --vectors")
    with cores(int(os.environ["OMP_NUM_THREADS"])), tempfile.TemporaryDirectory() as folder:
        if asked.vectors:
            vectors = WordVectors.open(asked.vectors)
        else:
            rows = np.random.default_rng(0).standard_normal((asked.words, asked.dim), np.float32) * np.float32(0.3)
            vectors = WordVectors([f"word{i}" for i in range(asked.words)], rows)
        theirs = vectors.to_gensim()
        print(f"{len(vectors):,} words, vectors of {vectors.dim}", flush=True)
        files(Path(folder), vectors, theirs, asked.rounds)
        search(vectors, theirs, asked.rounds)
        evaluation(Path(folder), vectors, theirs, asked)
        memory(Path(folder))


def files(folder: Path, vectors: WordVectors, theirs: Any, number: int) -> None:
    count = len(vectors)
    for name, how in FILES.items():
        path, other = folder / name, folder / f"gensim-{name}"
        header, binary = "no_header" not in how, "binary" in how
        compare(
            f"writing {name}", count, lambda path=path: vectors.save(path),
            lambda other=other, binary=binary, header=header: theirs.save_word2vec_format(
                other, binary=binary, write_header=header
            ), "words/s", number,
        )  # fmt: skip
        compare(
            f"opening {name}", count, lambda path=path: WordVectors.open(path),
            lambda path=path, how=how: KeyedVectors.load_word2vec_format(path, **how), "words/s", number,
        )  # fmt: skip
        mine, yours = WordVectors.open(other), KeyedVectors.load_word2vec_format(path, **how)
        same = mine.words == yours.index_to_key == vectors.words
        check("what each reads of the other", same and bool((mine.vectors == yours.vectors).all()))
    vectors.save(folder / "own")
    theirs.save(str(folder / "own.kv"))
    compare(
        "opening each one's own format, memory-mapped", count, lambda: WordVectors.open(folder / "own"),
        lambda: KeyedVectors.load(str(folder / "own.kv"), mmap="r"), "words/s", number,
    )  # fmt: skip


def search(vectors: WordVectors, theirs: Any, number: int) -> None:
    some = vectors.words[:500]
    theirs.fill_norms(force=True)
    assert vectors.norms is not None  # gensim's are ready too
    compare(
        "nearest words, one question at a time", len(some), lambda: [vectors.nearest(word) for word in some],
        lambda: [theirs.most_similar(word) for word in some], "questions/s", number,
    )  # fmt: skip
    compare(
        "nearest words, all questions at once", len(some), lambda: vectors.nearest_to_each(some),
        lambda: [theirs.most_similar(word) for word in some], "questions/s", number,
    )  # fmt: skip
    wanted = [[word for word, _ in theirs.most_similar(word)] for word in some]
    check("the ten nearest", [[near.word for near in found] for found in vectors.nearest_to_each(some)] == wanted)


def evaluation(folder: Path, vectors: WordVectors, theirs: Any, asked: argparse.Namespace) -> None:
    if asked.questions:
        few = folder / "questions.txt"
        few.write_text("\n".join(asked.questions.read_text("utf-8").splitlines()[:: asked.every]), "utf-8")
        compare(
            f"analogies: {asked.questions.name}", analogies(vectors, few).total.asked, lambda: analogies(vectors, few),
            lambda: theirs.evaluate_word_analogies(str(few)), "questions/s", asked.rounds,
        )  # fmt: skip
        mine = analogies(vectors, asked.questions)
        score, sections = theirs.evaluate_word_analogies(str(asked.questions))
        right = [section.right for section in mine.sections] == [len(s["correct"]) for s in sections[:-1]]
        print(f"  {mine.total.accuracy:.2%} of {mine.total.asked:,} asked, of {mine.total.questions:,} in the file")
        check("accuracy, to the last digit", mine.total.accuracy == score and right)
    for path in asked.pairs:
        found = pairs(vectors, path)
        pearson, spearman, _ = theirs.evaluate_word_pairs(str(path))
        print(f"{path.name}: Spearman {found.spearman.value:.4f}, {found.asked:,} of {found.pairs:,} pairs asked")
        check("correlations, to the last digit", found.pearson == tuple(pearson) and found.spearman == tuple(spearman))


OPEN = {
    "masklab": "from masklab.word_vectors.keyed import WordVectors; WordVectors.open({!r}).nearest({!r})",
    "gensim": "from gensim.models import KeyedVectors; KeyedVectors.load_word2vec_format({!r}).most_similar({!r})",
}


def memory(folder: Path) -> None:
    word = WordVectors.open(folder / "own").words[0]
    print("peak memory of a process that opens a text file and asks for the nearest words", flush=True)
    for name, code in OPEN.items():
        size = peak_memory([sys.executable, "-c", code.format(str(folder / "v.vec"), word)])
        print(f"  {name:<28} {size / 1e6:>10,.0f} MB")
    size = peak_memory([sys.executable, "-c", OPEN["masklab"].format(str(folder / "own"), word)])
    print(f"  {'masklab, its own folder':<28} {size / 1e6:>10,.0f} MB")


if __name__ == "__main__":
    main()
