"""Tiny models and rows that the tests of this folder share."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from masklab.models import attention
from masklab.models.config import Config, Family
from masklab.models.pattern import PADDING, Inputs, as_torch, bidirectional

FAMILIES: tuple[Family, ...] = ("bert", "mpnet", "modernbert")


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tiny(family: Family, **changes) -> Config:
    """Two layers of 32, odd enough to notice a transposed dimension."""
    values = {
        "family": family,
        "vocabulary": 90,
        "layers": 2,
        "width": 32,
        "heads": 4,
        "feed_forward": 48,
        "max_length": 40,
        "pad": 1 if family == "mpnet" else 0,
    }
    return Config(**(values | changes))


def rows(documents: Sequence[Sequence[int]], length: int, pattern=bidirectional, pad: int = 0, seed: int = 0) -> Inputs:
    """Rows of random tokens: documents[row] are the lengths of its documents, the rest of `length` is padding."""
    random = np.random.default_rng(seed)
    shape = (len(documents), length)
    fields = {name: np.zeros(shape, np.int32) for name in Inputs._fields}
    fields["tokens"][:] = pad
    fields["document"][:] = PADDING
    for row, lengths in enumerate(documents):
        begin = 0
        for number, n in enumerate(lengths):
            piece = (row, slice(begin, begin + n))
            time, visible_from = pattern(n)
            fields["tokens"][piece] = random.integers(5, 90, n)
            fields["position"][piece] = np.arange(n)
            fields["segment"][piece] = np.arange(n) * 2 // n
            fields["document"][piece] = number
            fields["time"][piece], fields["visible_from"][piece] = time, visible_from
            begin += n
    return as_torch(Inputs(**fields))


@pytest.fixture(params=FAMILIES)
def config(request) -> Config:
    return tiny(request.param)


@pytest.fixture
def make_rows():
    return rows


@pytest.fixture
def make_config():
    return tiny


@pytest.fixture
def kernels_of_gpus(monkeypatch: pytest.MonkeyPatch):
    """On CPUs: flex uncompiled, whose gradient torch then has but forbids; varlen's arithmetic document by document."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_documents)
    monkeypatch.setattr(attention, "HALF", (torch.float32, torch.bfloat16, torch.float16))


def by_documents(q, k, v, starts, starts_k, longest, longest_k, *, scale, window_size):
    """What torch.nn.attention.varlen documents, in a loop: (T, H, Dh) each."""
    assert q.shape == k.shape == v.shape
    assert starts is starts_k
    assert longest == longest_k
    pieces = []
    for begin, end in itertools.pairwise(starts.tolist()):
        assert 0 <= end - begin <= longest
        one = [x[begin:end].transpose(0, 1).float() for x in (q, k, v)]
        causal = {(-1, 0): True, (-1, -1): False}[window_size]
        pieces.append(F.scaled_dot_product_attention(*one, is_causal=causal, scale=scale).transpose(0, 1))
    return torch.cat(pieces).to(q.dtype)
