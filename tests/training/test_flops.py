"""The count of operations equals what torch itself counts, product by product."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from masklab.models.config import Config
from masklab.models.heads import LMHead, MaskedLMHead
from masklab.models.pattern import Inputs, Layout
from masklab.models.transformer import Memory, Model
from masklab.training.flops import PARTS, flops, peak

SHAPE = Config(vocabulary=90, layers=3, width=32, heads=4, feed_forward=48, max_length=40, pad=1)
SHAPES = {
    "bert": SHAPE,
    "modernbert": replace(SHAPE, family="modernbert"),
    "electra": replace(SHAPE, family="electra", inner=16),
    "t5": replace(SHAPE, family="t5", key_width=16, decoder_layers=2),
    "t5 gated": replace(SHAPE, family="t5", decoder_layers=2, gated=True, tied=False),
}


def rows(count: int, length: int) -> Inputs:
    zeros = torch.zeros(count, length, dtype=torch.int32)
    time = torch.arange(length, dtype=torch.int32).expand(count, length)
    return Inputs(zeros + 5, time, zeros, zeros, time, time)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backward", [False, True])
def test_equal_to_torch_s_own_count(name: str, backward: bool):
    config = SHAPES[name]
    model = Model(config, "plain")
    decoding = config.family == "t5"
    head: nn.Module = LMHead(config, model.embeddings) if decoding else MaskedLMHead(config, model.embeddings)
    inputs, at = rows(2, 20), torch.tensor([[3, 4, 7], [1, 0, 2]])
    layout = Layout("general")
    with FlopCounterMode(display=False) as counter:
        if decoding:
            assert model.decoder is not None
            memory = Memory(model(inputs, layout=layout).last, inputs)
            states = model.decoder(rows(2, 9), layout=layout, at=at, memory=memory).last
        else:
            states = model(inputs, layout=layout, at=at).last
        out = head(states)
        if backward:
            out.sum().backward()
    found = flops(config, 2, 20, 6, written=9 if decoding else 0, backward=backward)
    assert tuple(found) == PARTS
    assert sum(found.values()) == counter.get_total_flops()


def test_six_operations_for_each_parameter_and_token():
    """BERT-base at every slot: 6 x the weights of its matrices, and 12 x layers x slots x width for the attention."""
    config = Config()
    matrices = 12 * (4 * 768**2 + 2 * 768 * 3072) + 768**2 + 768 * 30522
    expected = 6 * 256 * matrices + 12 * 12 * 256 * 128 * 768
    assert sum(flops(config, 2, 128).values()) == expected
    assert sum(flops(config, 2, 128, 38).values()) < expected
    assert flops(config, 2, 128, seen=64)["attention"] < flops(config, 2, 128)["attention"]


def test_the_peak_is_a_rate():
    assert 1e8 < peak(torch.device("cpu"), "fp32", 0.01) < 1e14
