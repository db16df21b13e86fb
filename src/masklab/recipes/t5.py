"""T5: an encoder reads a text with spans cut out, a decoder writes the spans; every task is text to text.

Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer". `form` 1.0 is
the paper's own model, 1.1 the later one with gates in the feed-forward and an output matrix of its own. Opens as
T5ForConditionalGeneration.
"""

from dataclasses import replace
from typing import Literal

from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.local_start import Start
from masklab.objectives.span_corruption import SpanCorruption
from masklab.recipe import Batches, Recipe
from masklab.recipes._tuned import tuned
from masklab.training.optim import Optimizer
from masklab.training.schedule import Budget, Schedule


def recipe(data: str = "", preset: Literal["paper", "tuned"] = "tuned", form: Literal["1.0", "1.1"] = "1.0") -> Recipe:
    """`paper`: T5-small, section 3.1, but AdamW at 1e-3 for Adafactor. `tuned`: what learns fastest in minutes."""
    if form not in ("1.0", "1.1"):
        raise BadInput(f"form={form!r}: T5 has the forms 1.0 and 1.1")
    newer = form == "1.1"
    if preset == "tuned":
        shape = Config("t5", layers=2, decoder_layers=2, width=128, heads=4, feed_forward=512, max_length=128, pad=1,
                       norm_eps=1e-6, gated=newer, tied=not newer)  # fmt: skip
        made = tuned("t5", shape, data, Start("local"))
        return replace(
            made,
            objective=SpanCorruption(),
            # rows of one length: short ones first would leave the later sentinels unseen until the end of the run
            batches=replace(made.batches, lengths=((0.0, 128),)),
            optimizer=replace(made.optimizer, lr=8e-3, embedding_lr=0.02),  # t5's table has deviation 1, not 0.2
        )
    shape = Config("t5", layers=6, decoder_layers=6, width=512, heads=8, feed_forward=2048, norm_eps=1e-6)
    if newer:
        shape = replace(shape, layers=8, decoder_layers=8, heads=6, key_width=64, feed_forward=1024, gated=True,
                        tied=False, dropout=0.0, attention_dropout=0.0)  # fmt: skip
    return Recipe(
        name="t5",
        preset="paper",
        model=shape,
        objective=SpanCorruption(),
        data=data,
        budget=Budget(steps=1 << 19),
        batches=Batches(tokens=128 * 512, lengths=((0.0, 512),)),
        schedule=Schedule("inverse root", warmup=0.02),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.0, eps=1e-8),
    )
