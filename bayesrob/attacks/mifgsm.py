"""Momentum iterative fast gradient sign method."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from bayesrob.arguments import number, whole
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import norms, project, steepest
from bayesrob.attacks.victim import Victim
from bayesrob.numerics import per_point
from bayesrob.types import Batch

__all__ = ["MIFGSM"]


@dataclasses.dataclass(frozen=True)
class MIFGSM(BallAttack):
    """Steps along an accumulated gradient, which transfers better to other models (Dong et al. 2018, algorithm 1).

    g <- decay * g + gradient / ||gradient||_1; x <- project(x + step_size * steepest(g)); from x itself. Further settings:
    see `Attack`.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        steps: gradient steps (10, as in the paper).
        decay: factor of the accumulated gradient at each step (1.0, as in the paper); 0 is the basic iterative method.
        step_size: length of every step; None: eps / steps, the paper's.
        objective: which average over draws is climbed, see `predictive.objectives`.

    Example:
        >>> z = br.attacks.MIFGSM(eps=0.1, steps=3)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    steps: int = 10
    decay: float = 1.0
    step_size: float | None = None
    objective: str = "expected_loss"

    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Dong et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps)
        number("step_size", self.step_size, "A step must go somewhere.", above=0, or_none=True)
        number("decay", self.decay, "It weighs the gradients of earlier steps.", least=0)

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        step_size = self.eps / self.steps if self.step_size is None else self.step_size
        z, momentum = x, torch.zeros_like(x)
        for _ in range(self.steps):
            # Scaled by the largest component before the l_1 norm: sums of tiny gradients must not vanish.
            gradient = victim.gradient(z, self.objective, scaled=True)
            gradient = gradient / per_point(norms(gradient, "l_inf").clamp(min=torch.finfo(x.dtype).tiny), x)
            momentum = self.decay * momentum + gradient / per_point(norms(gradient, "l_1").clamp(min=1e-12), x)
            z = project(z + step_size * steepest(momentum, self.norm), x, self.eps, self.norm, victim.bounds)
        return z
