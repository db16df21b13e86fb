"""A model's shape, proposed from the time there is: how much text this machine reads in it, and what that can teach.

A larger model learns more from a token and reads fewer of them. What is best for a given amount of arithmetic has
parameters and tokens growing alike (Hoffmann et al. 2022, "Training compute-optimal large language models"), so one
number decides: the largest shape that still reads `TOKENS_PER_PARAMETER` tokens for each of its parameters. Text that
comes again counts less each time (Muennighoff et al. 2023, "Scaling data-constrained language models", section 3.1).
`benchmarks/shapes.py` measures where shapes overtake each other. docs/learning.md says what the number rests on.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from masklab.corpus.store import Store
from masklab.errors import BadInput
from masklab.files import atomic_write
from masklab.models.config import Config
from masklab.recipe import Recipe
from masklab.training.loop import train
from masklab.training.schedule import Budget
from masklab.training.session import fitted

FILE = "proposal.json"  # in the run's folder
TOKENS_PER_PARAMETER = 8.0
REPEATS = 15.4  # after so many repetitions, text that comes again has given all but 1/e of what it will ever give
MOST_STEPS = 20_000  # beyond, twice the tokens a step are worth more than twice the steps
STEPS = 6  # timed, of which the first two are left out


class Size(NamedTuple):
    layers: int
    width: int
    length: int  # of the longest rows
    vocabulary: int  # that suits it: the table of a much larger one would outweigh the layers


# Each has two to four times the arithmetic of the one before, from the tuned presets' own to BERT-base.
SIZES = (
    Size(2, 128, 128, 8192),
    Size(4, 128, 128, 8192),
    Size(4, 256, 128, 8192),
    Size(6, 384, 256, 16384),
    Size(8, 512, 256, 16384),
    Size(12, 768, 512, 32768),
)


class Measured(NamedTuple):
    """What the budget buys in one shape."""

    layers: int
    width: int
    parameters: int
    rate: float  # tokens a second
    tokens: float  # read in the whole budget
    worth: float  # as many that are all different
    vocabulary: int  # that would suit it

    @property
    def each(self) -> float:
        return self.worth / self.parameters


@dataclass(frozen=True)
class Proposal:
    recipe: Recipe  # with the chosen numbers
    said: list[str]  # why, as a person reads it
    measured: list[Measured]  # every shape that was timed

    def save(self, folder: Path) -> None:
        """Beside the run: what was measured, and why this shape."""
        with atomic_write(folder / FILE, "w") as file:
            json.dump({"said": self.said, "measured": [m._asdict() for m in self.measured]}, file, indent=1)


def propose(recipe: Recipe, keep_batches: bool = False, speed: Callable[[Recipe], float] | None = None) -> Proposal:
    """A shape, rows and tokens a step for a tuned recipe with a budget of seconds; its own shape is the smallest.

    The machine is timed, so another moment may propose another shape: what counts is the recipe that comes back.
    keep_batches: leave those as they are. speed: tokens a second of a recipe, instead of timing it.
    """
    seconds = recipe.budget.seconds
    if recipe.preset != "tuned" or not isinstance(recipe.model, Config) or seconds is None:
        raise BadInput(f"{recipe.name}: a shape is proposed for the tuned presets and a budget of time: --time 30m")
    stores = [Store(name) for name in (recipe.data, *(name for name, _ in recipe.mix))]
    unique = sum(len(store.part("train").ids) for store in stores)
    own = recipe.model
    larger = [size for size in SIZES if size.layers * size.width**2 > own.layers * own.width**2]
    tried: list[tuple[Recipe, Measured]] = []
    for size in (Size(own.layers, own.width, recipe.batches.length, SIZES[-len(larger) - 1].vocabulary), *larger):
        made = sized(recipe, size, keep_batches) if tried else recipe
        model: Any = fitted(made.model, made.model, stores[0].tokenizer)
        rate = (speed or tokens_per_second)(made)
        read = rate * seconds
        found = Measured(
            model.layers, model.width, model.parameters(), rate, read, worth(read, unique), size.vocabulary
        )
        tried.append((made, found))
        if found.each < TOKENS_PER_PARAMETER:
            break
    large_enough = [pair for pair in tried if pair[1].each >= TOKENS_PER_PARAMETER]
    chosen, found = large_enough[-1] if large_enough else tried[0]
    if not keep_batches:
        chosen = replace(chosen, batches=replace(chosen.batches, tokens=slots(chosen.batches.tokens, found.tokens)))
    return Proposal(chosen, _said(chosen, found, [m for _, m in tried], unique, stores[0]), [m for _, m in tried])


def sized(recipe: Recipe, size: Size, keep_batches: bool = False) -> Recipe:
    """The recipe in another size: heads of 64 but never fewer than before, feed-forward and decoder in proportion."""
    old: Any = recipe.model
    model = replace(
        old,
        layers=size.layers,
        width=size.width,
        heads=max(old.heads, size.width // 64),
        feed_forward=old.feed_forward * size.width // old.width,
        decoder_layers=old.decoder_layers * size.layers // old.layers,
    )
    if keep_batches or size.length <= recipe.batches.length:
        return replace(recipe, model=model)
    longer = size.length // recipe.batches.length
    lengths = tuple((begin, length * longer) for begin, length in recipe.batches.lengths)
    batches = replace(recipe.batches, lengths=lengths, tokens=max(recipe.batches.tokens, 8 * lengths[-1][1]))
    return replace(recipe, model=replace(model, max_length=max(old.max_length, size.length)), batches=batches)


def worth(tokens: float, unique: float) -> float:
    """Tokens read, some of them again, as tokens that are all different: worth(4 u, u) is about 3.7 u."""
    again = max(0.0, tokens / unique - 1)
    return min(tokens, unique) + unique * REPEATS * (1 - math.exp(-again / REPEATS))


def slots(a_step: int, tokens: float) -> int:
    """Slots a step: doubled until a run of so many tokens takes no more than MOST_STEPS steps."""
    return a_step << max(0, math.ceil(math.log2(tokens / a_step / MOST_STEPS)))


def tokens_per_second(recipe: Recipe) -> float:
    """Of a few real steps on the recipe's longest rows, in this process."""
    short = replace(
        recipe,
        budget=Budget(steps=STEPS),
        embeddings="random",
        batches=replace(recipe.batches, lengths=((0.0, recipe.batches.length),)),
        evaluation=replace(recipe.evaluation, every=1.0, rows=1),
        log_every=1,
    )
    run = train(short)
    if run.stopped:
        raise KeyboardInterrupt
    ends = [(r["seconds"], r["tokens"]) for r in run.history if r["kind"] == "step"][1:]
    return max((after - before) / (b - a) for (a, before), (b, after) in pairwise(ends))


