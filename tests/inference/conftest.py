from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from bayesrob import data, models, nets, rng
from bayesrob.data import Dataset
from bayesrob.models import BayesianNetwork


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    """y = x w + b + noise with a normal prior: the one model whose posterior is known exactly (weights, then bias)."""

    dataset: Dataset
    model: BayesianNetwork
    noise: float
    mean: Tensor
    precision: Tensor

    @property
    def covariance(self) -> Tensor:
        return torch.linalg.inv(self.precision)

    def predictive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of the function (without noise) at each `x`."""
        design = with_ones(x)
        return design @ self.mean, (design @ self.covariance * design).sum(1)


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)


def make_linear_gaussian(
    n: int = 30, d: int = 2, noise: float = 0.5, seed: int = 0, *, prior_scale: float = 1.0, x_scale: Tensor | float = 1.0
) -> LinearGaussian:
    g = rng.generator(seed, "tests", "linear-gaussian")
    x = torch.randn(n + 7, d, generator=g) * x_scale
    y = x @ torch.randn(d, generator=g) + 0.5 + noise * torch.randn(n + 7, generator=g)
    dataset = data.from_arrays(x[:n], y[:n], x[n:], y[n:])
    model = BayesianNetwork(nets.mlp(d, (), 1), prior_scale=prior_scale, likelihood="normal", noise_scale=noise)
    design = with_ones(x[:n])
    precision = design.T @ design / noise**2 + torch.eye(d + 1, dtype=torch.float64) / prior_scale**2
    mean = torch.linalg.solve(precision, design.T @ y[:n].double() / noise**2)
    return LinearGaussian(dataset, model, noise, mean, precision)


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Networks of a few weights only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def linear_gaussian():
    """A function that makes a linear model, its data, and its exact posterior."""
    return make_linear_gaussian


@pytest.fixture(scope="session")
def moons() -> Dataset:
    return data.load("half_moons", n_train=100, n_test=200, seed=0)


@pytest.fixture
def classifier() -> BayesianNetwork:
    """A small network that is no linear model."""
    return models.BayesianNetwork(nets.mlp(2, (4,), 2, activation="tanh"))
