"""fastText beside the official program and gensim: words a second inside the training loop, quality, peak memory.

    python benchmarks/words_fasttext.py corpus.txt --fasttext fasttext --labelled train.tsv dev.tsv
    python benchmarks/words_fasttext.py corpus.txt ... --parts quality --questions questions-words.txt \\
        --pairs wordsim353.tsv
    python benchmarks/words_fasttext.py corpus.txt ... --parts memory

corpus.txt: words with spaces between, a sentence or paragraph a line. --labelled: texts to train and to test a
classifier on, as lines with __label__NAME in them, or as tables (.tsv) with the columns "sentence" and "label"; without
it there is no figure for the classifier. The speeds, on the first million words, take about 5 minutes; on 20 MB of text
(3.4 M words) the quality over three seeds takes about 8, memory about 2. --rounds, --tasks, --words, --cores 1 (instead
of 1 and 2) make it shorter; --peers-on-both measures the peers on two cores as well.

Settings are equal: dimension 100, n-grams of 3 to 6 characters in 2 M buckets, window 5, 5 negatives drawn by the root
of the count, min_count 5, sample 1e-4, rate 0.05; for the classifier softmax, rate 0.1, words alone or pairs of words
too. The rate counts words of the vocabulary and ends of lines, as the program reports it itself when it has trained
(it is stopped then, before it writes a gigabyte); vocabulary and tables are made before.
"""

import argparse
import csv
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from _rounds import cores, peak_memory, ratio, report, rounds
from words_word2vec import judged, program_rate

Measure = Callable[[], float]
NGRAMS = ("skipgram", "cbow")
LABELS = {"labels": 1, "labels of pairs": 2}  # word n-grams
LONG = 25  # epochs of the classifier, so that a run takes seconds
DONE = rb"100\.0% words/sec/thread:\s*(\d+)"


def ended(train: Callable[..., Any], corpus: Any, settings: Any) -> tuple[Any, float]:
    """What was trained, and words a second in the training loop."""
    records: list[dict[str, Any]] = []
    trained = train(corpus, settings, watch=records.append)
    return trained, records[-1]["words"] / records[-1]["seconds"]


def ours(model: str, corpus: Any, *, threads: int, epochs: int = 1, seed: int = 0) -> tuple[Any, float]:
    from masklab.word_vectors.fasttext import Settings, train

    asked: Any = {"model": model, "threads": threads, "epochs": epochs, "seed": seed}
    return ended(train, corpus, Settings(**asked))


def our_labels(word_ngrams: int, corpus: Any, *, threads: int, epochs: int, seed: int = 0) -> tuple[Any, float]:
    from masklab.word_vectors.supervised import Settings, train

    return ended(train, corpus, Settings(word_ngrams=word_ngrams, threads=threads, epochs=epochs, seed=seed))


def gensim_settings(model: str, threads: int, seed: int = 1) -> dict[str, Any]:
    return {
        "vector_size": 100, "window": 5, "min_count": 5, "sample": 1e-4, "workers": threads, "seed": seed,
        "sg": int(model == "skipgram"), "negative": 5, "ns_exponent": 0.5, "alpha": 0.05, "min_n": 3, "max_n": 6,
        "bucket": 2_000_000,
    }  # fmt: skip


@cache
def gensim_model(model: str, text: Path, threads: int) -> Any:
    from gensim.models import FastText

    made = FastText(**gensim_settings(model, threads))
    made.build_vocab(corpus_file=str(text))
    return made


def gensim_rate(model: str, text: Path, words: int, threads: int) -> float:
    made = gensim_model(model, text, threads)
    began = time.perf_counter()
    made.train(corpus_file=str(text), total_words=made.corpus_total_words, epochs=1)
    return words / (time.perf_counter() - began)


def command(
    program: str, model: str, text: str | Path, out: Path, *, threads: int, epochs: int, word_ngrams: int = 1,
    seed: int = 0,
) -> list[str]:  # fmt: skip
    """How the official program is called; most of this only says what it does by default."""
    options: dict[str, Any] = {"-input": text, "-output": out, "-thread": threads, "-epoch": epochs, "-seed": seed}
    if model == "supervised":
        options |= {"-wordNgrams": word_ngrams, "-lr": 0.1}
    else:
        options |= {"-minn": 3, "-maxn": 6, "-bucket": 2_000_000, "-t": "1e-4", "-lr": 0.05, "-neg": 5, "-ws": 5}
    return [program, model, *map(str, itertools.chain.from_iterable(options.items()))]


