"""Everything a run computes with, built from its recipe: data, model, heads, optimizers."""

import time
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from masklab.corpus.store_words import reader_of
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput
from masklab.models import hub, trunks
from masklab.models.own import Shape
from masklab.models.transformer import Model
from masklab.recipe import Recipe
from masklab.rng import integer
from masklab.training import precision
from masklab.training.cooccurrence import start_tokens
from masklab.training.evaluation import Pretrainer
from masklab.training.mixture import Mixture, open_sources
from masklab.training.optim import Optimizers

SPECIAL = ("pad", "cls", "sep", "mask")  # tokens that config.json names


@dataclass
class Session:
    recipe: Recipe
    source: Any
    held_out: Any
    pretrainer: Pretrainer
    optimizers: Optimizers
    device: torch.device
    precision: str
    environment: dict[str, Any]
    counted: float  # seconds spent on learning from counts before the first step: they are part of the run's time

    def autocast(self) -> torch.autocast:
        return precision.autocast(self.precision, self.device)

    @property
    def parameters(self) -> int:
        return sum({id(p): p.numel() for p in self.pretrainer.parameters()}.values())

    @property
    def words_per_token(self) -> float:
        return words_per_token(self.source)

    def state(self) -> dict[str, Tensor]:
        """Every weight and all optimizer state, by name."""
        weights = {f"weights/{name}": p.detach() for name, p in _weights(self.pretrainer).items()}
        return weights | {f"optimizer/{name}": x for name, x in self.optimizers.state().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in _weights(self.pretrainer).items():
                p.copy_(tensors[f"weights/{name}"])
        self.optimizers.load(
            {n.removeprefix("optimizer/"): t for n, t in tensors.items() if n.startswith("optimizer/")}
        )

    def write_model(self, folder: Path) -> None:
        """The model as a Hugging Face folder."""
        tokenizer = self.source.tokenizer
        hub.save(
            folder,
            self.pretrainer.model.config,
            self.pretrainer.model,
            self.pretrainer.heads,
            labels=getattr(self.source, "labels", None),
            special={name: getattr(tokenizer, name) for name in SPECIAL if hasattr(tokenizer, name)},
        )
        tokenizer.save(folder)
        if (folder / hub.GENERATOR).exists():  # a second model for transformers to open
            tokenizer.save(folder / hub.GENERATOR)


def words_per_token(source: Any) -> float:
    """How many words start in a slot, over the training rows' source; 1 where there are no word bits."""
    if isinstance(source, Mixture):
        return float(np.dot(source.shares, [words_per_token(one) for one in source.sources]))
    units = getattr(source, "units", None)
    return 1.0 if units is None else max(1e-6, float(np.mean(units[: 1 << 22] & WORD_START > 0)))


def build(recipe: Recipe, recorded: dict[str, Any] | None = None) -> Session:
    """Open the data and make the model; `recorded` is the environment that a resumed run began in."""
    device = precision.device()
    precision.settle(recorded["threads"] if recorded else recipe.threads)
    chosen = recorded["precision"] if recorded else precision.choose(recipe.precision, device)
    loaded = hub.load(recipe.start) if recipe.start else None
    tokenizer = reader_of(hub.find(recipe.start)) if loaded else None
    source = open_sources(recipe, "train", tokenizer)
    held_out = open_sources(recipe, "held_out", tokenizer)
    if tokenizer is not None and tokenizer.hash != source.tokenizer.hash:
        raise BadInput(
            f"{recipe.data}: made with another vocabulary than {recipe.start}; prepare the text again with "
            f"--tokenizer {recipe.start}"
        )
    torch.manual_seed(integer(recipe.seed, "weights"))
    shape = loaded.config if loaded else recipe.model
    config = fitted(shape, recipe.model, source.tokenizer)
    if config.max_length < recipe.batches.length:
        raise BadInput(f"{recipe.start}: reads at most {config.max_length} tokens; set batches.lengths to less")
    model: Any = trunks.build(config)
    trunks.begin(model, recipe.initial)
    began = time.perf_counter()
    if recipe.embeddings == "cooccurrence" and not isinstance(model, Model):
        raise BadInput(
            "embeddings=cooccurrence starts a table of tokens, which this model lacks; set embeddings=random"
        )
    if recipe.embeddings == "cooccurrence" and recorded is None:
        start_tokens(model.embeddings.tokens.weight, source, recipe.seed)
    counted = time.perf_counter() - began
    if loaded and not recipe.fresh:
        model.load_state_dict(loaded.model.state_dict())
    trained = loaded.heads if loaded and not recipe.fresh else None
    heads = recipe.objective.heads(model, source, trained)
    _take_over(heads, trained)
    pretrainer = Pretrainer(model.to(device), heads.to(device), recipe.objective)
    return Session(
        recipe,
        source,
        held_out,
        pretrainer,
        Optimizers(model, heads, recipe.optimizer),
        device,
        chosen,
        precision.environment(chosen, device),
        counted,
    )


def fitted(shape: Shape, wished: Shape, tokenizer: Any) -> Shape:
    """The shape with the vocabulary of the data and the dropout of the recipe, as far as it has such fields."""
    taken = {
        "vocabulary": getattr(tokenizer, "size", None),
        "pad": getattr(tokenizer, "pad", None),
        "dropout": wished.dropout,
        "attention_dropout": getattr(wished, "attention_dropout", None),
    }
    return replace(shape, **{field.name: taken[field.name] for field in fields(shape) if field.name in taken})


def _take_over(heads: nn.ModuleDict, trained: nn.ModuleDict | None) -> None:
    """A trained head of the same name and shape goes on; another shape starts anew, and says so."""
    for name, head in heads.items():
        if trained is not None and name in trained:
            old = trained[name].state_dict()
            if {n: t.shape for n, t in old.items()} == {n: t.shape for n, t in head.state_dict().items()}:
                head.load_state_dict(old)
            else:
                warnings.warn(f"the folder's head {name!r} has another shape; a new one is trained", stacklevel=3)


def _weights(pretrainer: nn.Module) -> dict[str, Tensor]:
    return dict(pretrainer.state_dict(keep_vars=True))
