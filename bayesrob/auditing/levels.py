"""How much an audit spends, the attack that it trusts, and variations of anybody's attack."""

from __future__ import annotations

import dataclasses
from typing import Any

from bayesrob.attacks import PGD, Attack, AutoAttack, Confident, Criterion, Misclassified

__all__ = [
    "LEVELS", "REFERENCE", "Level", "changed", "criterion", "harder", "held", "well_configured", "with_radius",
]  # fmt: skip

REFERENCE = ("margin_per_draw", "predictive_loss", "margin")
"""Objectives of the default attack. Draws that are sure of themselves are found by the first, others by any
(docs/attack_gauntlet.md: in 12 balls on six posteriors all 43 attacks together broke at most 2 more of 100 points)."""

SURE = 0.75
"""Probability of a wrong class at which points leave an attack on random draws: those that barely fool one set of 50 draws
may not fool the next (a standard error is 0.07 at most)."""


@dataclasses.dataclass(frozen=True)
class Level:
    """What the runs of an audit may cost.

    Args:
        steps: of every PGD; 40 and 2.5 eps / 40 a step changed no image on the digits against 100.
        queries: of each attack without gradients, for each image that the attacks by gradients left.
        samples: of random search, likewise.
        images: at most so many of those images, a random subset; None: all.
        radii: multiples of eps at which accuracy is measured too.
        draws: numbers of draws that the attack sees at a look, beside its own.
        repeats: gradients of the same points that are compared.
        errors: points whose gradient gets a Monte Carlo error, which costs as many gradients as there are draws.
        fresh: whether the audit's own attacks on draws made anew take new ones at each step, or hold as many, drawn once
            (which are then scored on others): drawing 50 networks of 784-512-512-10 takes longer than their gradients.
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
    """The attack of an audit that was not given one: PGD on three objectives in turn, each on what is left.

    `steps` steps (step size and random start as `PGD` has them) on `margin_per_draw`, `predictive_loss` and `margin`, one
    start each: another objective helps where another start does, and where another start does not. Points leave as soon as
    they are misclassified.

    Args:
        random: whether predictions change from look to look; points then leave when a wrong class has probability 0.75.
        fresh: whether such an attack takes new draws at each step, or as many, held.
    """
    common: dict[str, Any] = {"eps": eps, "norm": norm, "criterion": criterion(random), "draws": held(fresh)}
    attacks = tuple(PGD(objective=name, steps=steps, stop_when_broken=True, **common) for name in REFERENCE)
    return AutoAttack(attacks=attacks, **common)


def held(fresh: bool) -> str:
    """An attack's `draws`."""
    return "fresh" if fresh else "held"


def criterion(random: bool) -> Criterion:
    """When a point leaves an attack of ours."""
    return Confident(SURE) if random else Misclassified()


# ---- variations of anybody's attack -------------------------------------------------------------------------------------


def changed(attack: Attack, **settings: Any) -> Attack:
    """The attack with other settings, where it has such; of an ensemble its members, of a transfer the surrogate's."""
    return attack.changed(**settings)


def harder(attack: Attack) -> Attack | None:
    """Twice the steps and twice the restarts; None if it has neither."""
    return attack.harder()


def with_radius(attack: Attack, eps: float) -> Attack | None:
    """The same attack in another ball."""
    return attack.with_radius(eps)
