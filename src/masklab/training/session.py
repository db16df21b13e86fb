"""Everything a run computes with, built from its recipe: data, model, heads, optimizers."""

import time
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from masklab.corpus.store_words import reader_of
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput
from masklab.files import sha256
from masklab.models import hub, trunks
from masklab.models.attention import Kernel
from masklab.models.own import Shape
from masklab.models.transformer import Model
from masklab.recipe import Recipe
from masklab.rng import integer
from masklab.training import precision
from masklab.training.cooccurrence import start_tokens
from masklab.training.distributed import ALONE, World, held, spread
from masklab.training.evaluation import Pretrainer
from masklab.training.mixture import Mixture, open_sources
from masklab.training.optim import Optimizers
from masklab.training.precision import Scaler

SPECIAL = ("pad", "cls", "sep", "mask")  # tokens that config.json names


@dataclass
class Session:
    recipe: Recipe
    source: Any
    held_out: Any
    pretrainer: Pretrainer
    trained: nn.Module  # what a training step calls: the pretrainer, or what adds its gradients up over processes
    optimizers: Optimizers
    world: World
    device: torch.device
    precision: str
    scaler: Scaler
    environment: dict[str, Any]
    blank: Pretrainer | None  # where weights are divided: the modules as they were, without memory for any
    counted: float  # seconds spent on learning from counts before the first step: they are part of the run's time

    def autocast(self) -> torch.autocast:
        return precision.autocast(self.precision, self.device)

    @property
    def parameters(self) -> int:
        return sum({id(p): p.numel() for p in self.pretrainer.parameters()}.values())

    @property
    def words_per_token(self) -> float:
        return words_per_token(self.source)

    @cached_property
    def data(self) -> list[str]:
        """A hash of each corpus or file that is read: a run goes on with nothing else."""
        names = [self.recipe.data, *(name for name, _ in self.recipe.mix)]
        sources = self.source.sources if isinstance(self.source, Mixture) else [self.source]
        return [getattr(source, "hash", None) or sha256(name) for name, source in zip(names, sources, strict=True)]

    @property
    def sharded(self) -> bool:
        return self.blank is not None

    def whole(self, everyone: bool = False) -> Pretrainer | None:
        """The modules with all their weights: of divided ones a copy on the host, for the first process or everyone.

        All processes call it together, as they do `state`.
        """
        if self.blank is None:
            return self.pretrainer
        weights = self._gathered(self._weights(), everyone)
        if not weights:
            return None
        copy = deepcopy(self.blank)
        copy.load_state_dict({name.removeprefix("weights/"): x for name, x in weights.items()}, assign=True)
        return copy

    def state(self, parts: bool = False) -> dict[str, Tensor]:
        """Every weight and all optimizer state, by name: whole and for the first process alone, or each process's rows.

        What has no rows (how many steps there were) is with the first process.
        """
        everything = self._weights() | {f"optimizer/{name}": x for name, x in self.optimizers.state().items()}
        if not parts:
            return self._gathered(everything)
        mine = {name: x for name, x in everything.items() if x.ndim or self.world.first}
        if not self.sharded:
            mine = {name: x[self.world.share(len(x))] if x.ndim else x for name, x in mine.items()}
        return {name: x for name, x in mine.items() if x.numel()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `state` gave, whole, in a world of whatever size."""

        def mine(x: Tensor) -> Tensor:
            return x[self.world.share(len(x))] if self.sharded and x.ndim else x

        with torch.no_grad():
            for name, x in self._weights().items():
                x.copy_(mine(tensors[name]))
        kept = [name for name in tensors if name.startswith("optimizer/")]
        self.optimizers.load({name.removeprefix("optimizer/"): mine(tensors[name]) for name in kept})

    def _weights(self) -> dict[str, Tensor]:
        """What this process holds of each."""
        return {f"weights/{n}": held(p).detach() for n, p in self.pretrainer.state_dict(keep_vars=True).items()}

    def _gathered(self, tensors: dict[str, Tensor], everyone: bool = False) -> dict[str, Tensor]:
        """All rows of all tensors, for the first process or for everyone; of divided ones a copy on the host."""
        full = {} if self.blank is None else self.blank.state_dict()
        found = {}
        for name, x in tensors.items():
            if full and x.ndim:
                x = self.world.whole([x], [len(full[name.split("/")[1]])])[0].cpu()
            if everyone or self.world.first:
                found[name] = x
        return found

    def write_model(self, folder: Path, whole: Pretrainer | None = None) -> None:
        """The model as a Hugging Face folder; `whole` is what the method of that name gave."""
        tokenizer = self.source.tokenizer
        whole = whole or self.pretrainer
        hub.save(
            folder,
            whole.model.config,
            whole.model,
            whole.heads,
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


def build(recipe: Recipe, recorded: dict[str, Any] | None = None, world: World = ALONE) -> Session:
    """Open the data and make the model; `recorded` is the environment that a resumed run began in."""
    device = precision.device()
    as_before = recorded is not None and recorded.get("processes", 1) == world.ranks
    precision.settle(recorded["threads"] if recorded and as_before else world.threads(recipe.threads))
    chosen = world.told(recorded["precision"] if recorded else precision.choose(recipe.precision, device))
    loaded = hub.load(recipe.start) if recipe.start else None
    tokenizer = reader_of(hub.find(recipe.start)) if loaded else None
    with world.one_ahead():
        source = open_sources(recipe, "train", tokenizer)
        held_out = open_sources(recipe, "held_out", tokenizer)
        _enough_rows(recipe, source, world)
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
    if recipe.embeddings == "cooccurrence" and recorded is None and world.first:  # whose weights all begin with
        start_tokens(model.embeddings.tokens.weight, source, recipe.seed)
    counted = world.told(time.perf_counter() - began)
    if loaded and not recipe.fresh:
        model.load_state_dict(loaded.model.state_dict())
    trained = loaded.heads if loaded and not recipe.fresh else None
    heads = recipe.objective.heads(model, source, trained)
    _take_over(heads, trained)
    pretrainer = Pretrainer(model.to(device), heads.to(device), recipe.objective)
    sharded = recipe.sharding == "full" and world.ranks > 1
    blank = deepcopy(pretrainer).to("meta") if sharded else None
    attention: Kernel
    if recorded and recorded.get("device") == device.type:
        attention, compiled = recorded["attention"], recorded["compiled"]
    else:
        kind = getattr(recipe.objective, "kind", "bidirectional")
        rows = recipe.batches.tokens // recipe.batches.length // recipe.batches.accumulate // world.ranks
        attention = precision.choose_attention(
            recipe.attention, config, kind, chosen, device, rows=rows, length=recipe.batches.length
        )
        compiled = precision.choose_compiled(recipe.compile, recipe.budget.seconds, device)
    attention = world.told(attention)
    precision.install(pretrainer, attention, compiled)
    spread_out = spread(pretrainer, sharded, world, device)
    return Session(
        recipe,
        source,
        held_out,
        pretrainer,
        spread_out,
        Optimizers(model, heads, recipe.optimizer, world),
        world,
        device,
        chosen,
        Scaler.begin(chosen),
        precision.environment(chosen, device, attention, compiled) | {"processes": world.ranks, "sharded": sharded},
        blank,
        counted,
    )


def _enough_rows(recipe: Recipe, source: Any, world: World) -> None:
    """Rows are found here, before anything else is made; each process must get one of every micro-batch."""
    for _, length in recipe.batches.lengths:
        for one in source.sources if isinstance(source, Mixture) else [source]:
            recipe.objective.examples(one, length)
        rows = recipe.batches.tokens // length
        if rows < recipe.batches.accumulate * world.ranks:
            raise BadInput(
                f"batches.tokens={recipe.batches.tokens} is {rows} rows of {length}, too few for {world.ranks} "
                f"processes and batches.accumulate={recipe.batches.accumulate}: more tokens, or fewer of the others"
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
