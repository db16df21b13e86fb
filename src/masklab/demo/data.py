"""Makes the demo's labelled files: case and punctuation of prose passages, and which package a docstring is from.

Everything that scores are read from stands in documents that pre-training never saw.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from masklab.corpus.builtin import module, package
from masklab.corpus.read import Document
from masklab.corpus.store import Store
from masklab.demo.passages import prose, windows
from masklab.files import atomic_write
from masklab.rng import rng
from masklab.tasks.casing import derive

SHARED = 8  # words in a row: labelled passages that share as many with a test passage are left out
READ = 80  # words of a docstring that all the classifiers read
PACKAGES = 8


class Files(NamedTuple):
    train: Path
    dev: Path  # learning rates are chosen on it
    test: Path  # scores are read from it
    examples: int  # labelled examples for training


def casing_files(store: Store, folder: Path, seed: int, most: int, test: int = 250, dev: int = 100) -> Files:
    """Prose of held-out documents in passages of 24 tagged words. A small corpus gives smaller files."""
    held = [store.text(number) for number in range(len(store)) if store.held_out[number]]
    found: dict[tuple[str, ...], list[str]] = {}
    for text in held:
        words, labels = derive(" ".join(prose(text)))
        for a, b in windows(words):
            found.setdefault(tuple(words[a:b]), labels[a:b])
    passages = [list(found.items())[i] for i in rng(seed, "passages").permutation(len(found))]
    tenth = max(1, len(passages) // 10)
    test, dev = min(test, 2 * tenth), min(dev, tenth)
    judged, rest = passages[: test + dev], passages[test + dev :]
    taken = set().union(*(_runs(words) for words, _ in judged))
    train = [(words, labels) for words, labels in rest if not _runs(words) & taken][:most]
    files = _files(folder, len(train))
    for path, some in ((files.test, judged[:test]), (files.dev, judged[test:]), (files.train, train)):
        with atomic_write(path, "w") as file:
            for words, labels in some:
                file.writelines(f"{word}\t{label}\n" for word, label in zip(words, labels, strict=True))
                file.write("\n")
    return files


def package_files(store: Store, folder: Path, seed: int, each: int = 100, test: int = 40, dev: int = 15) -> Files:
    """Docstrings and their packages, so many a package; no module has a part in two of the three files.

    Test and dev documents are among the held-out ones; training documents are others, of other modules.
    """
    documents = [store.document(number) for number in range(len(store))]
    order = rng(seed, "documents").permutation(len(documents)).tolist()
    held = [documents[i] for i in order if store.held_out[i]]
    seen = [documents[i] for i in order if not store.held_out[i]]
    common = Counter(map(package, held))
    names = [name for name, _ in sorted(common.items(), key=lambda x: (-x[1], x[0]))[:PACKAGES]]
    places = sorted({(package(d), module(d)) for d in held})
    for_dev = {
        place for place, throw in zip(places, rng(seed, "modules").random(len(places)), strict=True) if throw < 0.3
    }
    files, judged = _files(folder, 0), set(places)
    wanted = (
        (files.test, test, (d for d in held if (package(d), module(d)) not in for_dev)),
        (files.dev, dev, (d for d in held if (package(d), module(d)) in for_dev)),
        (files.train, each, (d for d in seen if (package(d), module(d)) not in judged)),
    )
    counts = [_write(path, _balanced(pool, names, most)) for path, most, pool in wanted]
    return files._replace(examples=counts[-1])


def _balanced(pool: Iterable[Document], names: Sequence[str], most: int) -> list[Document]:
    """At most `most` documents of each of the named packages, in the pool's order."""
    taken: dict[str, int] = defaultdict(int)
    found = []
    for document in pool:
        name = package(document)
        if name in names and taken[name] < most:
            taken[name] += 1
            found.append(document)
    return found


def _write(path: Path, documents: list[Document]) -> int:
    with atomic_write(path, "w") as file:
        file.write("text\tpackage\n")
        file.writelines(f"{' '.join(d.text.split()[:READ])}\t{package(d)}\n" for d in documents)
    return len(documents)


def _files(folder: Path, examples: int) -> Files:
    return Files(folder / "train.tsv", folder / "dev.tsv", folder / "test.tsv", examples)


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Every SHARED words in a row."""
    return {tuple(words[i : i + SHARED]) for i in range(max(1, len(words) - SHARED + 1))}
