"""Linear classifiers of the world with one robust feature and d weak ones: exact, and as networks that can be attacked."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

import bayesrob as br
from bayesrob.analysis import linear_accuracy, population_svm
from bayesrob.predictive import HeldDraws, Predictive, from_modules

__all__ = ["ROUNDING", "World", "certified", "known", "linear", "linear_weights", "svm_rows"]

ROUNDING = 1e-5
"""Weights of SVMs below this are 0: their loss is known to 1e-7."""


@dataclasses.dataclass(frozen=True)
class World:
    """The distribution `robust_features`, attacked at eps = 2 eta in training as in testing.

    Args:
        d: number of weak features.
        eta: mean of the weak features.
        p: probability that the strong feature agrees with the class.
    """

    d: int
    eta: float
    p: float

    @property
    def eps(self) -> float:
        return 2 * self.eta

    def __str__(self) -> str:
        return f"d={self.d}, eta={self.eta:g}, p={self.p:g}"


def linear(weights: np.ndarray) -> Predictive:
    """The classifier sign(w . x) as a network of two classes.

    Solvers leave rounding where the optimum is 0: weights below `ROUNDING` are set to zero.
    """
    weights = np.where(np.abs(weights) > ROUNDING, weights, 0.0)
    net = br.nets.mlp(len(weights), (), 2).eval()
    layer: Any = net[-1]
    with torch.no_grad():
        layer.weight[:] = torch.stack([torch.zeros(len(weights)), torch.from_numpy(weights).float()])
        layer.bias.zero_()
    return from_modules([net], input_shape=(len(weights),), num_classes=2)


def known(w: np.ndarray, world: World, eps: list[float], bias: float = 0.0) -> np.ndarray:
    """The exact accuracy `[eps]`; w = 0 gives one class to all points and is right on half of them."""
    return linear_accuracy(w, world.eta, world.p, eps, bias).values if np.abs(w).sum() else np.full(len(eps), 0.5)


def linear_weights(post: Predictive) -> tuple[np.ndarray, np.ndarray] | None:
    """w `[draw, component]` and b `[draw]` of the log odds w . x + b; None if there is a hidden layer."""
    if not isinstance(post, HeldDraws) or len(post.weights) != 2:
        return None
    weight, bias = sorted((tensor.double().numpy() for tensor in post.weights.values()), key=lambda each: -each.ndim)
    return weight[:, 1] - weight[:, 0], bias[:, 1] - bias[:, 0]


def certified(w: np.ndarray, b: np.ndarray, dataset: br.Dataset, eps: float) -> np.ndarray:
    """Points whose averaged probability stays above 1/2 even if each draw met its own worst perturbation, `[point]`."""
    sign = 2 * dataset.y_test.numpy() - 1
    margins = sign * (w @ dataset.x_test.double().numpy().T + b[:, None]) - eps * np.abs(w).sum(-1)[:, None]
    return (0.5 * (1 + np.tanh(margins / 2))).mean(0) > 0.5


def svm_rows(dims: tuple[int, ...]) -> list[dict[str, str]]:
    """The population's SVM inside the theorem's assumptions and beyond them."""
    cases = [(d, 4 / math.sqrt(d), p) for d in dims for p in (0.75, 0.9, 0.95, 0.975)]
    cases += [(100, 0.4, 0.99), (100, 0.4, 0.999), (100, 0.3, 0.95), (100, 0.2, 0.95)]
    rows = []
    for d, eta, p in cases:
        for eps in (0.0, 2 * eta):
            w = population_svm(d, eta, p, eps)["weights"].values
            w = np.where(np.abs(w) > ROUNDING, w, 0.0)
            standard, robust, far = known(w, World(d, eta, p), [0, 2 * eta, 0.99])
            assumed = eta >= 4 / math.sqrt(d) and p <= 0.975
            claimed, holds = ("> 0.99, < 0.01", standard > 0.99 and robust < 0.01)
            if eps:
                claimed, holds = f"{p:g}, {p:g}", bool(np.isclose([standard, robust, far], p).all())
            rows.append(
                {
                    "d": str(d), "eta": f"{eta:g}", "p": f"{p:g}", "training eps": f"{eps:g}",
                    "w_1": f"{w[0]:.3f}", "weak weights' norm": f"{np.linalg.norm(w[1:]):.3f}",
                    "standard": f"{standard:.5f}", "robust at 2 eta": f"{robust:.5f}", "robust at 0.99": f"{far:.5f}",
                    "published": claimed, "assumed": "yes" if assumed else "no",
                    "in its range": "yes" if eps == 0 or eps < 2 * p - 1 else "no",
                    "holds": "yes" if holds else "no",
                }
            )  # fmt: skip
    return rows
