"""Data, networks and a closed form that the tests of trained defences share."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn

from bayesrob import data, nets, rng


def digits(n_train: int = 60, n_test: int = 20):
    return data.load("digits", n_train=n_train, n_test=n_test, seed=0)


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nets.mlp(64, (7,), 10).to(dtype)


def normalised() -> nn.Module:
    """With batch normalisation, the statistics of which are gathered while training, and dropout."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(108, 10))


def two_classes(n: int = 200, d: int = 5):
    """Overlapping, so that the best weights are finite; the last feature says nothing."""
    g = rng.generator(0, "tests", "defences")
    y = torch.arange(n) % 2
    centre = torch.tensor([1.0, 0.7, -0.5, 0.3, 0.0])[:d]
    x = (2 * y[:, None] - 1) * centre + 1.5 * torch.randn(n, d, generator=g)
    return data.from_arrays(x, y, x[:10], y[:10], num_classes=2)


def bits(post) -> Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(post.contents()[0].items())])


def robust_logistic(x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """min over w, b of mean log(1 + exp(-(y (w x + b) - eps ||w||_1))) with y = +-1: convex, by w = p - q, p, q >= 0."""
    n, d = x.shape

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        p, q, b = theta[:d], theta[d : 2 * d], theta[-1]
        margin = y * (x @ (p - q) + b) - eps * (p + q).sum()
        slope = -1 / (1 + np.exp(margin)) / n
        by_w, by_norm = x.T @ (slope * y), -eps * slope.sum()
        return float(np.logaddexp(0, -margin).mean()), np.concatenate([by_w + by_norm, by_norm - by_w, [(slope * y).sum()]])

    bounds = [(0, None)] * (2 * d) + [(None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}
    found = scipy.optimize.minimize(value_and_gradient, np.full(2 * d + 1, 0.1), jac=True, bounds=bounds, options=options)
    return np.concatenate([found.x[:d] - found.x[d : 2 * d], found.x[-1:]])
