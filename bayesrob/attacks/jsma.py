"""The Jacobian-based saliency map attack: two components at a time, those that the map says matter most."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.arguments import number, require
from bayesrob.attacks.base import Attack
from bayesrob.attacks.goal import Target
from bayesrob.attacks.surfaces import ClassWeights
from bayesrob.attacks.victim import Victim
from bayesrob.errors import InputError
from bayesrob.types import Batch

__all__ = ["JSMA", "best_pairs"]

PAIRS = 2**24
"""Number of pairs that are compared in one block, 64 MB in float32."""

Slopes = Float[Tensor, "row component"]


@dataclasses.dataclass(frozen=True)
class JSMA(Attack):
    """The pair of components that most raises a target and lowers the other classes, again and again (Papernot et al. 2016).

    Each round moves by `theta` the pair (p, q) that maximises -alpha * beta among those with alpha > 0 and beta < 0 (for
    theta < 0: alpha < 0 and beta > 0), where alpha is the derivative of F_target and beta that of the sum of the other F_c,
    summed over p and q (algorithm 3, equations 8 to 10). Components that reach a bound leave the search; without bounds each
    is moved once. A point stops where the criterion is met, where `gamma` of the components have changed, or where no pair
    is left that satisfies both conditions. All pairs are compared (`best_pairs`).

    F is the log posterior predictive. Probabilities would not do: they sum to one, so beta = -alpha, and the map says no
    more than the target's gradient. Nor would logits (implementations' usual choice): an average over draws has none, and
    those of one draw are defined only up to a function of x, on which beta depends.

    A round takes two gradients and a query, which decides on one set of draws also where those of the gradients are fresh.
    Further settings: see `Attack`.

    Args:
        norm: "l_0", the number of changed components.
        theta: number that is added to a component, in the inputs' own unit. 1.0, the paper's, takes a pixel of [0, 1] to its
            upper bound; negative numbers darken.
        gamma: share of the components that may change, rounded down (0.1; the paper has 0.145, beyond which people notice).
        target: "most_likely", the class that is nearest to being predicted; the paper takes each class in turn.

    Example:
        >>> z = br.attacks.JSMA(gamma=1.0)(post, x, y)
        >>> bool((post(z).argmax(1) == y).sum() <= (post(x).argmax(1) == y).sum())
        True
    """

    norm: Literal["l_0"] = "l_0"
    theta: float = 1.0
    gamma: float = 0.1
    target: Target = dataclasses.field(default="most_likely", kw_only=True)

    norms: ClassVar[tuple[str, ...]] = ("l_0",)
    paper: ClassVar[str] = "Papernot et al. 2016"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is None:
            raise InputError(
                "JSMA without a target.", "Its saliency map is that of a class to go to.", 'Give a rule, e.g. "most_likely".'
            )
        size = number("theta", self.theta, "It is added to components, in the inputs' own unit.")
        require(size != 0, "theta is 0.", "A step must go somewhere.", "Give a number that is not 0.")
        number("gamma", self.gamma, "It is a share of the components.", above=0, most=1)

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        clean, z = x.flatten(1), x.flatten(1).clone()
        most = int(self.gamma * z.shape[1] + 1e-9)  # 0.29 * 100 is below 29
        free = self._has_room(z, victim)
        left = torch.nonzero(~victim.fooled(x))[:, 0]
        while True:
            changed = (z[left] != clean[left]).sum(1)
            left = left[(changed + 2 <= most) & (free[left].sum(1) >= 2)]
            if len(left) == 0:
                return z.view_as(x)
            alpha, beta = self._slopes(victim, z[left].view(-1, *x.shape[1:]), left)
            # Where the slopes are not finite the result is NaN, and `Attack.run` refuses it.
            finite = (alpha + beta).isfinite().all(1)
            z[left[~finite]] = torch.nan
            left, alpha, beta = left[finite], alpha[finite], beta[finite]
            if len(left) == 0:
                return z.view_as(x)
            first, second, exists = best_pairs(alpha, beta, free[left])
            left, pair = left[exists], torch.stack([first, second], dim=1)[exists]
            if len(left) == 0:
                return z.view_as(x)
            self._move(z, free, left.unsqueeze(1), pair, victim)
            left = left[~victim.fooled(z[left].view(-1, *x.shape[1:]), left)]

    def _move(self, z: Tensor, free: Tensor, rows: Tensor, pair: Int[Tensor, "row 2"], victim: Victim) -> None:
        """Move each pair once; components without room afterwards, or that rounding left in place, do not move again."""
        before = z[rows, pair]
        after = before + self.theta
        after = after if victim.bounds is None else after.clamp(*victim.bounds)
        z[rows, pair] = after
        free[rows, pair] = self._has_room(after, victim) & (after != before) & (victim.bounds is not None)

    def _has_room(self, z: Tensor, victim: Victim) -> Bool[Tensor, "row component"]:
        if victim.bounds is None:
            return torch.ones_like(z, dtype=torch.bool)
        return z < victim.bounds[1] if self.theta > 0 else z > victim.bounds[0]

    def _slopes(self, victim: Victim, z: Batch, rows: Int[Tensor, " row"]) -> tuple[Slopes, Slopes]:
        """Derivatives of the target's log probability and of the sum of the others', along theta; two gradients."""
        chosen = torch.nn.functional.one_hot(victim.y[rows], victim.num_classes).to(z)
        weights = torch.stack([chosen, 1 - chosen], dim=1).flatten(0, 1)
        twice = rows.repeat_interleave(2)
        gradient, _, _ = victim.gradient_and_prediction(z.repeat_interleave(2, 0), ClassWeights(weights), twice)
        gradient = math.copysign(1.0, self.theta) * gradient.flatten(1)
        return gradient[::2], gradient[1::2]


def best_pairs(
    alpha: Slopes, beta: Slopes, free: Bool[Tensor, "row component"]
) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"], Bool[Tensor, " row"]]:
    """The free p, q that maximise -(alpha_p + alpha_q)(beta_p + beta_q), the first sum positive, the second negative.

    It is exact, and does not compare all pairs: a component for which two others have as high an alpha and as low a beta can
    be exchanged, in any pair, for one of them that is not its partner, and the product is no smaller. So only components are
    compared for which at most one other has both; one sort and two running maxima select them. Of equal pairs, either.

    Args:
        alpha: derivatives of the target's score by each component.
        beta: derivatives of the sum of the other scores.
        free: the components that may move.

    Returns:
        p < q, and whether there is such a pair.
    """
    up, order = _scaled(alpha, free).sort(dim=1, descending=True, stable=True)
    down, free = _scaled(-beta, free).gather(1, order), free.gather(1, order)
    largest = _before(down.cummax(1).values)
    second = _before(torch.minimum(down, largest).cummax(1).values)  # second largest of those that come earlier
    keep = free & (down > second)
    candidates = (~keep).to(torch.uint8).argsort(stable=True, dim=1)[:, : int(keep.sum(1).max())]
    up, down = (slopes.masked_fill(~keep, -torch.inf).gather(1, candidates) for slopes in (up, down))
    rows, size = up.shape
    best, at = up.new_zeros(rows), torch.zeros(rows, dtype=torch.int64, device=up.device)
    block = max(1, PAIRS // max(1, rows * size))
    for start in range(0, size, block):
        rise, fall = (slopes[:, start : start + block, None] + slopes[:, None, :] for slopes in (up, down))
        value = torch.where((rise > 0) & (fall > 0), rise * fall, 0.0)
        own = torch.arange(value.shape[1], device=up.device)
        value[:, own, start + own] = 0.0
        value, where = value.flatten(1).max(1)
        at = torch.where(value > best, where + start * size, at)
        best = torch.maximum(best, value)
    if size == 0:  # nothing is free
        return at, at, best > 0
    pair = torch.stack([at // size, at % size], dim=1)
    pair = order.gather(1, candidates.gather(1, pair)).sort(dim=1).values
    return pair[:, 0], pair[:, 1], best > 0


def _scaled(slopes: Slopes, free: Bool[Tensor, "row component"]) -> Slopes:
    """Slopes divided by the largest, so that products of tiny ones do not vanish; minus infinity where not free."""
    top = slopes.abs().masked_fill(~free, 0.0).amax(1, keepdim=True)
    return (slopes / top.clamp(min=torch.finfo(slopes.dtype).tiny)).masked_fill(~free, -torch.inf)


def _before(running: Slopes) -> Slopes:
    """The running values, shifted by one place."""
    return torch.cat([torch.full_like(running[:, :1], -torch.inf), running[:, :-1]], dim=1)
