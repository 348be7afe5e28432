"""Greedy local search over pixels, using only the probability of the true class."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bayesrob.arguments import number, require, whole
from bayesrob.attacks.base import Attack
from bayesrob.attacks.goal import Draws, Sees
from bayesrob.attacks.single_pixel import Planes, planes
from bayesrob.attacks.victim import Victim
from bayesrob.errors import check_name
from bayesrob.types import Batch, Bounds, Real

__all__ = ["LocalSearch", "cyclic", "probe"]

START = 0.1
"""Share of the pixels that are candidates in the first round."""
REST = 30
"""Number of rounds in which a perturbed pixel is no candidate."""
MOST = 128
"""Number of candidates that foolbox 2 probes in a round."""
HIGH, LOW = 0.9, 0.3
"""Mean true-class probabilities above which p rises, below which it falls. The paper: "close to one", "e.g. below 0.3"."""
FACTOR = 2.0
"""Factor by which p rises and falls; the paper gives none."""
P_RANGE = (0.5, 100.0)
"""Range in which the size of p adapts: from probes at a bound to the largest that the paper tries (section 4)."""

Places = Int[Tensor, "row slot"]
Mask = Bool[Tensor, "row slot"]


@dataclasses.dataclass(frozen=True)
class LocalSearch(Attack):
    """Perturbs, round by round, the nearby pixels that matter most (Narodytska & Kasiviswanathan 2016, algorithm 3).

    Values are counted from the middle of the bounds, in units of their width, so that the bounds are LB = -1/2 and UB = 1/2
    (as in foolbox 2; the paper asks for LB <= 0 <= UB). In each round, for each point:

    1. Each candidate pixel is set to p * sign(value) in every channel (`probe`, equation 1), which may lie far outside the
       bounds: the model is evaluated at such inputs, but they are never returned.
    2. The `pixels` with the lowest probability of the true class (towards a target: the highest one of it) are multiplied by
       r in every channel, cyclically (`cyclic`, algorithm 2), so that they stay inside. Ties are broken at random. (The
       pseudocode sorts in descending order, against its text.)
    3. A point that now meets the criterion is done. For the others, the squares around the pixels just perturbed are the
       next candidates. The first candidates are a random tenth of all pixels.

    Inputs `[channel, height, width]` have height * width pixels; in inputs of any other shape, each component is one, and
    the squares are intervals. A point that is never broken is returned as the last round left it. Further settings: see
    `Attack`.

    Args:
        norm: "l_0", the number of changed components.
        rounds: rounds at most (150, the paper's R).
        pixels: pixels that are perturbed in a round (5, the paper's t).
        half_side: half the side of the squares (5, the paper's d).
        r: factor of a perturbed pixel, between 0 and 2 (3/2, the paper's r).
        p: value of probes, at first (10, as in foolbox 2). The paper allows any real number, and the sign matters where
            pixels are at the bounds: `cyclic` takes those to the other side of the middle, while probes with p > 0 move
            outward on their own side, so that the pixels chosen are those that do the least. For images that are mostly
            black or white take p < 0: with r = 3/2, -1/4 probes just what `cyclic` does to a pixel at a bound. (Of 92 MNIST
            images, p = 10 fooled a network on none and p = -10 on all, in either variant.)
        variant: "paper": p adapts, point by point, within 1/2 and 100. It doubles where the chosen pixels' probes have a
            mean true-class probability above 0.9 and halves below 0.3 (section 6 says "close to one", "low, e.g. below 0.3",
            and not by how much); a perturbed pixel is no candidate in the next 30 rounds, and a point without candidates
            waits. "foolbox2": p stays, perturbed pixels stay candidates, and a random 128 of each round's candidates are
            probed; a pixel in several squares is several candidates there, and is perturbed as many times.
        batch_size: number of inputs in one batch of predictions.
        draws: "held", because scores on changing draws cannot be compared, and decisions on them flicker.

    Example:
        >>> images = br.predictive.from_modules([net.eval()], bounds=(-5, 5))
        >>> z = br.attacks.LocalSearch(rounds=2)(images, x, y)
        >>> bool((z.abs() <= 5).all())
        True
    """

    norm: Literal["l_0"] = "l_0"
    rounds: int = 150
    pixels: int = 5
    half_side: int = 5
    r: float = 1.5
    p: float = 10.0
    variant: Literal["paper", "foolbox2"] = "paper"
    batch_size: int = 1024
    draws: Draws = dataclasses.field(default="held", kw_only=True)

    norms: ClassVar[tuple[str, ...]] = ("l_0",)
    sees: ClassVar[Sees] = "probabilities"
    needs_bounds: ClassVar[bool] = True
    paper: ClassVar[str] = "Narodytska & Kasiviswanathan 2016"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("variant", self.variant, ["paper", "foolbox2"])
        whole("rounds", self.rounds)
        whole("pixels", self.pixels)
        whole("half_side", self.half_side, least=0)
        whole("batch_size", self.batch_size)
        p = number("p", self.p, "It is the value that a probe gives to a pixel, times its sign.")
        require(p != 0, "p is 0.", "Probes would set every pixel to the middle.", "Give a number that is not 0.")
        number("r", self.r, "Larger factors leave the bounds by more than their width.", least=0, most=2)

    @property
    def only_accuracy(self) -> bool:
        return True

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        assert victim.bounds is not None
        result = x.clone()
        left = torch.nonzero(~victim.judged(victim.predict(x), x))[:, 0]
        z = planes(x)[left]
        size = (x.shape[2], x.shape[3]) if x.ndim == 4 else (1, z.shape[2])
        places, near = self._start(z, generator)
        wakes = torch.zeros_like(z[:, 0], dtype=torch.int64)
        p = z.new_full((len(z),), self.p)
        for round_ in range(self.rounds):
            if len(left) == 0:
                break
            asked, is_asked = self._candidates(places, near & (wakes.gather(1, places) <= round_), generator)
            if asked.shape[1] == 0:  # every candidate was perturbed too recently
                continue
            score = self._scores(victim, z, asked, is_asked, shape=x.shape[1:], left=left, p=p)
            score, rank = score.sort(dim=1, stable=True)
            score, chosen = score[:, : self.pixels], asked.gather(1, rank[:, : self.pixels])
            taken = score.isfinite()
            z = self._perturbed(z, chosen, taken, victim.bounds)
            if self.variant == "paper":
                hits = torch.zeros_like(wakes, dtype=torch.bool).scatter(1, chosen, taken)
                near = torch.where(taken[:, :1], self._around(hits, size), near)
                wakes = torch.where(hits, round_ + 1 + REST, wakes)
                p = self._adapted(p, score, taken, victim.targeted)
            else:
                places, near = self._squares(chosen, taken, size)
            moved = torch.nonzero(taken[:, 0])[:, 0]
            point = z[moved].view(-1, *x.shape[1:])
            result[left[moved]] = point
            stays = torch.ones_like(left, dtype=torch.bool)
            stays[moved] = ~victim.judged(victim.predict(point, left[moved]), point, left[moved])
            left, z, places, near, wakes, p = (each[stays] for each in (left, z, places, near, wakes, p))
        return result

    # ---- candidates -----------------------------------------------------------------------------------------------------

    def _start(self, z: Planes, generator: torch.Generator) -> tuple[Places, Mask]:
        count = max(1, int(START * z.shape[2]))
        noise = torch.rand(len(z), z.shape[2], generator=generator).to(z.device)
        places = torch.arange(z.shape[2], device=z.device).expand(len(z), -1)
        return places, torch.zeros_like(noise, dtype=torch.bool).scatter(1, noise.argsort(1)[:, :count], True)

    def _candidates(self, places: Places, usable: Mask, generator: torch.Generator) -> tuple[Places, Mask]:
        """The usable places of each point in random order, and which slots hold one; in foolbox 2 at most 128."""
        noise = torch.rand(places.shape, generator=generator).to(places.device)
        most = int(usable.sum(1).max())
        most = most if self.variant == "paper" else min(most, MOST)
        order = noise.masked_fill(~usable, torch.inf).argsort(1)[:, :most]
        return places.gather(1, order), usable.gather(1, order)

    def _around(self, hits: Bool[Tensor, "row place"], size: tuple[int, int]) -> Bool[Tensor, "row place"]:
        """The union of the squares around `hits`, inside the image."""
        image = hits.view(-1, 1, *size).to(torch.float32)
        return nn.functional.max_pool2d(image, 2 * self.half_side + 1, 1, self.half_side).flatten(1) > 0

    def _squares(self, chosen: Places, taken: Mask, size: tuple[int, int]) -> tuple[Places, Mask]:
        """The squares one after the other, so that a pixel occurs once for each square that it is in."""
        height, width = size
        rows, columns = (
            torch.arange(-reach, reach + 1, device=chosen.device)
            for reach in (min(self.half_side, height - 1), min(self.half_side, width - 1))
        )
        row = (chosen // width)[:, :, None, None] + rows[:, None]
        column = (chosen % width)[:, :, None, None] + columns
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & taken[:, :, None, None]
        return torch.where(inside, row * width + column, 0).flatten(1), inside.flatten(1)

    # ---- one round ------------------------------------------------------------------------------------------------------

    def _scores(
        self,
        victim: Victim,
        z: Planes,
        asked: Places,
        is_asked: Mask,
        *,
        shape: torch.Size,
        left: Tensor,
        p: Float[Tensor, " row"],
    ) -> Float[Tensor, "row slot"]:
        """Log probability of the true class, or minus that of the target, at each probe; infinite where there is none."""
        assert victim.bounds is not None
        score = z.new_full(asked.shape, torch.inf)
        owners, columns = torch.nonzero(is_asked, as_tuple=True)
        finite = torch.finfo(z.dtype)
        for owner, column in zip(owners.split(self.batch_size), columns.split(self.batch_size), strict=True):
            index = asked[owner, column].view(-1, 1, 1).expand(-1, z.shape[1], 1)
            old = z[owner]
            new = probe(old.gather(2, index), p[owner].view(-1, 1, 1), victim.bounds)
            rows = left[owner]
            log_predictive = victim.predict(old.scatter(2, index, new).view(-1, *shape), rows)
            value = log_predictive.gather(1, victim.y[rows].unsqueeze(1)).squeeze(1).to(z.dtype)
            score[owner, column] = (-value if victim.targeted else value).clamp(finite.min, finite.max)
        return score

    def _perturbed(self, z: Planes, chosen: Places, taken: Mask, bounds: Bounds) -> Planes:
        for column, is_taken in zip(chosen.T, taken.T, strict=True):  # one after the other, because a pixel may occur twice
            index = column.view(-1, 1, 1).expand(-1, z.shape[1], 1)
            old = z.gather(2, index)
            z = z.scatter(2, index, torch.where(is_taken.view(-1, 1, 1), cyclic(old, self.r, bounds), old))
        return z

    def _adapted(self, p: Float[Tensor, " row"], score: Tensor, taken: Mask, targeted: bool) -> Float[Tensor, " row"]:
        """The p of the next round; towards a target, the probability of all other classes replaces the true class's."""
        probability = 1 - (-score).exp() if targeted else score.exp()
        mean = torch.where(taken, probability, 0.0).sum(1) / taken.sum(1).clamp(min=1)
        factor = torch.where(mean > HIGH, FACTOR, torch.where(mean < LOW, 1 / FACTOR, 1.0))
        # A p that was chosen outside of the range is not brought back into it.
        size = (p.abs() * factor).clamp(min(abs(self.p), P_RANGE[0]), max(abs(self.p), P_RANGE[1]))
        return torch.where(taken.any(1), math.copysign(1.0, self.p) * size, p)


def probe(value: Tensor, p: Tensor | Real, bounds: Bounds) -> Tensor:
    """p * sign(value), for values counted from the middle of the bounds in units of their width (equation 1)."""
    lo, hi = bounds
    middle = (lo + hi) / 2
    return middle + (hi - lo) * p * (value - middle).sign()


def cyclic(value: Tensor, r: Real, bounds: Bounds) -> Tensor:
    """r * value, for values counted likewise; values outside of [-1/2, 1/2] re-enter at the other end (algorithm 2).

    With bounds (0, 1) and r = 3/2: black becomes 3/4, white 1/4, 0.6 becomes 0.65, the middle stays.
    """
    lo, hi = bounds
    middle = (lo + hi) / 2
    scaled = r * (value - middle) / (hi - lo)
    turned = scaled + (scaled < -0.5).to(value.dtype) - (scaled > 0.5).to(value.dtype)
    return (middle + (hi - lo) * turned).clamp(lo, hi)
