"""Counting a corpus's words and numbering them, and joining its phrases: masklab, gensim, word2vec.c, word2phrase.c.

    python benchmarks/words_counting.py corpus.txt --word2vec word2vec --word2phrase word2phrase

corpus.txt: words with spaces between, a sentence or paragraph a line. 60 MB with all peers take about 4 minutes; less
with --rounds 3 or --phrases-mb 5. masklab's figure is for counting and numbering the text, which gensim and word2vec.c
do later, again in every epoch. Each peer has one core; masklab is measured on two as well.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from _rounds import cores, peak_memory, ratio, report, rounds

MIN_COUNT = 5
THRESHOLD = 100.0  # of phrases: word2phrase.c's
Found = Callable[[], Any]
Peer = Callable[[list[str], Path], Found]  # reads the corpus, may write the file; what it returns is not timed


def masklab_counts(corpus: list[str], out: Path, *, threads: int = 1, end_of_line: str | None = None) -> Found:
    from masklab.word_vectors.scan import encode

    found = encode(corpus, min_count=MIN_COUNT, threads=threads, end_of_line=end_of_line).vocabulary
    return lambda: dict(zip(found.words, found.counts.tolist(), strict=True))


def gensim_counts(corpus: list[str], out: Path, *, way: str) -> Found:
    from gensim.models.word2vec import LineSentence, Word2Vec

    model = Word2Vec(vector_size=1, min_count=MIN_COUNT, workers=1)  # so short a vector costs nothing
    if way == "scan_vocab":
        model.scan_vocab(LineSentence(corpus[0]))
        counts: Any = model.raw_vocab
        return lambda: {word: count for word, count in counts.items() if count >= MIN_COUNT}
    if way == "corpus_file":
        model.build_vocab(corpus_file=corpus[0])
    else:
        model.build_vocab(LineSentence(corpus[0]))
    return lambda: {word: model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key}


def word2vec_counts(corpus: list[str], out: Path, *, program: str) -> Found:
    command = [program, "-train", corpus[0], "-save-vocab", str(out), "-min-count", str(MIN_COUNT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return lambda: {word: int(count) for word, count in map(str.split, out.read_text("utf-8").splitlines())}


def masklab_phrases(corpus: list[str], out: Path, *, threads: int = 1) -> Found:
    from masklab.word_vectors.phrases import Settings, lines, with_phrases

    encoded, _ = with_phrases(corpus, Settings(threshold=THRESHOLD), min_count=1, threads=threads)
    with out.open("w", encoding="utf-8") as file:
        file.writelines(lines(encoded))
    return partial(full_lines, out)


def gensim_phrases(corpus: list[str], out: Path) -> Found:
    from gensim.models.phrases import Phrases
    from gensim.models.word2vec import LineSentence

    sentences = LineSentence(corpus[0], max_sentence_length=10**9)
    learned = Phrases(sentences, min_count=MIN_COUNT)
    # it multiplies scores by the number of different words and pairs, word2phrase.c and masklab by that of words read
    learned.threshold = THRESHOLD * len(learned.vocab) / learned.corpus_word_count
    frozen = learned.freeze()
    with out.open("w", encoding="utf-8") as file:
        file.writelines(" ".join(frozen[sentence]) + "\n" for sentence in sentences)
    return partial(full_lines, out)


def word2phrase(corpus: list[str], out: Path, *, program: str) -> Found:
    options = ["-min-count", str(MIN_COUNT), "-threshold", str(THRESHOLD)]
    command = [program, "-train", corpus[0], "-output", str(out), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return partial(full_lines, out)


def full_lines(path: Path) -> list[list[str]]:
    """The words of each line that has any."""
    return [words for line in path.read_text("utf-8").split("\n") if (words := line.split())]


TWO = ", 2 cores"


def ours(peer: Callable[..., Found]) -> dict[str, Peer]:
    """On one core, and on two where there are two."""
    return {"masklab": peer} | ({f"masklab{TWO}": partial(peer, threads=2)} if (os.cpu_count() or 1) > 1 else {})


def counting(args: argparse.Namespace) -> dict[str, Peer]:
    peers = ours(masklab_counts) | {
        "gensim build_vocab": partial(gensim_counts, way="build_vocab"),
        "gensim build_vocab of a file": partial(gensim_counts, way="corpus_file"),
        "gensim scan_vocab alone": partial(gensim_counts, way="scan_vocab"),
    }
    if args.word2vec:
        peers["word2vec.c"] = partial(word2vec_counts, program=args.word2vec)
    return peers


def phrasing(args: argparse.Namespace) -> dict[str, Peer]:
    peers = ours(masklab_phrases) | {"gensim Phrases": gensim_phrases}
    if args.word2phrase:
        peers["word2phrase.c"] = partial(word2phrase, program=args.word2phrase)
    return peers


def compared(peers: dict[str, Peer], corpus: str, out: Path) -> None:
    """What each found, beside what masklab found. This is also the round that compiles and imports."""
    ours = masklab_counts([corpus], out)()
    for name, peer in peers.items():
        marked = name == "word2vec.c"  # it counts lines as words
        found, expected = peer([corpus], out)(), masklab_counts([corpus], out, end_of_line="</s>")() if marked else ours
        other = sum(found.get(word) != expected.get(word) for word in found.keys() | expected.keys())
        print(f"  {name}: {len(found):,} words; {f'{other:,} counts differ' if other else 'all counts equal'}")


def compared_phrases(peers: dict[str, Peer], corpus: str, out: Path) -> None:
    ours = masklab_phrases([corpus], out)()
    for name, peer in peers.items():
        found = peer([corpus], out)()
        same = sum(a == b for a, b in zip(ours, found, strict=True))
        joined = sum("_" in word for line in found for word in line)
        print(f"  {name}: {joined:,} phrases in the text; {same:,} of {len(ours):,} lines as masklab's")


def measured(peers: dict[str, Peer], corpus: str, out: Path, count: int) -> None:
    with open(corpus, "rb") as file:
        words = sum(len(line.split()) for line in file)

    def rate(name: str) -> float:
        with cores(2 if TWO in name else 1):
            began = time.perf_counter()
            peers[name]([corpus], out)
            return words / (time.perf_counter() - began)

    found = rounds({name: partial(rate, name) for name in peers}, count)
    report(found, "masklab")
    if f"masklab{TWO}" in found:
        print(f"  two cores / one: {ratio(found[f'masklab{TWO}'], found['masklab'])}")


def memory(task: str, peers: dict[str, Peer], corpus: str, folder: Path, asked: list[str]) -> None:
    """The peak of each in a process of its own, beside what it takes for a text of a few words (programs, tables)."""
    few = folder / "few.txt"
    few.write_text("a b " * 20)
    for name in peers:
        again = [sys.executable, __file__, *asked, "--only", task, name, "--corpus"]
        sizes = [peak_memory([*again, str(few)]), peak_memory([*again, corpus])]
        if name == "masklab":
            sizes.append(peak_memory([*again, *[corpus] * 4]))
        shown = [f"{size / 1e6:,.0f} MB" for size in sizes]
        more = f"; of 4 times the text {shown[2]}" if len(sizes) > 2 else ""
        print(f"  {name:<30} {shown[1]:>10} (of a few words {shown[0]}{more})", flush=True)


TASKS: dict[str, Callable[[argparse.Namespace], dict[str, Peer]]] = {"counts": counting, "phrases": phrasing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--word2vec", metavar="PROGRAM", help="word2vec.c, compiled")
    parser.add_argument("--word2phrase", metavar="PROGRAM", help="word2phrase.c, compiled (it takes 2 GB of memory)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--phrases-mb", type=int, default=20, help="so much of the text for the phrases; 0 leaves out")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # in a process of its own, to see its memory
    parser.add_argument("--corpus", dest="texts", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out"
        if args.only:
            TASKS[args.only[0]](args)[args.only[1]](args.texts, out)
            return
        part = folder / "part.txt"
        with open(args.corpus, "rb") as whole, part.open("wb") as file:
            file.write(whole.read(args.phrases_mb * 10**6))
            file.write(whole.readline())
        for task, corpus, compare in (("counts", args.corpus, compared), ("phrases", str(part), compared_phrases)):
            if task == "phrases" and not args.phrases_mb:
                continue
            peers = TASKS[task](args)
            print(f"{task}: {Path(corpus).stat().st_size / 1e6:.0f} MB of {Path(args.corpus).name}", flush=True)
            compare(peers, corpus, out)
            measured(peers, corpus, out, args.rounds)
            print("memory, at most:")
            memory(task, peers, corpus, folder, sys.argv[1:])


if __name__ == "__main__":
    main()
