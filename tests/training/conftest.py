"""A recipe small enough to train in a second."""

from dataclasses import replace

import pytest

from masklab.corpus.store import Store
from masklab.models.config import Config
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Checkpoints, Evaluation, Recipe
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


@pytest.fixture
def tiny(store: Store) -> Recipe:
    """One layer of 32, dropout on, 12 steps, a checkpoint every 4."""
    return Recipe(
        name="tiny",
        model=Config("bert", layers=1, width=32, heads=2, feed_forward=64, max_length=64, pad=1, dropout=0.1),
        objective=MaskedLM(),
        data=str(store.path),
        budget=Budget(steps=12),
        batches=Batches(tokens=512, lengths=((0.0, 32), (0.5, 64))),
        schedule=Schedule(warmup=0.1),
        optimizer=Optimizer("muon", lr=1e-3),
        evaluation=Evaluation(every=0.5, rows=8),
        checkpoints=Checkpoints(every=1e9, steps=4),
        precision="fp32",
        attention="sdpa",
        threads=1,
        log_every=3,
    )


@pytest.fixture
def no_dropout(tiny: Recipe) -> Recipe:
    return replace(tiny, model=replace(tiny.model, dropout=0.0, attention_dropout=0.0))
