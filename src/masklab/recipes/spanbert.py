"""SpanBERT: hides spans of words instead of single tokens, and asks for them from their two ends as well.

Joshi et al. 2020, "SpanBERT: Improving pre-training by representing and predicting spans". Opens as BertForMaskedLM;
the boundary head lies beside it in heads.safetensors.
"""

from dataclasses import replace
from typing import Literal

from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.span_boundary import SpanBoundary
from masklab.recipe import Recipe
from masklab.recipes import bert
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


def recipe(data: str = "", preset: Literal["paper", "tuned"] = "tuned") -> Recipe:
    """`paper`: section 4.2, BERT-base on single sequences of 512. `tuned`: as the tuned bert, with spans."""
    made = replace(bert.recipe(data, preset, next_sentence=False), name="spanbert")
    if preset == "tuned":
        return made.with_objective(SpanBoundary(made.objective))
    return replace(
        made,
        objective=SpanBoundary(MaskedLM(rate=0.15)),
        budget=Budget(steps=2_400_000),
        batches=replace(made.batches, lengths=((0.0, 512),)),
        schedule=Schedule("linear", warmup=10_000 / 2_400_000),
        optimizer=Optimizer("adamw", lr=1e-4, weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8),
    )
