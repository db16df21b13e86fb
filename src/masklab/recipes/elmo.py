"""ELMo: two LSTMs read words by their letters, one from each end; what both know of a word is its vector in context.

Peters et al. 2018, "Deep contextualized word representations". No class of transformers opens it: config.json and
model.safetensors are masklab's own, and `finetune --task tag` puts a tagger on its layers.
"""

from typing import Literal

from masklab.models.elmo import ElmoConfig
from masklab.objectives.bidirectional_lm import BidirectionalLM
from masklab.recipe import Batches, Recipe
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


def recipe(data: str = "", preset: Literal["paper", "tuned"] = "tuned") -> Recipe:
    """`paper`: section 3.4, but AdamW for Adagrad and a softmax in groups for a sampled one. `tuned`: for minutes."""
    if preset == "tuned":
        return Recipe(
            name="elmo",
            preset="tuned",
            model=ElmoConfig(
                width=128, cells=256, filters=((1, 32), (2, 32), (3, 64), (4, 128)), highways=1, dropout=0.0
            ),
            objective=BidirectionalLM(vocabulary=20_000, cutoffs=(2_000, 8_000), shrink=2.0, unigram_start=True),
            data=data,
            budget=Budget(seconds=300),
            batches=Batches(tokens=1024, lengths=((0.0, 64),)),
            schedule=Schedule("linear", warmup=0.03),
            optimizer=Optimizer("adamw", lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98)),
        )
    return Recipe(
        name="elmo",
        preset="paper",
        model=ElmoConfig(),
        objective=BidirectionalLM(),
        data=data,
        budget=Budget(words=10 * 800_000_000),  # ten epochs of its corpus
        batches=Batches(tokens=128 * 3 * 20, lengths=((0.0, 128),)),  # three devices, 128 rows, 20 words a step
        schedule=Schedule("constant", warmup=0.01),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8, clip=10.0),
    )
