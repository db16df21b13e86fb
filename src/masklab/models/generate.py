"""Writes with an encoder-decoder: the likeliest token, again and again, until it says that the text is over.

Greedy decoding, token for token what transformers' `generate(do_sample=False)` writes. What was written before is kept
as keys and values (Cache), so each token costs one column of work; without that the same tokens come out, later.
"""

import torch
from torch import Tensor

from masklab.errors import BadInput
from masklab.models.heads import LMHead
from masklab.models.pattern import PADDING, Inputs, Layout
from masklab.models.transformer import Cache, Memory, Model


@torch.no_grad()
def greedy(
    model: Model, head: LMHead, inputs: Inputs, *, end: int, longest: int = 128, cached: bool = True
) -> list[list[int]]:
    """inputs (B, T), one document a row, then padding -> the ids that each row writes, without start and `end`.

    longest: at most so many tokens.
    """
    if model.decoder is None:
        raise BadInput(f"{model.config.family} only reads; writing needs a decoder, e.g. t5's")
    memory = Memory(model(inputs, layout=Layout("bidirectional")).last, inputs)
    rows = len(inputs.tokens)
    tokens = inputs.tokens.new_full((rows, 1), model.config.pad)  # T5 begins with padding's token
    over = torch.zeros(rows, dtype=torch.bool, device=tokens.device)
    cache = Cache(len(model.decoder.layers)) if cached else None
    for _ in range(longest):
        written = _written(tokens[:, -1:] if cached else tokens)
        states = model.decoder(written, layout=Layout("causal"), memory=memory, cache=cache).last
        best = head(states[:, -1]).argmax(-1)  # (B,)
        best = torch.where(over, model.config.pad, best).to(tokens.dtype)
        tokens = torch.cat((tokens, best[:, None]), 1)
        over |= best == end
        if bool(over.all()):
            break
    return [_until(row, end) for row in tokens[:, 1:].tolist()]


def padded(documents: list[list[int]], pad: int) -> Inputs:
    """Documents as rows of one length, (B, T) torch."""
    length = max(map(len, documents))
    tokens = torch.full((len(documents), length), pad, dtype=torch.int32)
    document = torch.full_like(tokens, PADDING)
    for row, ids in enumerate(documents):
        tokens[row, : len(ids)] = torch.tensor(ids)
        document[row, : len(ids)] = 0
    nothing = torch.zeros_like(tokens)
    position = torch.arange(length, dtype=torch.int32).expand_as(tokens)
    return Inputs(tokens, position, nothing, document, nothing, nothing)


def _written(tokens: Tensor) -> Inputs:
    """(B, T) tokens of one document a row, left to right."""
    time = torch.arange(tokens.shape[1], dtype=torch.int32, device=tokens.device).expand_as(tokens)
    nothing = torch.zeros_like(tokens)
    return Inputs(tokens, time, nothing, nothing, time, time)


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