class Corpus:
    """The text, its beginning for the speeds, and the labelled lines."""

    def __init__(self, args: argparse.Namespace, folder: Path):
        from masklab.word_vectors.scan import encode

        self.path, self.folder, self.part = args.corpus, folder, folder / "part.txt"
        self.words = 0
        with open(self.path, "rb") as whole, self.part.open("wb") as file:
            for line in itertools.takewhile(lambda line: self.words < args.words, whole):
                self.words += len(line.split()) + 1
                file.write(line)
        read = encode(str(self.part), min_count=5, end_of_line="</s>")
        self.kept, self.vocabulary = int((read.ids >= 0).sum()), read.vocabulary
        self.train, self.test = (as_lines(Path(path), folder) for path in args.labelled or (self.path, self.path))


def as_lines(path: Path, folder: Path) -> Path:
    """A table of sentences and labels as lines with __label__NAME in them; any other file as it is."""
    if path.suffix != ".tsv":
        return path
    lines = folder / f"{path.stem}.labelled"
    with path.open(encoding="utf-8", newline="") as table, lines.open("w", encoding="utf-8") as file:
        for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
            file.write(f"__label__{row['label']} {' '.join(row['sentence'].split())}\n")
    return lines


def peers_of(task: str, corpus: Corpus, args: argparse.Namespace, threads: int) -> dict[str, Measure]:
    with_peers = threads == 1 or args.peers_on_both
    text = corpus.train if task in LABELS else corpus.part
    called: dict[str, Any] = {"model": task, "epochs": 1}
    found: dict[str, Measure] = {}
    if task in LABELS:
        called = {"model": "supervised", "word_ngrams": LABELS[task], "epochs": LONG}
        found["masklab"] = lambda: our_labels(LABELS[task], text, threads=threads, epochs=LONG)[1]
    else:
        found["masklab"] = lambda: ours(task, text, threads=threads, epochs=3)[1]
        if with_peers and not args.no_gensim:
            found["gensim"] = partial(gensim_rate, task, text, corpus.kept, threads)
    if with_peers and args.fasttext:
        official = command(args.fasttext, text=text, out=corpus.folder / "out", threads=threads, **called)
        found["fastText"] = partial(program_rate, official, DONE, 0.0, threads, 1.0)
    return found


def speed(corpus: Corpus, args: argparse.Namespace) -> None:
    for task in args.tasks:
        one: dict[str, list[float]] = {}
        for threads in args.cores:
            print(f"{task}, {threads} thread{'s' * (threads > 1)}:", flush=True)
            with cores(threads):
                peers = peers_of(task, corpus, args, threads)
                peers["masklab"]()  # compiles
                found = rounds(peers, args.rounds)
            report(found, "masklab")
            if one:
                print(f"  {threads} threads / one: {ratio(found['masklab'], one['masklab'])}", flush=True)
            one = one or found


def quality(corpus: Corpus, args: argparse.Namespace) -> None:
    """Over several seeds: vectors on two tests, classifiers on texts held out, on the most cores that --cores names."""
    for task in args.tasks:
        if task in LABELS:
            trainers, names = label_trainers(LABELS[task], corpus, args, max(args.cores)), ["precision at 1"]
        elif args.questions and args.pairs:
            trainers, names = vector_trainers(task, corpus, args, max(args.cores)), ["analogies", "WordSim-353"]
        else:
            sys.exit("quality is measured by --questions (questions-words.txt) and --pairs (wordsim353.tsv)")
        for label, train in trainers.items():
            scores = [train(seed) for seed in range(1, args.seeds + 1)]
            shown = (
                f"{what} {statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"
                for what, values in zip(names, zip(*scores, strict=True), strict=True)
            )
            print(f"  {task:<16} {label:<10} {'   '.join(shown)}", flush=True)


Judged = Callable[[int], tuple[float, ...]]  # seed -> percentages


def vector_trainers(task: str, corpus: Corpus, args: argparse.Namespace, threads: int) -> dict[str, Judged]:
    from masklab.word_vectors.keyed import WordVectors

    def masklab(seed: int) -> tuple[float, ...]:
        trained, _ = ours(task, corpus.path, threads=threads, epochs=args.epochs, seed=seed)
        return judged(WordVectors.from_trained(trained), args)

    def gensim(seed: int) -> tuple[float, ...]:
        from gensim.models import FastText

        model = FastText(corpus_file=corpus.path, epochs=args.epochs, **gensim_settings(task, threads, seed))
        return judged(WordVectors([str(word) for word in model.wv.index_to_key], model.wv.vectors), args)

    def official(seed: int) -> tuple[float, ...]:
        out = corpus.folder / "out"
        run(command(args.fasttext, task, corpus.path, out, threads=threads, epochs=args.epochs, seed=seed))
        return judged(WordVectors.open(out.with_suffix(".vec")), args)

    found: dict[str, Judged] = {"masklab": masklab}
    if not args.no_gensim:
        found["gensim"] = gensim
    if args.fasttext:
        found["fastText"] = official
    return found


