"""A model before its first step, as a folder that any trainer can start from.

With a local start (models/local_start.py) and token vectors from counts (cooccurrence.py), whoever trains it, with
whatever tool, begins where masklab's own runs begin. The weights are those that a run of the same recipe and seed has.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from masklab.corpus.tokenizer import Tokenizer
from masklab.errors import BadInput
from masklab.files import atomic_folder, atomic_write
from masklab.models import hub, trunks
from masklab.models.config import Config
from masklab.models.local_start import protected
from masklab.recipe import Recipe
from masklab.rng import integer
from masklab.training import precision
from masklab.training.cooccurrence import start_tokens
from masklab.training.mixture import open_sources
from masklab.training.session import SPECIAL, fitted


class Vocabulary:
    """What a new model needs of a corpus when there is only a tokenizer: every token is as frequent as any other."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.unigram = np.zeros(tokenizer.size, np.int64)


def write(recipe: Recipe, folder: str | Path, tokenizer: str = "") -> str:
    """The model that a run of `recipe` begins with, as a folder; the name of the class that opens it.

    tokenizer: a tokenizer.json, a folder with one or a hub name, where recipe.data names no corpus.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: is there already; give a new folder")
    if not isinstance(recipe.model, Config):
        raise BadInput(f"{recipe.name}: no class of transformers could start from it; begin with `masklab pretrain`")
    if recipe.start:
        raise BadInput(f"start={recipe.start}: that is a model already; train on from it as it is")
    if not recipe.data and (recipe.embeddings == "cooccurrence" or recipe.model.decoder_layers):
        raise BadInput("--data: only a corpus can be counted for token vectors, or tell t5 its sentinels; name one")
    precision.settle(recipe.threads)
    source = open_sources(recipe, "train") if recipe.data else Vocabulary(Tokenizer.open(tokenizer))
    torch.manual_seed(integer(recipe.seed, "weights"))
    model: Any = trunks.build(fitted(recipe.model, recipe.model, source.tokenizer))
    trunks.begin(model, recipe.initial)
    if recipe.embeddings == "cooccurrence":
        start_tokens(model.embeddings.tokens.weight, source, recipe.seed)
    heads = recipe.objective.heads(model, source)
    with atomic_folder(folder) as new:
        special = {name: getattr(source.tokenizer, name) for name in SPECIAL if hasattr(source.tokenizer, name)}
        name = hub.save(new, model.config, model, heads, special=special)
        for place in (new, new / hub.GENERATOR):
            if place.exists():
                source.tokenizer.save(place)
        with atomic_write(new / "README.md", "w") as file:
            file.write(card(recipe, model, heads, name))
    return name


def card(recipe: Recipe, model: Any, heads: nn.ModuleDict, name: str) -> str:
    """README.md: what the folder is, how to train it, and what to keep still while doing so."""
    config, local = model.config, recipe.initial.kind == "local"
    parameters = sum({id(p): p.numel() for module in (model, heads) for p in module.parameters()}.values())
    of_words = recipe.embeddings == "cooccurrence"
    dropout = ", ".join(f"{field}=0.0" for field in hub.USUAL[config.family])
    lines = [
        "import torch",
        f"from transformers import AutoTokenizer, {name}",
        "",
        'folder = "."  # where this file lies',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {name}.from_pretrained(folder, {dropout})",
    ]
    said = [
        "Nothing in it has been trained. "
        + (
            "Some heads look at the slots -1, +1, -2, +2, ... from their own from the first step, which a small model "
            "otherwise spends its first minutes on finding out."
            if local
            else "Its weights are random, as the class draws them."
        )
    ]
    if of_words:
        said.append(
            f"Token vectors come from counting which tokens of `{Path(recipe.data).name}` stand near each other."
        )
    kept = protected(config, recipe.initial)
    if kept:
        said.append(
            f"The position table holds the first {kept} dimensions of the embeddings for itself. A high learning rate "
            "(above about 1e-3) or a long run washes that out: the last four lines keep the table as it is, and the "
            "other tables out of its dimensions, under any optimizer and in any trainer. Leave them out and everything "
            "is free."
        )
        lines += [
            f"tables = model.{hub.PREFIX[config.family]}embeddings",
            "tables.position_embeddings.weight.requires_grad_(False)",
            "for table in (tables.word_embeddings, tables.token_type_embeddings):",
            f"    table.weight.register_hook(lambda g: torch.cat((torch.zeros_like(g[:, :{kept}]), g[:, {kept}:]), 1))",
        ]
    else:
        lines.remove("import torch")
    text, code = "\n\n".join(said), "\n".join(lines)
    settings = json.dumps(recipe.to_json()["initial"])
    return f"""---
library_name: transformers
tags: [masklab, {recipe.name}]
---
# {recipe.name}, not trained yet

{config.layers} layers x {config.width}, {config.heads} heads, {parameters:,} parameters, a vocabulary of \
{config.vocabulary:,}. {text}

```python
{code}
```

Then `Trainer(model, ...)`, or a loop of your own, with whatever objective the class has. Dropout is off above; \
`config.json` has the class's usual rates. masklab goes on from here with

    masklab pretrain {recipe.name} --data STORE --out RUN start=FOLDER embeddings=random

Made with masklab, seed {recipe.seed}; `initial` of the recipe was `{settings}`.
"""
