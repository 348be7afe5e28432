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

    This is the FGSM of Liu & Sha's project report (foolbox 2's `GradientSignAttack`: 1,000 values up to the whole range of
    the data). Points that are wrong already, and points that no eps of the grid breaks, are returned unchanged. Further
    settings: see `Attack`.

    Args:
        norm: "l_inf" or "l_2".
        max_eps: the largest eps tried. None: the width of the bounds (1 without bounds), for l_2 times the square root of
            the number of components, so that the whole box is reached.
        grid: number of values, evenly from max_eps / grid to max_eps (1,000, as in foolbox 2).
        at_once: queries of one batch; at most this number less one are more than needed.
        objective: which average over draws is climbed, see `predictive.objectives`.

    Example:
        >>> z = br.attacks.SmallestFGSM(grid=50)(post, x, y)
        >>> bool((post(z).argmax(1) == y).sum() <= (post(x).argmax(1) == y).sum())
        True
    """

    norm: BallNorm = "l_inf"
    max_eps: float | None = None
    grid: int = 1000
    at_once: int = 10
    objective: str = "expected_loss"

    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "Liu & Sha; Goodfellow et al. 2015"

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
        direction[left] = steepest(victim.gradient(x[left], self.objective, left, scaled=True), self.norm)
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
