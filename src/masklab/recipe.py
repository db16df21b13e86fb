"""A recipe is all that one run is: model, objective, data, optimizer, budget, seed. It is saved as JSON beside the run.

A recipe is made by a Python function in `masklab/recipes/NAME.py` (or in a file of your own) and changed by dotted
names: `override(recipe, ["model.layers=6", "seed=3"])`. The same recipe, data and machine give the same run, to the
bit.
"""

import ast
import importlib
import importlib.util
import json
import types
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from masklab.errors import BadInput
from masklab.models.attention import Kernel
from masklab.models.local_start import Start
from masklab.models.own import Shape
from masklab.training.optim import Optimizer
from masklab.training.precision import Precision
from masklab.training.schedule import Budget, Schedule


@dataclass(frozen=True)
class Batches:
    """What one step reads: `tokens` slots, cut into rows whose length may change during the run."""

    tokens: int = 4096  # slots a step, over all its micro-batches
    accumulate: int = 1  # micro-batches a step: more of them need less memory and change nothing else
    lengths: tuple[tuple[float, int], ...] = ((0.0, 128),)  # (from which progress on, row length)

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths[0][0] != 0 or list(self.lengths) != sorted(self.lengths):
            raise BadInput("batches.lengths starts at progress 0 and rises, e.g. ((0.0, 64), (0.8, 128))")
        for _, length in self.lengths:
            if length < 8 or self.tokens < length * self.accumulate:
                raise BadInput(
                    f"batches.tokens is {self.tokens}: too few for {self.accumulate} micro-batches of rows of {length}"
                )

    @property
    def length(self) -> int:
        """The last and longest row length, at which the model is judged."""
        return self.lengths[-1][1]


@dataclass(frozen=True)
class Evaluation:
    """Held-out loss under masks that never change."""

    every: float = 0.1  # of the run
    rows: int = 512  # held-out rows (fewer if there are fewer)


@dataclass(frozen=True)
class Checkpoints:
    every: float = 300.0  # seconds of training between two
    steps: int | None = None  # or every so many steps
    keep: int = 2  # the last so many stay
    sharded: bool = False  # each process writes its part of the training state, instead of the first one all of it


@dataclass(frozen=True)
class Recipe:
    name: str
    model: Shape  # its vocabulary and padding id are taken from the data when the run begins
    objective: Any  # training.batches.Objective
    data: str = ""  # a prepared store, or a labelled table
    mix: tuple[tuple[str, float | None], ...] = ()  # more stores, each with its share of the rows (None: by its size)
    smoothing: float = 1.0  # shares by size go as tokens ** smoothing: below 1, small corpora are read more often
    preset: str = "paper"
    start: str = ""  # a model folder or hub name: the run begins with its weights and vocabulary
    fresh: bool = False  # take only the shape and vocabulary of `start`, with new weights (the control arm)
    initial: Start = field(default_factory=Start)  # how new weights begin
    embeddings: Literal["random", "cooccurrence"] = "random"  # and the token table: see training/cooccurrence.py
    budget: Budget = field(default_factory=lambda: Budget(steps=1000))
    batches: Batches = field(default_factory=Batches)
    schedule: Schedule = field(default_factory=Schedule)
    optimizer: Optimizer = field(default_factory=Optimizer)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    seed: int = 0
    precision: Precision = "auto"
    attention: Kernel = "auto"  # auto: the kernel that measures fastest when the run begins
    compile: bool | None = None  # torch.compile for the layers; None: on GPUs, for five minutes or more
    threads: int = 0  # of each process; 0: all cores, divided among the processes of a machine
    sharding: Literal["none", "full"] = "none"  # full: several processes divide weights and optimizer state (FSDP2)
    log_every: int = 10  # steps that one line of the log sums up

    def __post_init__(self) -> None:
        if self.batches.length > self.model.max_length:
            raise BadInput(
                f"rows of {self.batches.length} do not fit a model for {self.model.max_length} positions: "
                f"model.max_length={self.batches.length} or shorter batches.lengths"
            )

    def with_objective(self, objective: Any) -> "Recipe":
        return replace(self, objective=objective)

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(_plain(self)))


def load(name: str, **arguments: Any) -> Recipe:
    """The recipe `name` ("bert", or the path of a Python file with a function `recipe`), called with `arguments`."""
    return module(name).recipe(**arguments)


