"""Second pass of a preparation: tokenises the text on all cores into one vocabulary's folder.

Blocks of the text go to worker processes, a few at a time, and what comes back is appended in order, so that the result
does not depend on how many there are. File lengths are committed now and then (work.py): a pass that was killed goes on
behind them. Workers are plain processes that read jobs as lines, so nothing of a caller's program is run again in them.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import numpy as np

from masklab import files
from masklab.corpus import encode, sentences
from masklab.corpus.arrays import Growing, write_array
from masklab.corpus.encode import Encoder
from masklab.corpus.layers import Stretch, layers, names_and_hashes, unit_bytes
from masklab.corpus.progress import At, Tell
from masklab.corpus.sentences import Mode
from masklab.corpus.store import PARTS, describe, mapped, read_block
from masklab.corpus.tokenizer import Tokenizer
from masklab.corpus.units import WORD_START, stretches
from masklab.corpus.work import Work
from masklab.errors import BadInput

_JOB = 8  # blocks, at most
_AT_ONCE = 1_500_000  # characters whose tokens are found together: a block, or a part of one with a very long document
_ALONE = 4_000_000  # characters that are not worth starting processes for
_SLAB = 1 << 22  # tokens counted at a time
_ARRAYS = {"ids": None, "units": "u1", "documents": "<i8", "sentences": "<i8", "numbers": "<i8"}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- one job ---------------------------------------------------------------------------------------------------------


class Tokenising:
    """Turns blocks of a corpus' text into arrays; one object a process."""

    def __init__(self, corpus: Path, folder: Path, mode: str):
        """folder: the tokens folder, in which tokenizer.json is; mode: how sentences are found."""
        self.corpus = corpus
        self.mode: Mode = cast(Mode, mode)
        self.blocks = np.load(corpus / "blocks.npy")
        self.held_out = mapped(corpus / "held_out.npy")
        self.layers = layers(corpus)
        self.encode = Encoder(Tokenizer.from_file(folder))
        self._before = -1  # the last document with any token

    def __call__(self, first: int, last: int, out: Path) -> None:
        """Write the arrays of the blocks first to last - 1, by part, offsets counted from the job's own start."""
        found: dict[str, dict[str, list[np.ndarray]]] = {part: {name: [] for name in _ARRAYS} for part in PARTS}
        tokens: dict[str, int] = dict.fromkeys(PARTS, 0)
        for block in range(first, last):
            for some in self._stretches(block):
                for part, arrays in self._some(*some).items():
                    arrays["documents"] += tokens[part]
                    arrays["sentences"] += tokens[part]
                    tokens[part] += len(arrays["ids"])
                    for name, values in arrays.items():
                        found[part][name].append(values)
        arrays = {f"{part}_{name}": np.concatenate(found[part][name]) for part in PARTS for name in _ARRAYS}
        np.savez(out, **arrays)  # type: ignore[arg-type]

    def _stretches(self, block: int) -> Iterator[tuple[list[Stretch], list[np.ndarray]]]:
        """The texts of a block, a bounded number of characters at a time, and where sentences begin in each."""
        held: list[Stretch] = []
        begun: list[np.ndarray] = []
        size = 0
        for number, document in enumerate(read_block(self.corpus, self.blocks, block), int(self.blocks[block, 0])):
            wanted, begin = np.array(sentences.starts(document.text, self.mode)), 0
            for text in stretches(document.text, encode.STRETCH):
                end = begin + len(text)
                held.append(Stretch(number, begin, text, end == len(document.text)))
                begun.append(wanted[slice(*np.searchsorted(wanted, [begin, end]))] - begin)
                begin = end
                size += len(text)
                if size >= _AT_ONCE:
                    yield held, begun
                    held, begun, size = [], [], 0
        if held:
            yield held, begun

    def _some(self, of: list[Stretch], begun: list[np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        texts = [stretch.text for stretch in of]
        found = self.encode(texts)
        first = (np.cumsum(found.lengths) - found.lengths)[found.lengths > 0]
        number, last = np.array([stretch.number for stretch in of]), np.array([stretch.last for stretch in of])
        filled = number[found.lengths > 0]
        first = first[np.diff(filled, prepend=self._before) != 0]  # tokens that documents begin with
        self._before = filled[-1] if len(filled) else self._before
        fresh = np.zeros(len(found.ids), bool)
        fresh[first] = True
        units = unit_bytes(found, of, fresh, self.layers)
        begins = np.cumsum([0, *map(len, texts)])
        wanted = np.concatenate([some + begin for some, begin in zip(begun, begins, strict=False)])
        starts = _first_tokens(wanted, found.end, found.words, first)
        parts = {}
        held = self.held_out[number]
        for part in PARTS:
            mine = held == (part == "held_out")
            token = np.repeat(mine, found.lengths)
            place = np.cumsum(token) - token  # of each token, among the part's own
            parts[part] = {
                "ids": found.ids[token],
                "units": units[token],
                "documents": np.cumsum(found.lengths[mine])[last[mine]],  # their ends
                "sentences": place[starts[token[starts]]],
                "numbers": number[mine & last],
            }
        return parts


def _first_tokens(wanted: np.ndarray, end: np.ndarray, words: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """The tokens that sentences begin with: those at or after each wanted character, if they begin a word."""
    if not len(end):
        return np.zeros(0, np.int64)
    # a token that reaches over the character (" She", with its space) counts as at it
    token = np.searchsorted(end, wanted, side="right")
    token = token[token < len(end)]
    token = token[(words[token] & WORD_START) != 0]
    return np.union1d(token, fresh)


# --- all jobs --------------------------------------------------------------------------------------------------------


def write_tokens(work: Work, corpus: Path, folder: Path, about: dict[str, Any], learned: dict[str, Any] | None,
                 workers: int, tell: Tell) -> None:  # fmt: skip
    """Fill a tokens folder, in which a tokenizer was saved, with the text of `corpus`; then describe it.

    about: the description of the text, as in store.json; learned: from how much of it the vocabulary was learned.
    """
    tokenizer = Tokenizer.from_file(folder)
    blocks = np.load(corpus / "blocks.npy")
    state = work.state.get("tokens") or {"blocks": 0, "rows": {part: dict.fromkeys(_ARRAYS, 0) for part in PARTS}}
    dtypes = {name: dtype or tokenizer.dtype for name, dtype in _ARRAYS.items()}
    parts = {}
    for part in PARTS:
        (folder / part).mkdir(exist_ok=True)
        rows = state["rows"][part]
        parts[part] = {n: Growing(folder / part / f"{n}.npy", dtypes[n], None, rows[n]) for n in _ARRAYS}
        if not rows["documents"]:
            parts[part]["documents"].add(np.zeros(1))
    grown = [file for arrays in parts.values() for file in arrays.values()]
    todo, total = state["blocks"], len(blocks) - 1

    def commit(done: int) -> None:
        rows = {part: {name: len(file) for name, file in arrays.items()} for part, arrays in parts.items()}
        work.commit_soon([file.handle for file in grown], tokens={"blocks": done, "rows": rows})

    tell(At("tokens", int(blocks[todo, 0]), 0, todo / total))
    with pool(workers, about, corpus, folder, about["sentences_by"]) as run:
        for (_, last), out in in_order(run, jobs(todo, total, workers), work.scratch, workers + 2):
            with np.load(out) as found:
                for part, arrays in parts.items():
                    before = len(arrays["ids"])
                    for name, file in arrays.items():
                        values = found[f"{part}_{name}"]
                        file.add(values + before if name in ("documents", "sentences") else values)
            out.unlink()
            tell(At("tokens", int(blocks[last, 0]), int(about["bytes"] * last / total), last / total))
            if work.due():
                commit(last)
    commit(total)
    work.settle()
    for file in grown:
        file.close()
    _describe(folder, tokenizer, corpus, about, learned)


def _describe(folder: Path, tokenizer: Tokenizer, corpus: Path, about: dict[str, Any],
              learned: dict[str, Any] | None) -> None:  # fmt: skip
    parts, counts = {}, {}
    for part in PARTS:
        ids, units = mapped(folder / part / "ids.npy"), mapped(folder / part / "units.npy")
        counts[part] = np.zeros(tokenizer.size, np.int64)
        words = 0
        for at in range(0, len(ids), _SLAB):
            counts[part] += np.bincount(ids[at : at + _SLAB], minlength=tokenizer.size)
            words += int(np.count_nonzero(units[at : at + _SLAB] & WORD_START))
        hashes = [files.sha256(folder / part / f"{name}.npy") for name in ("ids", "units", "documents")]
        parts[part] = {
            "documents": len(mapped(folder / part / "numbers.npy")),
            "tokens": len(ids),
            "words": words,
            "sentences": len(mapped(folder / part / "sentences.npy")),
            "hash": hashlib.sha256("".join(hashes).encode()).hexdigest(),
        }
    with open(folder / "unigram.npy", "wb") as file:
        write_array(file, counts["train"])
    present = layers(corpus)
    tokens = sum(part["tokens"] for part in parts.values())
    unknown = sum(int(each[tokenizer.unk]) for each in counts.values())
    whole = about["corpus"] + tokenizer.hash + parts["train"]["hash"]
    description = {
        "corpus": about["corpus"],  # of which text
        "tokenizer": tokenizer.hash,
        "hash": hashlib.sha256(whole.encode()).hexdigest(),
        "vocabulary": tokenizer.size,
        "learned": learned,
        "layers": list(names_and_hashes(present)),
        "layer_hashes": names_and_hashes(present),
        "units": "units.npy",
        "unknown": unknown / max(1, tokens),  # share of the tokens that are [UNK]
        "bytes_per_token": about["bytes"] / max(1, tokens),
        "parts": parts,
    }
    made = [folder / part / f"{name}.npy" for part in PARTS for name in _ARRAYS]
    describe(folder / "tokens.json", description, [folder / n for n in (*tokenizer.files(), "unigram.npy")] + made)


def jobs(begin: int, end: int, workers: int) -> list[tuple[int, int]]:
    """Blocks [first, last) of each job."""
    size = max(1, min(_JOB, (end - begin) // (16 * workers)))
    return [(first, min(first + size, end)) for first in range(begin, end, size)]


def in_order(
    run: Callable[[int, int, Path], "Future[None]"], jobs: Sequence[tuple[int, int]], scratch: Path, ahead: int
) -> Iterator[tuple[tuple[int, int], Path]]:
    """Finished jobs in order, with so many on their way."""
    waiting: deque[tuple[tuple[int, int], Path, Future[None]]] = deque()
    for job in jobs:
        out = scratch / f"blocks-{job[0]}.npz"
        waiting.append((job, out, run(*job, out)))
        if len(waiting) >= ahead:
            job, out, future = waiting.popleft()
            future.result()
            yield job, out
    for job, out, future in waiting:
        future.result()
        yield job, out


# --- worker processes ------------------------------------------------------------------------------------------------


@contextmanager
def pool(workers: int, about: dict[str, Any], corpus: Path, folder: Path,
         mode: str) -> Iterator[Callable[[int, int, Path], "Future[None]"]]:  # fmt: skip
    """A function that has a job done: by one of several processes or, if one is enough, in this one.

    about: the description of the text; corpus, folder, mode: as for `Tokenising`.
    """
    if workers == 1 or about["characters"] <= _ALONE:
        job = Tokenising(corpus, folder, mode)
        with ThreadPoolExecutor(1) as thread:
            try:
                yield lambda *arguments: thread.submit(job, *arguments)
            finally:
                thread.shutdown(cancel_futures=True)
        return
    setup = {"corpus": str(corpus.absolute()), "folder": str(folder.absolute()), "mode": mode}
    processes = [_started(setup) for _ in range(workers)]
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def ask(first: int, last: int, out: Path) -> None:
        process = idle.get()
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps([first, last, str(out.absolute())]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):
            answer = ""
        finally:
            idle.put(process)  # if it is dead, whoever gets it next will see
        if answer != "done\n":
            raise BadInput(
                f"a worker process ended while it tokenised (exit code {process.wait()}; -9 is often lack of memory): "
                f"run the same again to go on, with fewer --workers"
            )

    with ThreadPoolExecutor(workers) as threads:
        try:
            yield lambda *arguments: threads.submit(ask, *arguments)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            for process in processes:
                process.communicate()


def _started(setup: dict[str, str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                   "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", "from masklab.corpus.tokens import serve; serve()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(json.dumps(setup) + "\n")
    process.stdin.flush()
    return process


def serve() -> None:
    """What a worker process does: jobs come as lines, "done" goes back, and it ends when no more can come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that was started says what it means
    setup = json.loads(sys.stdin.readline())
    job = Tokenising(Path(setup["corpus"]), Path(setup["folder"]), setup["mode"])
    for line in sys.stdin:
        first, last, out = json.loads(line)
        job(first, last, Path(out))
        print("done", flush=True)
