"""Boundary Attack: along the decision boundary towards the input, using only decisions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.arguments import number, whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import clip, norms
from bayesrob.attacks.goal import Draws, Sees
from bayesrob.attacks.victim import Victim
from bayesrob.numerics import per_point
from bayesrob.types import Batch, Bounds, Real

__all__ = ["Boundary"]


@dataclasses.dataclass(frozen=True)
class Boundary(Attack):
    """Small steps around the input and towards it, kept while the decision stays wrong (Brendel et al. 2018).

    The attack starts at a random wrong point, and bisects the way from there to x. Each step goes
    `spherical_step` * distance in a random direction on the sphere around x, then `source_step` * distance towards x. Both
    step sizes belong to the point and adapt as in foolbox 3: of the last 100 checks of the spherical step, more than a half
    and less than a fifth that stay wrong make both sizes grow or shrink by `step_adaptation`; of the last 30 whole steps,
    more than a quarter and less than a tenth make the source step grow or shrink.

    Only the decisions of the success criterion are used. Points that are wrong already, and points without a wrong
    start, are returned unchanged. Further settings: see `Attack`.

    Args:
        norm: "l_2", the norm of the spheres.
        steps: steps of each point (5,000; foolbox has 25,000, the paper goes on until convergence). Each costs one query,
            and every `check_every`-th two.
        spherical_step: first length of a step on the sphere, as a share of the distance to x (0.01, as in foolbox 3).
        source_step: first length of a step towards x, as a share of the distance to x (0.01, as in foolbox 3).
        step_adaptation: factor by which step sizes grow and shrink (1.5, as in foolbox 3).
        check_every: number of steps between two checks of the step sizes (10, as in foolbox 3).
        convergence: a point whose source step falls below this leaves the attack (1e-7, as in foolbox 3).
        starts: number of random starting points at most: uniform between the bounds, or without bounds x plus normal noise
            whose scale grows from 0.1 to 100,000. A target class may be too rare for that.
        halvings: bisections of the way from x to the start (10, which brings the boundary to within 0.1% of that distance).
        draws: "held", because a point that is wrong for some draws only would never be given up on changing draws.

    Example:
        >>> z = br.attacks.Boundary(steps=5)(post, x, y)
        >>> bool((post(z).argmax(1) == y).sum() <= (post(x).argmax(1) == y).sum())
        True
    """

    norm: Literal["l_2"] = "l_2"
    steps: int = 5000
    spherical_step: float = 0.01
    source_step: float = 0.01
    step_adaptation: float = 1.5
    check_every: int = 10
    convergence: float = 1e-7
    starts: int = 100
    halvings: int = 10
    draws: Draws = dataclasses.field(default="held", kw_only=True)

    norms: ClassVar[tuple[str, ...]] = ("l_2",)
    sees: ClassVar[Sees] = "classes"
    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "Brendel et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps, least=0)
        whole("check_every", self.check_every)
        whole("starts", self.starts)
        whole("halvings", self.halvings, least=0)
        number("spherical_step", self.spherical_step, "It is a share of the distance.", above=0)
        number("source_step", self.source_step, "It is a share of the distance.", above=0)
        number("convergence", self.convergence, "It is a share of the distance.", above=0)
        number("step_adaptation", self.step_adaptation, "It is the factor by which step sizes grow and shrink.", above=1)

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        result = x.clone()
        left = torch.nonzero(~_wrong(victim, x, torch.arange(len(x), device=x.device)))[:, 0]
        rows, far = self._start(victim, x[left], left, generator)
        if len(rows):
            result[rows] = self._walk(victim, x[rows], self._halved(victim, x[rows], far, rows), rows, generator)
        return result

    def _start(
        self, victim: Victim, x: Batch, rows: Int[Tensor, " row"], generator: torch.Generator
    ) -> tuple[Int[Tensor, " started"], Batch]:
        """The points that have a wrong starting point, and that starting point."""
        far, left = x.clone(), torch.arange(len(x), device=x.device)
        for attempt in range(self.starts):
            if len(left) == 0:
                break
            z = self._noise(x[left], attempt, victim.bounds, generator)
            far[left] = z
            left = left[~_wrong(victim, z, rows[left])]
        started = torch.ones(len(x), dtype=torch.bool, device=x.device)
        started[left] = False
        return rows[started], far[started]

    def _noise(self, x: Batch, attempt: int, bounds: Bounds | None, generator: torch.Generator) -> Batch:
        if bounds is None:
            scale = 0.1 * 10 ** (6 * attempt / max(1, self.starts - 1))
            return x + scale * torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
        lo, hi = bounds
        return clip(lo + (hi - lo) * torch.rand(x.shape, generator=generator, dtype=torch.float32).to(x), bounds)

    def _halved(self, victim: Victim, x: Batch, far: Batch, rows: Int[Tensor, " row"]) -> Batch:
        """The wrong point nearest to x on the way to `far`, by bisection."""
        near = x
        for _ in range(self.halvings):
            middle = (near + far) / 2
            wrong = per_point(_wrong(victim, middle, rows), x)
            near, far = torch.where(wrong, near, middle), torch.where(wrong, middle, far)
        return far

    def _walk(self, victim: Victim, x: Batch, best: Batch, rows: Int[Tensor, " row"], generator: torch.Generator) -> Batch:
        result, left = best.clone(), torch.arange(len(x), device=x.device)
        spherical, source = x.new_full((len(x),), self.spherical_step), x.new_full((len(x),), self.source_step)
        on_sphere, whole = _Recent(100, x), _Recent(30, x)
        for step in range(1, self.steps + 1):
            sphere, candidate = _proposals(x, best, spherical, source, bounds=victim.bounds, generator=generator)
            wrong = _wrong(victim, candidate, rows)
            closer = norms(candidate - x, "l_2") < norms(best - x, "l_2")  # rounding, or the bounds, may say no
            best = torch.where(per_point(wrong & closer, x), candidate, best)
            if step % self.check_every:
                continue
            on_sphere.add(_wrong(victim, sphere, rows))
            whole.add(wrong)
            factor = on_sphere.factor(0.2, 0.5, self.step_adaptation, x)
            spherical, source = spherical * factor, source * factor
            source = source * whole.factor(0.1, 0.25, self.step_adaptation, x)
            stays = source >= self.convergence
            if not bool(stays.all()):
                result[left] = best
                x, best, rows, left, spherical, source = (each[stays] for each in (x, best, rows, left, spherical, source))
                on_sphere.keep(stays)
                whole.keep(stays)
                if len(left) == 0:
                    break
        result[left] = best
        return result


def _wrong(victim: Victim, z: Batch, rows: Int[Tensor, " row"]) -> Bool[Tensor, " row"]:
    """The decision, which is all that this attack sees, at the cost of one query."""
    return victim.judged(victim.predict(z, rows), z, rows)


def _proposals(
    x: Batch, best: Batch, spherical: Tensor, source: Tensor, *, bounds: Bounds | None, generator: torch.Generator
) -> tuple[Batch, Batch]:
    """A random point on the sphere around x through `best`, and the one nearer to x that it leads to."""
    tiny = torch.finfo(x.dtype).tiny
    away = (best - x).flatten(1)
    distance = away.norm(dim=1, keepdim=True).clamp(min=tiny)
    unit = away / distance
    noise = torch.randn(away.shape, generator=generator, dtype=torch.float32).to(x)
    noise = noise - (noise * unit).sum(1, keepdim=True) * unit
    spherical, source = spherical.unsqueeze(1), source.unsqueeze(1)
    tangent = noise * (spherical * distance / noise.norm(dim=1, keepdim=True).clamp(min=tiny))
    # Pythagoras: the tangent's end, brought back to the sphere.
    around = (away + tangent) / (1 + spherical.square()).sqrt()
    sphere = clip(x + around.view_as(x), bounds)
    back = (x - sphere).flatten(1)
    length = back.norm(dim=1, keepdim=True).clamp(min=tiny)
    # Where rounding or clipping moved it off the sphere, the step makes up for that.
    stride = (source * distance + length - distance).clamp(min=0) / length
    return sphere, clip(sphere + (stride * back).view_as(x), bounds)


class _Recent:
    """The last `size` decisions of each point, since its steps last changed."""

    def __init__(self, size: int, x: Batch):
        self.values = torch.zeros(size, len(x), dtype=torch.bool, device=x.device)
        self.counts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self._next = 0

    def add(self, decisions: Bool[Tensor, " row"]) -> None:
        self.values[self._next] = decisions
        self._next = (self._next + 1) % len(self.values)
        self.counts += 1

    def factor(self, low: Real, high: Real, adaptation: Real, like: Tensor) -> Float[Tensor, " row"]:
        """What steps are multiplied by: they grow where more than `high` of the decisions were wrong, shrink below `low`."""
        share = self.values.to(like.dtype).mean(0)
        full = self.counts >= len(self.values)  # before that, decisions of older steps are among them
        grows, shrinks = full & (share > high), full & (share < low)
        self.counts[grows | shrinks] = 0
        return torch.where(grows, adaptation, torch.where(shrinks, 1 / adaptation, 1.0)).to(like)

    def keep(self, stays: Bool[Tensor, " row"]) -> None:
        self.values, self.counts = self.values[:, stays], self.counts[stays]
