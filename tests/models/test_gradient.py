"""Gradients of several weight vectors, each on points of its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob.models import Categorical, FlatNetwork, LikelihoodGradient, Normal
from tests.nets.helpers import random_inputs


@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU], ids=["joined", "as they lie"])
@pytest.mark.parametrize("likelihood", [Categorical(), Normal(0.3)], ids=["classes", "regression"])
@pytest.mark.parametrize("out", [2, 3])
@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)], ids=str)
def test_each_chain_sees_its_own_points(activation, likelihood, out, shape):
    """Those that autograd finds one after the other, in float64; also of batches that were prepared together."""
    size = torch.Size(shape).numel()
    net = nn.Sequential(nn.Flatten(), nn.Linear(size, 4), activation(), nn.Linear(4, out))
    model = FlatNetwork(net.double(), likelihood)
    x = random_inputs(33, *shape).unflatten(0, (3, 11))
    y = (
        random_inputs(33, out, seed=2).unflatten(0, (3, 11))
        if likelihood == Normal(0.3)
        else torch.arange(33).view(3, 11) % out
    )
    theta = random_inputs(3, model.num_weights, seed=4)
    rows = LikelihoodGradient(model, tuple(theta.shape), x[0])
    rows.load(theta)
    sizes = [4, 4, 3]
    for batches in ([rows.data(x, y)], list(rows.split(x, y, sizes))):
        with torch.no_grad():
            totals = [rows(data, accumulate=i > 0) for i, data in enumerate(batches)]
        for k in range(3):
            leaf = theta[k].clone().requires_grad_()
            value = likelihood.total(model.outputs(leaf, x[k]), y[k])
            (gradient,) = torch.autograd.grad(value, leaf)
            torch.testing.assert_close(sum(total[k] for total in totals), value.detach(), rtol=1e-12, atol=0)
            torch.testing.assert_close(rows.gradient()[k], gradient, rtol=1e-10, atol=1e-12)
