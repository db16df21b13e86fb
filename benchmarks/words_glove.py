"""GloVe beside the authors' program: counting and shuffling, training, peak memory; with --quality what comes of it.

    python benchmarks/words_glove.py corpus.txt --peer GloVe/build
    python benchmarks/words_glove.py corpus.txt --peer GloVe/build --quality questions-words.txt wordsim353.tsv

corpus.txt: words with spaces between, a paragraph a line. 20 MB take about 4 minutes, less with --rounds 3. Quality is
a task of its own: both programs from the text to vectors, for three seeds, 15 epochs; about 10 minutes for 20 MB, less
with --epochs 5. The peer is given 4 GB for counting, its default, and masklab 0.5 GB, its own.

Training is timed without what comes before and after: the peer's time for no epochs at all is taken off. Speed is in
cells of the co-occurrence matrix a second; both go over the same cells, which is checked.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from _rounds import cores, peak_memory, ratio, report, rounds

MIN_COUNT = 5
Way = Callable[[], float]


class Peer:
    """The authors' four programs; what they write lies in a folder."""

    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args, self.folder = args, folder
        self.vocabulary, self.counts, self.shuffled = (str(folder / name) for name in ("vocab", "counts", "shuffled"))

    def command(self, program: str, **options: object) -> list[str]:
        asked = [text for name, value in options.items() for text in ("-" + name.replace("_", "-"), str(value))]
        return [str(Path(self.args.peer) / program), "-verbose", "0", *asked]

    def run(self, command: list[str], source: str | None = None, out: str | None = None) -> None:
        with open(source or "/dev/null", "rb") as given, open(out or "/dev/null", "wb") as written:
            subprocess.run(command, stdin=given, stdout=written, stderr=subprocess.DEVNULL, check=True, cwd=self.folder)

    def vocab_count(self) -> None:
        self.run(self.command("vocab_count", min_count=MIN_COUNT), self.args.corpus, self.vocabulary)

    def cooccur(self, memory: float = 4.0) -> None:
        command = self.command("cooccur", memory=memory, vocab_file=self.vocabulary, window_size=self.args.window,
                               overflow_file=self.folder / "overflow")  # fmt: skip
        self.run(command, self.args.corpus, self.counts)

    def shuffle(self, memory: float = 4.0, seed: int = 1) -> None:
        command = self.command("shuffle", memory=memory, seed=seed, temp_file=self.folder / "temp")
        self.run(command, self.counts, self.shuffled)

    def glove(self, epochs: int, threads: int, binary: int = 1, seed: int = 1) -> list[str]:
        return self.command("glove", save_file=self.folder / "vectors", threads=threads, input_file=self.shuffled,
                            vector_size=self.args.dim, x_max=self.args.x_max, iter=epochs, binary=binary, model=2,
                            vocab_file=self.vocabulary, seed=seed)  # fmt: skip


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def encoded(args: argparse.Namespace, threads: int) -> Any:
    from masklab.word_vectors.scan import encode

    return encode(args.corpus, min_count=MIN_COUNT, threads=threads)


def counted(args: argparse.Namespace, threads: int, folder: Path, known: Any = None) -> Any:
    from masklab.word_vectors.cooccurrences import count

    vocabulary, ids = known or encoded(args, threads)
    memory = settings(args).memory
    return count(ids, len(vocabulary), folder, window=args.window, memory=memory, threads=threads), vocabulary


def settings(args: argparse.Namespace, **changes: Any) -> Any:
    from masklab.word_vectors.glove import Settings

    return Settings(dim=args.dim, window=args.window, x_max=args.x_max, min_count=MIN_COUNT, **changes)


def counting(args: argparse.Namespace, peer: Peer, folder: Path) -> None:
    print("\nFrom the text to shuffled counts, in words/s")
    peer.vocab_count()
    known = encoded(args, 1)
    words = known.vocabulary.total

    def theirs() -> float:
        return words / seconds(lambda: (peer.vocab_count(), peer.cooccur(), peer.shuffle()))

    def theirs_without() -> float:
        return words / seconds(lambda: (peer.cooccur(), peer.shuffle()))

    def ours(threads: int) -> float:
        with cores(threads):
            return words / seconds(lambda: counted(args, threads, folder))

    def ours_without() -> float:
        with cores(1):
            return words / seconds(lambda: counted(args, 1, folder, known))

    ways: dict[str, Way] = {"vocab_count + cooccur + shuffle": theirs, "cooccur + shuffle": theirs_without}
    ways |= {f"masklab, {n} thread{'s' * (n > 1)}": partial(ours, n) for n in args.threads}
    ways["masklab, words numbered before"] = ours_without
    found = rounds(ways, args.rounds, warm_up=True)
    counts, _ = counted(args, 1, folder)
    cells = Path(peer.counts).stat().st_size // 16
    print(f"  cells: {cells:,} in the peer's counts, {counts.nonzeros:,} in masklab's")
    report(found, "masklab, 1 thread")
    beside = ratio(found["masklab, words numbered before"], found["cooccur + shuffle"])
    print(f"  counting and shuffling alone: masklab {beside} cooccur + shuffle")


