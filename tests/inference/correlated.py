"""A linear model whose weights are correlated in the posterior, and its exact bounds."""

from __future__ import annotations

import math

import torch

from bayesrob import data, nets, rng
from bayesrob.models import BayesianNetwork
from tests.inference.conftest import LinearGaussian, with_ones


def make_correlated(n=60, d=3, noise=0.3, seed=0, shared=0.9) -> LinearGaussian:
    """A linear model whose inputs share most of their variance, so that its weights are correlated in the posterior."""
    g = rng.generator(seed, "tests", "correlated")
    x = shared**0.5 * torch.randn(n, 1, generator=g) + (1 - shared) ** 0.5 * torch.randn(n, d, generator=g)
    y = x @ torch.randn(d, generator=g) + 0.5 + noise * torch.randn(n, generator=g)
    model = BayesianNetwork(nets.mlp(d, (), 1), likelihood="normal", noise_scale=noise)
    design = with_ones(x)
    precision = design.T @ design / noise**2 + torch.eye(d + 1, dtype=torch.float64)
    mean = torch.linalg.solve(precision, design.T @ y.double() / noise**2)
    return LinearGaussian(data.from_arrays(x, y, x[:5], y[:5]), model, noise, mean, precision)


def elbo(exact, loc, covariance):
    """E_q log p(y | w) - KL(q || N(0, 1)) of a normal q, in closed form; at the posterior, the log evidence."""
    design, y = with_ones(exact.dataset.x_train), exact.dataset.y_train[:, 0].double()
    squares = (y - design @ loc).square() + (design @ covariance * design).sum(1)
    log_likelihood = -0.5 * squares.sum() / exact.noise**2 - len(y) * math.log(exact.noise * math.sqrt(2 * math.pi))
    kl = 0.5 * (covariance.trace() + loc.square().sum() - len(loc) - covariance.logdet())
    return float(log_likelihood - kl)


def log_evidence(exact):
    """log N(y; 0, X X' + noise^2), which needs no posterior."""
    design, y = with_ones(exact.dataset.x_train), exact.dataset.y_train[:, 0].double()
    covariance = design @ design.T + exact.noise**2 * torch.eye(len(y), dtype=torch.float64)
    return float(torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y))
