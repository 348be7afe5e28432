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

    The margin is that of the log predictive (of one draw: of the logits), positive where the point is adversarial. With
    bounds the search is over w, x + d = lo + (hi - lo) (tanh w + 1) / 2 (their section V.B), without over d itself. c grows
    tenfold until something is found, then bisects. The smallest adversarial perturbation met is returned; points that are
    wrong already, and points that were not broken, are returned as they are. For l_inf climb the margin with PGD or APGD.

    Args:
        norm: "l_2".
        searches: 9 values of c for each point, and
        steps: 1,000 steps each, the paper's code (it says 10,000 for the strongest).
        lr: Adam's, 0.01 as there.
        initial_c: 0.001 as there: small, so that the first adversarial found are near.
        confidence: kappa, by how much another class must lead, in log probability.
        abort_early: when the loss of a point has not fallen by 0.01% in a tenth of the steps, its lr is divided by four, and
            its search ends at the fourth time (in their code at the first, at the full lr): at a fixed lr Adam stays up to
            lr away from the boundary, too far where that is near.
        objective: "margin", the averaged prediction's; or "margin_per_draw", the mean of the draws' own, to which every draw
            contributes however sure it is (an HMC posterior of 784-128-10 under N(0, 1): 50 of 100 digits left, against none
            at a median of 0.62; an SVI posterior: 13 left and 1.01, against none and 1.14). Points count
            as broken by the prediction.
        target, criterion, label, skip_misclassified, num_draws, draws: see `Attack`.
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
        found = x.clone()
        space = _Space(x, victim)
        c, low, high = x.new_full((len(x),), self.initial_c), x.new_zeros(len(x)), x.new_full((len(x),), torch.inf)
        for _ in range(self.searches):
            broken = self._search(victim, x, rows, space, c, found, nearest)
            high, low = torch.where(broken, torch.minimum(high, c), high), torch.where(broken, low, torch.maximum(low, c))
            c = torch.where(high.isfinite(), (low + high) / 2, 10 * c)
        best[rows] = found
        return best

    def _search(
        self, victim: Victim, x: Batch, rows: Tensor, space: _Space, c: Tensor, found: Batch, nearest: Tensor
    ) -> Tensor:
        """Minimise at one c; what is nearer than `nearest` overwrites `found`. Returns who was broken in the last tenth."""
        # Whether c is large enough shows at the end: steps larger than the distance pass the boundary at any c.
        broken, recent = torch.zeros(2, len(x), dtype=torch.bool, device=x.device).unbind()
        w = space.start.clone()
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        active = torch.arange(len(x), device=x.device)
        before = torch.full_like(c, torch.inf)
        # Steps of more than a tenth of the distance known to suffice would only jump about.
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
            found[active] = torch.where(per_point(nearer, z), z, found[active])
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
    """Where Adam moves: w with x = lo + (hi - lo) (tanh w + 1) / 2, or where nothing bounds x, w = x."""

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
