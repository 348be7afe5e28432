"""FGSM with the smallest eps that changes the prediction."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from bayesrob.arguments import number, whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import BallNorm, clip, steepest
from bayesrob.attacks.victim import Victim
from bayesrob.numerics import per_point
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

    norm: BallNorm = "l_inf"
    max_eps: float | None = None
    grid: int = 1000
    at_once: int = 10
    objective: str = "expected_loss"

    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "seed paper 003; Goodfellow et al. 2015"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("grid", self.grid)
        whole("at_once", self.at_once)
        number("max_eps", self.max_eps, "It is the largest step.", above=0, or_none=True)

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
            steps = per_point(part.unsqueeze(0), direction.unsqueeze(1)) * direction[left].unsqueeze(1)
            z = clip(x[left].unsqueeze(1) + steps, victim.bounds)
            rows = left.repeat_interleave(len(part))
            hit = victim.fooled(z.flatten(0, 1), rows).view(len(left), len(part))
            first = hit.int().argmax(1)
            broken = hit.any(1)
            result[left[broken]] = z[broken, first[broken]]
            left = left[~broken]
            if len(left) == 0:
                break
        return result
