"""BERT: hidden words, and optionally whether one text follows another, read from both sides at once.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", appendix A.2.
Opens as BertForPreTraining (with next sentence) or BertForMaskedLM (without).
"""

from typing import Literal

from masklab.models.config import Config
from masklab.models.local_start import Start
from masklab.objectives.masked_lm import MaskedLM
from masklab.objectives.next_sentence import NextSentence
from masklab.recipe import Batches, Recipe
from masklab.recipes._tuned import tuned
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


def recipe(data: str = "", preset: Literal["paper", "tuned"] = "tuned", next_sentence: bool | None = None) -> Recipe:
    """`paper`: BERT-base as published, with next sentence. `tuned`: what learns fastest in minutes, without."""
    if preset == "tuned":
        shape = Config("bert", layers=2, width=128, heads=4, feed_forward=512, max_length=128, pad=1)
        made = tuned("bert", shape, data, Start("local", embedding_std=0.2))
        pairs = next_sentence or False
    else:
        made = Recipe(
            name="bert",
            preset="paper",
            model=Config("bert"),
            objective=MaskedLM(rate=0.15),
            data=data,
            budget=Budget(steps=1_000_000),
            # 256 rows: of 128 for the first 90 % of the steps, of 512 for the rest
            batches=Batches(tokens=131_072, lengths=((0.0, 128), (0.9, 512))),
            schedule=Schedule("linear", warmup=0.01),
            optimizer=Optimizer("adamw", lr=1e-4, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-6),
        )
        pairs = next_sentence is not False
    return made.with_objective(NextSentence(made.objective)) if pairs else made
