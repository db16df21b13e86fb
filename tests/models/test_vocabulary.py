"""The fast vocabulary loss is the plain one, in value and gradient."""

import pytest
import torch

from masklab.models.vocabulary import IGNORE, plain_loss, vocabulary_loss


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_fast_is_plain(dtype: torch.dtype):
    torch.manual_seed(0)
    shapes = [(30, 16), (200, 16), (200,)]
    target = torch.randint(0, 200, (30,))
    target[[3, 17]] = IGNORE
    weights = torch.rand(30, dtype=torch.float64)
    values, gradients = [], []
    for loss in (plain_loss, vocabulary_loss):
        torch.manual_seed(1)
        inputs = [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]
        states, table, bias = inputs
        nats = loss(states, table, bias, target)
        values.append(nats.double())
        gradients.append([g.double() for g in torch.autograd.grad((nats * weights).sum(), inputs)])
    tolerance = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(values[1], values[0], atol=tolerance, rtol=tolerance)
    assert (values[1][[3, 17]] == 0).all()
    for fast, slow in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(fast, slow, atol=tolerance, rtol=tolerance)


def test_a_certain_model_has_no_infinite_loss():
    """Logits far apart: the softmax of the wrong token is tiny, not zero, and its logarithm finite."""
    states = torch.tensor([[40.0]], dtype=torch.bfloat16)
    table = torch.tensor([[1.0], [-1.0]], dtype=torch.bfloat16)
    nats = vocabulary_loss(states, table, torch.zeros(2), torch.tensor([1]))
    assert float(nats) == pytest.approx(80, rel=0.02)
