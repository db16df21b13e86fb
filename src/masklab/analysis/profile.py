"""Where the time of a training step goes: waiting for data, embedding, attention, feed-forward, head, optimizer.

The steps are a run's own: its batches, its loop, its optimizer. Hooks of the modules tell a meter which part of the
network begins, and hooks of the graph that autograd keeps tell it so on the way back: the backward pass visits the
graph's nodes in the reverse of the order in which they were made, so each node belongs to the part that made it. At any
time exactly one part is at work; so the parts add up to the step. A second round reads torch's count of operations
instead of the clock, and so knows how much arithmetic each part asks for.

    found = profile("runs/first")
    found.print()                                # in a terminal
    Path("profile.html").write_text(found.page())
"""

import resource
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from masklab.analysis.opened import open_run
from masklab.analysis.show import progress_of
from masklab.models.attention import Kernel
from masklab.models.lstm import BothWays
from masklab.models.pattern import visible
from masklab.models.transformer import Attention, CrossAttention, FeedForward, Model
from masklab.recipe import Recipe
from masklab.training import flops
from masklab.training.feed import Feed, batch_at
from masklab.training.loop import one_step
from masklab.training.run import Run
from masklab.training.session import Session, build

WAITING, BUILT, BETWEEN, HEAD, OPTIMIZER, OTHER, UNCOUNTED = (
    "waiting for data", "embedding", "norms and sums", "head and loss", "clip and optimizer", "other", "",
)  # fmt: skip
INSIDE: dict[type[nn.Module], str] = {
    Attention: "attention",
    CrossAttention: "attention",
    FeedForward: "feed-forward",
    BothWays: "LSTM",
}
ORDER = (WAITING, BUILT, "attention", "feed-forward", "LSTM", BETWEEN, HEAD, OPTIMIZER, OTHER)
COLOURS = {
    WAITING: "#9aa0a6", BUILT: "#5cb85c", "attention": "#3f7cac", "feed-forward": "#f0ad4e", "LSTM": "#3f7cac",
    BETWEEN: "#8d6e63", HEAD: "#d9534f", OPTIMIZER: "#7a6fbe", OTHER: "#607d8b",
}  # fmt: skip
FORWARD, BACKWARD = "forward", "backward"
WARM = 3  # steps before anything is measured: they compile, choose kernels and find memory
LEAST, MOST = 4, 100  # steps that are measured

Where = tuple[str, str]  # a part, and which way through it: forward, backward, or "" where there is none


class Meter:
    """Adds up what each part takes of anything that grows, such as time; one part is at work at any time."""

    def __init__(self, read: Callable[[], Any]):
        self.read = read
        self.at: list[Where] = [(OTHER, "")]  # parts within parts; the last one is at work
        self.marks: list[tuple[Where, Any]] = [((UNCOUNTED, ""), read())]  # (who was at work until then, reading)
        self.made: list[tuple[int, Where]] = []  # from which autograd node on the forward pass was in which part

    def mark(self) -> None:
        self.marks.append((self.at[-1], self.read()))

    def enter(self, part: str, way: str = FORWARD) -> None:
        self.mark()
        self.at.append((part, way))
        self._note()

    def turn(self, part: str, way: str = FORWARD) -> None:
        """One part ends as another begins."""
        self.mark()
        self.at[-1] = (part, way)
        self._note()

    def leave(self) -> None:
        self.mark()
        self.at.pop()
        self._note()

    def _note(self) -> None:
        self.made.append((torch._C._autograd._get_sequence_nr(), self.at[-1]))  # type: ignore[attr-defined]

    def taken(self, between: Callable[[Any, Any], float]) -> dict[Where, float]:
        """What each part took, but for what the measuring itself did."""
        found: dict[Where, float] = defaultdict(float)
        for (_, before), (where, after) in zip(self.marks, self.marks[1:], strict=False):
            if where[0] != UNCOUNTED:
                found[where] += between(before, after)
        return found


class Part(NamedTuple):
    """One part of a step: seconds on the way forward and back, or at no way; operations of both ways together."""

    name: str
    forward: float
    backward: float
    apart: float
    operations: float

    @property
    def seconds(self) -> float:
        return self.forward + self.backward + self.apart


