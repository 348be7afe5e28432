"""The Jacobian-based saliency map attack: two components at a time, those that the map says matter most."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.attacks.base import Attack
from bayesrob.attacks.victim import ClassWeights, Victim
from bayesrob.errors import InputError
from bayesrob.types import Batch, Outputs

__all__ = ["JSMA", "best_pair"]

PAIRS = 2**24
"""So many pairs are compared at once, 64 MB in float32."""

Slopes = Float[Tensor, "row component"]


@dataclasses.dataclass(frozen=True)
class JSMA(Attack):
    """The pair of components that most raises a target and lowers the other classes, again and again (Papernot et al. 2016).

    Each round moves by `theta` the pair (p, q) that maximises -alpha * beta among those with alpha > 0 and beta < 0 (for
    theta < 0: alpha < 0 and beta > 0), where alpha is the derivative of F_target and beta that of the sum of the other F_c,
    summed over p and q (algorithm 3, equations 8 to 10). Components that reach a bound leave the search; without bounds each
    is moved once. A point stops where the criterion is met, where `gamma` of the components have changed, or where no pair
    is left that satisfies both conditions. All pairs are compared, but see `best_pair`.

    F is the log posterior predictive. Probabilities would not do: they sum to one, so beta = -alpha, and the map says no
    more than the target's gradient. Nor would logits (implementations' usual choice): there are none of an average over
    draws, and those of one draw are defined only up to a function of x, on which beta depends. The log predictive is a
    function of the model alone, and its gradients do not vanish with small probabilities.

    Args:
        theta: what is added to a component, in the inputs' own unit. 1.0, the paper's, takes a pixel of [0, 1] to the bound;
            negative ones darken.
        gamma: share of the components that may change, 0.1 (the paper: 0.145, beyond which changes are seen); rounded down.
        target: "most_likely", the class that is nearest to being predicted; the paper takes each in turn.
        criterion, label, skip_misclassified, num_draws, draws: see `Attack`. Two gradients a round, and one query where
            they seem to say that the goal is reached: that is decided on one set of draws also where draws are fresh.
    """

    norm: Literal["l_0"] = "l_0"
    theta: float = 1.0
    gamma: float = 0.1
    target: int | Literal["least_likely", "most_likely", "random", "given"] | None = dataclasses.field(
        default="most_likely", kw_only=True
    )

    norms: ClassVar[tuple[str, ...]] = ("l_0",)
    paper: ClassVar[str] = "Papernot et al. 2016"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is None:
            raise InputError(
                "target is None.", "The saliency map is that of a class to go to.", 'Give a rule, e.g. "most_likely".'
            )
        if not (isinstance(self.theta, int | float) and math.isfinite(self.theta) and self.theta != 0):
            raise InputError(f"theta is {self.theta!r}.", "A step must go somewhere.", "Give a number that is not 0.")
        if not (isinstance(self.gamma, int | float) and 0 < self.gamma <= 1):
            raise InputError(f"gamma is {self.gamma!r}.", "It is a share of the components.", "Give a number in (0, 1].")

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        clean, z = x.flatten(1), x.flatten(1).clone()
        most = int(self.gamma * z.shape[1] + 1e-9)  # 0.3 * 10 is below 3
        movable = self._has_room(z, victim)
        left = torch.arange(len(x), device=x.device)
        while True:
            changed = (z[left] != clean[left]).sum(1)
            left = left[(changed + 2 <= most) & (movable[left].sum(1) >= 2)]
            if len(left) == 0:
                return z.view_as(x)
            point = z[left].view(-1, *x.shape[1:])
            up, down, log_predictive = self._slopes(victim, point, left)
            # Not a number: so is the result then, and `Attack.run` says so.
            z[left[~(up + down).isfinite().all(1)]] = torch.nan
            stays = torch.ones_like(left, dtype=torch.bool)
            suspects = torch.nonzero(victim.judged(log_predictive, point, left))[:, 0]
            if len(suspects):
                stays[suspects] = ~victim.fooled(point[suspects], left[suspects])
            left, up, down = left[stays], up[stays], down[stays]
            if len(left) == 0:
                return z.view_as(x)
            pair, found = best_pair(up, down, movable[left])
            left, pair = left[found], pair[found]
            self._move(z, movable, left.unsqueeze(1), pair, victim)

    def _move(self, z: Tensor, movable: Tensor, rows: Tensor, pair: Int[Tensor, "row 2"], victim: Victim) -> None:
        """One step of each pair; what has no room afterwards, or is too small a step to be seen, does not move again."""
        before = z[rows, pair]
        after = before + self.theta
        after = after if victim.bounds is None else after.clamp(*victim.bounds)
        z[rows, pair] = after
        movable[rows, pair] = self._has_room(after, victim) & (after != before) & (victim.bounds is not None)

    def _has_room(self, z: Tensor, victim: Victim) -> Bool[Tensor, "row component"]:
        if victim.bounds is None:
            return torch.ones_like(z, dtype=torch.bool)
        return z < victim.bounds[1] if self.theta > 0 else z > victim.bounds[0]

    def _slopes(self, victim: Victim, z: Batch, rows: Int[Tensor, " row"]) -> tuple[Slopes, Slopes, Outputs]:
        """How fast the target rises and the sum of the others falls, each where theta leads; and the log predictive."""
        chosen = torch.nn.functional.one_hot(victim.y[rows], victim.num_classes).to(z)
        weights = torch.stack([chosen, chosen - 1], dim=1).flatten(0, 1)
        gradient, log_predictive, _ = victim.look(
            z.repeat_interleave(2, 0), ClassWeights(weights), rows.repeat_interleave(2)
        )
        gradient = math.copysign(1.0, self.theta) * gradient.flatten(1)
        return gradient[::2], gradient[1::2], log_predictive[::2]


def best_pair(
    up: Slopes, down: Slopes, movable: Bool[Tensor, "row component"]
) -> tuple[Int[Tensor, "row 2"], Bool[Tensor, " row"]]:
    """The two movable components that maximise (up_p + up_q) * (down_p + down_q) while both sums are positive.

    Exact, without looking at all pairs: a component for which two others are as high in `up` and in `down` can be
    exchanged, in any pair, for one of them that is not its partner, and the product is no smaller. So only those are
    compared that at most one other is as high as in both: they are found by one sort. Equal pairs: either.

    Returns:
        The pair, and whether there is one.
    """
    up, down = (_scaled(slopes, movable) for slopes in (up, down))
    up, order = up.sort(dim=1, descending=True, stable=True)
    down, movable = down.gather(1, order), movable.gather(1, order)
    largest = _before(down.cummax(1).values)
    second = _before(torch.minimum(down, largest).cummax(1).values)  # second largest of those that come earlier
    keep = movable & (down > second)
    few = (~keep).to(torch.uint8).argsort(stable=True, dim=1)[:, : int(keep.sum(1).max())]
    up, down = (slopes.masked_fill(~keep, -torch.inf).gather(1, few) for slopes in (up, down))
    rows, size = up.shape
    best, at = up.new_zeros(rows), torch.zeros(rows, dtype=torch.int64, device=up.device)
    block = max(1, PAIRS // (rows * size))
    for first in range(0, size, block):
        some = slice(first, first + block)
        rise, fall = (slopes[:, some, None] + slopes[:, None, :] for slopes in (up, down))
        value = torch.where((rise > 0) & (fall > 0), rise * fall, 0.0)
        own = torch.arange(value.shape[1], device=up.device)
        value[:, own, first + own] = 0.0
        value, where = value.flatten(1).max(1)
        at = torch.where(value > best, where + first * size, at)
        best = torch.maximum(best, value)
    pair = torch.stack([at // size, at % size], dim=1)
    return order.gather(1, few.gather(1, pair)), best > 0


def _scaled(slopes: Slopes, movable: Bool[Tensor, "row component"]) -> Slopes:
    """By the largest, so that products of tiny slopes do not vanish; what does not move, last."""
    top = slopes.abs().masked_fill(~movable, 0.0).amax(1, keepdim=True)
    return (slopes / top.clamp(min=torch.finfo(slopes.dtype).tiny)).masked_fill(~movable, -torch.inf)


def _before(running: Slopes) -> Slopes:
    """A running value as it was one place earlier."""
    return torch.cat([torch.full_like(running[:, :1], -torch.inf), running[:, :-1]], dim=1)
