"""Predictives with known worst cases, and the cheap settings under which every attack is tested."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob import nets
from bayesrob.attacks import ATTACKS, FGSM, Attack
from bayesrob.attacks.autoattack import VERSIONS
from bayesrob.predictive import GaussianDraws, HeldDraws
from bayesrob.types import Bounds
from tests.nets.helpers import random_inputs, random_weights

SHAPE = (2, 3)
CLASSES = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One attack under test.

    Args:
        random: whether the attack uses random numbers.
        settings: cheap settings other than `eps` and `norm`.
        ball: whether it stays in a ball of radius `eps`; an attack that does not (minimal perturbations, BV) must stay
            within the bounds, unless it is `unclipped`.
        unclipped: whether it may leave the bounds.
        needed: settings without which it does not run, and which no record can hold.
    """

    random: bool
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    ball: bool = True
    unclipped: bool = False
    needed: dict[str, Any] = dataclasses.field(default_factory=dict)


# AutoAttack's versions have 100 steps and more for each point, and no setting for that.
VERSIONS["brief"] = lambda eps, norm, common: [
    dataclasses.replace(member, steps=6) for member in VERSIONS["rand"](eps, norm, common)
]

SURROGATE_SEED = 17


def surrogate() -> HeldDraws:
    """Another posterior over the same inputs."""
    net = nets.mlp(6, (5,), CLASSES, activation="tanh")
    return HeldDraws(net, random_weights(net, 5, seed=SURROGATE_SEED, dtype=torch.float32), input_shape=SHAPE)


REGISTRY: dict[str, Row] = {
    "APGD": Row(random=True, settings={"steps": 8, "restarts": 2}),
    "AutoAttack": Row(random=True, settings={"version": "brief"}),
    "BiasAttack": Row(random=False, ball=False, unclipped=True),
    "BIM": Row(random=False, settings={"steps": 4}),
    "Boundary": Row(random=True, settings={"steps": 20}, ball=False),
    "BV": Row(random=False, ball=False, unclipped=True),
    "CarliniWagner": Row(random=False, settings={"steps": 30, "searches": 3, "lr": 0.1}, ball=False),
    "DeepFool": Row(random=False, ball=False),
    "FAB": Row(random=False, settings={"steps": 10}, ball=False),
    "FGSM": Row(random=False),
    "JSMA": Row(random=False, settings={"gamma": 1.0}, ball=False),
    "LeastLikely": Row(random=False, settings={"steps": 4}),
    "LocalSearch": Row(random=True, settings={"rounds": 4}, ball=False),
    "MIFGSM": Row(random=False, settings={"steps": 4}),
    "NES": Row(random=True, settings={"steps": 3}),
    "PGD": Row(random=True, settings={"steps": 4, "restarts": 2}),
    "Random": Row(random=True),
    "RandomSearch": Row(random=True, settings={"samples": 20}),
    "SinglePixel": Row(random=True, ball=False),
    "SmallestFGSM": Row(random=False, settings={"grid": 50}, ball=False),
    "Square": Row(random=True, settings={"queries": 30}),
    "TargetedFGSM": Row(random=False),
    "Transfer": Row(random=False, settings={"attack": FGSM(0.2)}, ball=False, needed={"surrogate": surrogate()}),
    "VarianceAttack": Row(random=False, ball=False, unclipped=True),
}
"""A new attack adds its row here, and the contract tests run on it."""

ALL = [
    (name, norm)
    for name in REGISTRY
    for norm in (ATTACKS[name].norms if "norm" in ATTACKS[name].__dataclass_fields__ else ("",))
]
BALLS = [(name, norm) for name, norm in ALL if REGISTRY[name].ball]
OBJECTIVE = [
    (name, norm) for name, norm in ALL if "objective" in ATTACKS[name].__dataclass_fields__ and not ATTACKS[name].minimal
]
AWAY = [(name, norm) for name, norm in OBJECTIVE if ATTACKS[name]().target is None]
"""Those that climb the true class's loss."""


def having(field: str) -> list[str]:
    """Attacks with a setting of that name."""
    return [name for name in REGISTRY if field in ATTACKS[name].__dataclass_fields__]


def usual(name: str, **settings: Any) -> Attack:
    """With its defaults."""
    return ATTACKS[name](**REGISTRY[name].needed, **settings)


def attack(name: str, norm: str, eps: float = 0.3, **settings: Any) -> Attack:
    settings = {**REGISTRY[name].needed, **REGISTRY[name].settings, **settings}
    if norm:
        settings["norm"] = norm
    if REGISTRY[name].ball:
        settings["eps"] = eps
    return ATTACKS[name](**settings)


def held(num_draws: int = 5, bounds: Bounds | None = (0, 1)) -> HeldDraws:
    net = nets.mlp(6, (5,), CLASSES, activation="tanh")
    return HeldDraws(net, random_weights(net, num_draws, dtype=torch.float32), bounds=bounds, input_shape=SHAPE)


def fresh(num_draws: int = 5, bounds: Bounds | None = (0, 1)) -> GaussianDraws:
    net = nets.mlp(6, (5,), CLASSES, activation="tanh")
    loc = {name: tensor[0] for name, tensor in random_weights(net, 1, dtype=torch.float32).items()}
    scale = {name: torch.full_like(tensor, 0.5) for name, tensor in loc.items()}
    return GaussianDraws(net, loc, scale, num_draws=num_draws, bounds=bounds, input_shape=SHAPE)


def data(num_points: int = 8) -> tuple[Tensor, Tensor]:
    """Points of the unit cube, some with components on its faces."""
    x = (1.4 * random_inputs(num_points, *SHAPE, seed=7, dtype=torch.float32) - 0.2).clamp(0, 1)
    return x, torch.arange(num_points) % CLASSES


def linear(weight: Tensor, bias: Tensor | None = None, bounds: Bounds | None = None) -> HeldDraws:
    """Draws of linear classifiers from `weight` `[draw, class, feature]`, in float64."""
    draws, classes, features = weight.shape
    net: nn.Module = nets.mlp(features, (), classes)
    bias = torch.zeros(draws, classes) if bias is None else bias
    return HeldDraws(net, {"1.weight": weight.double(), "1.bias": bias.double()}, bounds=bounds).double()
