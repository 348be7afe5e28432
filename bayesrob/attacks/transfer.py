"""Transfer: adversarial inputs of one model, tried on another."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch

from bayesrob.attacks.base import Attack
from bayesrob.attacks.geometry import clip
from bayesrob.attacks.goal import Sees
from bayesrob.attacks.pgd import PGD
from bayesrob.attacks.victim import Victim, next_seed
from bayesrob.errors import InputError
from bayesrob.predictive import Predictive
from bayesrob.types import Batch

__all__ = ["Transfer"]


@dataclasses.dataclass(frozen=True)
class Transfer(Attack):
    """`attack` on a surrogate predictive; the predictive it is called with is never evaluated (Papernot et al. 2016).

    `evaluation.transfer_matrix` does it for every pair of several predictives. Target, label and draws are those of
    `attack`; further settings, for the predictive it is called with: see `Attack`.

    Args:
        surrogate: the predictive that is attacked instead: another posterior, an ensemble, one network of `from_modules`.
        attack: the attack on the surrogate (PGD with its defaults).

    Example:
        >>> attack = br.attacks.Transfer(surrogate=post[:1], attack=br.attacks.FGSM(eps=0.1))
        >>> bool(((attack(post, x, y) - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    surrogate: Predictive | None = None
    attack: Attack = dataclasses.field(default_factory=PGD)

    sees: ClassVar[Sees] = "nothing"
    norms: ClassVar[tuple[str, ...]] = ("the attack's",)
    targetable: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    paper: ClassVar[str] = "Papernot et al. 2016"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.attack, Attack):
            raise InputError(
                f"Transfer's attack is a {type(self.attack).__name__}.",
                "It attacks the surrogate.",
                "Give one, as PGD().",
            )

    def check_fits(self, predictive: Predictive) -> None:
        super().check_fits(predictive)
        if not isinstance(self.surrogate, Predictive):
            raise InputError(
                "Transfer needs a surrogate.",
                "It attacks that one and never evaluates the other.",
                "Give Transfer(surrogate=another_predictive), or use PGD on the predictive itself.",
            )
        shapes = self.surrogate.input_shape, predictive.input_shape
        if None not in shapes and shapes[0] != shapes[1]:
            raise InputError(
                f"The surrogate takes inputs of shape {shapes[0]}, the predictive {shapes[1]}.",
                "The adversarial inputs of one are given to the other.",
                "Train a surrogate on the same inputs.",
            )
        self.attack.check_fits(self.surrogate)

    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        assert self.surrogate is not None
        z = self.attack(self.surrogate, x, victim.y, seed=next_seed(generator))
        return clip(z, victim.bounds)

    def changed(self, **settings: Any) -> Attack:
        """The transfer with other `settings`, which the attack on the surrogate gets as well."""
        return super().changed(**{**settings, "attack": self.attack.changed(**settings)})

    def with_radius(self, eps: float) -> Attack | None:
        """The transfer of the attack on the surrogate in another ball; None if that has no radius."""
        inner = self.attack.with_radius(eps)
        return None if inner is None else dataclasses.replace(self, attack=inner)

    @property
    def only_accuracy(self) -> bool:
        return self.attack.only_accuracy

    def settings(self) -> dict[str, object]:
        """Name and fields; the surrogate is recorded by the SHA-256 of its weights."""
        record = super().settings()
        record["surrogate_attack"], record["attack"] = record["attack"], type(self).__name__
        return record
