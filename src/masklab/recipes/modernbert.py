"""ModernBERT: norms first, rotary positions, a gated feed-forward; here every layer reads the whole row.

Warner et al. 2024, "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder", section 2 and appendix A; 30 % of
the words are hidden. The published model lets two layers in three read only 128 tokens around; for rows no longer
than that it is the same model. Opens as ModernBertForMaskedLM.
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
    """`paper`: the base model as published (all layers global, AdamW for StableAdamW). `tuned`: fastest in minutes."""
    if preset == "tuned":
        shape = Config(
            "modernbert",
            layers=2,
            width=128,
            heads=4,
            feed_forward=256,
            max_length=128,
            pad=1,
            norm_eps=1e-5,
            theta=1000.0,
        )
        return tuned("modernbert", shape, data, Start("local", embedding_std=0.2))
    return Recipe(
        name="modernbert",
        preset="paper",
        model=Config(
            "modernbert", layers=22, width=768, heads=12, feed_forward=1152, max_length=1024, norm_eps=1e-5,
            theta=10_000.0, biases=False, dropout=0.0, attention_dropout=0.0,
        ),
        objective=MaskedLM(rate=0.3),
        data=data,
        budget=Budget(tokens=1_719_000_000_000),
        batches=Batches(tokens=4608 * 1024, accumulate=48, lengths=((0.0, 1024),)),
        schedule=Schedule("trapezoid", warmup=0.002, decay=0.03),
        optimizer=Optimizer("adamw", lr=8e-4, weight_decay=1e-5, betas=(0.9, 0.98), eps=1e-6),
    )  # fmt: skip
