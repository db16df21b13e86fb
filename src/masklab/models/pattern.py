"""Who may look at whom, as three small integers per token instead of a matrix per row.

`document` keeps packed documents (and padding, document -1) apart; `time` is when a token asks; `visible_from` is
from when it may be looked at. Query i sees key j iff document[i] == document[j] and visible_from[j] <= time[i].
Left-to-right, right- to-left, prefix and bidirectional attention are tables of these integers (UniLM's idea: Dong et
al. 2019, section 2).
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

PADDING = -1  # the `document` of slots that hold nothing: padding sees padding only


class Inputs(NamedTuple):
    """What a trunk is given: (B, T) int32 each, of torch in a model and of numpy, (T,), while an example is built."""

    tokens: Any  # ids
    position: Any  # 0, 1, 2, ... in each document
    segment: Any  # 0 sentence A, 1 sentence B
    document: Any  # which of the row's documents; PADDING where there is none
    time: Any  # when this token asks
    visible_from: Any  # from when others may see it

    def _repr_html_(self) -> str:
        """A notebook shows who sees whom in the first rows."""
        from masklab.models.picture import svg

        return " ".join(map(svg, visible_numpy(*[Inputs(*(np.atleast_2d(np.asarray(x)) for x in self))] * 2)[:4]))


class Layout(NamedTuple):
    """What the builder of a batch knows without looking: kernels are chosen by this, never by the tensors' contents.

    kind: bidirectional (everyone sees everyone in the document), causal (time = 0, 1, 2, ... in each document),
    general, or none (no attention: of all integers only `document` counts). full: every row is exactly one
    document and holds no padding.
    """

    kind: Literal["bidirectional", "causal", "general", "none"] = "general"
    full: bool = False


def visible(query: Inputs, key: Inputs) -> Tensor:
    """The truth: may query i look at key j? (B, 1, Tq, Tk) bool; the 1 stands for the heads, which all see the same."""
    same = query.document.unsqueeze(-1) == key.document.unsqueeze(-2)  # (B, Tq, Tk)
    return (same & (key.visible_from.unsqueeze(-2) <= query.time.unsqueeze(-1))).unsqueeze(1)


def visible_numpy(query: Inputs, key: Inputs) -> np.ndarray:
    """The same in numpy, (..., Tq, Tk), for pictures and tests."""
    same = query.document[..., :, None] == key.document[..., None, :]
    return same & (key.visible_from[..., None, :] <= query.time[..., :, None])


def same_document(query: Inputs, key: Inputs) -> Tensor:
    """All that `visible` asks when every time is 0, and all that cross attention asks: (B, 1, Tq, Tk) bool."""
    return (query.document.unsqueeze(-1) == key.document.unsqueeze(-2)).unsqueeze(1)


# One document's (time, visible_from), n int32 each.


def bidirectional(n: int) -> tuple[np.ndarray, np.ndarray]:
    """BERT: bidirectional(3) -> ([0, 0, 0], [0, 0, 0])."""
    time = np.zeros(n, np.int32)
    return time, time


def causal(n: int) -> tuple[np.ndarray, np.ndarray]:
    """GPT, left to right: causal(3) -> ([0, 1, 2], [0, 1, 2])."""
    time = np.arange(n, dtype=np.int32)
    return time, time


def backward(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Right to left: backward(3) -> ([2, 1, 0], [2, 1, 0])."""
    time = np.arange(n - 1, -1, -1, dtype=np.int32)
    return time, time


def prefix(n_prefix: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """UniLM's sequence to sequence, prefix LM: prefix(2, 4) -> ([0, 0, 1, 2], [0, 0, 1, 2])."""
    time = np.maximum(np.arange(n, dtype=np.int32) - (n_prefix - 1), 0).astype(np.int32)
    return time, time


def at_places(inputs: Inputs, at: Tensor) -> Inputs:
    """The inputs of some slots alone, e.g. of those that ask: at (B, K) int64 -> (B, K) each."""
    return Inputs(*(field.gather(1, at) for field in inputs))


def as_torch(inputs: Inputs, device: str | torch.device = "cpu") -> Inputs:
    """Numpy (B, T) or (T,) -> torch (B, T); one row gets a batch of one."""
    return Inputs(*(torch.as_tensor(np.atleast_2d(field)).to(device) for field in inputs))
