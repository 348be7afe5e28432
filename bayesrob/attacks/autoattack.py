"""AutoAttack: several attacks one after the other, each on the points that the ones before have not broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch

from bayesrob.attacks.apgd import APGD
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.base import Attack
from bayesrob.attacks.fab import FAB
from bayesrob.attacks.geometry import norms, project
from bayesrob.attacks.square import Square
from bayesrob.attacks.victim import Victim, next_seed
from bayesrob.errors import InputError, check_name
from bayesrob.numerics import per_point
from bayesrob.types import Batch, Real

__all__ = ["AutoAttack"]


def _standard(eps: Real, norm: str, common: dict[str, Any]) -> list[Attack]:
    ball: Any = {"eps": eps, "norm": norm, **common}
    return [
        APGD(**ball, objective="predictive_loss"),
        APGD(**ball, objective="dlr", classes=9),
        FAB(norm=ball["norm"], classes=9, eps=eps or 0.3, **common),
        Square(**ball),
    ]


def _rand(eps: Real, norm: str, common: dict[str, Any]) -> list[Attack]:
    ball: Any = {"eps": eps, "norm": norm, **common}
    return [APGD(**ball, objective="expected_loss"), APGD(**ball, objective="dlr")]


VERSIONS: dict[str, Callable[[Real, str, dict[str, Any]], list[Attack]]] = {"standard": _standard, "rand": _rand}


@dataclasses.dataclass(frozen=True)
class AutoAttack(BallAttack):
    """The per-image worst case of an ensemble of attacks without settings to tune (Croce & Hein 2020).

    "standard": APGD on the cross-entropy of the averaged prediction, APGD on the targeted DLR (9 classes), targeted FAB
    (9 classes), Square (5,000 queries). "rand", for stochastic defences: APGD on the mean loss and on the DLR, where every
    step averages over fresh draws (expectation over transformation; the original takes 20, here `num_draws`).

    Each attack gets the points that the ones before have not broken; success is judged on one set of draws. `evaluate`
    scores on draws that no attack has seen, with a binomial interval, where the original scores a random defence once.
    Points that nothing breaks get the candidate of the highest margin inside the ball; points that are wrong already get
    the first attack's. The success criterion and the draws (see `Attack`) are handed on to the attacks of a version.

    Args:
        eps: radius, in the inputs' own unit.
        norm: "l_inf" or "l_2".
        version: "standard" or "rand".
        attacks: other attacks instead of a version's, in this order; those that look for the smallest perturbation count
            where their result lies inside the ball.

    Example:
        >>> members = (br.attacks.FGSM(eps=0.1), br.attacks.PGD(eps=0.1, steps=3))
        >>> z = br.attacks.AutoAttack(eps=0.1, attacks=members)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    version: Literal["standard", "rand"] = "standard"
    attacks: tuple[Attack, ...] | None = None

    targetable: ClassVar[bool] = False
    paper: ClassVar[str] = "Croce & Hein 2020a"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("version", self.version, VERSIONS)
        if self.attacks is not None:
            good = isinstance(self.attacks, tuple) and len(self.attacks) > 0
            if not good or not all(isinstance(attack, Attack) for attack in self.attacks):
                raise InputError(
                    f"attacks is {self.attacks!r}.", "They run one after the other.", "Give a tuple of attacks, or None."
                )

    @property
    def only_accuracy(self) -> bool:
        return True

    def members(self) -> tuple[Attack, ...]:
        if self.attacks is not None:
            return self.attacks
        common: dict[str, Any] = {"num_draws": self.num_draws, "criterion": self.criterion}
        return tuple(VERSIONS[self.version](self.eps, self.norm, common | {"draws": self.draws}))

    def changed(self, **settings: Any) -> Attack:
        """The ensemble with other `settings`, which its `attacks` get as well."""
        if self.attacks is not None:
            settings["attacks"] = tuple(one.changed(**settings) for one in self.attacks)
        return super().changed(**settings)

    def harder(self) -> Attack | None:
        """The ensemble with harder `attacks`; None for a version, whose attacks are what they are."""
        if self.attacks is None:
            return None
        return dataclasses.replace(self, attacks=tuple(one.harder() or one for one in self.attacks))

    def with_radius(self, eps: float) -> Attack | None:
        """The ensemble in another ball; those of its `attacks` that look for the smallest perturbation stay as they are."""
        moved = super().with_radius(eps)
        if moved is None or self.attacks is None:
            return moved
        return dataclasses.replace(moved, attacks=tuple(one.with_radius(eps) or one for one in self.attacks))

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        best = x.clone()
        margin = x.new_full((len(x),), -torch.inf)
        left = torch.arange(len(x), device=x.device)
        for attack in self.members():
            candidate, queries, gradients = attack.run(victim.predictive, x[left], victim.y[left], next_seed(generator))
            victim.queries[left] += queries
            victim.gradients[left] += gradients
            inside = norms(candidate - x[left], self.norm) <= self.eps * (1 + 1e-6) + 1e-7
            candidate = project(candidate, x[left], self.eps, self.norm, victim.bounds)
            fooled = inside & victim.fooled(candidate, left)
            value = victim.loss(candidate, "margin", left)
            better = inside & (fooled | (value > margin[left]))
            best[left] = torch.where(per_point(better, x), candidate, best[left])
            margin[left] = torch.where(better, value, margin[left])
            left = left[~fooled]
            if len(left) == 0:
                break
        return best
