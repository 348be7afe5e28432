"""DeepFool: to the nearest boundary of the linearised model, again and again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from bayesrob.arguments import number, whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import clip, norms
from bayesrob.attacks.projections import DUAL
from bayesrob.attacks.surfaces import SURFACES, Average
from bayesrob.attacks.victim import Victim
from bayesrob.errors import check_name
from bayesrob.numerics import per_point
from bayesrob.types import Batch

__all__ = ["DeepFool"]


@dataclasses.dataclass(frozen=True)
class DeepFool(Attack):
    """The smallest perturbation that changes the class, by successive linearisations (Moosavi-Dezfooli et al. 2016).

    With f_k the log predictive and w_k its gradient at the current point, the nearest linearised boundary is that of the k
    with the smallest |f_k - f_y| / ||w_k - w_y||; the step to it is added to those before (algorithm 2; l_inf and others by
    section 3.3). The model is evaluated, and the result lies, at x + (1 + overshoot) * sum of steps, clipped to the bounds.
    For one draw, differences of log probabilities are those of the logits.

    Points that are wrong already are returned unchanged; a point that the steps did not break is returned where they
    ended, and is right there. Towards a target there is only the target's boundary. Further settings: see `Attack`.

    Args:
        norm: "l_2" (the paper's), "l_inf" or "l_1".
        steps: linearisations of each point (50, the paper's).
        classes: number of likeliest classes whose boundaries are candidates (10, the paper's).
        overshoot: how far beyond the boundary the steps lead, as a share of their length (0.02, the paper's). Unless it is
            0, every step but the first goes 1e-4 further, too, as in the paper's code.
        average: "probabilities": the boundaries are those of the averaged prediction. "logits": those of the draws' mean
            logits, to which every draw contributes, for posteriors whose draws are so confident that the averaged prediction
            has no slope (of 100 digits 77 and 0 were left of such an HMC posterior: docs/attack_gauntlet.md). Success is
            judged by the prediction in either case, and for one draw both are the same.

    Example:
        >>> z = br.attacks.DeepFool(steps=5)(post, x, y)
        >>> bool((post(z).argmax(1) == y).sum() <= (post(x).argmax(1) == y).sum())
        True
    """

    norm: Literal["l_2", "l_inf", "l_1"] = "l_2"
    steps: int = 50
    classes: int = 10
    overshoot: float = 0.02
    average: Average = "probabilities"

    norms: ClassVar[tuple[str, ...]] = ("l_2", "l_inf", "l_1")
    minimal: ClassVar[bool] = True
    paper: ClassVar[str] = "Moosavi-Dezfooli et al. 2016"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps)
        whole("classes", self.classes, least=2)
        check_name("average", self.average, SURFACES)
        number("overshoot", self.overshoot, "It is how far beyond the boundary the steps go.", least=0)

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        log_predictive = victim.predict(x, judge=True)
        result = x.clone()
        left = torch.nonzero(~victim.judged(log_predictive, x))[:, 0]
        if victim.targeted:
            candidates = torch.stack([log_predictive.argmax(1), victim.y], dim=1)
        else:
            others = log_predictive.scatter(1, victim.y.unsqueeze(1), -torch.inf)
            likeliest = others.topk(min(self.classes, victim.num_classes) - 1, dim=1).indices
            candidates = torch.cat([victim.y.unsqueeze(1), likeliest], dim=1)
        total = torch.zeros_like(x)
        for step in range(self.steps):
            if len(left) == 0:
                break
            z = result[left]
            if victim.targeted:  # from whichever class holds the point now
                candidates[left, 0] = victim.predict(z, left).argmax(1)
            jacobian, values, log_predictive = victim.jacobian(z, candidates[left], left, self.average)
            stays = ~victim.judged(log_predictive, z, left)
            left, jacobian, values = left[stays], jacobian[stays], values[stays]
            if len(left) == 0:
                break
            gaps = values[:, :1] - values[:, 1:]  # positive where the true class leads
            slopes = jacobian[:, 1:] - jacobian[:, :1]
            lengths = norms(slopes.flatten(0, 1), DUAL[self.norm]).view(gaps.shape)
            tiny = torch.finfo(x.dtype).tiny
            distances = torch.where(lengths > 0, gaps.abs() / lengths.clamp(min=tiny), torch.inf)
            nearest = distances.argmin(1)
            pick = torch.arange(len(left), device=x.device)
            slope, length = slopes[pick, nearest], lengths[pick, nearest]
            # Where no candidate has a gradient nothing leads anywhere.
            push = 1e-4 if step and self.overshoot else 0.0  # what is clipped away must not stop it just before the boundary
            distance = torch.where(length > 0, distances[pick, nearest] + push, 0.0)
            total[left] += per_point(distance, x) * self._direction(slope, length)
            result[left] = clip(x[left] + (1 + self.overshoot) * total[left], victim.bounds)
        return result

    def _direction(self, slope: Batch, length: torch.Tensor) -> Batch:
        """Of norm one, along which the linearised model gains most."""
        if self.norm == "l_2":
            return slope / per_point(length.clamp(min=torch.finfo(slope.dtype).tiny), slope)
        if self.norm == "l_inf":
            return slope.sign()
        flat = slope.flatten(1)
        top = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top).sign()).view_as(slope)
