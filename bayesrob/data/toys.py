"""Toy problems in two dimensions, where a decision boundary can be drawn."""

from __future__ import annotations

import torch

from bayesrob import rng
from bayesrob.arguments import number
from bayesrob.data.dataset import Dataset
from bayesrob.data.subsets import checked_counts

__all__ = ["half_moons"]


def half_moons(n_train: int = 2000, n_test: int = 500, seed: int = 0, *, noise: float = 0.1) -> Dataset:
    """Draw two interleaving half circles, one for each class: x `[n, 2]`, two classes, bounds (0, 1).

    As in the code of Carbone et al. 2020, "Robustness of Bayesian neural networks to gradient-based attacks",
    https://arxiv.org/abs/2002.04359, each coordinate is min-max scaled to [0, 1] over all generated points, *before*
    they are cut into training and test set. The scale therefore depends on the test points too, which tells a network
    nothing about their labels, and the bounds hold for every point without clipping any.

    A smaller set is not part of a larger one: the points are evenly spaced along the moons before the noise is added.

    Args:
        n_train: number of training points (the reference code: 24,000 of 30,000).
        n_test: number of test points.
        seed: seed of the points.
        noise: standard deviation of the Gaussian noise on each coordinate before scaling, where the circles' radius is
            1 (0.1, as in the reference code).

    Raises:
        InputError: a count below 1, or a noise that is negative or not finite.

    Example:
        >>> moons = br.data.load("half_moons", n_train=20, n_test=5, noise=0.0)
        >>> moons.x_train.shape, moons.bounds
        (torch.Size([20, 2]), (0.0, 1.0))
    """
    n_train, n_test = checked_counts(n_train, n_test)
    noise = number("noise", noise, "It is a standard deviation.", least=0)
    from sklearn.datasets import make_moons  # imported here because it takes half a second

    # scikit-learn accepts seeds of 32 bits only.
    random_state = rng.derive(seed, "data", "half_moons") % 2**32
    moons = make_moons(n_train + n_test, noise=noise, random_state=random_state)
    points, y = map(torch.as_tensor, moons)
    lo, hi = points.aminmax(dim=0)
    x, y = ((points - lo) / (hi - lo)).float(), y.long()
    return Dataset("half_moons", x[:n_train], y[:n_train], x[n_train:], y[n_train:], (0.0, 1.0), num_classes=2)
