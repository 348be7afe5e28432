"""Random points of the ball, the search that every other one must beat."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from bayesrob.arguments import whole
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import clip, random_point
from bayesrob.attacks.goal import Draws, Sees
from bayesrob.attacks.victim import Victim
from bayesrob.numerics import per_point
from bayesrob.types import Batch

__all__ = ["RandomSearch"]


@dataclasses.dataclass(frozen=True)
class RandomSearch(BallAttack):
    """Uniform points of the ball, clipped to the bounds; of l_inf's cube, every second one is a random corner.

    A point keeps the first sample that meets the criterion, else the one with the highest margin of the posterior predictive
    (with a target, the highest log probability of it). It is random search without a memory: Square must do better with
    fewer queries, and where an attack by gradients does worse, the gradients are masked (Carlini et al. 2019, section 5.2).
    Further settings: see `Attack`.

    Costs are counted in queries, so stopping at success is part of the method: a point that meets the criterion leaves the
    attack, and only its accuracy means anything afterwards.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        samples: queries for each point at most (1,000).
        at_once: queries of one batch; at most this number less one are more than needed.
        draws: "held", because decisions on changing draws flicker, and the luckiest draws would decide.

    Example:
        >>> z = br.attacks.RandomSearch(eps=0.1, samples=20)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    samples: int = 1000
    at_once: int = 10
    draws: Draws = dataclasses.field(default="held", kw_only=True)

    sees: ClassVar[Sees] = "probabilities"
    paper: ClassVar[str] = "Carlini et al. 2019"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("samples", self.samples)
        whole("at_once", self.at_once)

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        result = x.clone()
        if self.eps == 0:
            return result
        best = x.new_full((len(x),), -torch.inf)
        left = torch.arange(len(x), device=x.device)
        for first in range(0, self.samples, self.at_once):
            count = min(self.at_once, self.samples - first)
            rows = left.repeat_interleave(count)
            z = self._points(x[left], first, count, victim, generator)
            log_predictive = victim.predict(z.flatten(0, 1), rows)
            hit = victim.judged(log_predictive, z.flatten(0, 1), rows).view(-1, count)
            value = victim.gain(log_predictive, rows).clamp(max=torch.finfo(log_predictive.dtype).max).view(-1, count)
            pick = torch.where(hit.any(1), hit.int().argmax(1), value.argmax(1))  # the first that succeeds, else the highest
            each = torch.arange(len(left), device=x.device)
            better = hit.any(1) | (value[each, pick] > best[left]) | (first == 0)
            result[left[better]], best[left[better]] = z[each, pick][better], value[each, pick][better]
            left = left[~hit.any(1)]
            if len(left) == 0:
                break
        return result

    def _points(self, x: Batch, first: int, count: int, victim: Victim, generator: torch.Generator) -> Batch:
        """The samples `first`, `first + 1`, ... of each point, `[row, count, *shape]`."""
        around = x.repeat_interleave(count, 0)
        z = random_point(around, self.eps, self.norm, victim.bounds, generator).unflatten(0, (-1, count))
        if self.norm == "l_inf":
            signs = torch.randint(2, around.shape, generator=generator).to(x) * 2 - 1
            corners = clip(around + self.eps * signs, victim.bounds).unflatten(0, (-1, count))
            odd = (first + torch.arange(count, device=x.device)) % 2 == 1
            z = torch.where(per_point(odd.unsqueeze(0), z), corners, z)
        return z
