"""What docs/word-vector-losses.md names is there, and what it says of the optimum of negative sampling holds."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "word-vector-losses.md").read_text("utf-8")


def test_every_kernel_and_test_that_the_page_names_is_there():
    named = re.findall(r"`(\w+\.py): (\w+)`", PAGE)
    assert len(named) > 20
    for file, function in named:
        folder = ROOT / "tests/word_vectors" if file.startswith("test_") else ROOT / "src/masklab/word_vectors"
        assert f"def {function}(" in (folder / file).read_text("utf-8"), f"{file} has no {function}"


def test_the_gradient_of_the_full_softmax_is_seen_minus_expected():
    random = np.random.default_rng(0)
    x, y = (torch.from_numpy(random.normal(size=size)).requires_grad_() for size in (4, (7, 4)))
    (-torch.log_softmax(y @ x, 0)[2]).backward()
    slope = torch.eye(7, dtype=torch.float64)[2] - torch.softmax(y @ x, 0)
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, -slope @ y)
    assert torch.allclose(y.grad, -torch.outer(slope, x))


@pytest.mark.parametrize("k", [1, 5])
def test_negative_sampling_is_least_at_the_shifted_mutual_information(k):
    pairs, given, noise = 30.0, 200.0, 0.04  # n_cv, n_c, q(v)
    z = torch.tensor(np.log(pairs / (given * noise)) - np.log(k), requires_grad=True)
    loss = -pairs * torch.nn.functional.logsigmoid(z) - k * given * noise * torch.nn.functional.logsigmoid(-z)
    loss.backward()
    assert z.grad is not None
    assert abs(z.grad.item()) < 1e-9
