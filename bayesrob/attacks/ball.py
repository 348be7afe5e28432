"""Attacks that look for the worst point of a ball of given radius."""

from __future__ import annotations

import dataclasses

from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import BallNorm, check_radius

__all__ = ["BallAttack"]


@dataclasses.dataclass(frozen=True)
class BallAttack(Attack):
    """An attack that stays in a ball around each input, cut off at the bounds of the data.

    Args:
        eps: radius, in the inputs' own unit; 0.1 of a pixel range of 1 is the MNIST setting of Carbone et al. 2020.
        norm: "l_inf" or "l_2"; the first is what most robust accuracies are reported in.
    """

    eps: float = 0.1
    norm: BallNorm = "l_inf"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.eps)
