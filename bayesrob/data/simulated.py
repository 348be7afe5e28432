"""The simulated regression and classification of Aboutalebi et al. 2020 (section 3.1), whose distributions are known.

The paper is "Vulnerability under adversarial machine learning: bias or variance?", https://arxiv.org/abs/2008.00138.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import number
from bayesrob.data.dataset import Dataset
from bayesrob.data.subsets import alternating_labels, checked_counts
from bayesrob.data.truth import Truth, phi

__all__ = ["TARGET", "GaussianClasses", "simulated_classes", "simulated_regression", "simulated_target"]

TARGET = ((1.0, -2.0), 0.5)
"""Weights and bias of the linear target. The paper does not give its own."""


def simulated_target(x: Tensor) -> Tensor:
    """Return the noiseless target of `simulated_regression`.

    Args:
        x: inputs `[n, 2]`.

    Returns:
        The true f(x), `[n, 1]`.

    Example:
        >>> import torch
        >>> br.data.simulated_target(torch.zeros(3, 2)).shape
        torch.Size([3, 1])
    """
    weights, bias = TARGET
    return x @ x.new_tensor(weights)[:, None] + bias


def simulated_regression(n_train: int = 1000, n_test: int = 1000, seed: int = 0, *, noise: float = 0.5) -> Dataset:
    """Draw x uniformly from [-1, 1]^2 and y = f(x) + u, where f is linear and u is uniform noise.

    The paper gives the dimension, a linear target and uniform noise; the range of x, the weights and the noise's size are
    chosen here. The inputs have no bounds.

    Args:
        n_train: number of training points.
        n_test: number of test points.
        seed: seed of the points and the noise.
        noise: half the length of the interval [-noise, noise] that u is drawn from, so that its variance is noise^2 / 3.

    Raises:
        InputError: a count below 1, or a noise that is negative or not finite.

    Example:
        >>> line = br.data.load("simulated_regression", n_train=20, n_test=5, noise=0.0)
        >>> bool((line.y_train == br.data.simulated_target(line.x_train)).all())
        True
    """
    n_train, n_test = checked_counts(n_train, n_test)
    noise = number("noise", noise, "It is half the length of the noise's interval.", least=0)
    generator = rng.generator(seed, "data", "simulated_regression")
    x = 2 * torch.rand(n_train + n_test, 2, generator=generator) - 1
    y = simulated_target(x) + noise * (2 * torch.rand(len(x), 1, generator=generator) - 1)
    return Dataset("simulated_regression", x[:n_train], y[:n_train], x[n_train:], y[n_train:], None, num_classes=None)


def simulated_classes(n_train: int = 1000, n_test: int = 1000, seed: int = 0, *, separation: float = 10.0) -> Dataset:
    """Draw two Gaussian classes in R^50: every component is N(0, 1) in class 0 and N(separation, 1) in class 1.

    Half of the points are of each class; of an odd number class 0 has one more. The best classifier compares the mean
    component with separation / 2, and its error rate is Phi(-separation sqrt(50) / 2): zero in float64 at the paper's
    separation of 10.

    Args:
        n_train: number of training points.
        n_test: number of test points.
        seed: seed of the points and their order.
        separation: distance between the classes in each component (10, as in the paper).

    Raises:
        InputError: a count below 1, or a separation that is not finite.

    Example:
        >>> classes = br.data.load("simulated_classes", n_train=20, n_test=4)
        >>> classes.shape, classes.y_test.bincount().tolist()
        ((50,), [2, 2])
    """
    n_train, n_test = checked_counts(n_train, n_test)
    separation = number("separation", separation, "It is the distance between the classes in each component.")
    generator = rng.generator(seed, "data", "simulated_classes")
    parts = []
    for count in (n_train, n_test):
        y = alternating_labels(count, generator)
        parts += [torch.randn(count, 50, generator=generator) + separation * y[:, None], y]
    truth = GaussianClasses(separation)
    return Dataset("simulated_classes", *parts, bounds=None, num_classes=2, truth=truth)


@dataclasses.dataclass(frozen=True)
class GaussianClasses(Truth):
    """The distribution of `simulated_classes`, whose support is the whole space.

    Args:
        separation: distance between the classes in each component.
    """

    separation: float

    def conditional(self, x: Tensor) -> Tensor:
        log_odds = self.separation * (x.double() - self.separation / 2).sum(1)
        return torch.stack([(-log_odds).sigmoid(), log_odds.sigmoid()], dim=1)

    def robust_accuracy(self, eps: float, norm: str) -> float | None:
        """Known in l_inf and l_2, where the worst attack moves the means of both classes towards each other."""
        reach = {"l_inf": eps * math.sqrt(50), "l_2": eps}.get(norm)
        return None if reach is None else phi(max(abs(self.separation) * math.sqrt(50) / 2 - reach, 0.0))
