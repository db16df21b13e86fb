"""What all tuned presets share: the settings that learn fastest in minutes on a few cores (see docs/learning.md)."""

from dataclasses import replace

from masklab.models.config import Config
from masklab.models.local_start import Start
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Recipe
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


def tuned(name: str, shape: Config, data: str, initial: Start) -> Recipe:
    """Muon, no dropout, a start that knows words and neighbours, masks from 40 % down to 15 %, short rows first."""
    return Recipe(
        name=name,
        preset="tuned",
        model=replace(shape, dropout=0.0, attention_dropout=0.0),
        objective=MaskedLM(rate=0.15, start_rate=0.4, unigram_start=True),
        data=data,
        initial=initial,
        embeddings="cooccurrence",
        budget=Budget(seconds=300),
        batches=Batches(tokens=2048, lengths=((0.0, 64), (0.8, 128))),
        schedule=Schedule("linear", warmup=0.03),
        optimizer=Optimizer(
            "muon", lr=4e-3, embedding_lr=5e-3, muon_lr=0.02, muon_blocks=2, weight_decay=0.01, betas=(0.9, 0.98)
        ),
    )
