"""A batch is a function of (seed, step): nothing is replayed, skipped or remembered.

An objective turns one row of a source into an Example on the host, with all the random numbers it will need; a batch is
the examples that a stateless permutation puts at that step. Losses come back as sums and counts, never as means, so
that micro-batches, and the processes that share each of them, add up to the same step.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from masklab.models.pattern import PADDING, Inputs, Layout
from masklab.models.transformer import Model
from masklab.rng import integer, rng, shuffled
from masklab.training.distributed import ALONE, World
from masklab.training.mixture import Mixture

IGNORE = -100  # the target of a slot that asks for nothing, as in torch's cross_entropy


class Example(NamedTuple):
    """One row as an objective builds it (numpy).

    `at[name]` lists the slots whose states loss term `name` asks for and `targets[name]` what it wants there, e.g.
    at = {"masked": [3, 9], "next": [0]}, targets = {"masked": [2041, 77], "next": [1]}. A second sequence, for a
    decoder, is `written`; its documents have the numbers of those in `inputs` that they look back at.
    """

    inputs: Inputs  # (T,) int32 each
    at: dict[str, np.ndarray]  # name -> (K,) int64
    targets: dict[str, np.ndarray]  # name -> (K, ...), IGNORE where nothing is asked
    full: bool = False  # one document fills the whole row
    words: int = 0
    units: np.ndarray | None = None  # (T,) uint8, bits of corpus/units.py, for people who look at the row
    written: Inputs | None = None  # (T2,) int32 each
    features: np.ndarray | None = None  # (T, ...): what a trunk reads in each slot beside a number, e.g. letters


class Batch(NamedTuple):
    """Examples of equal length, stacked (torch). Shorter `at` lists are padded with slot 0 and target IGNORE."""

    inputs: Inputs  # (B, T) int32 each
    at: dict[str, Tensor]  # name -> (B, K) int64
    targets: dict[str, Tensor]  # name -> (B, K, ...)
    layout: Layout
    counts: dict[str, int]  # targets that are not IGNORE, known before anything is computed
    tokens: int  # slots that hold a token, not padding
    words: int
    units: np.ndarray | None = None  # (B, T) uint8, as in Example; it stays on the host
    written: Inputs | None = None  # (B, T2) int32 each; always left to right
    features: Tensor | None = None  # (B, T, ...), as in Example

    def steady(self) -> "Batch":
        """With asked slots in an eighth of the row, two, three, ...: what is compiled for a shape meets few of them."""
        length = self.inputs.tokens.shape[1]
        widths = {at.shape[1] for at in self.at.values()}

        def padded(tensors: dict[str, Tensor], value: int) -> dict[str, Tensor]:
            return {name: _wider(x, -(-x.shape[1] * 8 // length) * length // 8, value) if x.shape[1] in widths else x
                    for name, x in tensors.items()}  # fmt: skip

        return self._replace(at=padded(self.at, 0), targets=padded(self.targets, IGNORE))

    def to(self, device: torch.device | str) -> "Batch":
        if torch.device(device).type == "cuda":
            self = self.steady()

        def move(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: x.to(device, non_blocking=True) for name, x in tensors.items()}

        inputs, written = (
            None if some is None else Inputs(*(x.to(device, non_blocking=True) for x in some))
            for some in (self.inputs, self.written)
        )
        features = None if self.features is None else self.features.to(device, non_blocking=True)
        return self._replace(
            inputs=inputs, at=move(self.at), targets=move(self.targets), written=written, features=features
        )

    def _repr_html_(self) -> str:
        from masklab.training.look import batch_html

        return batch_html(self)


class LossTerm(NamedTuple):
    """One term of a loss, over the asked slots of one batch: its sum (nats), how many, its weight in the total."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody wants here
    weight: float = 1.0
    correct: Tensor | None = None  # how many were right, where that means something


class Rows(Protocol):
    def __len__(self) -> int: ...


class Objective(Protocol):
    """What a model is trained to do, in two pure halves: `example` on the host, `loss` on the device.

    Pretext tasks and downstream tasks are both this; the loop knows nothing else about them.
    """

    def open(self, data: str, part: str, tokenizer: Any = None) -> Any:
        """The source: `part` is "train" or "held_out"; `tokenizer` is the start model's, if there is one."""
        ...

    def examples(self, source: Any, length: int) -> Rows:
        """How many rows of `length` slots one epoch has."""
        ...

    def example(self, source: Any, index: int, length: int, rng: np.random.Generator, progress: float) -> Example:
        """Row `index`, with every random number drawn from `rng`; `progress` (0 to 1) is for masking-rate schedules."""
        ...

    def heads(self, model: Model, source: Any, trained: nn.ModuleDict | None = None) -> nn.ModuleDict:
        """New heads for `model`, under the names that the checkpoint knows ("masked_lm", "classify", ...).

        `trained` are the heads that the start folder came with; one of the same name and shape is taken over whole
        afterwards, so this needs to look at it only to borrow parts under another name.
        """
        ...

    def loss(self, model: Model, heads: nn.ModuleDict, batch: Batch) -> dict[str, LossTerm]:
        """The loss terms of one batch; a term that has a weight carries the name of its targets."""
        ...

    def baseline(self, source: Any, batch: Batch) -> dict[str, LossTerm]:
        """What someone who ignores the input would score on this batch (unigram, majority), term by term."""
        ...