@dataclass
class Profile:
    """The mean step: its parts add up to `measured`, the seconds of a step with the meter in it."""

    title: str
    about: str  # rows, precision, threads, device
    parts: list[Part]
    measured: float
    seconds: float  # of a step without the meter
    steps: int  # that were measured
    tokens: int  # slots a step
    building: float  # seconds that the batches of a step take to build, beside the step
    peak: float  # operations a second of a large product here, in the run's precision
    precision: str
    memory: dict[str, int]  # bytes

    @property
    def operations(self) -> float:
        return sum(part.operations for part in self.parts)

    @property
    def utilisation(self) -> float:
        """Share of what the machine can multiply that a step asks for."""
        return self.operations / self.seconds / self.peak

    def summary(self) -> list[str]:
        rate = self.operations / self.seconds
        kept = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in self.memory.items())
        return [
            f"{1e3 * self.seconds:,.2f} ms a step, {self.tokens / self.seconds:,.0f} tokens/s",
            f"{self.operations / 1e9:,.2f} GFLOP a step, {rate / 1e9:,.1f} GFLOP/s: {self.utilisation:.0%} of the "
            f"{self.peak / 1e9:,.0f} GFLOP/s that a large product of matrices reaches here in {self.precision}",
            f"batches are built beside the step, in {1e3 * self.building:,.2f} ms each when nothing else runs",
            f"memory: {kept}",
            f"means over the calmer half of {self.steps} steps; the meter changes a step by "
            f"{self.measured / self.seconds - 1:+.1%}",
        ]

    def print(self, console: Console | None = None) -> None:
        console = console or Console(highlight=False)
        right: dict[str, Any] = {"justify": "right", "no_wrap": True}
        columns = (FORWARD, BACKWARD, "together", "share", "GFLOP", "of peak")
        every = (Column("ms a step", no_wrap=True), *(Column(name, **right) for name in columns))
        table = Table(*every, box=box.SIMPLE, pad_edge=False)  # fits 80 columns
        for name, *cells in self.rows():
            table.add_row(name, *cells, end_section=name == self.parts[-1].name)
        console.print(Text(self.title, "bold"))
        console.print(Text(self.about))
        console.print(table)
        for line in self.summary():
            console.print(Text(line), soft_wrap=True)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The table's: name, forward, backward, together (ms), share, GFLOP, share of the peak."""
        there, back = sum(part.forward for part in self.parts), sum(part.backward for part in self.parts)
        whole = Part("metered step", there, back, self.measured - there - back, self.operations)
        for part in (*self.parts, whole):
            yield (
                part.name,
                _ms(part.forward),
                _ms(part.backward),
                _ms(part.seconds),
                f"{part.seconds / self.measured:.1%}",
                f"{part.operations / 1e9:,.2f}" if part.operations else "",
                f"{part.operations / part.seconds / self.peak:.0%}" if part.operations else "",
            )

    def page(self) -> str:
        """A self-contained HTML page."""
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.title)}</title><body style='margin:24px;max-width:1000px'>{self.html()}</body></html>"
        )

    def html(self) -> str:
        """The bar, the table behind it, and what can be said in words."""
        pieces = []
        for part in self.parts:
            for way, seconds in ((FORWARD, part.forward), (BACKWARD, part.backward), ("", part.apart)):
                share = seconds / self.measured
                said = escape(f"{part.name} {way}: {1e3 * seconds:,.2f} ms, {share:.1%}".replace(" :", ":"))
                pieces.append(
                    f'<span class="{way}" style="width:{100 * share:.3f}%;background-color:{COLOURS[part.name]}" '
                    f'title="{said}"></span>'
                )
        head = "".join(f"<th>{name}</th>" for name in (FORWARD, BACKWARD, "together", "share", "GFLOP", "of peak"))
        body = "".join(
            f'<tr><th><i style="background-color:{COLOURS.get(name, "transparent")}"></i>{escape(name)}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
            for name, *cells in self.rows()
        )
        said = "".join(f"<p>{escape(line)}</p>" for line in self.summary())
        return (
            f"{STYLE}<div class='masklab-profile'><h3>{escape(self.title)}</h3><p>{escape(self.about)}</p>"
            f"<div class='bar'>{''.join(pieces)}</div>"
            f"<p class='note'>The bar is one step; the striped half of a part is its backward pass.</p>"
            f"<table><tr><th>ms a step</th>{head}</tr>{body}</table><div class='said'>{said}</div></div>"
        )

    def _repr_html_(self) -> str:
        return self.html()


STYLE = """<style>
:root { color-scheme: light dark; }
.masklab-profile { font: 14px/1.4 system-ui, sans-serif; }
.masklab-profile .bar { display: flex; height: 44px; border-radius: 4px; overflow: hidden; }
.masklab-profile .bar span { flex: none; }
.masklab-profile .bar .backward { background-image:
  repeating-linear-gradient(135deg, #fff5 0 3px, transparent 3px 8px); }
.masklab-profile .note { opacity: .7; margin: 4px 0 14px; }
.masklab-profile table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.masklab-profile td, .masklab-profile th { padding: 2px 0 2px 22px; text-align: right; font-weight: normal; }
.masklab-profile th:first-child { text-align: left; padding-left: 0; }
.masklab-profile tr:first-child th { opacity: .7; }
.masklab-profile tr:last-child > * { border-top: 1px solid #8888; font-weight: 600; }
.masklab-profile i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 8px; }
.masklab-profile p { margin: 4px 0; }
.masklab-profile .said { margin-top: 14px; }
</style>"""


