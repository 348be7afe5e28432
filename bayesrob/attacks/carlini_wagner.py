"""Carlini and Wagner's attack: the smallest perturbation by optimisation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bayesrob.arguments import number, whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.victim import Victim
from bayesrob.errors import check_name
from bayesrob.numerics import per_point
from bayesrob.types import Batch

__all__ = ["CarliniWagner"]


@dataclasses.dataclass(frozen=True)
class CarliniWagner(Attack):
    """min ||d||_2^2 + c max(-margin(x + d), -confidence), by Adam, with the best c by bisection (Carlini & Wagner 2017).

    The margin is that of the log predictive (for one draw: of the logits), positive where the point is adversarial. With
    bounds the search is over w, x + d = lo + (hi - lo) (tanh w + 1) / 2 (their section V.B), without bounds over d itself. c
    grows tenfold until the attack succeeds, then bisects. The smallest adversarial perturbation met is returned; points that
    are wrong already, and points that were not broken, are returned unchanged. For l_inf climb the margin with PGD or APGD.
    Further settings: see `Attack`.

    Args:
        norm: "l_2".
        searches: number of values of c for each point (9, as in the paper's code).
        steps: Adam steps for each c (1,000, as in the paper's code; the paper says 10,000 for the strongest attack).
        lr: Adam's learning rate (0.01, as in the paper's code).
        initial_c: the first c (0.001, as in the paper's code: small, so that the first adversarial points are near).
        confidence: kappa, the log probability by which another class must lead.
        abort_early: when the loss of a point has not fallen by 0.01% in a tenth of the steps, its learning rate is divided
            by four, and its search ends at the fourth time. (Their code ends it at the first time, at the full rate; but at
            a fixed rate Adam stays up to `lr` away from the boundary, too far where the boundary is near.)
        objective: "margin", the averaged prediction's, or "margin_per_draw", the mean of the draws' own, to which every draw
            contributes however confident it is. (For an HMC posterior of 784-128-10 under N(0, 1) the first left 50 of 100
            digits, the second none.) Success is judged by the prediction in either case.

    Example:
        >>> z = br.attacks.CarliniWagner(searches=2, steps=10, lr=0.1)(post, x, y)
        >>> bool((post(z).argmax(1) == y).sum() <= (post(x).argmax(1) == y).sum())
        True
    """

    norm: Literal["l_2"] = "l_2"
    searches: int = 9
    steps: int = 1000
    lr: float = 0.01
    initial_c: float = 1e-3
    confidence: float = 0.0
    abort_early: bool = True
    objective: Literal["margin", "margin_per_draw"] = "margin"

    norms: ClassVar[tuple[str, ...]] = ("l_2",)
    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "Carlini & Wagner 2017"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("searches", self.searches)
        whole("steps", self.steps)
        number("lr", self.lr, "It is Adam's learning rate.", above=0)
        number("initial_c", self.initial_c, "It weighs the margin against the size of the perturbation.", above=0)
        number("confidence", self.confidence, "It is a lead in log probability.", least=0)
        check_name("objective", self.objective, ["margin", "margin_per_draw"])

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        best = x.clone()
        rows = torch.nonzero(~victim.fooled(x))[:, 0]
        if len(rows) == 0:
            return best
        x, nearest = x[rows], x.new_full((len(rows),), torch.inf)
        closest = x.clone()
        space = _Space(x, victim)
        c, low, high = x.new_full((len(x),), self.initial_c), x.new_zeros(len(x)), x.new_full((len(x),), torch.inf)
        for _ in range(self.searches):
            broken = self._search(victim, rows, space, c, closest=closest, nearest=nearest)
            high, low = torch.where(broken, torch.minimum(high, c), high), torch.where(broken, low, torch.maximum(low, c))
            c = torch.where(high.isfinite(), (low + high) / 2, 10 * c)
        best[rows] = closest
        return best

    def _search(self, victim: Victim, rows: Tensor, space: _Space, c: Tensor, *, closest: Batch, nearest: Tensor) -> Tensor:
        """Minimise at one c, and return which points were broken in the last tenth of the steps.

        Adversarial points at a distance below `nearest` overwrite `closest` and `nearest`, in place.
        """
        x = space.x
        # Whether c is large enough shows at the end: steps larger than the distance pass the boundary at any c.
        broken, recent = torch.zeros(2, len(x), dtype=torch.bool, device=x.device).unbind()
        w = space.start.clone()
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        active = torch.arange(len(x), device=x.device)
        before = torch.full_like(c, torch.inf)
        # Steps of more than a tenth of a distance that suffices would overshoot the boundary.
        rate = (nearest / 10).clamp(max=self.lr)
        floor = rate / 100
        for step in range(1, self.steps + 1):
            z, slope = space.point(w[active], active)
            gradient, log_predictive, value = victim.gradient_and_prediction(z, self.objective, rows[active])
            margin = value if self.objective == "margin" else victim.margin(log_predictive, rows[active])
            delta = z - x[active]
            square = delta.flatten(1).square().sum(1)
            hit = victim.judged(log_predictive, z, rows[active]) & (margin >= self.confidence)
            recent[active] |= hit
            nearer = hit & (square.sqrt() < nearest[active])
            closest[active] = torch.where(per_point(nearer, z), z, closest[active])
            nearest[active] = torch.where(nearer, square.sqrt(), nearest[active])
            pull = torch.where(margin < self.confidence, c[active], torch.zeros_like(margin))
            g = (2 * delta - per_point(pull, z) * gradient) * slope
            first[active] = 0.9 * first[active] + 0.1 * g
            second[active] = 0.999 * second[active] + 0.001 * g.square()
            size = rate[active] / (1 - 0.9**step)
            w[active] -= per_point(size, z) * first[active] / ((second[active] / (1 - 0.999**step)).sqrt() + 1e-8)
            if step % max(self.steps // 10, 1) == 0 or step == self.steps:
                broken[active] = recent[active]
                recent.zero_()
                if not self.abort_early:
                    continue
                loss = square + c[active] * (-value).clamp(min=-self.confidence)
                stalls = loss > before[active] * 0.9999
                before[active] = torch.minimum(before[active], loss)
                rate[active] = torch.where(stalls, rate[active] / 4, rate[active])
                active = active[rate[active] > floor[active]]
                if len(active) == 0:
                    break
        return broken


class _Space:
    """The coordinates in which Adam moves: w with x = lo + (hi - lo) (tanh w + 1) / 2, or without bounds w = x."""

    def __init__(self, x: Batch, victim: Victim):
        self.bounds = victim.bounds
        self.x = x
        if self.bounds is None:
            self.start = x
            return
        lo, hi = self.bounds
        # A little inside: at the bounds themselves atanh is infinite.
        self.start = torch.atanh((2 * (x - lo) / (hi - lo) - 1) * 0.999999)
        self.offset = x - self._inside(self.start)

    def _inside(self, w: Tensor) -> Tensor:
        assert self.bounds is not None
        lo, hi = self.bounds
        return lo + (hi - lo) * (torch.tanh(w) + 1) / 2

    def point(self, w: Tensor, rows: Tensor) -> tuple[Batch, Tensor]:
        """The inputs, inside the bounds, and their derivative by w."""
        if self.bounds is None:
            return w, torch.ones_like(w)
        lo, hi = self.bounds
        z = self._inside(w)
        return (z + self.offset[rows]).clamp(lo, hi), 2 * (z - lo) * (hi - z) / (hi - lo)
