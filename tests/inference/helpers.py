"""Chains against known moments."""

from __future__ import annotations

import arviz as az
import numpy as np
import torch

from bayesrob.models import BayesianNetwork


def by_chain(post, values: torch.Tensor) -> np.ndarray:
    """`[draw, ...]`, interleaved, to `[chain, draw, ...]`."""
    return values.reshape(-1, post.num_chains, *values.shape[1:]).transpose(0, 1).double().numpy()


def theta(post, model: BayesianNetwork) -> torch.Tensor:
    return model.flatten(post.weights)


def check_moments(values: np.ndarray, mean: np.ndarray, variance: np.ndarray, rtol: float = 0.1) -> None:
    """`[chain, draw, quantity]` has these moments: means within 3 Monte Carlo standard errors."""
    error = np.array([az.mcse(values[..., i], method="mean") for i in range(values.shape[-1])])
    assert (error < 0.1 * np.sqrt(variance)).all()  # enough draws for the next line to say something
    assert (np.abs(values.mean((0, 1)) - mean) < 3 * error).all()
    np.testing.assert_allclose(values.var((0, 1)), variance, rtol=rtol)


def correlation(covariance: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)
