"""Natural evolution strategies: projected steps along a gradient that is estimated from predictions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from bayesrob.arguments import number, whole
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import project, steepest
from bayesrob.attacks.goal import Draws, Sees
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError
from bayesrob.types import Batch

__all__ = ["NES"]


@dataclasses.dataclass(frozen=True)
class NES(BallAttack):
    """Projected steps along an estimate of the gradient, from pairs of predictions (Ilyas et al. 2018, algorithm 1).

    g = 1 / (samples * sigma) sum_i (L(x + sigma u_i) - L(x - sigma u_i)) u_i, with samples / 2 standard normal u_i;
    x <- project(x + step_size * steepest(g)). L is the margin of the posterior predictive, log of the largest other
    probability minus log p(y | x); with a target, its log probability. (The paper's -log p rounds to zero for confident
    predictions, and its differences with it.) Where L is linear, the cosine of g and the gradient is about
    1 / sqrt(1 + 2 (features - 1) / samples): the number of samples needed grows with the number of components. The model is
    evaluated sigma u outside of ball and bounds, as in the paper; the result lies inside both. Further settings: see
    `Attack`.

    Costs are counted in queries, so stopping at success is part of the method: a point that meets the criterion after a
    step (one more query) leaves the attack, and only its accuracy means anything afterwards. It takes at most
    steps * (samples + 1) queries.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        steps: steps of each point (100); with 50 samples that is 5,100 queries at most, about those of `Square`.
        samples: queries of each gradient estimate, an even number (50, the paper's).
        sigma: scale of the differences, in the inputs' own unit (0.001, the paper's). Far smaller ones are lost to rounding.
        step_size: length of every step. None: from eps down to eps / steps, in equal decrements: long steps while they
            matter more than noise, short ones at the end. (The paper: 0.01 for eps 0.05, halved where L stalls.)
        max_batch: points in one batch of predictions, which bounds the memory. Another number uses the random numbers in
            another order.
        draws: "held", because decisions on changing draws flicker. Both predictions of a pair are on the same draws either
            way.

    Example:
        >>> z = br.attacks.NES(eps=0.1, steps=2, samples=4)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    steps: int = 100
    samples: int = 50
    sigma: float = 0.001
    step_size: float | None = None
    max_batch: int = 10_000
    draws: Draws = dataclasses.field(default="held", kw_only=True)

    sees: ClassVar[Sees] = "probabilities"
    paper: ClassVar[str] = "Ilyas et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps)
        whole("samples", self.samples, least=2)
        whole("max_batch", self.max_batch, least=2)
        if self.samples % 2:
            raise InputError(f"samples is {self.samples}.", "They come in pairs, x + d and x - d.", "Give an even number.")
        number("sigma", self.sigma, "It is the scale of the differences from which the gradient is estimated.", above=0)
        number("step_size", self.step_size, "A step must go somewhere.", above=0, or_none=True)

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        result = x.clone()
        if self.eps == 0:
            return result
        left, z = torch.arange(len(x), device=x.device), x
        for step in range(self.steps):
            step_size = self.eps * (1 - step / self.steps) if self.step_size is None else self.step_size
            direction = steepest(self._gradient(victim, z, left, generator), self.norm)
            z = project(z + step_size * direction, x[left], self.eps, self.norm, victim.bounds)
            result[left] = z
            hit = victim.judged(victim.predict(z, left), z, left)
            if bool(hit.any()):
                left, z = left[~hit], z[~hit]
                if len(left) == 0:
                    break
        return result

    def _gradient(self, victim: Victim, z: Batch, rows: Int[Tensor, " row"], generator: torch.Generator) -> Batch:
        """The estimate at each point, in batches of at most `max_batch`."""
        parts = [
            self._estimate(victim, some, of, generator)
            for some, of in zip(z.split(self.max_batch // 2), rows.split(self.max_batch // 2), strict=True)
        ]
        return torch.cat(parts)

    def _estimate(self, victim: Victim, z: Batch, rows: Int[Tensor, " row"], generator: torch.Generator) -> Batch:
        total, left = torch.zeros_like(z), self.samples // 2
        while left:
            pairs = min(left, self.max_batch // (2 * len(z)))
            noise = torch.randn(pairs, *z.shape, generator=generator, dtype=torch.float32).to(z)
            both = torch.cat([z + self.sigma * noise, z - self.sigma * noise])
            repeated = rows.repeat(2 * pairs)
            loss = victim.gain(victim.predict(both.flatten(0, 1), repeated), repeated).view(2, pairs, len(z))
            total += torch.einsum("pn,pn...->n...", loss[0] - loss[1], noise)
            left -= pairs
        return total / (self.samples * self.sigma)
