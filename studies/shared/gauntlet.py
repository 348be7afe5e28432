"""Every registered attack in every norm that fits, with the budgets of study 04, and what it is called in the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import bayesrob as br
from bayesrob.attacks import ATTACKS, Attack
from bayesrob.errors import InputError
from shared.study import Scale

__all__ = ["BUDGETS", "Budget", "described", "gauntlet", "merged"]

Budget = Mapping[str, dict[str, Any]]
"""Settings by the name of an attack; others have their defaults. The members of an ensemble have the same budgets."""

BUDGETS: dict[Scale, Budget] = {
    "smoke": {
        "APGD": {"steps": 4},
        "Boundary": {"steps": 20},
        "CarliniWagner": {"searches": 3, "steps": 20, "lr": 0.1, "initial_c": 1.0},
        "DeepFool": {"steps": 5},
        "FAB": {"steps": 4},
        "LocalSearch": {"rounds": 2, "half_side": 1},
        "NES": {"steps": 3, "samples": 10},
        "PGD": {"steps": 5},
        "RandomSearch": {"samples": 20},
        "SinglePixel": {"tries": 20},
        "SmallestFGSM": {"grid": 30},
        "Square": {"queries": 30},
    },
    "small": {
        "APGD": {"steps": 50},
        "Boundary": {"steps": 2000},
        "CarliniWagner": {"searches": 5, "steps": 200, "lr": 0.05, "initial_c": 0.1},
        "FAB": {"steps": 50},
        "LocalSearch": {"rounds": 20, "half_side": 2},
        "NES": {"steps": 40},
        "SmallestFGSM": {"grid": 500},
        "Square": {"queries": 2000},
    },
    "paper": {},
}

COSTLY = ("AutoAttack", "NES", "Square")
"""Attacks of fixed radius that run in l_inf alone, for their queries take most of the time."""


def merged(*budgets: Budget) -> Budget:
    """Budgets joined by the name of the attack; a later one overrides the settings of an earlier one."""
    total: dict[str, dict[str, Any]] = {}
    for budget in budgets:
        for name, settings in budget.items():
            total[name] = {**total.get(name, {}), **settings}
    return total


def gauntlet(
    eps: Mapping[str, float], budget: Budget, predictives: Mapping[str, br.predictive.Predictive]
) -> tuple[dict[str, Attack], dict[str, str]]:
    """Every registered attack in every norm that fits, by name, and the reasons why others are left out.

    Args:
        eps: radius of the ball by norm.
        budget: settings by the name of the attack.
        predictives: the posteriors that are attacked; an attack that one of them does not fit is left out.

    Returns:
        The attacks by name, and by name of an attack the reason why it is left out.
    """
    attacks: dict[str, Attack] = {}
    left_out: dict[str, str] = {}
    for name, attack in ATTACKS.items():
        fields = {field.name for field in dataclasses.fields(attack)}
        if "norm" not in fields:
            left_out[name] = "It has no norm of its own to be judged in."
            continue
        radius = "eps" in fields and not attack.minimal
        norms = [norm for norm in ("l_inf", "l_2", "l_0") if norm in attack.norms and not (radius and norm not in eps)]
        for norm in norms[:1] if name in COSTLY else norms:
            ball = {"norm": norm, "eps": eps[norm]} if radius else {"norm": norm}
            try:
                made = attack(**{**budget.get(name, {}), **ball})
                if made.members() != (made,):
                    smaller = tuple(dataclasses.replace(one, **budget.get(type(one).__name__, {})) for one in made.members())
                    made = dataclasses.replace(made, attacks=smaller)  # pyright: ignore[reportCallIssue]
                for predictive in predictives.values():
                    made.check_fits(predictive)
            except InputError as error:
                left_out[f"{name} {norm}"] = str(error)
                continue
            attacks[f"{name} {norm}"] = made
    # The average over draws that an attack climbs makes a difference that its other settings do not.
    for norm, radius in eps.items():
        for objective in ("predictive_loss", "margin", "margin_per_draw"):
            ball: Any = {"eps": radius, "norm": norm}
            pgd = br.attacks.PGD(**ball, objective=objective, **budget.get("PGD", {}))
            attacks[f"PGD {objective} {norm}"] = pgd
    for name in ("DeepFool", "FAB"):
        for norm in ("l_inf", "l_2"):
            attacks[f"{name} logits {norm}"] = dataclasses.replace(attacks[f"{name} {norm}"], average="logits")  # pyright: ignore[reportCallIssue]
    per_draw: Any = {"objective": "margin_per_draw"}
    attacks["CarliniWagner margin_per_draw l_2"] = dataclasses.replace(attacks["CarliniWagner l_2"], **per_draw)
    return attacks, left_out


def described(settings: Mapping[str, Any]) -> str:
    """An attack's settings in words, without those that every attack has and that are at their defaults."""
    usual = {"target": None, "label": "true", "skip_misclassified": False, "num_draws": None}
    words = []
    for key, value in settings.items():
        if key in usual and value == usual[key]:
            continue
        if isinstance(value, list):
            value = "; ".join(f"({described(one)})" for one in value)
        words.append(f"{key} {value}")
    return ", ".join(words)
