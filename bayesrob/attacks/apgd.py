"""Auto-PGD: projected gradient descent that chooses its own step sizes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesrob.arguments import whole
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import project, random_point, steepest
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError
from bayesrob.numerics import per_point
from bayesrob.predictive import Objective, Pooled
from bayesrob.types import Batch, Labels

__all__ = ["APGD", "TargetedDLR"]


@dataclasses.dataclass(frozen=True)
class APGD(BallAttack):
    """PGD with momentum whose step halves, back at the best point, when the objective stalls (Croce & Hein 2020).

    Steps start at 2 eps; checkpoints, conditions 1 and 2 and the momentum of 0.75 are those of the paper (section 3). Of
    all iterates each point keeps one that meets the criterion, and among those (or if there is none) the one with the
    highest objective. Restarts are for the points that no run has broken yet. Further settings: see `Attack`.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        steps: gradient steps of each restart (100, as in AutoAttack).
        restarts: random starting points (1, as in AutoAttack).
        objective: "expected_loss" and "predictive_loss" are cross-entropies (APGD-CE: of the mean loss or of the mean
            prediction), "dlr" is the difference of logits ratio (APGD-DLR; with two classes the margin).
        classes: 0 climbs `objective`. k, with "dlr", climbs the targeted DLR towards each of the k likeliest wrong classes
            in turn (APGD-T; 9 in AutoAttack), for the points that are not broken yet. That needs four classes: with three
            the plain DLR is climbed and with two the margin, which have nothing to choose.

    Example:
        >>> z = br.attacks.APGD(eps=0.1, steps=3)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    steps: int = 100
    restarts: int = 1
    objective: str = "expected_loss"
    classes: int = 0

    paper: ClassVar[str] = "Croce & Hein 2020a"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps)
        whole("restarts", self.restarts)
        whole("classes", self.classes, least=0)
        if self.classes and (self.objective != "dlr" or self.target is not None):
            raise InputError(
                f"classes={self.classes} with objective={self.objective!r} and target={self.target!r}.",
                "Only the targeted DLR tries several classes.",
                'Give objective="dlr" and no target, or classes=0.',
            )

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        best, left = x.clone(), torch.arange(len(x), device=x.device)
        value = x.new_full((len(x),), -torch.inf)
        objectives: list[str | Tensor] = [self.objective]
        if self.classes and victim.num_classes > 3:
            order = victim.predict(x, judge=True).scatter(1, victim.y.unsqueeze(1), -torch.inf)
            objectives = list(order.argsort(1, descending=True)[:, : min(self.classes, victim.num_classes - 1)].unbind(1))
        for objective in objectives:
            for _ in range(self.restarts):
                chosen = TargetedDLR(objective[left]) if isinstance(objective, Tensor) else objective
                candidate, fooled, reached = self._climb(victim, x[left], left, chosen, generator)
                better = fooled | (reached > value[left])
                best[left] = torch.where(per_point(better, x), candidate, best[left])
                value[left] = torch.where(better, reached, value[left])
                left = left[~fooled]
                if len(left) == 0:
                    return best
        return best

    def _climb(
        self, victim: Victim, x: Batch, rows: Int[Tensor, " row"], objective: str | Objective, generator: torch.Generator
    ) -> tuple[Batch, Tensor, Float[Tensor, " row"]]:
        """One run: returns each point's best iterate, whether it meets the criterion, and its objective."""
        z = previous = random_point(x, self.eps, self.norm, victim.bounds, generator)
        gradient, log_predictive, loss = victim.gradient_and_prediction(z, objective, rows, scaled=True)
        fooled = victim.judged(log_predictive, z, rows)
        result, result_loss = z, loss
        top, top_loss, top_gradient = z, loss, gradient  # where a halved step starts over
        step = x.new_full((len(x),), 2 * self.eps)
        rises = torch.zeros_like(step)  # since the last checkpoint
        halved, top_loss_before = torch.ones_like(fooled), loss
        checks = checkpoints(self.steps)
        since = 0
        for i in range(self.steps):
            momentum = 0.75 if i else 1.0
            ahead = z + per_point(step, x) * steepest(gradient, self.norm)
            ahead = project(ahead, x, self.eps, self.norm, victim.bounds)
            ahead = z + momentum * (ahead - z) + (1 - momentum) * (z - previous)
            previous, z = z, project(ahead, x, self.eps, self.norm, victim.bounds)
            loss_before = loss
            gradient, log_predictive, loss = victim.gradient_and_prediction(z, objective, rows, scaled=True)
            now = victim.judged(log_predictive, z, rows)
            better = (now & ~fooled) | ((now == fooled) & (loss > result_loss))
            result, result_loss = torch.where(per_point(better, x), z, result), torch.where(better, loss, result_loss)
            fooled = fooled | now
            higher = loss > top_loss
            top, top_loss = torch.where(per_point(higher, x), z, top), torch.where(higher, loss, top_loss)
            top_gradient = torch.where(per_point(higher, x), gradient, top_gradient)
            rises += loss > loss_before
            since += 1
            if i + 1 in checks:
                stalls = rises <= 0.75 * since  # condition 1
                stuck = ~halved & (top_loss_before >= top_loss)  # condition 2
                halved = stalls | stuck
                step = torch.where(halved, step / 2, step)
                back = per_point(halved, x)
                z, gradient = torch.where(back, top, z), torch.where(back, top_gradient, gradient)
                loss = torch.where(halved, top_loss, loss)
                rises, since, top_loss_before = torch.zeros_like(rises), 0, top_loss
        return result, fooled, result_loss


class TargetedDLR(Pooled):
    """-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2) of the sorted z = log predictive: towards t (Croce & Hein 2020, equation 7).

    Args:
        towards: the class t of each point.
    """

    def __init__(self, towards: Int[Tensor, " batch"]):
        self.towards = towards

    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        towards, away = (log_predictive.gather(1, index.unsqueeze(1)).squeeze(1) for index in (self.towards, y))
        top = log_predictive.topk(4, dim=1).values
        scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
        return (towards - away) / scale.clamp(min=torch.finfo(scale.dtype).tiny)


def checkpoints(steps: int) -> list[int]:
    """The steps after which the step size may halve: p_1 = 0.22 of all, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)."""
    gap, least, shrink = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    result, at = [], gap
    while at <= steps:
        result.append(at)
        gap = max(gap - shrink, least)
        at += gap
    return result