def _said(chosen: Recipe, found: Measured, tried: list[Measured], unique: int, store: Store) -> list[str]:
    seconds = chosen.budget.seconds or 0
    read = f"{found.tokens / 1e6:.1f} M tokens in {_time(seconds)}, {found.each:.1f} for each parameter"
    size = f"{found.layers} layers x {found.width} ({found.parameters / 1e6:.1f} M parameters)"
    lines = [f"{size}: at {found.rate:,.0f} tokens a second, {read}"]
    if tried[-1] != found:
        more = tried[-1]
        larger = f"{more.layers} x {more.width} would read {more.each:.1f} for each"
        lines[0] += f"; {larger}, and {TOKENS_PER_PARAMETER:g} are wanted"
    rows = ", then ".join(f"of {length} from {begin:.0%} on" if begin else f"of {length}"
                          for begin, length in chosen.batches.lengths)  # fmt: skip
    lines.append(
        f"{chosen.batches.tokens:,} tokens a step in rows {rows}: {found.tokens / chosen.batches.tokens:,.0f} steps"
    )
    if found.tokens > 4 * unique:
        lines.append(f"the corpus is read {found.tokens / unique:.0f} times: more text would teach more than more time")
    vocabulary = store.tokenizer.size
    if not 0.5 < vocabulary / found.vocabulary < 2:
        lines.append(
            f"its vocabulary of {vocabulary:,} is kept; about {found.vocabulary:,} would suit this size better: "
            f"masklab tokenize {store.path} --vocabulary {found.vocabulary}"
        )
    return lines


def _time(seconds: float) -> str:
    """90 -> "90 s", 1800 -> "30 min", 7200 -> "2 h"."""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"
