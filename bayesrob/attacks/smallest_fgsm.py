"""FGSM with the smallest eps that changes the prediction."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from bayesrob.attacks.base import Attack, check_at_least, check_positive
from bayesrob.attacks.geometry import clip, steepest
from bayesrob.attacks.victim import Victim
from bayesrob.types import Batch

__all__ = ["SmallestFGSM"]


@dataclasses.dataclass(frozen=True)
class SmallestFGSM(Attack):
    """One gradient; then the smallest eps on a grid at which its sign (or direction) changes the prediction.

    The FGSM of seed paper 003 (foolbox 2's `GradientSignAttack`: 1,000 values up to the whole range of the data). Points
    that are wrong already, and points that no eps of the grid breaks, are returned as they are.

    Args:
        norm: "l_inf" or "l_2".
        max_eps: the largest eps tried; None: hi - lo of the bounds (1 without bounds), for l_2 times the square root of the
            number of components: the whole box.
        grid: 1,000 values, evenly from max_eps / grid to max_eps.
        at_once: so many of them are asked about together: more queries than needed by at most one less than this.
        objective: which average is climbed, see `predictive.objectives`.
        target, criterion, label, skip_misclassified, num_draws, draws: see `Attack`.
    """

    norm: Literal["l_inf", "l_2"] = "l_inf"
    max_eps: float | None = None
    grid: int = 1000
    at_once: int = 10
    objective: str = "expected_loss"

    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "seed paper 003; Goodfellow et al. 2015"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, grid=1, at_once=1)
        check_positive(self, "max_eps")

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        result = x.clone()
        left = torch.nonzero(~victim.fooled(x))[:, 0]
        if len(left) == 0:
            return result
        direction = torch.zeros_like(x)
        direction[left] = steepest(victim.gradient(x[left], self.objective, left), self.norm)
        width = 1.0 if victim.bounds is None else float(victim.bounds[1] - victim.bounds[0])
        largest = self.max_eps or width * (x[0].numel() ** 0.5 if self.norm == "l_2" else 1.0)
        sizes = largest * torch.arange(1, self.grid + 1, device=x.device).to(x) / self.grid
        for part in sizes.split(self.at_once):
            eps = part.reshape(1, -1, *(1,) * (x.ndim - 1))
            z = clip(x[left].unsqueeze(1) + eps * direction[left].unsqueeze(1), victim.bounds)
            rows = left.repeat_interleave(len(part))
            hit = victim.fooled(z.flatten(0, 1), rows).view(len(left), len(part))
            first = hit.int().argmax(1)
            broken = hit.any(1)
            result[left[broken]] = z[broken, first[broken]]
            left = left[~broken]
            if len(left) == 0:
                break
        return result
