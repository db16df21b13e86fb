"""The table of recipes: what each one is, which class opens its model, how its parameters are counted."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch

from masklab import recipe as recipes
from masklab.models import hub, trunks
from masklab.models.config import Config
from masklab.models.own import Shape
from masklab.recipe import Recipe

PRESETS = ("paper", "tuned")
VOCABULARY = 8192  # of tuned presets, which take that of the corpus: what `masklab prepare` makes unless told otherwise


class Entry(NamedTuple):
    name: str
    preset: str
    about: str  # the first sentence of the recipe's file
    opens: str  # the class of transformers
    shape: str  # layers x width
    parameters: int


def entries() -> Iterator[Entry]:
    for name in recipes.names():
        about = (recipes.module(name).__doc__ or "").split("\n")[0]
        for preset in PRESETS:
            config, heads = shape(recipes.load(name, preset=preset))
            size = f"{config.layers} x {config.width}"
            yield Entry(name, preset, about, hub.class_for(config, heads), size, config.parameters(heads))


def shape(recipe: Recipe) -> tuple[Shape, dict[str, Any]]:
    """The model's shape, and the heads that its objective puts on it (made without weights)."""
    config = recipe.model
    if isinstance(config, Config) and recipe.preset == "tuned":
        config = replace(config, vocabulary=VOCABULARY)
    with torch.device("meta"):
        heads = replace_deep(recipe.objective, unigram_start=False).heads(trunks.build(config), None)
    return config, {
        name: head
        for name, head in heads.items()
        if name != "generator"  # another model's, not counted here
    }


def replace_deep(node: Any, **changes: Any) -> Any:
    """The same dataclass with these fields, wherever they are inside it."""
    inner = {f.name: getattr(node, f.name) for f in fields(node)}
    return replace(
        node,
        **{k: replace_deep(v, **changes) for k, v in inner.items() if is_dataclass(v)},
        **{k: v for k, v in changes.items() if k in inner},
    )


def details(name: str) -> str:
    """One recipe: its file's words, and for each preset every number and the parameters as a sum."""
    parts = [(recipes.module(name).__doc__ or "").strip()]
    for preset in PRESETS:
        recipe = recipes.load(name, preset=preset)
        config, heads = shape(recipe)
        values = [f"  {path} = {value}" for path, value in dotted(recipe) if path not in ("name", "data", "start")]
        opens = hub.class_for(config, heads)
        parts += [f"--- {preset} preset: opens as {opens}", "\n".join(values), config.formula(heads)]
    return "\n\n".join(parts)


def dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a recipe under the name that changes it: ("model.layers", 12)."""
    for f in fields(node):
        value = getattr(node, f.name)
        if is_dataclass(value):
            yield from dotted(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value


def note() -> str:
    """How the published sizes come about."""
    base, large = Config(), Config(layers=24, width=1024, heads=16, feed_forward=4096)
    sizes = [f"{c.parameters(['pooler']) / 1e6:.1f}M" for c in (base, large)]
    return (
        f"Parameters are counted exactly (tuned presets with a vocabulary of {VOCABULARY:,}). Without the heads of "
        f"pre-training, BERT-base has {sizes[0]} and BERT-large {sizes[1]}; the paper says 110M and 340M.\n"
        f"`masklab recipes NAME` shows every number of a recipe and its parameters as a sum."
    )
