"""Sign noise, the baseline that every gradient attack must beat."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import clip, steepest
from bayesrob.attacks.goal import Sees
from bayesrob.attacks.victim import Victim
from bayesrob.types import Batch

__all__ = ["Random"]


@dataclasses.dataclass(frozen=True)
class Random(BallAttack):
    """A perturbation that ignores the model: FGSM with a random sign (Carbone et al. 2020, section 5.2).

    x + eps * s, where each component of s is -1 or +1 with equal probability; for l_2, eps times a random direction. It is
    clipped to the bounds. A gradient attack that does no better has no useful gradient. Further settings: see `Attack`.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".

    Example:
        >>> z = br.attacks.Random(eps=0.1)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    sees: ClassVar[Sees] = "nothing"
    targetable: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Carbone et al. 2020"

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        if self.norm == "l_inf":
            direction = torch.randint(2, x.shape, generator=generator).to(x) * 2 - 1
        else:
            direction = steepest(torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x), "l_2")
        return clip(x + self.eps * direction, victim.bounds)