def label_trainers(word_ngrams: int, corpus: Corpus, args: argparse.Namespace, threads: int) -> dict[str, Judged]:
    def masklab(seed: int) -> tuple[float, ...]:
        from masklab.word_vectors.supervised import Classifier

        trained, _ = our_labels(word_ngrams, corpus.train, threads=threads, epochs=5, seed=seed)
        return (100 * Classifier(trained).test(corpus.test.read_text("utf-8").split("\n")).precision,)

    def official(seed: int) -> tuple[float, ...]:
        out = corpus.folder / "out"
        called = command(
            args.fasttext,
            "supervised",
            corpus.train,
            out,
            threads=threads,
            epochs=5,
            word_ngrams=word_ngrams,
            seed=seed,
        )
        run(called)
        tested = run([args.fasttext, "test", str(out.with_suffix(".bin")), str(corpus.test)])
        return (100 * float(tested.split("P@1")[1].split()[0]),)

    return {"masklab": masklab} | ({"fastText": official} if args.fasttext else {})


def run(called: list[str]) -> str:
    return subprocess.run(called, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


GENSIM = """
import sys
from gensim.models import FastText
settings = eval(sys.argv[3])
model = FastText(corpus_file=sys.argv[1], epochs=1, **settings)
model.wv.save_word2vec_format(sys.argv[2], binary=True)
"""


def memory(corpus: Corpus, args: argparse.Namespace) -> None:
    """Peak and time of a whole run in a process of its own: one epoch of skip-gram from a text to a file."""
    out = corpus.folder / "out"
    triple = corpus.folder / "triple.txt"
    triple.write_bytes(Path(corpus.path).read_bytes() * 3)
    called = ["-m", "masklab", "words", "fasttext", "--threads", "1", "--epochs", "1", "--out"]
    masklab = [sys.executable, *called, str(out)]
    commands = {
        "masklab": [*masklab, "--corpus", corpus.path],
        "masklab, text 3 times": [*masklab, "--min-count", "15", "--corpus", str(triple)],
        "masklab, to a .bin": [*masklab[:-1], f"{out}.bin", "--corpus", corpus.path],
    }
    if not args.no_gensim:
        settings = repr(gensim_settings("skipgram", 1))
        commands["gensim"] = [sys.executable, "-c", GENSIM, corpus.path, f"{out}.vec", settings]
    if args.fasttext:
        commands["fastText"] = command(args.fasttext, "skipgram", corpus.path, out, threads=1, epochs=1)
    with cores(1):
        for label, called in commands.items():
            began = time.perf_counter()
            size = peak_memory(called)
            print(f"  {label:<24} {size / 1e6:>8,.0f} MB   {time.perf_counter() - began:6.1f} s", flush=True)


PARTS = {"speed": speed, "quality": quality, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--fasttext", metavar="PROGRAM", help="the official program")
    parser.add_argument("--labelled", nargs=2, metavar=("TRAIN", "TEST"))
    parser.add_argument("--no-gensim", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["speed"])
    parser.add_argument("--tasks", nargs="+", choices=[*NGRAMS, *LABELS])
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers-on-both", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words", type=int, default=1_000_000, help="of the text, for the speeds")
    parser.add_argument("--questions", metavar="FILE")
    parser.add_argument("--pairs", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=3, help="of vectors, for quality")
    parser.add_argument("--seeds", type=int, default=3, help="for quality")
    args = parser.parse_args()
    args.tasks = args.tasks or ["skipgram", *(LABELS if args.labelled else ())]
    if not args.labelled and any(task in LABELS for task in args.tasks):
        sys.exit("the classifier needs --labelled TRAIN TEST")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(args, Path(folder))
        size = f"{corpus.vocabulary.total:,} words and ends of lines, {len(corpus.vocabulary):,} different ones kept"
        print(f"the speeds are those on the beginning of {Path(args.corpus).name}: {size}", flush=True)
        for part in args.parts:
            PARTS[part](corpus, args)
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
