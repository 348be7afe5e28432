"""Worlds whose p(x, y) is known, how they are attacked, and the classifiers that can be written down for each."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob.predictive import Predictive, from_modules
from shared.linear_worlds import linear

__all__ = ["ETA", "WORLDS", "P", "World", "rules"]

P, ETA = 0.9, 3.0
"""The parameters of the toy in Stutz's article."""


@dataclasses.dataclass(frozen=True)
class World:
    """A data set whose truth is known, and how it is attacked.

    Args:
        data: name of the data set.
        settings: the arguments of the data set.
        norm: norm of the attacks.
        radii: radii of the attacks.
        trained: radius of PGD in training.
        hidden: units of the networks' one or two hidden layers; () for linear models.
    """

    data: str
    settings: dict[str, Any]
    norm: Any
    radii: tuple[float, ...]
    trained: float
    hidden: tuple[int, ...]


WORLDS = {
    "two points": World("two_points", {"eps": 0.1}, "l_inf", (0.04, 0.1), 0.04, (32,)),
    "toy": World("tradeoff_toy", {"p": P, "eta": ETA}, "l_inf", (0.9, 2 * ETA), 0.9, (32,)),
    "weak features": World("robust_features", {"d": 100, "eta": 0.4, "p": 0.95}, "l_inf", (0.4, 0.8), 0.8, ()),
    "spheres": World("sphere", {"d": 3}, "l_2", (0.1, 0.3), 0.1, (32, 32)),
    "moons": World("moons", {}, "l_2", (0.2, 0.5), 0.2, (32, 32)),
}


class NearestNeighbour(nn.Module):
    """Minus the distance to the nearest training point of each class, times 20.

    Args:
        dataset: the data whose training points are the neighbours.
    """

    def __init__(self, dataset: br.Dataset):
        super().__init__()
        for label in (0, 1):
            self.register_buffer(f"points_{label}", dataset.x_train[dataset.y_train == label])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-20 * torch.cdist(x, self.get_buffer(f"points_{label}")).amin(1) for label in (0, 1)], 1)


class Between(nn.Module):
    """The classifier that decides by the sphere in the middle, the Bayes classifier of pi(x).

    Args:
        middle: radius of that sphere.
    """

    def __init__(self, middle: float):
        super().__init__()
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        off = 20 * (x.norm(dim=1) - self.middle)
        return torch.stack([-off, off], 1)


class BayesOfProjection(nn.Module):
    """The log probabilities log p(y | pi(x)) of the toy, where they have a gradient along x_2.

    Args:
        dataset: the data whose truth is known.
    """

    def __init__(self, dataset: br.Dataset):
        super().__init__()
        self.dataset = dataset

    def forward(self, x: Tensor) -> Tensor:
        return self.dataset.conditional(self.dataset.project(x)).clamp_min(1e-300).log().to(x)


def rules(world: World, dataset: br.Dataset) -> dict[str, Predictive]:
    """The classifiers of a world that can be written down, by name."""
    size = dataset.shape[0]

    def module(net: nn.Module) -> Predictive:
        return from_modules([net.eval()], input_shape=dataset.shape, num_classes=2)

    if world.data == "two_points":
        middle = float(dataset.x_train.max()) / 2
        net = br.nets.mlp(1, (), 2)
        layer: Any = net[-1]
        with torch.no_grad():
            layer.weight[:] = torch.tensor([[1.0], [-1.0]])
            layer.bias[:] = torch.tensor([-middle, middle])
        return {"threshold at eps/2": module(net)}
    if world.data in ("tradeoff_toy", "robust_features"):
        p, eta = world.settings["p"], world.settings["eta"]
        weights = {"x_1 alone": [1.0, *[0] * (size - 1)], "weak alone": [0, *[1 / (size - 1)] * (size - 1)]}
        weights["Bayes, linear"] = [math.log(p / (1 - p)), *[2 * eta] * (size - 1)]
        classifiers = {name: linear(np.array(w)) for name, w in weights.items()}
        return {**classifiers, "Bayes of pi(x)": module(BayesOfProjection(dataset))}
    classifiers = {"nearest neighbour": module(NearestNeighbour(dataset))}
    if world.data == "sphere":
        classifiers["Bayes of pi(x)"] = module(Between((1 + dataset.truth.radius) / 2))  # pyright: ignore
    return classifiers
