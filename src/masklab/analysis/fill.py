"""Fills the gaps of a sentence: what a masked language model finds likely in place of each "_" or "[MASK]".

for gap in fill("runs/first", "The capital of France is _."):
    print([(choice.text, round(choice.probability, 2)) for choice in gap])
"""

import re
from pathlib import Path
from typing import NamedTuple

import torch

from masklab.analysis.opened import Opened, open_model
from masklab.errors import BadInput
from masklab.models.pattern import Layout, as_torch
from masklab.objectives.rows import frame

# A lone underscore: the one in `snake_case` is part of a word. Chinese and Japanese, written without spaces, have gaps
# between characters.
_WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff]"
GAP = re.compile(f"(?<!{_WORD})_(?!{_WORD})")


class Choice(NamedTuple):
    """One token that may stand in a gap; text is its own spelling, e.g. "##ing" for a piece that continues a word."""

    text: str
    probability: float


def fill(model: Opened | str | Path, text: str, top: int = 5) -> list[list[Choice]]:
    """The `top` likeliest tokens for each gap, gaps in their order; each gap is filled as if the others stay open."""
    folder, loaded, tokenizer = open_model(model)
    if "masked_lm" not in loaded.heads:
        raise BadInput(f"{folder}: has no masked-LM head (it was fine-tuned for something else); give the model "
                       f"that pre-training left")  # fmt: skip
    ids = tokenizer.encode([with_mask(text, tokenizer.names["mask"])], specials=True)[0]
    if tokenizer.mask not in ids:
        raise BadInput(f'{text!r}: has no gap; write "_" or "[MASK]" where a word is wanted')
    if len(ids) + 2 > loaded.config.max_length:
        raise BadInput(
            f"the text has {len(ids)} tokens, the model reads at most {loaded.config.max_length - 2}; shorten it"
        )
    tokens = torch.tensor(ids)
    row = frame(tokenizer, [([tokens.numpy()], [tokens.numpy()])], len(ids) + 2)
    at = torch.from_numpy(row.inputs.tokens == tokenizer.mask).nonzero().T  # (1, gaps)
    with torch.no_grad():
        states = loaded.model(
            as_torch(row.inputs), layout=Layout("bidirectional", full=True), at=at
        ).last  # (1, gaps, D)
        likely = loaded.heads["masked_lm"](states[0]).float().softmax(-1).topk(top)  # (gaps, top)
    return [
        [Choice(text, p) for text, p in zip(tokenizer.tokens(tokens), probabilities, strict=True)]
        for tokens, probabilities in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    ]


def with_mask(text: str, mask: str) -> str:
    """Each "_" and "[MASK]" in the model's own spelling of a mask: "an _." , "<mask>" -> "an <mask>."."""
    return GAP.sub(mask, text.replace("[MASK]", "_").replace(mask, "_"))


def filled(text: str, choices: list[list[Choice]]) -> str:
    """The text with every gap's first choice in it."""
    firsts = iter(choices)
    return GAP.sub(lambda _: next(firsts)[0].text.removeprefix("##").strip("Ġ▁"), text.replace("[MASK]", "_"))
