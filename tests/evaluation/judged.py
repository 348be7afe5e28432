"""Evaluations of a model whose robustness is known, and what their checks say."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import xarray as xr
from torch import nn

from bayesrob import data
from bayesrob.attacks import Attack
from bayesrob.predictive import HeldDraws

EPS = 0.1
BALL = "l_inf <= 0.1"


@dataclasses.dataclass(frozen=True)
class Moved(Attack):
    """Adds `by` to every component, whatever the radius, and takes `steps` for it."""

    by: float = 0.0
    eps: float = EPS
    norm: str = "l_inf"
    steps: int = 5

    def perturb(self, victim, x, generator):
        return x + self.by


@dataclasses.dataclass(frozen=True)
class GivesUp(Attack):
    """Looks for the smallest perturbation, but no further than 0.15."""

    norm: str = "l_inf"
    minimal: ClassVar[bool] = True

    def perturb(self, victim, x, generator):
        return x + 0.15


def linear(num_draws: int = 1, slope: float = 10.0) -> HeldDraws:
    """Class 1 where the sum of four features exceeds 2: a point is as far from that, in l_inf, as its features lack."""
    weight = slope / 2 * torch.tensor([[-1.0] * 4, [1.0] * 4])
    bias = slope * torch.tensor([[1.0, -1.0]])
    weights = {"1.weight": weight.expand(num_draws, 2, 4).clone(), "1.bias": bias.expand(num_draws, 2).clone()}
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    return HeldDraws(net, weights, bounds=(0.0, 1.0), input_shape=(4,), out_features=2)


def points(*distances: float) -> data.Dataset:
    """Ten points of class 0 at each of these distances."""
    x = 0.5 - torch.tensor(distances).repeat_interleave(10)[:, None].expand(-1, 4).clone()
    labels = torch.zeros(len(x), dtype=torch.long)
    return data.from_arrays(x, labels, x, labels, bounds=(0, 1), num_classes=2)


def found(tree: xr.DataTree, check: str, attack: str) -> xr.Dataset:
    return tree["checks"].to_dataset().sel(check=check, attack=attack)


def said(tree: xr.DataTree, attack: str) -> str:
    return tree["robustness"]["verdict"].sel(attack=attack).item()


def worst(tree: xr.DataTree, threat: str = BALL) -> str:
    return tree["robustness"]["worst_case_verdict"].sel(threat=threat).item()


NEAR_AND_FAR = points(0.05, 0.2)
