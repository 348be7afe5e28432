"""How much an audit spends, and the attack that it trusts."""

from __future__ import annotations

import dataclasses
from typing import Any

from bayesrob.attacks import PGD, AutoAttack, Confident, Criterion, Misclassified

__all__ = ["LEVELS", "REFERENCE", "Level", "criterion", "held", "well_configured"]

REFERENCE = ("margin_per_draw", "predictive_loss", "margin")
"""Objectives of the default attack. The first breaks draws that are sure of themselves, any breaks the others
(docs/attack_gauntlet.md: in 12 balls on six posteriors all 43 attacks together broke at most 2 more of 100 points)."""

SURE = 0.75
"""Probability of a wrong class at which points leave an attack on random draws. Those that barely fool one set of 50 draws
may not fool the next: the standard error is at most 0.07."""


@dataclasses.dataclass(frozen=True)
class Level:
    """What the runs of an audit may cost.

    Args:
        steps: steps of every PGD; on the digits 40 of 2.5 eps / 40 each changed no image against 100.
        queries: queries of each attack without gradients, for each image that survives the attacks by gradients.
        samples: points that random search tries, for each of those images.
        images: largest number of those images, a random subset; None: all.
        radii: multiples of eps at which accuracy is measured too.
        draws: numbers of draws that each step of the attack averages, beside its own number.
        repeats: gradients of the same points that are compared.
        errors: points whose gradient gets a Monte Carlo error, which costs as many gradients as there are draws.
        fresh: whether the audit's own attacks on a predictive drawn fresh take new draws at each step. False: they hold one
            set, drawn once, and are scored on another: drawing 50 networks of 784-512-512-10 takes longer than their
            gradients.
    """

    steps: int
    queries: int
    samples: int
    images: int | None
    radii: tuple[float, ...]
    draws: tuple[int, ...]
    repeats: int
    errors: int
    fresh: bool


LEVELS = {
    "quick": Level(8, 50, 50, 10, (2.0,), (1, 20), 3, 3, False),
    "default": Level(40, 2000, 1000, 25, (0.25, 0.5, 2.0, 4.0), (1, 5, 20, 100), 4, 20, False),
    "full": Level(100, 5000, 10000, None, (0.125, 0.25, 0.5, 2.0, 4.0), (1, 5, 20, 100), 8, 100, True),
}
"""On one core, 100 MNIST images (eps 0.1 left 22), 50 held draws of 784-512-512-10: "quick" takes 27 s, "default" 245 s, of
which 113 attacks without gradients, 39 the doubled attack, 37 other radii, 22 PGD on each objective, 12 random search."""


def well_configured(
    eps: float, norm: str = "l_inf", steps: int = 40, random: bool = False, fresh: bool = True
) -> AutoAttack:
    """Return the attack of an audit that was not given one: PGD on three objectives, each on what the others left.

    The objectives are `margin_per_draw`, `predictive_loss` and `margin`, with one start each: another objective helps where
    another start does, and where another start does not. Points leave as soon as they are misclassified.

    Args:
        eps: radius of the ball.
        norm: "l_inf" or "l_2".
        steps: steps on each objective; step size and random start are those of `PGD`.
        random: whether predictions change between forward passes; points then leave when a wrong class has probability
            0.75.
        fresh: whether such an attack takes new draws at each step, or holds one set.

    Example:
        >>> attack = br.auditing.well_configured(eps=0.1, steps=3)
        >>> attack(post, x, y).shape == x.shape
        True
    """
    common: dict[str, Any] = {"eps": eps, "norm": norm, "criterion": criterion(random), "draws": held(fresh)}
    attacks = tuple(PGD(objective=name, steps=steps, stop_when_broken=True, **common) for name in REFERENCE)
    return AutoAttack(attacks=attacks, **common)


def held(fresh: bool) -> str:
    """Return an attack's setting `draws`."""
    return "fresh" if fresh else "held"


def criterion(random: bool) -> Criterion:
    """Return when a point leaves an attack of the audit."""
    return Confident(SURE) if random else Misclassified()
