"""Turns texts into vectors: the mean of a model's last states over a text's tokens, as sentence-transformers does.

    vectors = embed("runs/first", ["one text", "and another"])   # (2, D) float32

Reimers and Gurevych 2019, section 3 (mean pooling).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from masklab.analysis.opened import Opened, open_model
from masklab.models.pattern import PADDING, Inputs, Layout, as_torch
from masklab.objectives.rows import frame

TOKENS = 8192  # slots in one batch


def embed(model: Opened | str | Path, texts: Sequence[str]) -> np.ndarray:
    """(texts, D) float32, in the order of the texts. [CLS] and [SEP] count; what is longer than the model is cut."""
    _, loaded, tokenizer = open_model(model)
    ids = [np.array(x[: loaded.config.max_length - 2], np.int64) for x in tokenizer.encode(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))  # alike lengths together: hardly any padding
    where = next(loaded.model.parameters()).device
    vectors = np.zeros((len(ids), loaded.config.width), np.float32)
    while order:
        length = len(ids[order[0]]) + 2
        some, order = order[: max(1, TOKENS // length)], order[max(1, TOKENS // length) :]
        rows = [frame(tokenizer, [([ids[i]], [ids[i]])], length).inputs for i in some]
        inputs = as_torch(Inputs(*(np.stack(column) for column in zip(*rows, strict=True))), where)  # (B, T) each
        with torch.no_grad():
            states = loaded.model(inputs, layout=Layout("bidirectional")).last.float()  # (B, T, D)
        real = (inputs.document != PADDING).unsqueeze(-1)
        vectors[some] = ((states * real).sum(1) / real.sum(1)).cpu().numpy()
    return vectors
