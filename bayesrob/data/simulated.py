"""The simulated problems of the seed paper on bias and variance under attack (section 3.1), whose truth is known."""

from __future__ import annotations

import dataclasses
import math
import numbers

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.data import subsets
from bayesrob.data.dataset import Dataset
from bayesrob.data.truth import Truth, phi
from bayesrob.errors import InputError

__all__ = ["TARGET", "GaussianClasses", "simulated_classes", "simulated_regression", "simulated_target"]

TARGET = ((1.0, -2.0), 0.5)
"""Weights and bias of the linear target; the paper does not give its own."""


def simulated_target(x: Tensor) -> Tensor:
    """The true f `[n, 1]` of `simulated_regression` at x `[n, 2]`, without noise."""
    weights, bias = TARGET
    return x @ x.new_tensor(weights)[:, None] + bias


def simulated_regression(n_train: int = 1000, n_test: int = 1000, seed: int = 0, noise: float = 0.5) -> Dataset:
    """x uniform in [-1, 1]^2 -> y = f(x) + u, f linear, u uniform in [-noise, noise]: variance noise^2 / 3.

    The paper names R^2, a linear target and uniform noise; range, weights and noise are ours. Inputs have no bounds.

    Args:
        n_train, n_test: points. seed: of points and noise. noise: half the length of the noise's interval.

    Raises:
        InputError: a count below 1, a noise that is negative or not finite.
    """
    n_train, n_test = subsets.check_count("n_train", n_train), subsets.check_count("n_test", n_test)
    if isinstance(noise, bool) or not isinstance(noise, numbers.Real) or not 0 <= noise < math.inf:
        raise InputError(f"noise is {noise!r}.", "It is half a length.", "Pass a finite number of at least 0.")
    generator = rng.generator(seed, "data", "simulated_regression")
    x = 2 * torch.rand(n_train + n_test, 2, generator=generator) - 1
    y = simulated_target(x) + float(noise) * (2 * torch.rand(len(x), 1, generator=generator) - 1)
    return Dataset("simulated_regression", x[:n_train], y[:n_train], x[n_train:], y[n_train:], None, num_classes=None)


def simulated_classes(n_train: int = 1000, n_test: int = 1000, seed: int = 0, separation: float = 10.0) -> Dataset:
    """x in R^50 from N(0, 1) (class 0) or N(separation, 1) (class 1) in every component, each class half of the points.

    The best classifier compares the mean component with separation / 2, and is wrong with probability
    Phi(-separation sqrt(50) / 2): at the paper's separation of 10, never.

    Args:
        n_train, n_test: points; of an odd number class 0 has one more. seed: of points and order.
        separation: distance of the classes in each component; 10 is the paper's.

    Raises:
        InputError: a count below 1, a separation that is not finite.
    """
    n_train, n_test = subsets.check_count("n_train", n_train), subsets.check_count("n_test", n_test)
    if isinstance(separation, bool) or not isinstance(separation, numbers.Real) or not math.isfinite(separation):
        raise InputError(f"separation is {separation!r}.", "It is a distance.", "Pass a finite number.")
    generator = rng.generator(seed, "data", "simulated_classes")
    parts = []
    for count in (n_train, n_test):
        y = (torch.arange(count) % 2)[torch.randperm(count, generator=generator)]
        parts += [torch.randn(count, 50, generator=generator) + float(separation) * y[:, None], y]
    truth = GaussianClasses(float(separation))
    return Dataset("simulated_classes", *parts, bounds=None, num_classes=2, truth=truth)


@dataclasses.dataclass(frozen=True)
class GaussianClasses(Truth):
    """The distribution of `simulated_classes`; its support is the whole space."""

    separation: float

    def conditional(self, x: Tensor) -> Tensor:
        log_odds = self.separation * (x.double() - self.separation / 2).sum(1)
        return torch.stack([(-log_odds).sigmoid(), log_odds.sigmoid()], dim=1)

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """Known in l_inf and l_2: carrying both means towards each other is the worst that can be done."""
        reach = {"l_inf": eps * math.sqrt(50), "l_2": eps}.get(norm)
        return None if reach is None else phi(max(abs(self.separation) * math.sqrt(50) / 2 - reach, 0.0))
