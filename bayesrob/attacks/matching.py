"""Attacks at equal injected perturbation: the mean squared difference from the clean inputs, component by component."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from bayesrob.arguments import number
from bayesrob.attacks.base import Attack, Attacked
from bayesrob.attacks.bv import UnsignedStep
from bayesrob.attacks.goal import Sees
from bayesrob.attacks.transfer import Transfer
from bayesrob.attacks.victim import Victim, next_seed
from bayesrob.errors import InputError
from bayesrob.predictive import Predictive
from bayesrob.types import Batch

__all__ = ["Matched", "match_perturbation"]

TOLERANCE = 0.02
"""Default tolerance, relative to the target."""

TRIALS = 40
"""Number of sizes that a search tries at most."""


def match_perturbation(attack: Attack, target_mse: float, tolerance: float = TOLERANCE) -> Attack:
    """The attack, scaled so that its perturbations have the mean square `target_mse`, after clipping.

    It makes attacks comparable that have no radius in common (Aboutalebi et al. 2020, figures 2 to 6). The mean is over all
    components of the points of one call. BV, BiasAttack and VarianceAttack without clipping are scaled exactly. For other
    attacks, every call searches for the `eps` (a fixed step size in proportion) by bisection, starting at the attack's own.
    That takes several attacks' time; only the last one's queries and gradients are reported.

    Args:
        attack: an attack with a radius `eps`, or a transfer of one.
        target_mse: mean square of the perturbations, in squared units of the inputs; FGSM of l_inf radius eps has eps^2
            where nothing is clipped.
        tolerance: largest difference of the mean square from `target_mse`, relative to it (0.02, because accuracy is read
            off plots whose steps are wider).

    Raises:
        InputError: an attack without a radius, or a target that is no positive number. When called: a target that the bounds
            or the attack itself do not let it reach.

    Example:
        >>> attack = br.attacks.match_perturbation(br.attacks.FGSM(), target_mse=0.01)
        >>> z = attack(post, x, y)
        >>> bool(((z - x).square().mean() - 0.01).abs() < 0.001)
        True
    """
    number("target_mse", target_mse, "It is a mean square, e.g. 0.03**2.", above=0)
    number("tolerance", tolerance, "It is relative to target_mse, e.g. 0.02.", above=0)
    if _sized(attack, 1.0) is None:
        raise InputError(
            f"{type(attack).__name__} has no radius.",
            "Its perturbation cannot be chosen.",
            "Match the others to its mean squared difference.",
        )
    if isinstance(attack, UnsignedStep) and not attack.clip and not attack.skip_misclassified:
        return dataclasses.replace(attack, mse=target_mse)
    return Matched(attack, target_mse, tolerance)


@dataclasses.dataclass(frozen=True)
class Matched(Attack):
    """The result of `match_perturbation` for an attack that cannot be scaled exactly.

    Args:
        attack: the attack whose radius is searched for.
        target_mse: mean square of the perturbations, in squared units of the inputs.
        tolerance: largest difference from `target_mse`, relative to it.
    """

    attack: Attack
    target_mse: float
    tolerance: float = TOLERANCE

    norms: ClassVar[tuple[str, ...]] = ("mean square",)
    sees: ClassVar[Sees] = "gradients"
    targetable: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Aboutalebi et al. 2020"

    def check_fits(self, predictive: Predictive) -> None:
        super().check_fits(predictive)
        self.attack.check_fits(predictive)

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        self._check_bounds(victim, x)
        seed = next_seed(generator)  # the same random numbers at every size

        def at(size: float) -> tuple[Attacked, float]:
            attack = _sized(self.attack, size)
            assert attack is not None
            attacked = attack.run(victim.predictive, x, victim.y, seed)
            return attacked, float((attacked.x - x).double().square().mean())

        attacked = self._search(at, _size(self.attack, self.target_mse))
        victim.queries += attacked.queries
        victim.gradients += attacked.gradients
        return attacked.x

    def _search(self, at: Callable[[float], tuple[Attacked, float]], size: float) -> Attacked:
        """Bisection, alternating with a guess, because most often the mean square grows as the square of the size."""
        low, high, reached = 0.0, math.inf, 0.0
        for trial in range(TRIALS):
            attacked, mse = at(size)
            if abs(mse - self.target_mse) <= self.tolerance * self.target_mse:
                return attacked
            if mse > self.target_mse:
                high = size
            elif trial > 1 and high == math.inf and mse <= reached * (1 + 1e-6):
                break  # twice as far or more, and no farther
            else:
                low, reached = size, mse
            guess = size * math.sqrt(self.target_mse / mse) if mse else math.inf
            if high == math.inf:
                size = min(max(2 * size, guess) if trial else guess, 1000 * size)
            else:
                size = guess if trial % 2 == 0 and low < guess < high else (low + high) / 2
        raise InputError(
            f"{type(self.attack).__name__} does not reach a mean square of {self.target_mse:g}, only {reached:g}.",
            "Bounds, vanishing gradients or its own jumps stand in the way.",
            "Give a smaller target_mse, a larger tolerance, or an attack that is not clipped.",
        )

    def _check_bounds(self, victim: Victim, x: Batch) -> None:
        if victim.bounds is None or (isinstance(self.attack, UnsignedStep) and not self.attack.clip):
            return
        lo, hi = victim.bounds
        farthest = float((x - lo).maximum(hi - x).double().square().mean())
        if self.target_mse > farthest * (1 + self.tolerance):
            raise InputError(
                f"target_mse is {self.target_mse:g}.",
                f"Within the bounds ({lo:g}, {hi:g}) no perturbation of these points has more than {farthest:g}.",
                "Give a smaller one.",
            )

    @property
    def only_accuracy(self) -> bool:
        return self.attack.only_accuracy

    def settings(self) -> dict[str, Any]:
        """Name and fields, with the settings of the matched attack as `matched_attack`."""
        record = super().settings()
        record["matched_attack"], record["attack"] = record["attack"], type(self).__name__
        return record


def _sized(attack: Attack, size: float) -> Attack | None:
    """The attack at another size: its radius, or for unsigned steps, whose eps is no radius, the root of its mean square."""
    if isinstance(attack, Transfer):
        inner = _sized(attack.attack, size)
        return None if inner is None else dataclasses.replace(attack, attack=inner)
    return dataclasses.replace(attack, mse=size**2) if isinstance(attack, UnsignedStep) else attack.with_radius(size)


def _size(attack: Attack, target_mse: float) -> float:
    """The size at which the search begins."""
    if isinstance(attack, Transfer):
        return _size(attack.attack, target_mse)
    return math.sqrt(target_mse) if isinstance(attack, UnsignedStep) else float(vars(attack)["eps"])
