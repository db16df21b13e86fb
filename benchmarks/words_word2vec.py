r"""word2vec beside gensim, word2vec.c and fastText: words a second inside the training loop, quality, peak memory.

    python benchmarks/words_word2vec.py corpus.txt --word2vec word2vec-makefile word2vec-ofast --fasttext fasttext
    python benchmarks/words_word2vec.py corpus.txt ... --parts quality --questions questions-words.txt \
        --pairs wordsim353.tsv
    python benchmarks/words_word2vec.py corpus.txt ... --parts memory

corpus.txt: words with spaces between, a sentence or paragraph a line. Programs that are not given are left out; several
builds of word2vec.c may be. On 20 MB of text (3.4 M words) the speeds take about 6 minutes with all peers, the quality
over three seeds about 12 (one with --tasks skipgram --seeds 1), memory about 1. --rounds, --tasks, --peer-seconds and
--cores 1 (instead of 1 and 2) make it shorter; --peers-on-both measures the peers on two cores as well.

Settings are equal: window 5, 5 negatives or the tree, min_count 5, sample 1e-3. The rate counts words of the
vocabulary, as word2vec.c and fastText report it themselves (they count a line's end as a word, which is in their
favour); vocabulary and tables are made before. They are stopped after --peer-seconds of training; gensim trains on
--peer-words of the text with the vocabulary of the whole. For quality, every peer reads the whole text --epochs times.
(word2vec.c on one thread trains one epoch whatever it is told, so it gets the text that many times over, and reads it
once.)
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from _rounds import cores, peak_memory, ratio, report, rounds

WORD2VEC = rb"Words/thread/sec:\s*([\d.]+)k"
FASTTEXT = rb"words/sec/thread:\s*(\d+)"
Measure = Callable[[], float]


class Task(NamedTuple):
    model: Literal["skipgram", "cbow"]
    loss: Literal["ns", "hs"]
    dim: int
    per_pair: bool  # beside negatives drawn for a window, measure those drawn for each pair


TASKS = {
    "skipgram": Task("skipgram", "ns", 100, True),
    "d300": Task("skipgram", "ns", 300, False),
    "cbow": Task("cbow", "ns", 100, False),
    "tree": Task("skipgram", "hs", 100, False),
}


def ours(task: Task, corpus: Any, *, threads: int, epochs: int = 1, per_pair: bool = False, seed: int = 0) -> Any:
    """What was trained, and words of the vocabulary a second in the training loop."""
    from masklab.word_vectors.word2vec import Settings, train

    ended: list[dict[str, Any]] = []
    settings = Settings(
        model=task.model, loss=task.loss, dim=task.dim, shared=not per_pair, epochs=epochs, threads=threads, seed=seed
    )
    trained = train(corpus, settings, watch=lambda record: ended.append(record) if record["kind"] == "end" else None)
    words = int(trained.vocabulary.counts.sum()) * epochs
    return trained, words / ended[0]["seconds"]


@cache
def gensim_model(task: Task, corpus: str, threads: int) -> Any:
    from gensim.models import Word2Vec

    model = Word2Vec(**gensim_settings(task, threads))
    model.build_vocab(corpus_file=corpus)
    return model


def gensim_settings(task: Task, threads: int, seed: int = 1) -> dict[str, Any]:
    skipgram = task.model == "skipgram"
    return {
        "vector_size": task.dim, "window": 5, "min_count": 5, "sample": 1e-3, "workers": threads, "seed": seed,
        "sg": int(skipgram), "hs": int(task.loss == "hs"), "negative": 0 if task.loss == "hs" else 5,
        "alpha": 0.025 if skipgram else 0.05,
    }  # fmt: skip


def gensim_rate(task: Task, corpus: str, part: Path, words: int, threads: int) -> float:
    """`words` of the vocabulary are in the part of the corpus that is trained on."""
    model = gensim_model(task, corpus, threads)
    began = time.perf_counter()
    model.train(corpus_file=str(part), total_words=model.corpus_total_words, epochs=1)
    return words / (time.perf_counter() - began)


def program_rate(command: list[str], pattern: bytes, seconds: float, threads: int, unit: float) -> float:
    """The rate that a program last reported when it had trained for so long, in words a second."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    shown, found, since = b"", [], 0.0
    while piece := os.read(process.stdout.fileno(), 1 << 16):
        shown = shown[-200:] + piece
        if seen := re.findall(pattern, shown):
            found, since = seen, since or time.monotonic()
            if time.monotonic() - since > seconds:
                process.kill()
                break
    process.wait()
    process.stdout.close()
    if not found:
        sys.exit(f"{' '.join(command)} reported no rate: {shown.decode('utf-8', 'replace')[-200:]}")
    return float(found[-1]) * unit * threads


