"""The random single-pixel attack: one pixel at an extreme value, wherever that is enough."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayesrob.arguments import whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.goal import Draws, Sees
from bayesrob.attacks.victim import Victim
from bayesrob.errors import check_name
from bayesrob.types import Batch, Bounds

__all__ = ["SinglePixel", "planes"]

Planes = Float[Tensor, "row channel place"]


@dataclasses.dataclass(frozen=True)
class SinglePixel(Attack):
    """Random pixels, one at a time, all channels at an extreme (Narodytska & Kasiviswanathan 2016, algorithm 1, RANDADV).

    A point keeps the first change that meets the criterion, and is returned unchanged if none does. The paper sets a pixel
    to p * sign(pixel) in a unit where 0 is the middle of the bounds, with p up to 100, far outside them. Here the result is
    a valid input, at the bounds (p = 1/2 of their width). Pixels are drawn without replacement (the paper draws with
    replacement, to estimate the share of critical pixels), and changes without effect are left out, so that with enough
    tries the search is exhaustive.

    Inputs `[channel, height, width]` have height * width pixels; in inputs of any other shape, each component is one.
    Further settings: see `Attack`.

    Args:
        norm: "l_0", the number of changed components.
        values: "both": a pixel's channels are all at the lower bound or all at the upper one, each a try of its own (as in
            foolbox 2). "sign", the paper's: each channel goes to the bound on its own side of the middle; black pixels stay
            black, and on MNIST most are.
        tries: queries for each point at most (1,000; foolbox 2 has 1,000 pixels, the paper half of all pixels).
        at_once: queries of one batch; at most this number less one are more than needed.
        draws: "held", because decisions on changing draws flicker, and the luckiest draws would decide.

    Example:
        >>> images = br.predictive.from_modules([net.eval()], bounds=(-5, 5))
        >>> z = br.attacks.SinglePixel()(images, x, y)
        >>> bool(((z != x).sum(1) <= 1).all())
        True
    """

    norm: Literal["l_0"] = "l_0"
    values: Literal["both", "sign"] = "both"
    tries: int = 1000
    at_once: int = 10
    draws: Draws = dataclasses.field(default="held", kw_only=True)

    norms: ClassVar[tuple[str, ...]] = ("l_0",)
    sees: ClassVar[Sees] = "classes"
    needs_bounds: ClassVar[bool] = True
    paper: ClassVar[str] = "Narodytska & Kasiviswanathan 2016"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("values", self.values, ["sign", "both"])
        whole("tries", self.tries)
        whole("at_once", self.at_once)

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        assert victim.bounds is not None
        result = x.clone()
        left = torch.nonzero(~victim.judged(victim.predict(x), x))[:, 0]
        old = planes(x)
        new = self._new(old, victim.bounds)
        order, tries = self._order(old, new, generator)
        for first in range(0, int(tries.max()), self.at_once):
            left = left[tries[left] > first]
            if len(left) == 0:
                break
            owner, column = torch.nonzero(
                first + torch.arange(self.at_once, device=x.device) < tries[left].unsqueeze(1), as_tuple=True
            )
            rows = left[owner]
            which, place = _split(order[rows, first + column], old.shape[2])
            index = place.view(-1, 1, 1).expand(-1, old.shape[1], 1)
            z = old[rows].scatter(2, index, new[rows, which].gather(2, index)).view(-1, *x.shape[1:])
            hit = victim.judged(victim.predict(z, rows), z, rows)
            # The index of each point's first success among all queries; beyond them if it has none.
            at = torch.arange(len(owner), device=x.device)
            first_hit = torch.full_like(left, len(owner)).scatter_reduce(0, owner[hit], at[hit], "amin")
            succeeds = first_hit < len(owner)
            result[left[succeeds]] = z[first_hit[succeeds]]
            left = left[~succeeds]
        return result

    def _new(self, old: Planes, bounds: Bounds) -> Float[Tensor, "row value channel place"]:
        """The values that each pixel may be set to."""
        lo, hi = bounds
        if self.values == "both":
            return torch.stack([torch.full_like(old, lo), torch.full_like(old, hi)], dim=1)
        middle = (lo + hi) / 2
        return torch.where(old > middle, hi, torch.where(old < middle, lo, old)).unsqueeze(1)

    def _order(
        self, old: Planes, new: Tensor, generator: torch.Generator
    ) -> tuple[Int[Tensor, "row change"], Int[Tensor, " row"]]:
        """The changes (value * places + place) that each point tries, in their order, and their number."""
        changes = (new != old.unsqueeze(1)).any(2).flatten(1)
        noise = torch.rand(changes.shape, generator=generator).to(old.device)
        order = noise.masked_fill(~changes, torch.inf).argsort(1)
        return order[:, : self.tries], changes.sum(1).clamp(max=self.tries)


def planes(x: Batch) -> Planes:
    """The channels of images `[batch, channel, height, width]`; of other shapes one, with a place for each component."""
    return x.flatten(2) if x.ndim == 4 else x.flatten(1).unsqueeze(1)


def _split(change: Tensor, places: int) -> tuple[Tensor, Tensor]:
    return change // places, change % places
