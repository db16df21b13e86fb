"""Models for which transformers has no class: config.json and model.safetensors with names of our own.

config.json says so itself: `model_type` begins with "masklab-", every other field is one of the shape, and under
`heads` stands what each head is made with. Weights are named as in the code: "model.layers.0.ahead.input.weight",
"words.frequent.weight". hub.py, which every command asks, reads and writes such folders by this file. Another such
model is another row of KINDS.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.elmo import Elmo, ElmoConfig, WordSoftmax
from masklab.models.tagger import FeatureTagger

Shape = Config | ElmoConfig  # what a recipe's `model` may be
PREFIX = "masklab-"
OPENS = "masklab alone"  # instead of the name of a class of transformers
SAID = {"opened_by": "masklab (masklab.models.hub.load); transformers has no class for this network"}


class Kind(NamedTuple):
    """A shape that stands in config.json, the network that it describes, and the heads that are kept with it."""

    shape: type
    network: type[nn.Module]
    heads: dict[str, type[nn.Module]]  # each is made with its `settings`


KINDS = {"elmo": Kind(ElmoConfig, Elmo, {"words": WordSoftmax, "tag": FeatureTagger})}


def kind_of(config: Any) -> str | None:
    """ "elmo" for an ElmoConfig; None for a family of transformers."""
    return next((name for name, kind in KINDS.items() if isinstance(config, kind.shape)), None)


def settings_of(config: Any, heads: Mapping[str, Any], labels: list[str] | None = None) -> dict[str, Any]:
    """What config.json says."""
    made_with = {name: head.settings for name, head in heads.items()}
    named = {"labels": labels} if labels else {}
    return {"model_type": f"{PREFIX}{kind_of(config)}", **SAID, **asdict(config), "heads": made_with, **named}


def tensors_of(model: nn.Module, heads: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every weight of network and heads, by its name in the file."""
    parts = {"model": model, **heads}
    return {f"{part}.{key}": x for part, module in parts.items() for key, x in module.state_dict().items()}


def is_own(settings: Mapping[str, Any]) -> bool:
    return str(settings.get("model_type", "")).startswith(PREFIX)


def build(settings: Mapping[str, Any], path: Path, dropout: float | None = None) -> tuple[Any, Any, nn.ModuleDict]:
    """config.json -> shape, network and heads, whose weights are still random."""
    kind = KINDS.get(str(settings["model_type"]).removeprefix(PREFIX))
    if kind is None:
        raise BadInput(f"{path}: model_type {settings['model_type']!r} is not {' or '.join(PREFIX + n for n in KINDS)}")
    fields = {key: x for key, x in settings.items() if key not in ("model_type", "heads", "labels", *SAID)}
    try:
        config = kind.shape(**fields | ({} if dropout is None else {"dropout": dropout}))
        heads = nn.ModuleDict({name: kind.heads[name](**x) for name, x in settings.get("heads", {}).items()})
    except (TypeError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: does not describe such a model ({error}); save the model again") from None
    return config, kind.network(config), heads


def fill(folder: Path, model: nn.Module, heads: nn.ModuleDict, tensors: Mapping[str, Tensor]) -> None:
    """Give network and heads the weights of the file, which must be theirs exactly."""
    ours = tensors_of(model, dict(heads.items()))
    odd = [*(f"no {key}" for key in sorted(ours.keys() - tensors.keys())),
           *(f"{key} too much" for key in sorted(tensors.keys() - ours.keys())),
           *(f"{key} is {tuple(tensors[key].shape)}, not {tuple(x.shape)}" for key, x in ours.items()
             if key in tensors and tensors[key].shape != x.shape)]  # fmt: skip
    if odd:
        raise BadInput(f"{folder}: config.json and the weights are of two models ({odd[0]}); save the model again")
    for key, x in ours.items():
        x.detach().copy_(tensors[key])  # state_dict's tensors are the parameters' own memory
