from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from bayesrob.numerics import categorical_log_likelihood, log_mean_exp

LABELS = torch.tensor([0, 2, 1, 1])


def random_logits(*shape: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_log_mean_exp_is_what_it_says(dim):
    values = random_logits(3, 4, 5)
    torch.testing.assert_close(log_mean_exp(values, dim), values.exp().mean(dim).log(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_log_mean_exp_never_leaves_log_space(shift):
    values = random_logits(6)
    torch.testing.assert_close(log_mean_exp(values + shift) - shift, log_mean_exp(values), rtol=0, atol=1e-10)


def test_log_mean_exp_of_one_value_is_the_value():
    assert log_mean_exp(torch.tensor([[-3.5, 2.0]])).tolist() == [-3.5, 2.0]


@pytest.mark.parametrize("draws", [(), (5,), (2, 3)])
def test_log_likelihood_is_the_gathered_log_softmax(draws):
    logits = random_logits(*draws, 4, 3).requires_grad_()
    plain = logits.log_softmax(-1).gather(-1, LABELS.expand(*draws, 4).unsqueeze(-1)).squeeze(-1)
    (expected,) = torch.autograd.grad(plain.square().sum(), logits)
    ours = categorical_log_likelihood(logits, LABELS)
    (gradient,) = torch.autograd.grad(ours.square().sum(), logits)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13)


@settings(deadline=None)
@given(gap=st.floats(-200, 200))
def test_float64_value_over_the_whole_range(gap):
    logits = torch.tensor([[gap, 0.0, -1.0]], dtype=torch.float64)
    expected = -cross_entropy(logits, torch.tensor([0]))
    torch.testing.assert_close(categorical_log_likelihood(logits, torch.tensor([0]))[0], expected, rtol=1e-12, atol=3e-16)


@pytest.mark.parametrize("gap", [10.0, 20.0, 40.0, 80.0])
def test_float32_gradient_of_a_confident_network(gap):
    """d/d true = 1 - p_true and d/d wrong = -p_wrong, both without rounding against one."""
    logits = torch.tensor([[gap, 0.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(categorical_log_likelihood(logits, torch.tensor([0])).sum(), logits)
    p = torch.tensor([gap, 0.0, -1.0], dtype=torch.float64).softmax(0)
    exact = torch.stack([p[1] + p[2], -p[1], -p[2]])[None]
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=0)


def test_cross_entropy_loses_that_gradient():
    """Why the function exists: if torch ever gets this right, it can go."""
    logits = torch.tensor([[40.0, 0.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])), logits)
    assert gradient[0, 0] == 0


def test_confidently_wrong_has_the_full_gradient():
    logits = torch.tensor([[-200.0, 0.0]], requires_grad=True)
    value = categorical_log_likelihood(logits, torch.tensor([0])).sum()
    assert value == -200
    assert torch.autograd.grad(value, logits)[0].tolist() == [[1.0, -1.0]]
