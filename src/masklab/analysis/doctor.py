"""Looks a prepared corpus over before hours are spent on it: one page, and for each line what to do about it.

    for finding in examine("corpus"):
        print(finding.name, finding.value, finding.advice)

Large corpora are judged by a sample spread over them (what was read is said); everything is a function of the corpus.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from masklab import recipe as recipes
from masklab.corpus import duplicates
from masklab.corpus.languages import language
from masklab.corpus.minhash import Signatures
from masklab.corpus.prepare import split_warnings
from masklab.corpus.store import Part, Store
from masklab.corpus.units import batched
from masklab.recipe import Batches, Evaluation
from masklab.training.batches import micro_batches
from masklab.training.loop import one_step
from masklab.training.schedule import Budget
from masklab.training.session import build

CHARACTERS = 40_000_000  # of text that are read, at most, for near-duplicates, leaks and languages
TOKENS = 20_000_000  # of tokens that are counted, at most, for the pairs
_DOCUMENTS = 2000  # whose language is guessed
_BATCH = 2_000_000
_DISCOUNT = 0.75
_BAR = 14  # characters

Level = Literal["good", "look", "bad"]


@dataclass(frozen=True)
class Finding:
    name: str
    value: str
    level: Level
    advice: str  # what it means and what to do
    picture: list[str] = field(default_factory=list)  # lines to print below


def examine(data: str | Path, steps: int = 30, tell: Callable[[str], None] | None = None) -> list[Finding]:
    """All findings, in the order of the page. steps: of the overfit at the end; 0 leaves it out."""
    tell = tell or (lambda stage: None)
    store = Store(data)
    train, held = store.part("train"), store.part("held_out")
    found = [_size(store, train)]
    tell("duplicates")
    found += [_left_out(store), _damage(store), _near(store)]
    tell("leak")
    found += [_held_out(store, held)]
    if len(held):
        found.append(_leak(store))
    tell("tokens")
    found += [*_vocabulary(store, train), *_entropies(train, held)]
    tell("documents")
    found += [_lengths(train), _packing(train), _longest(store, train), _mix(store)]
    if steps:
        tell("overfit")
        found += [_overfit(str(data), steps)]
    return found


# --- how much, and how often the same --------------------------------------------------------------------------------


def _size(store: Store, train: Part) -> Finding:
    tokens, words = len(train.ids), store.description["parts"]["train"]["words"]
    level: Level = "good" if words >= 1_000_000 else "look" if words >= 100_000 else "bad"
    return Finding(
        "size",
        f"{len(store):,} documents, {tokens:,} tokens, {words:,} words to train on",
        level,
        "Enough to begin with."
        if level == "good"
        else "Less than a million words: a model will know them by heart soon. Add text, mix in a general corpus "
        "(pretrain --mix general=0.5), or begin from a model that exists (start=FOLDER).",
    )


def _left_out(store: Store) -> Finding:
    d = store.description
    copies, empty = d["duplicates"], d["empty"]
    skipped = 0 if d["read"].get("undecodable_bytes") else d["read"].get("undecodable", 0)
    read = len(store) + copies + empty + skipped
    share = (copies + empty + skipped) / read
    value = f"{copies:,} copies, {empty:,} empty documents"
    if skipped:
        value += f", {skipped:,} with bytes of another encoding"
    value = f"{value}, of {read:,} read ({share:.1%})"
    if skipped > 0.01 * read:
        return Finding(
            "left out",
            value,
            "look",
            "Documents are lost to a wrong encoding: prepare again with the right "
            "--encoding, or keep them with --encoding-errors replace.",
        )
    if share >= 0.2:
        return Finding(
            "left out",
            value,
            "look",
            "So many copies mean that a source is in the files more than once: "
            "name each file once, and look at what goes with masklab clean TEXT --report gone.tsv.",
        )
    keep = "Nothing is trained on twice by accident; prepare --keep-duplicates would keep the copies."
    return Finding("left out", value, "good", keep)


def _damage(store: Store) -> Finding:
    """What reading met that is no text, by the counts that it kept."""
    read, characters = store.description["read"], max(1, store.description["characters"])
    broken = read.get("damaged", 0) + read.get("undecodable_bytes", 0) + read.get("half_characters", 0)
    control = read.get("nul", 0) + read.get("control", 0)
    parted, unclosed = read.get("parted", 0), read.get("unclosed", 0)
    value = f"{broken:,} broken characters (U+FFFD), {control:,} control characters"
    if parted:
        value += f"; {parted:,} cuts in documents longer than 16 MB"
    if unclosed:
        value += f"; {unclosed:,} articles without an end"
    if unclosed:
        return Finding("damage", value, "look", "A file was cut short: extract it again.")
    if broken > 1e-5 * characters:
        return Finding(
            "damage",
            value,
            "look",
            "Text was read in a wrong encoding, here or before: get it from its "
            "source, prepare it with --encoding, or leave such documents out with --encoding-errors skip.",
        )
    if control > 1e-5 * characters:
        return Finding(
            "damage",
            value,
            "look",
            "Each becomes nothing or a rare token: take them out before, such as "
            "with tr -d '\\000-\\010\\016-\\032\\034-\\037\\177' < TEXT > new.txt.",
        )
    if parted:
        return Finding(
            "damage",
            value,
            "look",
            "No document is that long: is a file without blank lines read as one? See --format.",
        )
    return Finding("damage", value, "good", "The text came whole.")


def _near(store: Store) -> Finding:
    signatures = Signatures()
    texts = list(_sample(store, None, CHARACTERS))
    for some in batched(texts, _BATCH):
        signatures.add(some)
    group, _ = signatures.near(0.8)
    copies = int((group != np.arange(len(group))).sum())
    share = copies / max(1, len(group))
    return Finding(
        "near-duplicates",
        f"{copies:,} of {_of(len(group), len(store))} documents are at least 80 % like an earlier one ({share:.1%})",
        "good" if share < 0.05 else "look" if share < 0.3 else "bad",
        "Few enough."
        if share < 0.05
        else "A model spends its steps on templates and boilerplate: masklab clean TEXT --out clean.jsonl.zst, and "
        "prepare that.",
    )


def _held_out(store: Store, held: Part) -> Finding:
    d = store.description
    if not len(held):
        return Finding(
            "held out",
            "nothing is held out",
            "bad",
            (*split_warnings(d), "No loss can be trusted: prepare with --held-out 0.01.")[0],
        )
    value = (
        f"{len(held):,} documents, {len(held.ids):,} tokens; {d['near_duplicate_groups']:,} groups of near-duplicates"
    )
    if groups := d.get("groups"):
        value += f" and {groups['count']:,} by {groups['by']}"
    value += ", none divided"
    for warning in split_warnings(d):
        return Finding("held out", value, "look", warning[0].upper() + warning[1:] + ".")
    if len(held) < 30 or len(held.ids) < 10_000:
        return Finding(
            "held out",
            value,
            "look",
            "Too little to measure by: the loss on it says little of other texts. "
            "Prepare again with a larger share, such as --held-out 0.05, or with more text.",
        )
    return Finding("held out", value, "good", "Enough to measure by.")


def _leak(store: Store) -> Finding:
    share = duplicates.leak(_sample(store, "train", CHARACTERS), _sample(store, "held_out", CHARACTERS // 8))
    return Finding(
        "leak",
        f"{share:.2%} of the held-out runs of 16 words stand in the training part too",
        "good" if share < 0.02 else "look" if share < 0.1 else "bad",
        "The held-out loss can be believed."
        if share < 0.02
        else "The held-out loss flatters: documents share passages. masklab clean TEXT --out clean.jsonl.zst drops "
        "near-copies; what belongs together (an author's, a site's) is kept on one side by prepare --group FIELD.",
    )


# --- the vocabulary on this text -------------------------------------------------------------------------------------


def _vocabulary(store: Store, train: Part) -> Iterator[Finding]:
    counts = train.unigram
    share = float(counts[store.tokenizer.unk]) / max(1, int(counts.sum()))
    used = int((counts[store.tokenizer.ordinary] > 0).sum())
    size = characters = 0
    seen: Counter[str] = Counter()
    for texts in batched(_sample(store, "train", 2_000_000), 500_000):
        seen.update("".join(texts))
        size += sum(len(ids) for ids in store.tokenizer.encode(texts))
        characters += sum(len(text.encode()) for text in texts)
    name = store.tokenizer.names["unk"]
    value = f"{name} stands for {share:.3%} of the tokens"
    signs = [sign for sign in seen if not sign.isspace()]
    lacks = {sign for sign, ids in zip(signs, store.tokenizer.encode(signs), strict=True) if store.tokenizer.unk in ids}
    if lacks:
        value += ", most often " + " ".join(sign for sign, _ in seen.most_common() if sign in lacks)[:15].strip()
    level: Level = "good" if share < 0.001 else "look" if share < 0.01 else "bad"
    trained = store.description.get("learned")
    larger = f"a larger one (masklab tokenize STORE --vocabulary {2 * len(counts)})"
    own = "one trained on this text (masklab tokenize STORE)"
    yield Finding(
        "vocabulary",
        f"{value}; {used:,} of {len(store.tokenizer.ordinary):,} entries occur",
        level,
        "The vocabulary fits the text."
        if level == "good"
        else f"The vocabulary lacks letters of this text: take {larger if trained else own}, or one that falls back to "
        f"bytes (masklab tokenize STORE --kind bpe).",
    )
    each = len(train.ids) / max(1, store.description["parts"]["train"]["words"])
    yield Finding(
        "compression",
        f"{characters / max(1, size):.2f} bytes per token, {each:.2f} tokens per word",
        "good" if each < 1.6 else "look",
        "Rows hold much text."
        if each < 1.6
        else f"Words come apart into many pieces, so rows hold little text: take {larger if trained else own}.",
    )


def _entropies(train: Part, held: Part) -> Iterator[Finding]:
    p = train.unigram / max(1, train.unigram.sum())
    unigram = float(-(p[p > 0] * np.log(p[p > 0])).sum())
    first, second = _pairs(train)
    bigram = conditional_entropy(first, second, train.tokenizer.size)
    yield Finding(
        "entropy",
        f"{unigram:.3f} nats a token; {bigram:.3f} once the token before is known",
        "good" if unigram - bigram > 0.5 else "look",
        "Neighbours tell much about each other, so there is something to learn."
        if unigram - bigram > 0.5
        else "Neighbours hardly tell anything about each other: is it running text? Lists and tables teach little.",
    )
    if len(held.ids):
        model = Bigrams(first, second, train.unigram)
        simple, better = (model.loss(*_pairs(held), smoothed) for smoothed in (False, True))
        yield Finding(
            "baselines",
            f"on the held-out part: unigram {simple:.3f} nats, smoothed bigram {better:.3f}",
            "good" if better < simple else "look",
            "A masked model near the unigram has learnt nothing yet; one below the bigram has learnt context."
            if better < simple
            else "What stood before tells nothing on the held-out part: it is too small or unlike the rest.",
        )


def _pairs(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (first, second) inside documents, from stretches spread over the part."""
    n = len(part.ids) - 1
    if n < 1:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    stretches = np.linspace(0, n, 65).astype(np.int64)
    each = min(TOKENS // 64, n)
    at = np.unique(np.concatenate([np.arange(a, min(a + each, b)) for a, b in pairwise(stretches)]))
    across = np.isin(at + 1, part.documents)
    at = at[~across]
    return part.ids[at].astype(np.int64), part.ids[at + 1].astype(np.int64)


def conditional_entropy(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """H(second | first) of the pairs, in nats; as they occur, so small collections look surer than they are."""
    if not len(first):
        return 0.0
    joint = np.unique(first * size + second, return_counts=True)[1] / len(first)
    before = np.unique(first, return_counts=True)[1] / len(first)
    return float(-(joint * np.log(joint)).sum() + (before * np.log(before)).sum())


class Bigrams:
    """A bigram model with absolute discounting, interpolated with the unigram (Ney, Essen and Kneser 1994)."""

    def __init__(self, first: np.ndarray, second: np.ndarray, unigram: np.ndarray):
        self.size = len(unigram)
        self.pair, self.count = np.unique(first * self.size + second, return_counts=True)
        self.after = np.bincount(first, minlength=self.size)  # how often each stands first
        self.kinds = np.bincount(self.pair // self.size, minlength=self.size)  # followed by how many different ones
        self.unigram = (unigram + 1) / (unigram + 1).sum()

    def probability(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        wanted = first * self.size + second
        place = np.minimum(np.searchsorted(self.pair, wanted), max(0, len(self.pair) - 1))
        count = np.where(self.pair[place] == wanted, self.count[place], 0) if len(self.pair) else np.zeros(len(wanted))
        total = self.after[first]
        left = np.where(total > 0, _DISCOUNT * self.kinds[first] / np.maximum(total, 1), 1.0)
        return np.maximum(count - _DISCOUNT, 0) / np.maximum(total, 1) + left * self.unigram[second]

    def loss(self, first: np.ndarray, second: np.ndarray, smoothed: bool = True) -> float:
        """Mean nats of `second`; without `smoothed`, by the unigram alone."""
        if not len(first):
            return 0.0
        p = self.probability(first, second) if smoothed else self.unigram[second]
        return float(-np.log(p).mean())


# --- the documents ---------------------------------------------------------------------------------------------------


def _lengths(train: Part) -> Finding:
    sizes = np.diff(train.documents)
    middle = np.median(sizes)
    ordered = np.sort(sizes)
    half = int(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])  # of the tokens stand in longer ones
    edges = [1 << k for k in range(3, 17)]
    place = np.searchsorted(edges, sizes, side="right")
    counts = np.bincount(place, minlength=len(edges) + 1)
    text = np.bincount(place, sizes, minlength=len(edges) + 1)
    names = [
        f"under {edges[0]}",
        *(f"{a:,} to {b - 1:,}" for a, b in pairwise(edges)),
        f"{edges[-1]:,} and more",
    ]
    shown = range(int(place.min()), int(place.max()) + 1)
    width = max(len(names[i]) for i in shown)
    picture = [f"{'tokens':>{width}} {'documents':>10}{'':{_BAR}} share of the tokens"]
    for i in shown:
        bars = _bar(counts[i] / counts.max(), _BAR), _bar(text[i] / max(1, text.max()), _BAR)
        share = text[i] / max(1, text.sum())
        picture.append(f"{names[i]:>{width}} {counts[i]:>9,} {bars[0]:<{_BAR}} {share:>6.1%} {bars[1]}".rstrip())
    short = half < 32
    return Finding(
        "lengths",
        f"half of the documents have fewer than {middle:,.0f} tokens; half of the text is in ones of {half:,} or more",
        "look" if short else "good",
        "Documents are very short: there is little context in them. If they are lines of longer texts, prepare again "
        "with --format blank-line, or --format file if each file is a document."
        if short
        else "Long enough for context.",
        picture,
    )


def _packing(train: Part) -> Finding:
    parts, fill, lost = [], 1.0, 0
    for length in (128, 512):
        rows = train.rows(length, 2)
        cut = float((np.diff(train.documents) > length - 2).mean())
        parts.append(f"of {length}: {rows.fill:.1%} full, {cut:.0%} of the documents cut")
        fill = min(fill, rows.fill)
        lost = max(lost, len(train.ids) - int((rows.pieces[:, 1] - rows.pieces[:, 0]).sum()))
    return Finding(
        "rows",
        f"{'; '.join(parts)}; tokens dropped: {lost:,}",
        "good" if fill > 0.97 and not lost else "look",
        "A document that is cut goes on in another row."
        if fill > 0.97 and not lost
        else "Too few documents to fill the rows: more text, or shorter rows "
        "(masklab pretrain bert ... 'batches.lengths=((0.0, 64),)').",
    )


def _longest(store: Store, train: Part) -> Finding:
    sizes = np.diff(train.documents)
    order = np.argsort(-sizes, kind="stable")[:5]
    share = float(sizes[order[0]] / max(1, sizes.sum()))
    picture = []
    for i in order:
        document = store.document(int(train.numbers[i]))
        where = f"{document.source}:{document.line}" if document.line else document.source or f"document {i}"
        picture.append(f"{sizes[i]:>10,} tokens  {where}  {' '.join(document.text[:60].split())}")
    return Finding(
        "longest",
        f"the longest document is {share:.1%} of the tokens",
        "good" if share < 0.05 else "look",
        "No document rules the others."
        if share < 0.05
        else "One document is much of the corpus: is a file without blank lines read as one document? See --format.",
        picture,
    )


def _mix(store: Store) -> Finding:
    texts = list(_sample(store, "train", CHARACTERS // 4))
    step = max(1, len(texts) // _DOCUMENTS)
    sizes: Counter[str] = Counter()
    for text in texts[::step]:
        sizes[language(text)] += len(text)
    total = max(1, sizes.total())
    shares = [f"{name} {count / total:.1%}" for name, count in sizes.most_common(6) if count / total > 0.002]
    often = [
        name for name, count in sizes.items() if count / total > 0.05 and name not in ("Latin letters", "no letters")
    ]
    if len({name.split(",")[0] for name in often}) > 1:
        return Finding(
            "languages",
            ", ".join(shares),
            "look",
            "Several languages: a small one is seen rarely. Prepare "
            "each by itself with one vocabulary (prepare TEXT --tokenizer STORE) and choose the shares: "
            "pretrain --mix german --smoothing 0.5.",
        )
    if len(often) > 1:
        return Finding(
            "languages",
            ", ".join(shares),
            "look",
            "Simplified and traditional Chinese write one word in two "
            "ways, and a model learns each by itself. If it will read one of them, convert the other (OpenCC) "
            "and prepare again; units STORE --words --simplify cuts both alike.",
        )
    return Finding("languages", ", ".join(shares), "good", "One language.")


# --- does anything learn from it? ------------------------------------------------------------------------------------


def _overfit(data: str, steps: int) -> Finding:
    """The oldest test of all: a model that cannot learn one small batch by heart is broken, or its data are."""
    recipe = recipes.load("bert", data=data)
    length = min(128, recipe.model.max_length)
    recipe = replace(
        recipe,
        budget=Budget(steps=steps),
        batches=Batches(tokens=4 * length, lengths=((0.0, length),)),
        embeddings="random",
        evaluation=Evaluation(rows=1),
        precision="fp32",
    )
    session = build(recipe)
    batch = micro_batches(recipe.objective, session.source, seed=0, first_row=0, rows=4, length=length)
    losses = []
    for step in range(steps):
        _, sums = one_step(session, batch, step, min(1.0, (step + 1) / 5))
        losses.append(sums["masked"][0] / max(1, sums["masked"][1]))
    level: Level = "good" if losses[-1] < 0.5 * losses[0] else "bad" if steps >= 20 else "look"
    return Finding(
        "overfit",
        f"{steps} steps on one batch, {batch[0].counts['masked']} asked: {losses[0]:.2f} -> {losses[-1]:.2f} nats",
        level,
        "The text, the masks, the gradients and the optimizer work together."
        if level == "good"
        else "Not even one batch was learnt: look at it with masklab show bert --data STORE, and report it if it is "
        "as it should be."
        if level == "bad"
        else "Too few steps to tell; 30 are enough (--steps).",
        ["loss  " + _spark(losses)],
    )


# --- drawing and sampling --------------------------------------------------------------------------------------------


def _sample(store: Store, part: str | None, characters: int) -> Iterator[str]:
    """Whole documents spread evenly over a part, about so many characters of them."""
    share = min(1.0, characters / max(1, store.description["characters"]))
    for number, text in enumerate(store.texts(part)):
        if int((number + 1) * share) > int(number * share):
            yield text


def _of(read: int, there: int) -> str:
    return f"{read:,}" if read == there else f"{read:,} sampled"


def _bar(share: float, width: int) -> str:
    """0.5, 4 -> "██"."""
    eighths = math.ceil(share * width * 8) if share else 0
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else "▏▎▍▌▋▊▉"[eighths % 8 - 1])


def _spark(values: list[float]) -> str:
    """A line of small bars, the highest for the largest."""
    top = max(values)
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * value / top))] for value in values)