def training(args: argparse.Namespace, peer: Peer, folder: Path) -> None:
    from masklab.word_vectors.glove import train_on

    print(f"\nTraining, vectors of {args.dim}, in cells/s")
    counts, vocabulary = counted(args, max(args.threads), folder)

    def ours(threads: int) -> float:
        ended: list[dict[str, Any]] = []
        with cores(threads):
            train_on(counts, vocabulary, settings(args, epochs=2, threads=threads), watch=ended.append)
        return 2 * counts.nonzeros / ended[-1]["seconds"]

    def theirs(threads: int) -> float:
        with cores(threads):
            nothing = seconds(lambda: peer.run(peer.glove(0, threads)))
            return counts.nonzeros / (seconds(lambda: peer.run(peer.glove(1, threads))) - nothing)

    measured: dict[int, list[float]] = {}
    for threads in args.threads:
        print(f" {threads} thread{'s' * (threads > 1)}")
        found = rounds({"GloVe": partial(theirs, threads), "masklab": partial(ours, threads)}, args.rounds, "cells/s")
        report(found, "masklab", "cells/s")
        measured[threads] = found["masklab"]
    if {1, 2} <= measured.keys():
        print(f"  masklab, 2 threads / 1: {ratio(measured[2], measured[1])}")


def memory(args: argparse.Namespace, peer: Peer, folder: Path) -> None:
    print("\nPeak memory in MB")
    part = folder / "part.txt"
    with open(args.corpus, "rb") as file:
        part.write_bytes(file.read(Path(args.corpus).stat().st_size // 3))
    for name, corpus in (("a third of the text", str(part)), ("the whole text", args.corpus)):
        ours = [sys.executable, __file__, corpus, "--only", "masklab", "--window", str(args.window), "--dim",
                str(args.dim), "--peer", args.peer]  # fmt: skip
        print(f"  masklab, counts and trains on {name}: {peak_memory(ours) / 1e6:,.0f}")
    for gigabytes in (4.0, settings(args).memory):
        steps = {
            "cooccur": f"{args.peer}/cooccur -verbose 0 -memory {gigabytes} -vocab-file {peer.vocabulary} "
            f"-window-size {args.window} -overflow-file {folder}/overflow < {args.corpus} > {peer.counts}",
            "shuffle": f"{args.peer}/shuffle -verbose 0 -memory {gigabytes} -temp-file {folder}/temp "
            f"< {peer.counts} > {peer.shuffled}",
        }
        peaks = {
            step: peak_memory(["sh", "-c", f"exec {command} 2> /dev/null"]) / 1e6 for step, command in steps.items()
        }
        shown = ", ".join(f"{step} {peak:,.0f}" for step, peak in peaks.items())
        print(f"  the peer, the whole text, given {gigabytes} GB: {shown}")
    training = " ".join(peer.glove(1, 1))
    print(f"  the peer's training: {peak_memory(['sh', '-c', f'exec {training} 2> /dev/null']) / 1e6:,.0f}")


def quality(args: argparse.Namespace, peer: Peer) -> None:
    from masklab.word_vectors.evaluation import Analogies, evaluate
    from masklab.word_vectors.glove import train
    from masklab.word_vectors.keyed import WordVectors

    threads = max(args.threads)
    print(
        f"\nQuality after {args.epochs} epochs on {threads} threads, three seeds: analogies right, Spearman correlation"
    )
    scores: dict[tuple[str, str], list[float]] = {}
    for seed in (1, 2, 3):
        with cores(threads):
            peer.shuffle(seed=seed)
            peer.run(peer.glove(args.epochs, threads, binary=0, seed=seed))
            trained = train(args.corpus, settings(args, epochs=args.epochs, threads=threads, seed=seed))
        known = WordVectors(trained.vocabulary.words, trained.vectors)
        theirs = (peer.folder / "vectors.txt").rename(peer.folder / "vectors.glove.txt")
        for name, vectors in (("GloVe", WordVectors.open(theirs)), ("masklab", known)):
            for path in args.quality:
                found = evaluate(vectors, path, among=30_000)
                value = found.total.accuracy if isinstance(found, Analogies) else found.spearman.value
                scores.setdefault((Path(path).stem, name), []).append(100 * value)
        last = "  ".join(f"{test} {name} {values[-1]:.1f}" for (test, name), values in scores.items())
        print(f"  seed {seed}: {last}", flush=True)
    for (test, name), values in scores.items():
        print(f"  {test:<20} {name:<8} {mean(values):.2f} ± {stdev(values):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--peer", required=True, help="folder of vocab_count, cooccur, shuffle and glove")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--x-max", type=float, default=100)
    parser.add_argument("--quality", nargs="+", metavar="FILE", help="analogies and scored pairs to measure vectors by")
    parser.add_argument("--epochs", type=int, default=15, help="for quality")
    parser.add_argument("--only", choices=["counting", "training", "memory", "masklab"])
    args = parser.parse_args()
    args.corpus = str(Path(args.corpus).absolute())
    args.peer = str(Path(args.peer).absolute())
    if args.only == "masklab":  # a process of its own, for its peak
        from masklab.word_vectors.glove import train

        train(args.corpus, settings(args, epochs=1, threads=1))
        return
    with tempfile.TemporaryDirectory(prefix="masklab-benchmark-") as name:
        folder = Path(name)
        peer = Peer(args, folder)
        peer.vocab_count()
        peer.cooccur()
        peer.shuffle()
        if args.quality:
            quality(args, peer)
            return
        for part in (counting, training, memory):
            if args.only in (None, part.__name__):
                part(args, peer, folder)


if __name__ == "__main__":
    main()
