"""Fast gradient sign method."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from bayesrob.attacks.base import Attack, check_attack_draws, check_attack_objective, check_ball, next_seed
from bayesrob.attacks.geometry import clip, steepest
from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["FGSM"]


@dataclasses.dataclass(frozen=True)
class FGSM(Attack):
    """One step of length eps along the sign of the averaged input gradient.

    x + eps * sign(mean over draws of the loss gradient) (Goodfellow et al. 2015; on a posterior Carbone et al. 2020,
    equation 2), clipped to the bounds; for l_2 along the normalised gradient. A component whose gradient is exactly zero
    stays where it is.

    Args:
        eps: radius in the inputs' own unit; 0.1 of a pixel range of 1 is the papers' MNIST setting.
        norm: "l_inf" or "l_2".
        objective: which average is climbed, see `predictive.objectives`.
        num_draws: draws to average (the first of held ones, new ones of fresh); None: the predictive's own number.
    """

    eps: float = 0.1
    norm: Literal["l_inf", "l_2"] = "l_inf"
    objective: str = "expected_loss"
    num_draws: int | None = None

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_attack_objective(self.objective)
        check_attack_draws(self.num_draws)

    def perturb(self, predictive: Predictive, x: Batch, y: Labels, generator: torch.Generator) -> Batch:
        gradient = predictive.input_gradient(x, y, self.objective, self.num_draws, next_seed(generator))
        return clip(x + self.eps * steepest(gradient, self.norm), predictive.bounds)
