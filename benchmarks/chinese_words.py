"""Chinese words: the segmentation step of `masklab units --words` beside jieba, on the same text, in turns.

    python benchmarks/chinese_words.py zhwiki.txt.xz                      # about a minute with two cores
    python benchmarks/chinese_words.py zhwiki.txt.xz --characters 6000000 --rounds 9

One thread: ours reads batches of documents and gives character offsets of the words, as the units step does; jieba's
`lcut` gives each document's words, without offsets. All cores: ours in the step's own processes, jieba in its own
(`enable_parallel`), on all of the text at once. Dictionaries are loaded and processes started before the clock runs.
Agreement: of the words of two characters or more that either finds, how many have the same first and last character.
"""

import argparse
import itertools
import logging
import os
import statistics
import time
from collections.abc import Callable

import jieba
import numpy as np

from masklab.corpus.find_units import BATCH, ahead, pool
from masklab.corpus.read import documents
from masklab.corpus.units import batched, chinese, code_points
from masklab.corpus.words_zh import ChineseWords


def main() -> None:
    args = arguments()
    texts = list(up_to((d.text for d in documents(args.text)), args.characters))
    characters = sum(map(len, texts))
    batches = list(batched(texts, BATCH))
    whole = "\n".join(texts)
    print(
        f"{len(texts):,} documents, {characters:,} characters, {chinese(code_points(whole)).mean():.0%} of them Chinese"
    )
    jieba.setLogLevel(logging.ERROR)
    jieba.initialize()
    ours = ChineseWords()
    ours(texts[:1])
    found = [spans for batch in batches for spans in ours(batch)]
    agreement(texts, found)
    race(
        "one thread", characters, args.rounds,
        lambda: sum(len(spans) for batch in batches for spans in ours(batch)),
        lambda: sum(len(jieba.lcut(text)) for text in texts),
    )  # fmt: skip
    workers = args.workers or len(os.sched_getaffinity(0))
    if workers > 1:
        jieba.enable_parallel(workers)
        with pool(ChineseWords, workers) as processes:
            race(
                f"{workers} processes", characters, args.rounds,
                lambda: sum(sum(map(len, s)) for _, s in ahead(processes, ((b, None) for b in batches), workers)),
                lambda: len(jieba.lcut(whole)),
            )  # fmt: skip
        jieba.disable_parallel()


def up_to(texts, characters: int):
    """The first documents of so many characters in all."""
    for text in texts:
        if characters <= 0:
            return
        yield text
        characters -= len(text)


def race(name: str, characters: int, rounds: int, ours: Callable[[], int], theirs: Callable[[], int]) -> None:
    """Alternating rounds after one that is not counted, in an order that alternates as well."""
    seconds: dict[str, list[float]] = {"ours": [], "jieba": []}
    for number in range(-1, rounds):
        both = [("ours", ours), ("jieba", theirs)]
        for side, work in both if number % 2 else reversed(both):
            started = time.perf_counter()
            work()
            if number >= 0:
                seconds[side].append(time.perf_counter() - started)
        if number >= 0:
            print(f"  {name}, round {number + 1}: ours {seconds['ours'][-1]:.2f} s, jieba {seconds['jieba'][-1]:.2f} s",
                  flush=True)  # fmt: skip
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["jieba"], strict=True)]
    rates = {side: characters / statistics.median(each) / 1e6 for side, each in seconds.items()}
    print(
        f"{name}: ours {rates['ours']:.2f} M characters/s, jieba {rates['jieba']:.3f}: median ratio "
        f"{statistics.median(ratios):.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})"
    )


def agreement(texts: list[str], found: list[np.ndarray]) -> None:
    """Words of both, of two characters or more with a Chinese one among them."""
    both = ours = theirs = 0
    examples: list[str] = []
    for text, spans in zip(texts, found, strict=True):
        mine = set(map(tuple, spans.tolist()))
        words = jieba.lcut(text)
        ends = list(itertools.accumulate(map(len, words)))
        other = {
            (end - len(word), end)
            for word, end in zip(words, ends, strict=True)
            if len(word) > 1 and chinese(code_points(word)).any()
        }
        both, ours, theirs = both + len(mine & other), ours + len(mine), theirs + len(other)
        only = sorted(mine - other)[:1]
        examples += [text[max(0, a - 4) : a] + "[" + text[a:b] + "]" + text[b : b + 4] for a, b in only]
    print(
        f"words: ours {ours:,}, jieba {theirs:,}; the same: {both / ours:.2%} of ours, {both / theirs:.2%} of jieba's"
    )
    if examples:
        print(f"  ours alone, for example: {' '.join(' '.join(example.split()) for example in examples[:6])}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="Chinese text, in any form that `masklab prepare` reads")
    parser.add_argument("--characters", type=int, default=1_500_000, help="how much of it is read")
    parser.add_argument("--rounds", type=int, default=5, help="of each")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one for each core")
    return parser.parse_args()


if __name__ == "__main__":
    main()
