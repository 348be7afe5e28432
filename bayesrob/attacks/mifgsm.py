"""Momentum iterative fast gradient sign method."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from bayesrob.attacks.base import Attack, check_at_least, check_positive
from bayesrob.attacks.geometry import norms, per_point, project, steepest
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError
from bayesrob.types import Batch

__all__ = ["MIFGSM"]


@dataclasses.dataclass(frozen=True)
class MIFGSM(Attack):
    """Steps along an accumulated gradient, which transfers better to other models (Dong et al. 2018, algorithm 1).

    g <- decay * g + gradient / ||gradient||_1; x <- project(x + step_size * steepest(g)); from x itself.

    Args:
        eps: radius in the inputs' own unit. norm: "l_inf" or "l_2".
        steps: 10 and
        decay: 1.0, as in the paper; 0 is the basic iterative method.
        step_size: None: eps / steps, the paper's.
        objective: which average is climbed, see `predictive.objectives`.
        target, criterion, label, skip_misclassified, num_draws, draws: see `Attack`.
    """

    eps: float = 0.1
    norm: Literal["l_inf", "l_2"] = "l_inf"
    steps: int = 10
    decay: float = 1.0
    step_size: float | None = None
    objective: str = "expected_loss"

    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Dong et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, steps=1)
        check_positive(self, "step_size")
        if not 0 <= self.decay < float("inf"):
            raise InputError(f"decay is {self.decay}.", "It weighs the gradients seen before.", "Give a number >= 0.")

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        step_size = self.eps / self.steps if self.step_size is None else self.step_size
        z, momentum = x, torch.zeros_like(x)
        for _ in range(self.steps):
            # Scaled by the largest component before the l_1 norm: sums of tiny gradients must not vanish.
            gradient = victim.gradient(z, self.objective)
            gradient = gradient / per_point(norms(gradient, "l_inf").clamp(min=torch.finfo(x.dtype).tiny), x)
            momentum = self.decay * momentum + gradient / per_point(norms(gradient, "l_1").clamp(min=1e-12), x)
            z = project(z + step_size * steepest(momentum, self.norm), x, self.eps, self.norm, victim.bounds)
        return z
