"""What every attack has in common: its inputs are checked before any work, its outputs after."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from bayesrob import rng
from bayesrob.attacks.geometry import NORMS
from bayesrob.errors import BayesrobError, InputError, check_name
from bayesrob.numerics import products
from bayesrob.predictive import OBJECTIVES, Predictive
from bayesrob.predictive.checks import check_num_draws
from bayesrob.types import Batch, Labels

__all__ = ["Attack"]


@dataclasses.dataclass(frozen=True)
class Attack(abc.ABC):
    """Perturb inputs so that the posterior predictive no longer gives the labels; fields are the attack's settings."""

    def __call__(self, predictive: Predictive, x: Tensor, y: Tensor, seed: int = 0) -> Batch:
        """Adversarial versions of `x`, `[batch, *shape]`.

        Args:
            predictive: what is attacked; its `bounds` are kept to (None: unclipped).
            x: inputs `[batch, *shape]`, inside the bounds. y: their true labels.
            seed: fixes every random choice of the attack, also which fresh draws it sees.

        Raises:
            InputError: shapes, labels or values that do not fit, before any work.
            BayesrobError: the attack ran into gradients that are not finite.
        """
        if not isinstance(predictive, Predictive):
            raise InputError(
                f"The attack got a {type(predictive).__name__}.",
                "It sees a model as a distribution over functions.",
                "Wrap trained networks with predictive.from_modules([net]).",
            )
        predictive.check_inputs(x)
        predictive.check_labels(x, y)
        generator = rng.generator(seed, type(self).__name__)
        if len(x) == 0:
            return x.clone()
        with torch.no_grad(), products(predictive.net):
            attacked = self.perturb(predictive, x.detach(), y, generator)
        lost = int((~attacked.isfinite()).flatten(1).any(1).sum())
        if lost:
            raise BayesrobError(
                f"{type(self).__name__} ended at NaN or infinity for {lost} of {len(x)} points.",
                "The model's gradient is not finite there; calling these points robust would be wrong.",
                "Check the weights and logits for overflow.",
            )
        return attacked

    @abc.abstractmethod
    def perturb(self, predictive: Predictive, x: Batch, y: Labels, generator: torch.Generator) -> Batch:
        """The attack itself, on checked inputs; `generator` lives on the CPU."""

    @property
    def only_accuracy(self) -> bool:
        """Whether points are left as soon as they are misclassified, so that no other score of the result means anything."""
        return False

    def settings(self) -> dict[str, Any]:
        """Name and fields, for the record of a result."""
        return {"attack": type(self).__name__, **dataclasses.asdict(self)}


def check_ball(eps: float, norm: str) -> None:
    """Raise unless `eps` is a radius and `norm` one of `geometry.NORMS`."""
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not math.isfinite(eps) or eps < 0:
        raise InputError(
            f"eps is {eps!r}.",
            "It is the radius of the ball that the attack stays in, in the inputs' own unit.",
            "Give a finite number >= 0, e.g. 0.1 for pixels in [0, 1].",
        )
    check_name("norm", norm, NORMS)


def check_attack_objective(objective: str) -> None:
    """Raise `UnknownNameError` unless `objective` is one of the predictive's."""
    check_name("objective", objective, OBJECTIVES)


def check_attack_draws(num_draws: int | None) -> None:
    """Raise unless `num_draws` is None or a number of draws."""
    if num_draws is not None:
        check_num_draws(num_draws)


def next_seed(generator: torch.Generator) -> int:
    """A seed for fresh draws of a Predictive."""
    return int(torch.randint(2**62, (), generator=generator))