def states_at(model: Model, batch: Batch) -> dict[str, Tensor]:
    """The last states at every asked slot, name -> (B, K, D), in one pass of the trunk."""
    widths = [at.shape[1] for at in batch.at.values()]
    last = model(batch.inputs, layout=batch.layout, at=torch.cat(list(batch.at.values()), 1)).last
    return dict(zip(batch.at, last.split(widths, 1), strict=True))


def collate(examples: Sequence[Example], kind: str = "bidirectional") -> Batch:
    """Stack examples of one row length; of several corpora, second sequences may differ in theirs."""

    def stacked(rows: list[Inputs]) -> Inputs:
        longest = max(len(row.tokens) for row in rows)
        filled = [_widened(row, longest) for row in rows]
        return Inputs(*(torch.from_numpy(np.stack(column)) for column in zip(*filled, strict=True)))

    inputs = stacked([e.inputs for e in examples])
    second = [e.written for e in examples if e.written is not None]
    written = stacked(second) if second else None
    slots = [e.features for e in examples if e.features is not None]
    tokens = sum(int((some.document >= 0).sum()) for some in (inputs, written) if some is not None)
    at = {name: torch.from_numpy(_pad([e.at[name] for e in examples], 0)) for name in examples[0].at}
    targets = {
        name: torch.from_numpy(_pad([e.targets[name] for e in examples], IGNORE)) for name in examples[0].targets
    }
    return Batch(
        inputs,
        at,
        targets,
        Layout(kind, all(e.full for e in examples)),  # type: ignore[arg-type]
        {name: int((t != IGNORE).sum()) for name, t in targets.items()},
        tokens,
        sum(e.words for e in examples),
        None if any(e.units is None for e in examples) else np.stack([e.units for e in examples]),  # type: ignore[misc]
        written,
        torch.from_numpy(np.stack(slots)) if slots else None,
    )


def _widened(row: Inputs, length: int) -> Inputs:
    """The row with padding at its end."""
    more = length - len(row.tokens)
    if not more:
        return row
    return Inputs(*(np.pad(x, (0, more), constant_values=PADDING if x is row.document else 0) for x in row))


def _wider(x: Tensor, width: int, value: int) -> Tensor:
    """(B, K, ...) -> (B, width, ...)"""
    more = x.new_full((len(x), max(0, width - x.shape[1]), *x.shape[2:]), value)
    return torch.cat((x, more), 1)


def _pad(arrays: list[np.ndarray], value: int) -> np.ndarray:
    """[[1, 2], [3]], 0 -> [[1, 2], [3, 0]], int64."""
    out = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), value, np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def micro_batches(
    objective: Objective,
    source: Any,
    *,
    seed: int,
    first_row: int,
    rows: int,
    length: int,
    accumulate: int = 1,
    progress: float = 0.0,
    world: World = ALONE,
) -> list[Batch]:
    """The step that starts at row `first_row` of the endless shuffled stream of `source`, in `accumulate` parts.

    Of each part, the rows that are this process's: those of all processes together are what one alone would read.
    `source` is what an objective opens, or a Mixture of several. Each epoch is a permutation of its own; the random
    numbers of a row belong to its place in the stream, so neither the batch size nor the number of micro-batches
    changes what a row looks like.
    """
    parts = [np.array_split(part, world.ranks)[world.rank] for part in np.array_split(np.arange(rows), accumulate)]
    places = first_row + np.concatenate(parts)
    if isinstance(source, Mixture):
        which, inner = source.divide(places)
        sources = source.sources
    else:
        which, inner = np.zeros_like(places), places
        sources = [source]
    index = np.empty_like(places)
    for k, one in enumerate(sources):
        n = len(objective.examples(one, length))
        for epoch in np.unique(inner[which == k] // n):
            within = (which == k) & (inner // n == epoch)
            key = integer(seed, "order", length, int(epoch), *([k] if k else []))
            index[within] = shuffled(inner[within] % n, n, key)
    built = [
        objective.example(sources[k], int(i), length, rng(seed, "example", length, int(place)), progress)
        for k, i, place in zip(which, index, places, strict=True)
    ]
    kind = getattr(objective, "kind", "bidirectional")
    one = iter(built)
    return [collate([next(one) for _ in part], kind) for part in parts if len(part)]
