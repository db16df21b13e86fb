"""The demo's comparison: the pre-trained model against the same shape from random weights, tuned alike.

At each number of labels both arms try the same learning rates with the first seed and keep the one that scores best on
the dev file; every seed is another draw of labelled examples, another order, another start of whatever is new.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from masklab.demo.data import Files
from masklab.models.local_start import Start
from masklab.tasks.casing import LABELS, USUAL
from masklab.tasks.classify import Classify
from masklab.tasks.finetune import Task, judge, recipe
from masklab.tasks.labelled import first_of
from masklab.tasks.table import read_table
from masklab.tasks.tag import Tag
from masklab.training.loop import train

ARMS = {"pre-trained": False, "random weights": True}  # name -> whether the weights are drawn anew


@dataclass(frozen=True)
class Setting:
    """One of the two tasks, as both arms are run on it."""

    name: str
    files: Files
    sizes: tuple[int, ...]
    seeds: int
    rates: tuple[float, ...]
    score: str  # which of the scores is compared
    epochs: float
    least: int  # steps, however few examples there are

    def task(self, size: int, draw: int) -> Task:
        dev = str(self.files.dev)
        if self.name == "casing":
            return Tag(dev, limit=size, draw=draw, tags=tuple(LABELS))
        return Classify(dev, ("text",), "package", limit=size, draw=draw)

    @property
    def usual(self) -> str | None:
        return USUAL if self.name == "casing" else None

    def runs(self) -> int:
        """How many runs the whole comparison takes."""
        return len(ARMS) * len(self.sizes) * (len(self.rates) + self.seeds - 1)


class Book:
    """What has been measured so far, one JSON line each: nothing that stands in it is run again."""

    def __init__(self, path: Path):
        self.path = path
        self.lines: list[dict[str, Any]] = []
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                self.lines.append(json.loads(line))
            except ValueError:  # the last line of a run that was cut off
                break

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        return next((line for line in self.lines if all(line[k] == v for k, v in key.items())), None)

    def add(self, line: dict[str, Any]) -> dict[str, Any]:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)
        return line


def compare(setting: Setting, model: Path, initial: Start, precision: str, threads: int, book: Book,
            tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yields one line for each run as it is finished (or found in the book); `tell` hears what comes next."""

    def run(arm: str, size: int, seed: int, rate: float) -> dict[str, Any]:
        key = {"task": setting.name, "arm": arm, "size": size, "seed": seed, "rate": rate}
        tell(f"{arm}, {size} labelled, seed {seed}, rate {rate:g}")
        found = book.find(key)
        if found:
            return found
        made = recipe(setting.task(size, seed), model, setting.files.train, rate=rate, epochs=setting.epochs,
                      least=setting.least, tokens=1024, seed=seed, fresh=ARMS[arm], initial=initial)  # fmt: skip
        quiet = replace(made.evaluation, every=1.0, rows=1)  # the dev file is judged once, below
        trained = train(replace(made, evaluation=quiet, precision=precision, threads=threads))  # type: ignore[arg-type]
        if trained.stopped:
            raise KeyboardInterrupt
        dev = judge(trained, usual=setting.usual)
        test = judge(trained, str(setting.files.test), setting.usual)
        return book.add({
            **key, "dev": dev.scores[setting.score], "test": test.scores[setting.score], "scores": test.scores,
            "baseline": test.baseline[setting.score], "baseline_scores": test.baseline,
            "steps": trained.result["steps"], "seconds": trained.result["seconds"],
        })  # fmt: skip

    for size in setting.sizes:
        for arm in ARMS:
            tried = []
            for rate in setting.rates:
                tried.append(run(arm, size, 0, rate))
                yield tried[-1]
            best = max(tried, key=lambda line: line["dev"])["rate"]
            for seed in range(1, setting.seeds):
                yield run(arm, size, seed, best)


def chosen(book: Book, setting: Setting, arm: str, size: int) -> list[dict[str, Any]]:
    """The line of each seed, at the learning rate that the first seed chose on the dev file."""
    lines = [x for x in book.lines if (x["task"], x["arm"], x["size"]) == (setting.name, arm, size)]
    first = [x for x in lines if x["seed"] == 0]
    if not first:
        return []
    rate = max(first, key=lambda line: line["dev"])["rate"]
    return sorted((x for x in lines if x["rate"] == rate), key=lambda x: x["seed"])


def bag_of_words(files: Files, size: int, draws: int) -> list[float] | None:
    """Test accuracy of TF-IDF and a linear classifier on the same draws, C chosen on dev. None without scikit-learn."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.svm import LinearSVC
    except ImportError:
        return None
    train, dev, test = (read_table(path, ("text",), "package") for path in (files.train, files.dev, files.test))
    found = []
    for draw in range(draws):
        which = first_of(len(train.labels), size, draw)
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        seen = words.fit_transform([train.texts[i][0] for i in which])
        dev_words, test_words = (words.transform([text for (text,) in table.texts]) for table in (dev, test))
        models = [LinearSVC(C=c, random_state=0).fit(seen, [train.labels[i] for i in which]) for c in (0.1, 1.0, 10.0)]
        best = max(models, key=lambda model: model.score(dev_words, dev.labels))
        found.append(float(best.score(test_words, test.labels)))
    return found
