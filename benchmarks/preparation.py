"""Preparing a corpus against what people do today: `datasets.map` with grouping, and TencentPretrain's preprocess.py.

python benchmarks/preparation.py TEXT [--tencent FOLDER]     speed: all read the same file with the same vocabulary
python benchmarks/preparation.py TEXT --big [--gigabytes 2]  peak memory of all processes on a generated corpus
python benchmarks/preparation.py TEXT --resume --rounds 3    what it costs to be killed at some moment and to go on

On two cores that takes about 6 minutes; 10 minutes for two gigabytes; and 10 minutes, as the corpus that is killed has
ten times --megabytes: what a kill costs is some seconds (starting, words to be met anew), however much text there is.

TEXT: plain text, documents apart by blank lines or one a line; of it, documents that differ are taken, one a line.
`datasets.map` is run_mlm.py's two steps: tokenise, then group into rows of 512 (Arrow files, in a fresh cache folder).
TencentPretrain makes its masked language model's data set, masks left to training (--dynamic_masking). masklab does all
that `prepare` does: finds duplicates and near-duplicates, keeps the text, holds documents out, tokenises, finds words
and sentences, writes checksums. Each starts its clock when its imports are done; reading and writing count.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from _rounds import cores, ratio, report, rounds

VOCABULARY, LENGTH = 8192, 512
NEW = 40  # of the words of a generated corpus one in so many was never seen before, as in English Wikipedia
SAME = 200  # documents for which all peers must give the same tokens


def main() -> None:
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument("text", type=Path)
    say.add_argument("--tencent", type=Path, help="folder of TencentPretrain (its libraries on PYTHONPATH)")
    say.add_argument("--megabytes", type=float, default=40, help="of text for the comparison")
    say.add_argument("--slow", type=float, default=6, help="megabytes of them for TencentPretrain, whose rate is even")
    say.add_argument("--rounds", type=int, default=5)
    say.add_argument("--cores", type=int, default=2)
    say.add_argument("--big", action="store_true", help="memory on a generated corpus, instead")
    say.add_argument("--gigabytes", type=float, default=2)
    say.add_argument("--resume", action="store_true", help="the cost of being killed, instead")
    say.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    asked = say.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder, cores(asked.cores):
        (big if asked.big else resume if asked.resume else speed)(asked, Path(folder))


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(asked: argparse.Namespace, folder: Path) -> None:
    from masklab.corpus.train_tokenizer import train

    text, few = folder / "text.txt", folder / "few.txt"
    documents = taken(asked.text, asked.megabytes)
    write(text, documents)
    write(few, taken(text, asked.slow))
    tokenizer = train(documents[::4], VOCABULARY, "wordpiece")
    tokenizer.save(folder / "tokenizer")
    names = sorted(tokenizer.inner.get_vocab().items(), key=lambda entry: entry[1])
    (folder / "vocab.txt").write_text("".join(f"{name}\n" for name, _ in names), "utf-8")
    size = f"{text.stat().st_size / 1e6:.1f} MB"
    print(f"{len(documents):,} documents, {size}, {asked.cores} cores, a WordPiece vocabulary of {VOCABULARY:,}")
    ways = ["datasets.map, processes", "datasets.map, threads", "masklab"]
    if asked.tencent:
        ways.insert(0, "TencentPretrain")
    tokens: dict[str, set[str]] = {way: set() for way in ways}

    def measured(way: str) -> float:
        file = few if way == "TencentPretrain" else text
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            command = [sys.executable, __file__, str(file), str(folder), scratch, str(asked.cores), str(asked.tencent)]
            threads = {"TOKENIZERS_PARALLELISM": str("threads" in way).lower(), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(
                command, env={**os.environ, **threads, "MEASURED": way}, capture_output=True, text=True
            )
        if done.returncode:
            sys.exit(f"{way}: {done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        tokens[way].add(json.dumps(found["tokens"]))
        return file.stat().st_size / 1e6 / found["seconds"]

    found = rounds({way: lambda way=way: measured(way) for way in ways}, asked.rounds, "MB/s")
    report(found, "masklab", "MB/s")
    seen = set.union(*tokens.values())
    print(f"tokens of the first {SAME} documents: {'the same from all' if len(seen) == 1 else 'they DIFFER'}")
    better = max((found[way] for way in ways if way.startswith("datasets")), key=statistics.median)
    print(f"against the faster datasets.map: {ratio(found['masklab'], better)} (aim: 2x)")
    if asked.tencent:
        print(f"against TencentPretrain: {ratio(found['masklab'], found['TencentPretrain'])} (aim: 4x)")


def one(way: str, text: Path, folder: Path, scratch: Path, processes: int, tencent: Path) -> None:
    """Does one way's work in this process: prints its seconds and the first documents' tokens."""
    run = {"masklab": ours, "TencentPretrain": theirs}.get(way, with_datasets)
    os.chdir(scratch)
    seconds, tokens = run(text, folder, processes, tencent)
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


def ours(text: Path, folder: Path, processes: int, tencent: Path) -> tuple[float, list[list[int]]]:
    from masklab.corpus.prepare import prepare
    from masklab.corpus.read import documents

    begin = time.perf_counter()
    store = prepare(documents(text, "line"), "corpus", folder / "tokenizer", workers=processes)
    seconds = time.perf_counter() - begin
    found = {}
    for part in (store.part("train"), store.part("held_out")):
        for at in range(min(SAME, len(part))):
            found[int(part.numbers[at])] = part.ids[part.documents[at] : part.documents[at + 1]].tolist()
    return seconds, [found[number] for number in range(SAME)]


def with_datasets(text: Path, folder: Path, processes: int, tencent: Path) -> tuple[float, list[list[int]]]:
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.model_max_length = 1 << 40
    several = None if "threads" in os.environ["MEASURED"] else processes

    def tokens(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        found = tokenizer(
            batch["text"], add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )
        return {"input_ids": found["input_ids"]}

    def grouped(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        ids = [id for each in batch["input_ids"] for id in each]
        whole = len(ids) // LENGTH * LENGTH
        return {"input_ids": [ids[at : at + LENGTH] for at in range(0, whole, LENGTH)]}

    begin = time.perf_counter()
    loaded = datasets.load_dataset("text", data_files=str(text), split="train", cache_dir="cache")
    tokenised = loaded.map(tokens, batched=True, num_proc=several, remove_columns=["text"])
    tokenised.map(grouped, batched=True, num_proc=several)
    return time.perf_counter() - begin, tokenised[:SAME]["input_ids"]


def theirs(text: Path, folder: Path, processes: int, tencent: Path) -> tuple[float, list[list[int]]]:
    sys.path.insert(0, str(tencent))
    os.symlink(tencent / "models", "models")  # where it looks for the names of special tokens
    import preprocess  # type: ignore[import-not-found]
    from tencentpretrain.utils import str2tokenizer  # type: ignore[import-not-found]

    made = []
    kept = str2tokenizer["bert"]
    str2tokenizer["bert"] = lambda *arguments: made.append(kept(*arguments)) or made[0]
    options = f"--corpus_path {text} --vocab_path {folder / 'vocab.txt'} --dataset_path data.pt --tokenizer bert"
    options += f" --data_processor mlm --dynamic_masking --full_sentences --seq_length {LENGTH}"
    sys.argv = ["preprocess.py", *options.split(), "--processes_num", str(processes)]
    begin = time.perf_counter()
    preprocess.main()
    seconds = time.perf_counter() - begin
    with text.open(encoding="utf-8") as lines:
        return seconds, [made[0].convert_tokens_to_ids(made[0].tokenize(next(lines))) for _ in range(SAME)]


# --- memory ----------------------------------------------------------------------------------------------------------


def big(asked: argparse.Namespace, folder: Path) -> None:
    source = taken(asked.text, 100)
    for gigabytes in (asked.gigabytes / 4, asked.gigabytes):
        text, out = folder / "big.txt", folder / "corpus"
        count = write(text, shuffled(source, int(gigabytes * 1e9)))
        print(f"{text.stat().st_size / 1e9:.2f} GB, {count:,} documents that all differ:", flush=True)
        process = subprocess.Popen(prepared(text, out, asked.cores))
        peak = Peak(process.pid)
        begin = time.perf_counter()
        while process.poll() is None:
            peak.look()
            time.sleep(0.1)
        seconds = time.perf_counter() - begin
        if process.returncode:
            sys.exit(f"ended with {process.returncode}")
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        rate = text.stat().st_size / 1e6 / seconds
        print(f"  {seconds:.0f} s, {rate:.1f} MB/s; the corpus takes {size / 1e9:.2f} GB")
        print(f"  {peak.processes} processes, together at most {peak.most / 1e6:,.0f} MB (aim: 1000 MB)")
        print(f"  of which {peak.own / 1e6:,.0f} MB are no mapped files, which the system may drop", flush=True)
        shutil.rmtree(out)


class Peak:
    """The memory of a process and all that it started, added up: pages that several have count once (PSS)."""

    def __init__(self, pid: int):
        self.pid, self.most, self.own, self.processes = pid, 0, 0, 0

    def look(self) -> None:
        whole = own = count = 0
        for process in family(self.pid):
            try:
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
            except OSError:  # it has just ended
                continue
            found = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
            whole, own, count = whole + found["Pss"], own + found["Pss_Anon"], count + 1
        self.most, self.own = max(self.most, whole), max(self.own, own)
        self.processes = max(self.processes, count)


def family(pid: int) -> Iterator[int]:
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = file.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def shuffled(documents: list[str], size: int) -> Iterator[str]:
    """The documents again and again with their words in another order, and one word in NEW never seen before."""
    draw, written, number = random.Random(0), 0, 0
    while True:
        for document in documents:
            words = document.split()
            draw.shuffle(words)
            for _ in range(len(words) // NEW + (draw.random() < len(words) % NEW / NEW)):
                number += 1
                words[draw.randrange(len(words))] = f"w{number * 2654435761 % (1 << 32):x}"
            made = " ".join(words)
            written += len(made.encode()) + 1
            if written > size:
                return
            yield made


# --- being killed ----------------------------------------------------------------------------------------------------


def resume(asked: argparse.Namespace, folder: Path) -> None:
    text, out = folder / "text.txt", folder / "corpus"
    write(text, shuffled(taken(asked.text, 100), int(10e6 * asked.megabytes)))
    draw, straight, killed, cost = random.Random(1), [], [], []
    print(f"{text.stat().st_size / 1e6:.0f} MB; killed once in each round, at any moment, then run again", flush=True)
    for number in range(asked.rounds):
        straight.append(seconds_of(text, out, asked.cores))
        moment = straight[-1] * draw.random()
        first = seconds_of(text, out, asked.cores, moment)
        killed.append(first + seconds_of(text, out, asked.cores))
        cost.append(killed[-1] / straight[-1] - 1)
        print(f"  round {number + 1}: {straight[-1]:.1f} s; killed after {moment:.1f} s: {killed[-1]:.1f} s in all, "
              f"{cost[-1]:+.1%}", flush=True)  # fmt: skip
    print(f"  a kill costs {statistics.median(killed) / statistics.median(straight) - 1:+.1%} (ratio of medians), "
          f"{min(cost):+.1%} to {max(cost):+.1%} in single rounds (aim: below 5 %)")  # fmt: skip


def seconds_of(text: Path, out: Path, processes: int, until: float | None = None) -> float:
    """How long it takes to prepare, or until it is killed; a finished corpus is removed."""
    begin = time.perf_counter()
    process = subprocess.Popen(prepared(text, out, processes), start_new_session=True)
    end = threading.Timer(until, lambda: os.killpg(process.pid, signal.SIGKILL)) if until is not None else None
    if end:
        end.start()
    code = process.wait()
    seconds = time.perf_counter() - begin
    if end:
        end.cancel()
    elif code:
        sys.exit(f"ended with {code}")
    if out.exists():
        shutil.rmtree(out)
    return seconds


# --- what they share -------------------------------------------------------------------------------------------------


def prepared(text: Path, out: Path, processes: int) -> list[str]:
    options = f"{text} --out {out} --format line --vocabulary {VOCABULARY} --workers {processes}"
    code = "import sys; sys.stderr = sys.stdout = open('/dev/null', 'w'); from masklab.cli import main; main()"
    return [sys.executable, "-c", code, "prepare", *options.split()]


def taken(file: Path, megabytes: float) -> list[str]:
    """Documents that differ, up to so much text, each in one line."""
    from masklab.corpus.read import documents

    found: dict[str, None] = {}
    size = 0
    for document in documents(file):
        line = " ".join(document.text.split())
        if line not in found:
            size += len(line.encode()) + 1
            if size > megabytes * 1e6:
                break
            found[line] = None
    return list(found)


def write(file: Path, lines: Iterator[str] | list[str]) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(line + "\n")
            count += 1
    return count


if __name__ == "__main__":
    if "MEASURED" in os.environ:
        text, folder, scratch, processes, tencent = sys.argv[1:]
        one(os.environ["MEASURED"], Path(text), Path(folder), Path(scratch), int(processes), Path(tencent))
    else:
        main()