def module(name: str) -> types.ModuleType:
    """The Python module behind a recipe's name."""
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise BadInput(f"{name}: no such file; a recipe of your own is a Python file with a function recipe(...)")
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        if not hasattr(found, "recipe"):
            raise BadInput(f"{name}: has no function recipe(...) that returns a masklab.recipe.Recipe")
        return found
    if name not in names():
        raise BadInput(f"no recipe is called {name!r}; there are {', '.join(names())}, or give the path of a .py file")
    return importlib.import_module(f"masklab.recipes.{name}")


def names() -> list[str]:
    """The recipes that come with masklab, in alphabetical order."""
    folder = Path(__file__).parent / "recipes"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def override(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """`["model.layers=6", "objective.unit=word"]` -> the changed recipe; a wrong name or type lists the right ones."""
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign:
            raise BadInput(f"{change!r}: a change is written name=value, e.g. model.layers=6")
        recipe = _changed(recipe, path.split("."), text, path)
    return recipe


def _changed(node: Any, path: list[str], text: str, whole: str) -> Any:
    hints = get_type_hints(type(node))
    if path[0] not in hints:
        raise BadInput(f"{whole}: {type(node).__name__} has no {path[0]!r}; it has {', '.join(hints)}")
    if len(path) > 1:
        inner = getattr(node, path[0])
        if not is_dataclass(inner):
            raise BadInput(f"{whole}: {path[0]!r} is a single value ({inner!r})")
        return replace(node, **{path[0]: _changed(inner, path[1:], text, whole)})
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    try:
        return replace(node, **{path[0]: _typed(value, hints[path[0]])})
    except TypeError:
        raise BadInput(f"{whole}={text}: wants {_described(hints[path[0]])}") from None


def difference(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """["seed: 3, not 0"]: where two recipes' JSON differ."""
    found = []
    for key in {**ours, **theirs}:
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += difference(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a!r}, not {b!r}")
    return found


def from_json(saved: dict[str, Any]) -> Recipe:
    """The recipe that `to_json` wrote. Only masklab's own dataclasses are ever made from a file."""
    try:
        return _typed(saved, Recipe)
    except (TypeError, KeyError, ValueError) as error:
        raise BadInput(f"not a recipe of this version of masklab: {error}") from None


def _plain(value: Any) -> Any:
    """Dataclasses to dictionaries; one that stands where any class may stand carries its name."""
    if is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"type": name} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return value


def _typed(value: Any, kind: Any) -> Any:
    """`value` as the type `kind`, or TypeError: 3 -> 3.0 for float, lists -> tuples, dictionaries -> dataclasses."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any or (kind is type(None) and value is None):
        return _dataclass(value) if isinstance(value, dict) else value
    if origin in (Union, types.UnionType):
        for option in inside:
            try:
                return _typed(value, option)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        if value in inside:
            return value
        raise TypeError
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [inside[0]] * len(value) if inside[-1] is Ellipsis else inside
        if len(kinds) != len(value):
            raise TypeError
        return tuple(_typed(x, k) for x, k in zip(value, kinds, strict=True))
    if is_dataclass(kind):
        return _dataclass(value) if isinstance(value, dict) else _instance(value, kind)
    if kind is float and type(value) in (int, float):
        return float(value)
    return _instance(value, kind)


def _instance(value: Any, kind: Any) -> Any:
    if (kind in (int, float, str, bool) and type(value) is not kind) or not isinstance(value, kind):
        raise TypeError
    return value


def _dataclass(saved: dict[str, Any]) -> Any:
    name = saved["type"]
    package, _, qualname = name.rpartition(".")
    if not name.startswith("masklab."):
        raise ValueError(f"{name} is not part of masklab; make the recipe in Python and call train(recipe, folder)")
    kind: Any = getattr(importlib.import_module(package), qualname)
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise ValueError(f"{name} is no recipe part")
    hints = get_type_hints(kind)
    return kind(**{key: _typed(value, hints[key]) for key, value in saved.items() if key != "type"})


def _described(kind: Any) -> str:
    inside = get_args(kind)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, inside))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join("nothing (None)" if k is type(None) else _described(k) for k in inside)
    return {int: "a whole number", float: "a number", str: "text", bool: "True or False"}.get(kind, str(kind))
