"""MPNet's architecture under masked words: BERT whose heads also share one bias on the distance between two words.

The class is that of Song et al. 2020, "MPNet: Masked and Permuted Pre-training for Language Understanding", the bias
that of T5 (Raffel et al. 2020, section 2.1); the objective here is plain masked words, not the permuted one.
Opens as MPNetForMaskedLM.
"""

from typing import Literal

from masklab.models.config import Config
from masklab.models.local_start import Start
from masklab.objectives.masked_lm import MaskedLM
from masklab.recipe import Batches, Recipe
from masklab.recipes._tuned import tuned
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


def recipe(data: str = "", preset: Literal["paper", "tuned"] = "tuned") -> Recipe:
    """`paper`: the base model and optimizer as published. `tuned`: what learns fastest in minutes on a CPU."""
    if preset == "tuned":
        shape = Config("mpnet", layers=2, width=128, heads=4, feed_forward=512, max_length=128, pad=1)
        return tuned("mpnet", shape, data, Start("local", embedding_std=0.2))
    return Recipe(
        name="mpnet",
        preset="paper",
        model=Config("mpnet", max_length=512, pad=1),
        objective=MaskedLM(rate=0.15, unit="word"),
        data=data,
        budget=Budget(steps=500_000),
        batches=Batches(tokens=8192 * 512, accumulate=64, lengths=((0.0, 512),)),
        schedule=Schedule("linear", warmup=0.06),
        optimizer=Optimizer("adamw", lr=6e-4, weight_decay=0.01, betas=(0.9, 0.98), eps=1e-6),
    )