def profile(what: Recipe | Run | str | Path, step: int = 0, seconds: float = 10.0) -> Profile:
    """Measure steps of a run (its folder, or the object) or of a recipe that names its data, from `step` on.

    Weights are new ones: what they hold changes no time. A run's precision and threads are those it was begun with;
    nothing is compiled, as compiled code has no parts. `seconds` is about how long to measure.
    """
    if isinstance(what, str | Path):
        what = open_run(what)
    recipe = what.recipe if isinstance(what, Run) else what
    begun = [r for r in what.history if r["kind"] == "begin"] if isinstance(what, Run) else []
    session = build(replace(recipe, embeddings="random"), begun[-1]["environment"] if begun else None)
    for module in session.pretrainer.modules():
        module._compiled_call_impl = None  # compiled code has no parts
    progress = progress_of(what, session.source)
    feed = Feed(recipe, session.source, progress, step)
    at = step
    try:
        for _ in range(WARM):
            first = feed.next()
            one_step(session, first, at, 1.0)
            at += 1
        plain, metered = [], []
        until = time.perf_counter() + seconds
        while len(metered) < LEAST or (time.perf_counter() < until and len(metered) < MOST):
            plain.append(sum(_measured(session, feed, at, watched=False).values()))
            metered.append(_measured(session, feed, at + 1, watched=True))
            at += 2
        batches = feed.next()
        operations, kept = _counted(session, batches, at)
    finally:
        feed.close()
    building = []
    for later in range(at, at + LEAST):
        began = time.perf_counter()
        batch_at(recipe, session.source, later, progress)
        building.append(time.perf_counter() - began)
    quiet = sorted(metered, key=lambda taken: sum(taken.values()))[: -(-len(metered) // 2)]  # the calmer half
    taken = {where: sum(one[where] for one in quiet) / len(quiet) for where in {w for one in quiet for w in one}}
    calm = sorted(plain)[: len(quiet)]
    rows, length = batches[0].inputs.tokens.shape
    micro = f" x {len(batches)} micro-batches" if len(batches) > 1 else ""
    environment = session.environment
    memory = _memory(session, kept)
    return Profile(
        f"{recipe.name}, {recipe.preset} preset: where a step's time goes, from step {step:,} on",
        f"{rows} rows of {length} slots{micro}, {session.precision}, {environment['threads']} "
        f"thread{'s' * (environment['threads'] > 1)}, {session.device.type}; {session.parameters:,} parameters",
        [
            Part(name, taken.get((name, FORWARD), 0.0), taken.get((name, BACKWARD), 0.0), taken.get((name, ""), 0.0),
                 sum(count for where, count in operations.items() if where[0] == name))
            for name in ORDER
            if any(where[0] == name for where in taken)
        ],
        sum(taken.values()),
        sum(calm) / len(calm),
        len(metered),
        recipe.batches.tokens,
        min(building),
        flops.peak(session.device, session.precision),
        session.precision,
        memory,
    )  # fmt: skip


def _measured(session: Session, feed: Feed, step: int, watched: bool) -> dict[Where, float]:
    """One step by the clock, part by part if it is watched."""
    if session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
        meter = Meter(_event)
    else:
        meter = Meter(time.perf_counter)
    meter.enter(WAITING, "")
    batches = feed.next()
    meter.leave()
    if watched:
        with _parts(session, meter):
            one_step(session, batches, step, 1.0)
    else:
        one_step(session, batches, step, 1.0)
    meter.mark()
    if session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
        return meter.taken(lambda a, b: a.elapsed_time(b) / 1e3)
    return meter.taken(lambda a, b: b - a)


def _event() -> torch.cuda.Event:
    """A mark in the stream of what the GPU does: to read it, nothing need wait."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _counted(session: Session, batches: list[Any], step: int) -> tuple[dict[Where, float], int]:
    """Operations of one step by part, and the bytes that the forward pass keeps for the backward pass.

    Torch counts products, and fused kernels are none to it: scores are counted as `plain` computes them, and where the
    run's kernel leaves out what nobody sees, the share of them that somebody does.
    """
    weights = {p.untyped_storage().data_ptr() for p in session.pretrainer.parameters()}
    kept: dict[int, int] = {}  # where it lies -> bytes; several nodes may keep the same

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        one_step(session, batches, step, 1.0)
    stacks = [module for module in session.pretrainer.modules() if isinstance(module, Model)]
    kernels: list[Kernel] = [stack.kernel for stack in stacks]
    seen = 1.0
    if {"varlen", "flex"} & set(kernels):
        seen = sum(float(visible(b.inputs, b.inputs).float().mean()) for b in batches) / len(batches)

    def scores(a: Any, b: Any, *_: Any, **__: Any) -> int:
        return round(2 * seen * a[0] * a[1] * a[2] * b[2])  # (N, i, k) @ (N, k, j)

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.bmm: scores}) as counter:
        meter = Meter(counter.get_total_flops)
        try:
            for stack in stacks:
                stack.kernel = "plain"
            with _parts(session, meter):
                one_step(session, batches, step + 1, 1.0)
        finally:
            for stack, kernel in zip(stacks, kernels, strict=True):
                stack.kernel = kernel
        meter.mark()
    taken = meter.taken(lambda a, b: float(b - a))
    # Products of the optimizer are no work that the model asks for.
    return {where: count for where, count in taken.items() if where[0] != OPTIMIZER}, sum(kept.values())


@contextmanager
def _parts(session: Session, meter: Meter) -> Iterator[None]:
    """While this is open, every step that the session makes tells the meter which part is at work."""
    hooks: list[Any] = []

    def when(module: nn.Module, before: Callable[[], None], after: Callable[[], None]) -> None:
        hooks.append(module.register_forward_pre_hook(lambda *_: before()))
        hooks.append(module.register_forward_hook(lambda *_: after()))

    def turns(part: str) -> Callable[[], None]:
        return lambda: meter.turn(part)

    for module in session.pretrainer.modules():
        layers, embeddings = getattr(module, "layers", None), getattr(module, "embeddings", None)
        if isinstance(layers, nn.ModuleList) and isinstance(embeddings, nn.Module):
            when(module, lambda: meter.enter(BETWEEN), meter.leave)
            # Between the embeddings and the first layer stands what all attention needs: masks, biases, angles.
            first = next((INSIDE[type(m)] for m in layers.modules() if type(m) in INSIDE), BETWEEN)
            when(embeddings, turns(BUILT), turns(first))
            for layer in layers:
                hooks.append(layer.register_forward_pre_hook(lambda *_: meter.turn(BETWEEN)))
        for kind, part in INSIDE.items():
            if isinstance(module, kind):
                when(module, lambda part=part: meter.enter(part), meter.leave)
    hooks.append(session.pretrainer.register_forward_pre_hook(lambda *_: _begin(meter)))
    hooks.append(session.pretrainer.register_forward_hook(lambda module, given, terms: _way_back(meter, terms)))
    optimizers = session.optimizers
    for name in ("clip", "step"):
        setattr(optimizers, name, _within(meter, getattr(optimizers, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name in ("clip", "step"):
            delattr(optimizers, name)


def _within(meter: Meter, method: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        meter.enter(OPTIMIZER, "")
        try:
            return method(*arguments)
        finally:
            meter.leave()

    return called


def _begin(meter: Meter) -> None:
    meter.made.clear()
    meter.enter(HEAD)


def _way_back(meter: Meter, terms: dict[str, Any]) -> None:
    """Behind the forward pass: let the graph's nodes tell the meter, wherever the next one belongs to another part."""
    meter.turn(UNCOUNTED)
    begins = [first for first, _ in meter.made]
    nodes = sorted(_nodes(terms), key=lambda node: node._sequence_nr(), reverse=True)
    before: Where | None = None
    for node in nodes:
        part, _ = meter.made[bisect_right(begins, node._sequence_nr()) - 1][1]
        if before is None:
            node.register_prehook(lambda _, part=part: _turn_back(meter, part))
        elif before[0] != part:
            node.register_prehook(lambda _, part=part: meter.turn(part, BACKWARD))
        before = (part, BACKWARD)
    meter.leave()


def _turn_back(meter: Meter, part: str) -> None:
    """The backward pass begins; autograd calls back when it ends."""
    meter.enter(part, BACKWARD)
    torch.autograd.Variable._execution_engine.queue_callback(meter.leave)  # type: ignore[attr-defined]


def _nodes(terms: dict[str, Any]) -> list[Any]:
    """Every node of the graph behind the loss terms that has a place in the order of the forward pass."""
    waiting = [term.total.grad_fn for term in terms.values() if term.weight]
    seen = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
    return [node for node in seen if node.name() != "torch::autograd::AccumulateGrad"]


def _memory(session: Session, kept: int) -> dict[str, int]:
    """Bytes, by what they are for."""
    weights = sum(p.nbytes for p in session.pretrainer.parameters())
    states = (x for optimizer in session.optimizers.all for of in optimizer.state.values() for x in of.values())
    found = {
        "weights": weights,
        "gradients": sum(p.nbytes for p in session.pretrainer.parameters() if p.requires_grad),
        "optimizer": sum(x.nbytes for x in states),
        "kept for the backward pass": kept,
    }
    if session.device.type == "cuda":
        return found | {"at most on the GPU": torch.cuda.max_memory_allocated(session.device)}
    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"the process at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}" if seconds else ""