def word2vec_command(program: str, task: Task, corpus: Path, out: Path, threads: int, copies: int = 1) -> list[str]:
    options = {
        "-train": corpus, "-output": out, "-size": task.dim, "-window": 5, "-sample": "1e-3", "-min-count": 5 * copies,
        "-negative": 0 if task.loss == "hs" else 5, "-hs": int(task.loss == "hs"), "-cbow": int(task.model == "cbow"),
        "-threads": threads, "-iter": 1, "-binary": 1,
    }  # fmt: skip
    return [program, *map(str, itertools.chain.from_iterable(options.items()))]


def fasttext_command(
    program: str, task: Task, corpus: Path, out: Path, threads: int, epochs: int = 1, seed: int = 0
) -> list[str]:
    options = {
        "-input": corpus, "-output": out, "-dim": task.dim, "-ws": 5, "-t": "1e-3", "-minCount": 5, "-maxn": 0,
        "-loss": task.loss, "-neg": 5, "-epoch": epochs, "-thread": threads, "-seed": seed,
        "-lr": 0.025 if task.model == "skipgram" else 0.05,
    }  # fmt: skip
    return [program, task.model, *map(str, itertools.chain.from_iterable(options.items()))]


class Corpus:
    """The text, its numbers, and a part of it for the slow ones."""

    def __init__(self, path: str, folder: Path, peer_words: int):
        from masklab.word_vectors.scan import encode

        self.path, self.folder = path, folder
        self.encoded = encode(path, min_count=5)
        self.part = folder / "part.txt"
        text = Path(path).read_bytes()
        share = min(1.0, peer_words / max(1, self.encoded.vocabulary.total))
        end = text.find(b"\n", int(len(text) * share)) + 1
        self.part.write_bytes(text[: end or len(text)])
        self.part_words = int((encode(str(self.part), vocabulary=self.encoded.vocabulary).ids >= 0).sum())

    def counted_by(self, program: str) -> Path:
        """word2vec.c's vocabulary, counted once, so that not every round must wait for it."""
        path = self.folder / "vocabulary.txt"
        if not path.exists():
            command = [program, "-train", self.path, "-save-vocab", str(path), "-min-count", "5"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return path


def peers_of(name: str, corpus: Corpus, args: argparse.Namespace, threads: int) -> dict[str, Measure]:
    task, seconds = TASKS[name], args.peer_seconds
    found: dict[str, Measure] = {"masklab": lambda: ours(task, corpus.encoded, threads=threads)[1]}
    if task.per_pair:
        found["masklab, per pair"] = lambda: ours(task, corpus.encoded, threads=threads, per_pair=True)[1]
    if threads > 1 and not args.peers_on_both:
        return found
    if not args.no_gensim:
        found["gensim"] = partial(gensim_rate, task, corpus.path, corpus.part, corpus.part_words, threads)
    out = corpus.folder / "out"
    for program in args.word2vec:
        command = word2vec_command(program, task, Path(corpus.path), out, threads)
        command += ["-read-vocab", str(corpus.counted_by(program))]
        found[Path(program).name] = partial(program_rate, command, WORD2VEC, seconds, threads, 1e3)
    if args.fasttext and name != "d300":
        command = fasttext_command(args.fasttext, task, Path(corpus.path), out, threads)
        found["fastText"] = partial(program_rate, command, FASTTEXT, seconds, threads, 1.0)
    return found


def speed(corpus: Corpus, args: argparse.Namespace) -> None:
    for name in args.tasks:
        one: dict[str, list[float]] = {}
        for threads in args.cores:
            print(f"{name}, {threads} thread{'s' * (threads > 1)}:", flush=True)
            with cores(threads):
                peers = peers_of(name, corpus, args, threads)
                for label in peers:
                    if label.startswith("masklab"):
                        peers[label]()  # compiles
                found = rounds(peers, args.rounds)
            for label in [label for label in found if label.startswith("masklab")]:
                report({k: v for k, v in found.items() if k == label or not k.startswith("masklab")}, label)
                if label in one:
                    print(f"  {label}: {threads} threads / one: {ratio(found[label], one[label])}", flush=True)
            one = one or found


def quality(corpus: Corpus, args: argparse.Namespace) -> None:
    """Analogies and WordSim-353 after all epochs, every peer on all cores that are asked for, over several seeds."""
    if not args.questions or not args.pairs:
        sys.exit("quality is measured by --questions (questions-words.txt) and --pairs (wordsim353.tsv)")
    many = corpus.folder / "many.txt"
    with many.open("wb") as file:
        for _ in range(args.epochs):
            file.write(Path(corpus.path).read_bytes())
    for name in args.tasks:
        for label, train in trainers(name, corpus, args, max(args.cores), many).items():
            scores = [judged(train(seed), args) for seed in range(1, args.seeds + 1)]
            shown = (
                f"{what} {statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"
                for what, values in zip(("analogies", "WordSim-353"), zip(*scores, strict=True), strict=True)
            )
            print(f"  {name:<10} {label:<24} {'   '.join(shown)}", flush=True)


def trainers(name: str, corpus: Corpus, args: argparse.Namespace, threads: int, many: Path) -> dict[str, Any]:
    """Of each peer a function of the seed that gives vectors. (word2vec.c has no seed: its threads vary.)"""
    from masklab.word_vectors.keyed import WordVectors

    task, out = TASKS[name], corpus.folder / "out"

    def masklab(per_pair: bool, seed: int) -> WordVectors:
        trained, _ = ours(task, corpus.encoded, threads=threads, epochs=args.epochs, per_pair=per_pair, seed=seed)
        return WordVectors(trained.vocabulary.words, trained.vectors, trained.vocabulary.counts)

    def gensim(seed: int) -> WordVectors:
        from gensim.models import Word2Vec

        model = Word2Vec(corpus_file=corpus.path, epochs=args.epochs, **gensim_settings(task, threads, seed))
        return WordVectors([str(word) for word in model.wv.index_to_key], model.wv.vectors)

    def from_file(command: Callable[[int], list[str]], written: Path, seed: int) -> WordVectors:
        subprocess.run(command(seed), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return WordVectors.open(written)

    found: dict[str, Any] = {"masklab": partial(masklab, False)}
    if task.per_pair:
        found["masklab, per pair"] = partial(masklab, True)
    if not args.no_gensim:
        found["gensim"] = gensim
    for program in args.word2vec[-1:]:  # builds differ in speed alone
        binary = out.with_suffix(".bin")
        command = word2vec_command(program, task, many, binary, threads, args.epochs)
        found[Path(program).name] = partial(from_file, lambda seed, command=command: command, binary)
    if args.fasttext and name != "d300":
        command = partial(fasttext_command, args.fasttext, task, Path(corpus.path), out, threads, args.epochs)
        found["fastText"] = partial(from_file, command, out.with_suffix(".vec"))
    return found


def judged(vectors: Any, args: argparse.Namespace) -> tuple[float, float]:
    from masklab.word_vectors.evaluation import analogies, pairs

    right = analogies(vectors, args.questions, among=None).total.accuracy
    return 100 * right, 100 * pairs(vectors, args.pairs, among=None).spearman.value


GENSIM = """
import sys
from gensim.models import Word2Vec
model = Word2Vec(corpus_file=sys.argv[1], epochs=1, workers=1, sg=1, vector_size=100, sample=1e-3)
model.wv.save_word2vec_format(sys.argv[2], binary=True)
"""


def memory(corpus: Corpus, args: argparse.Namespace) -> None:
    """Peak and time of a whole run in a process of its own: one epoch of skip-gram from a text to a file."""
    task, out = TASKS["skipgram"], corpus.folder / "out.bin"
    triple = corpus.folder / "triple.txt"
    triple.write_bytes(Path(corpus.path).read_bytes() * 3)
    masklab = [
        sys.executable,
        "-m",
        "masklab",
        "words",
        "skipgram",
        "--threads",
        "1",
        "--epochs",
        "1",
        "--out",
        str(out),
    ]
    commands = {"masklab": [*masklab, "--corpus", corpus.path]}
    commands["masklab, text 3 times"] = [*masklab, "--min-count", "15", "--corpus", str(triple)]
    if not args.no_gensim:
        commands["gensim"] = [sys.executable, "-c", GENSIM, corpus.path, str(out)]
    for program in args.word2vec:
        commands[Path(program).name] = word2vec_command(program, task, Path(corpus.path), out, 1)
    if args.fasttext:
        commands["fastText"] = fasttext_command(args.fasttext, task, Path(corpus.path), out, 1)
    with cores(1):
        for label, command in commands.items():
            began = time.perf_counter()
            size = peak_memory(command)
            print(f"  {label:<24} {size / 1e6:>8,.0f} MB   {time.perf_counter() - began:6.1f} s", flush=True)


PARTS = {"speed": speed, "quality": quality, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--word2vec", nargs="*", default=[], metavar="PROGRAM", help="builds of word2vec.c")
    parser.add_argument("--fasttext", metavar="PROGRAM", help="fastText's program")
    parser.add_argument("--no-gensim", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["speed"])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers-on-both", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-seconds", type=float, default=1.5)
    parser.add_argument("--peer-words", type=int, default=500_000)
    parser.add_argument("--questions", metavar="FILE")
    parser.add_argument("--pairs", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=3, help="for quality")
    parser.add_argument("--seeds", type=int, default=3, help="for quality")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(args.corpus, Path(folder), args.peer_words)
        vocabulary = corpus.encoded.vocabulary
        print(f"{Path(args.corpus).name}: {vocabulary.total:,} words, {len(vocabulary):,} different ones", flush=True)
        for part in args.parts:
            PARTS[part](corpus, args)
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
