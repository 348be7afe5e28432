"""Square Attack: random search over squares, using only predictions."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.arguments import number, whole
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.geometry import clip, norms
from bayesrob.attacks.goal import Draws, Sees
from bayesrob.attacks.victim import Victim
from bayesrob.numerics import per_point
from bayesrob.types import Batch, Bounds

__all__ = ["Square"]

SWITCHES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries: after each, the share of components that one query changes is halved (section 5 of the paper)."""

Planes = Float[Tensor, "row channel place"]
Window = Int[Tensor, "row k"]


@dataclasses.dataclass(frozen=True)
class Square(BallAttack):
    """Random squares of the perturbation are changed, and kept where that helps (Andriushchenko et al. 2020).

    l_inf (algorithm 2): from vertical stripes of +-eps; each query sets a square to +-eps, one sign a channel. l_2
    (algorithm 3): from a 5 x 5 grid of bumps; each query moves the perturbation's mass out of one square and into another,
    bent there by a pair of opposite pyramids. The squares shrink with the number of queries. A change is kept if the margin
    max_{c != y} log p_c - log p_y of the posterior predictive grows; with a target, if log p_target does. Further settings:
    see `Attack`.

    Images are [channel, height, width]. Inputs of any other shape have no neighbours: a random subset of their components
    takes the square's place, each component with its own sign (l_2: a random direction, instead of pyramids).

    Costs are counted in queries, so stopping at success is part of the method: a point that meets the criterion leaves the
    attack, and only its accuracy means anything afterwards.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        queries: queries for each point and restart, the start included (5,000, as in AutoAttack). The schedule of the
            squares is scaled to it.
        p_init: share of the components that the first squares cover (0.8, as in AutoAttack; the paper has 0.05 and 0.1 for
            models trained without a defence, 0.3 and 0.8 for robust ones).
        restarts: number of searches; each later one is for the points that did not succeed before.
        draws: "held", because on changing draws a change might be kept for the draws' sake, and decisions flicker.

    Example:
        >>> z = br.attacks.Square(eps=0.1, queries=20)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    draws: Draws = dataclasses.field(default="held", kw_only=True)

    sees: ClassVar[Sees] = "probabilities"
    paper: ClassVar[str] = "Andriushchenko et al. 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("queries", self.queries)
        whole("restarts", self.restarts)
        number("p_init", self.p_init, "It is a share of the components.", above=0, most=1)

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        result = x.clone()
        if self.eps == 0:  # nowhere to go: thousands of queries would say the same
            return result
        best = x.new_full((len(x),), -torch.inf)
        left = torch.arange(len(x), device=x.device)
        for _ in range(self.restarts):
            z, value, hit = self._search(victim, x[left], left, generator)
            better = hit | (value > best[left]) | best[left].isneginf()
            result[left[better]], best[left[better]] = z[better], value[better]
            left = left[~hit]
            if len(left) == 0:
                break
        return result

    def _search(
        self, victim: Victim, x: Batch, rows: Int[Tensor, " row"], generator: torch.Generator
    ) -> tuple[Batch, Float[Tensor, " row"], Bool[Tensor, " row"]]:
        """One restart: returns the best points, their gain, and whether they succeed."""
        result, values = x.clone(), x.new_zeros(len(x))
        broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        left = torch.arange(len(x), device=x.device)
        z = best = delta = x  # for the points that are left; the first query sets them
        for query in range(self.queries):
            start = query == 0
            new = self._start(x, generator) if start else self._moved(delta, query, generator)
            candidate = self._placed(x, new, victim.bounds)
            log_predictive = victim.predict(candidate, rows)
            hit, value = victim.judged(log_predictive, candidate, rows), victim.gain(log_predictive, rows)
            if start:
                z, best, delta = candidate, value, new
            else:
                better = hit | (value > best)
                z, delta = (torch.where(per_point(better, x), *pair) for pair in ((candidate, z), (new, delta)))
                best = torch.where(better, value, best)
            if self.norm == "l_2":  # mass that the bounds cut off is free again
                delta = z - x
            if bool(hit.any()):
                done, stays = left[hit], ~hit
                result[done], values[done], broken[done] = z[hit], best[hit], True
                x, z, best, delta, rows, left = (each[stays] for each in (x, z, best, delta, rows, left))
                if len(left) == 0:
                    break
        result[left], values[left] = z, best
        return result, values, broken

    def _placed(self, x: Batch, delta: Batch, bounds: Bounds | None) -> Batch:
        """The point that a perturbation leads to: its signs count in l_inf, in l_2 its direction."""
        if self.norm == "l_2":
            length = norms(delta, "l_2").clamp(min=torch.finfo(x.dtype).tiny)
            delta = delta / per_point(length, delta)
        return clip(x + self.eps * delta, bounds)

    def _start(self, x: Batch, generator: torch.Generator) -> Batch:
        image = x.ndim == 4
        if self.norm == "l_inf":
            shape = (*x.shape[:2], 1, x.shape[3]) if image else x.shape
            return _signs(shape, generator, x).expand(x.shape)
        if not image:
            return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
        rows, channels, height, width = x.shape
        side = max(1, min(height, width) // 5)
        down, across = height // side, width // side
        bump = pyramids(side).to(x)
        turned = torch.randint(2, (down, across, 1, 1), generator=generator).to(x.device).bool()
        bumps = torch.where(turned, bump.T, bump) * _signs((rows, channels, down, across, 1, 1), generator, x)
        tiles = bumps.transpose(3, 4).reshape(rows, channels, down * side, across * side)
        delta = torch.zeros_like(x)
        top, beside = (height - down * side) // 2, (width - across * side) // 2
        delta[:, :, top : top + down * side, beside : beside + across * side] = tiles
        return delta

    def _moved(self, delta: Batch, query: int, generator: torch.Generator) -> Batch:
        """Another perturbation, changed in one window."""
        image = delta.ndim == 4
        planes = delta.flatten(2) if image else delta.flatten(1).unsqueeze(1)
        at = int(query / self.queries * 10_000)
        share = self.p_init / 2 ** sum(at > switch for switch in SWITCHES)
        if self.norm == "l_inf":
            return self._flipped(planes, delta, share, generator).view_as(delta)
        return self._shifted(planes, delta, share, generator).view_as(delta)

    def _flipped(self, planes: Planes, like: Batch, share: float, generator: torch.Generator) -> Planes:
        """Algorithm 2: a window of random signs."""
        window = _window(like, share, 1, generator)
        index = window.unsqueeze(1).expand(-1, planes.shape[1], -1)
        shape = (*planes.shape[:2], 1) if like.ndim == 4 else index.shape
        signs = _signs(shape, generator, planes).expand(index.shape)
        # Signs that change nothing would waste a query. With one channel the opposite ones are all that is left.
        same = (planes.gather(2, index) == signs).flatten(1).all(1)
        return planes.scatter(2, index, torch.where(per_point(same, signs), -signs, signs))

    def _shifted(self, planes: Planes, like: Batch, share: float, generator: torch.Generator) -> Planes:
        """Algorithm 3: mass from a second window into the first, channel by channel."""
        tiny = torch.finfo(planes.dtype).tiny
        channels = planes.shape[1]
        into, out = (_window(like, share, 3, generator).unsqueeze(1).expand(-1, channels, -1) for _ in range(2))
        size = into.shape[2]
        old = planes.gather(2, into)
        if like.ndim == 4:
            eta = pyramids(math.isqrt(size)).to(planes)
            turned = torch.randint(2, (len(planes), 1, 1), generator=generator).to(planes.device).bool()
            bend = torch.where(turned, eta.T, eta).flatten(1).unsqueeze(1)
            bend = bend * _signs((len(planes), channels, 1), generator, planes)
        else:
            bend = torch.randn(old.shape, generator=generator, dtype=torch.float32).to(planes)
            bend = bend / bend.norm(dim=2, keepdim=True).clamp(min=tiny)
        bent = bend + old / old.norm(dim=2, keepdim=True).clamp(min=1e-12)
        emptied = planes.scatter(2, out, 0.0).scatter(2, into, 0.0)
        # What both windows held, and what the ball has left, is spent on the first.
        held = (planes.square() - emptied.square()).sum(2, keepdim=True)
        unspent = (self.eps**2 - planes.square().sum((1, 2), keepdim=True)).clamp(min=0) / channels
        new = bent / bent.norm(dim=2, keepdim=True).clamp(min=1e-12) * (held.clamp(min=0) + unspent).sqrt()
        return emptied.scatter(2, into, new)


def pyramids(side: int) -> Float[Tensor, "side side"]:
    """Two pyramids of opposite signs, one above the other, with a joint norm of one (eta in section 4.2 of the paper)."""
    half = side // 2
    both = torch.cat([_pyramid(half, side), -_pyramid(side - half, side)])
    return both / both.norm()


def _pyramid(height: int, width: int) -> Float[Tensor, "height width"]:
    """Centred squares of side 2 t + 1 laid on top of each other, each 1 / (t + 1)^2 high; of norm one."""
    if height == 0:
        return torch.zeros(0, width)
    down, across = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    ring = torch.maximum(down.abs().unsqueeze(1), across.abs())
    layers = 1 / torch.arange(1, max(height, width) // 2 + 2).square()
    stacked = layers.flip(0).cumsum(0).flip(0)[ring]
    return stacked / stacked.norm()


def _window(like: Batch, share: float, least: int, generator: torch.Generator) -> Window:
    """The places in a plane of each point that change: a square anywhere inside an image, or a subset of a vector.

    Args:
        like: the points, `[batch, *shape]`.
        share: share of the places that change.
        least: side of the smallest square, or size of the smallest subset. Squares with a least side of three have odd
            sides, as the pyramids have.
        generator: source of the random places.
    """
    if like.ndim != 4:
        places = like[0].numel()
        size = min(places, max(least, round(share * places)))
        return torch.rand(len(like), places, generator=generator).topk(size).indices.to(like.device)
    height, width = like.shape[2:]
    side = max(least, round(math.sqrt(share * height * width)))
    side = min(side + (least > 1 and side % 2 == 0), height, width)
    top, beside = (
        torch.randint(length - side + 1, (len(like), 1), generator=generator) + torch.arange(side)
        for length in (height, width)
    )
    return (top.unsqueeze(2) * width + beside.unsqueeze(1)).flatten(1).to(like.device)


def _signs(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randint(2, shape, generator=generator).to(like) * 2 - 1
