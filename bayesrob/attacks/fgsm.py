"""Fast gradient sign method: one step, away from the true class or towards another."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import clip, steepest
from bayesrob.attacks.goal import Target
from bayesrob.attacks.victim import Victim
from bayesrob.types import Batch

__all__ = ["FGSM", "TargetedFGSM"]


@dataclasses.dataclass(frozen=True)
class FGSM(BallAttack):
    """One step of length eps along the sign of the averaged input gradient.

    x + eps * sign(mean over draws of the loss gradient) (Goodfellow et al. 2015; on a posterior Carbone et al. 2020,
    equation 2), clipped to the bounds; for l_2 along the normalised gradient. A component whose gradient is exactly zero
    stays where it is. Further settings: see `Attack`.

    Args:
        eps: radius, in the inputs' own unit; 0.1 of a pixel range of 1 is the papers' setting for MNIST.
        norm: "l_inf" or "l_2".
        objective: which average over draws is climbed, see `predictive.objectives`.

    Example:
        >>> z = br.attacks.FGSM(eps=0.1)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    objective: str = "expected_loss"

    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Goodfellow et al. 2015"

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        return clip(x + self.eps * steepest(victim.gradient(x, self.objective, scaled=True), self.norm), victim.bounds)


@dataclasses.dataclass(frozen=True)
class TargetedFGSM(FGSM):
    """One step towards a class: x - eps * sign(gradient of the loss of the target) (Kurakin et al. 2017, section 2.2).

    Further settings: see `FGSM`.

    Args:
        target: the class to move towards; the least likely one by default, as in that paper. Rules: see `Attack`.

    Example:
        >>> z = br.attacks.TargetedFGSM(eps=0.1, target=1)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    target: Target = dataclasses.field(default="least_likely", kw_only=True)

    needs_classes: ClassVar[bool] = True
    paper: ClassVar[str] = "Kurakin et al. 2017"
