"""Fast adaptive boundary attack."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from bayesrob.arguments import number, whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import clip, norms, random_point
from bayesrob.attacks.projections import DUAL, to_hyperplane
from bayesrob.attacks.surfaces import SURFACES, Average
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError, check_name
from bayesrob.numerics import per_point
from bayesrob.types import Batch

__all__ = ["FAB"]


@dataclasses.dataclass(frozen=True)
class FAB(Attack):
    """The smallest perturbation, by projections onto linearised boundaries inside the bounds (Croce & Hein 2020, FAB).

    From the current point and from the input, the smallest moves d and d_0 onto the nearest linearised boundary that stay
    in the bounds are computed; then x' = (1 - a) (x + 1.05 d) + a (x_0 + 1.05 d_0) with a = min(||d|| / (||d|| + ||d_0||),
    0.1) (algorithm 1, equations 8 to 10). An adversarial x' is recorded if it is the nearest so far, and the next point is
    x_0 + 0.9 (x' - x_0). The attack ends with three secant steps towards the input (section 3.4).

    Points that are wrong already, and points that were not broken, are returned unchanged. Further settings: see `Attack`.

    Args:
        norm: "l_inf", "l_2" or "l_1".
        steps: steps of each restart (100, the paper's).
        restarts: number of starting points (1). The first is the input; later ones are random points at half the smallest
            distance so far, or half of `eps` for points that are not broken yet (equation 11).
        classes: 0: in each step the nearest of all boundaries, for which every class's gradient is needed. k: towards each
            of the k likeliest wrong classes in turn, one gradient a step (FAB-T; 9 in AutoAttack).
        eps: largest distance at which later restarts begin, see `restarts`; it does not limit the result.
        average: "probabilities": the boundaries are those of the averaged prediction. "logits": those of the draws' mean
            logits, to which every draw contributes, for posteriors whose draws are so confident that the averaged prediction
            has no slope (of 100 digits 77 and 29 were left of such an HMC posterior: docs/attack_gauntlet.md). Success is
            judged by the prediction in either case, and for one draw both are the same.

    Example:
        >>> z = br.attacks.FAB(steps=5)(post, x, y)
        >>> bool((post(z).argmax(1) == y).sum() <= (post(x).argmax(1) == y).sum())
        True
    """

    norm: Literal["l_inf", "l_2", "l_1"] = "l_inf"
    steps: int = 100
    restarts: int = 1
    classes: int = 0
    eps: float = 0.3
    average: Average = "probabilities"

    norms: ClassVar[tuple[str, ...]] = ("l_inf", "l_2", "l_1")
    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "Croce & Hein 2020b"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps)
        whole("restarts", self.restarts)
        whole("classes", self.classes, least=0)
        number("eps", self.eps, "Later restarts begin within it.", above=0)
        check_name("average", self.average, SURFACES)
        if self.classes and self.target is not None:
            raise InputError(
                f"classes={self.classes} with target={self.target!r}.",
                "Either several classes are tried, or one is the target.",
                "Leave one of them out.",
            )

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        log_predictive = victim.predict(x, judge=True)
        start = ~victim.judged(log_predictive, x)
        rows = torch.nonzero(start)[:, 0]
        best, distance = x.clone(), torch.where(start, torch.inf, torch.zeros(len(x), device=x.device)).to(x)
        if len(rows) == 0:
            return best
        away = victim.true if not victim.targeted else log_predictive.argmax(1)
        aims: list[Int[Tensor, " row"] | None] = [victim.y if victim.targeted else None]
        if self.classes or victim.num_classes == 2:
            order = log_predictive.scatter(1, away.unsqueeze(1), -torch.inf).argsort(1, descending=True)
            aims = [victim.y] if victim.targeted else list(order[:, : min(max(self.classes, 1), victim.num_classes - 1)].T)
        for restart in range(self.restarts):
            for aim in aims:
                z = x[rows]
                if restart:
                    known = distance[rows]
                    radius = torch.where(known.isfinite(), torch.minimum(known, known.new_tensor(self.eps)), self.eps) / 2
                    ball = "l_2" if self.norm == "l_1" else self.norm
                    offset = random_point(torch.zeros_like(z), 1.0, ball, None, generator)
                    z = clip(z + per_point(radius, z) * offset, victim.bounds)
                classes = away[rows], None if aim is None else aim[rows]
                self._search(victim, z, rows, classes, x=x[rows], best=best, distance=distance)
        self._secant(victim, x, rows[distance[rows].isfinite()], best, distance)
        return best

    def _search(
        self,
        victim: Victim,
        z: Batch,
        rows: Int[Tensor, " row"],
        classes: tuple[Int[Tensor, " row"], Int[Tensor, " row"] | None],
        *,
        x: Batch,
        best: Batch,
        distance: Tensor,
    ) -> None:
        """`steps` steps of all points, from `z`; nearer adversarial points overwrite `best` and `distance`, in place.

        Args:
            victim: the predictive under attack.
            z: where the steps begin.
            rows: indices of the points.
            classes: the class that each point moves away from, and the one that it moves towards (None: any).
            x: the clean inputs of the points.
            best: the nearest adversarial inputs of all attacked points.
            distance: their distances.
        """
        away, aim = classes
        for _ in range(self.steps):
            gap, slope = self._boundary(victim, z, rows, away, aim)
            flat_z, flat_x, flat_slope = z.flatten(1), x.flatten(1), slope.flatten(1)
            d = to_hyperplane(flat_z, flat_slope, gap, self.norm, victim.bounds)
            # The same plane, seen from the input: slope' (x + d_0 - z) = gap.
            gap_0 = gap - (flat_slope * (flat_x - flat_z)).sum(1)
            d_0 = to_hyperplane(flat_x, flat_slope, gap_0, self.norm, victim.bounds)
            near, near_0 = norms(d, self.norm), norms(d_0, self.norm)
            share = (near / (near + near_0).clamp(min=torch.finfo(x.dtype).tiny)).clamp(max=0.1).unsqueeze(1)
            moved = (1 - share) * (flat_z + 1.05 * d) + share * (flat_x + 1.05 * d_0)
            z = clip(moved.view_as(x), victim.bounds)
            log_predictive = victim.predict(z, rows)
            hit = victim.judged(log_predictive, z, rows)
            if victim.targeted and aim is not None:  # another class than at first may stand in the way now
                away = log_predictive.scatter(1, aim.unsqueeze(1), -torch.inf).argmax(1)
            size = norms(z - x, self.norm)
            nearer = hit & (size < distance[rows])
            best[rows] = torch.where(per_point(nearer, x), z, best[rows])
            distance[rows] = torch.where(nearer, size, distance[rows])
            z = torch.where(per_point(hit, x), x + 0.9 * (z - x), z)

    def _boundary(self, victim: Victim, z: Batch, rows: Tensor, away: Tensor, aim: Tensor | None) -> tuple[Tensor, Batch]:
        """The nearest linearised boundary: {d: slope'd = gap}, from the class `away` to `aim` or any other."""
        if aim is not None:
            weights = z.new_zeros(len(z), victim.num_classes).scatter_(1, aim.unsqueeze(1), 1.0)
            weights.scatter_(1, away.unsqueeze(1), -1.0)
            slope, _, value = victim.gradient_and_prediction(z, SURFACES[self.average](weights), rows)
            return -value, slope
        classes = torch.arange(victim.num_classes, device=z.device).expand(len(z), -1)
        jacobian, values, _ = victim.jacobian(z, classes, rows, self.average)
        pick = torch.arange(len(z), device=z.device)
        gaps = values[pick, away].unsqueeze(1) - values
        slopes = jacobian - jacobian[pick, away].unsqueeze(1)
        lengths = norms(slopes.flatten(0, 1), DUAL[self.norm]).view(gaps.shape)
        distances = gaps.abs() / lengths.clamp(min=torch.finfo(z.dtype).tiny)
        distances = torch.where(lengths > 0, distances, torch.inf).scatter(1, away.unsqueeze(1), torch.inf)
        nearest = distances.argmin(1)
        return gaps[pick, nearest], slopes[pick, nearest]

    def _secant(self, victim: Victim, x: Batch, rows: Tensor, best: Batch, distance: Tensor) -> None:
        """Three secant steps between the input, inside the boundary, and the adversarial point outside."""
        if len(rows) == 0:
            return
        inside, outside = x[rows], best[rows]
        low, high = victim.loss(inside, "margin", rows), victim.loss(outside, "margin", rows)
        for _ in range(3):
            share = (high / (high - low).clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 1)
            # A ten-thousandth beyond the boundary, because points on the boundary itself are not adversarial.
            share = torch.where(low < 0, share * (1 - 1e-4), 0.0)
            z = outside + per_point(share, x) * (inside - outside)
            hit = victim.judged(victim.predict(z, rows, judge=True), z, rows)
            value = victim.loss(z, "margin", rows)
            outside = torch.where(per_point(hit, x), z, outside)
            inside = torch.where(per_point(hit, x), inside, z)
            high, low = torch.where(hit, value, high), torch.where(hit, low, value)
        best[rows], distance[rows] = outside, norms(outside - x[rows], self.norm)
