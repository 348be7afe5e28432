"""How the findings of an evaluation's checks become the verdict beside each of its accuracies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis import Check, Finding, allowed, attempt, thresholds, verdict
from bayesrob.analysis.checks import CHECKS
from bayesrob.evaluation.evaluated import Evaluated, Figure
from bayesrob.evaluation.evidence import FigureEvidence

__all__ = ["answered", "verdicts"]

COMPARED = {"objectives", "single_step", "gradient_free", "random_search", "transfer"}
"""Checks that compare attacks: of a worst case all attacks are part."""
ABOUT = "the cheap checks, on what this evaluation computed; br.audit makes all sixteen, and runs for them"

NO_ATTACK = Figure("", (), np.zeros(0, dtype=bool), None)
"""The figure of an evaluation without attacks; checks of the posterior use nothing of it."""

type Findings = dict[str, Finding]
"""The finding of each check, by its name."""


def answered() -> dict[str, Check]:
    """The checks that an evaluation answers; it leaves out those whose evidence takes runs of attacks of their own."""
    return {name: check for name, check in CHECKS.items() if check.is_answered_by(FigureEvidence)}


def verdicts(evaluated: Evaluated, scores: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The group `checks`, and `scores` with a verdict beside each accuracy.

    An attack's verdict says whether its accuracy can be read as robustness: it is not if another attack in the same ball
    leaves clearly less (`objectives`), and that alone is no fault. A worst case is judged by the attack that carries it, of
    those that leave least the one with most to believe, and by what random points and attacks without gradients add.

    Args:
        evaluated: the evaluation.
        scores: the group `robustness`, with `adversarial_accuracy` `[attack]` and `worst_case_accuracy` `[threat]`.
    """
    limits = thresholds(answered(), len(evaluated.x))
    by_attack = {name: _judge(evaluated, evaluated.figure(name), limits) for name in evaluated.attacks}
    by_threat: dict[str, Findings] = {}
    for threat in scores["threat"].values.tolist():
        at, robust = scores.sel(threat=threat), evaluated.points["robust"].sel(threat=threat).values
        where = str(at["norm"].item()), float(at["eps"].item())
        carrier = _carrier(evaluated, where, by_attack, limits["objectives"])
        by_threat[threat] = _judge(evaluated, evaluated.worst(where, carrier, robust), limits)
    # The posterior behind an evaluation without attacks is judged all the same.
    posterior = attempt(CHECKS["inference"].run, FigureEvidence(evaluated, NO_ATTACK), limits["inference"])
    judged = xr.merge([_columns(by_attack, "attack"), _columns(by_threat, "threat", "worst_case_")])
    for column, values in {
        "number": [check.number for check in answered().values()],
        "question": [check.question for check in answered().values()],
        "threshold": list(limits.values()),
        "source": [check.source for check in answered().values()],
        "about": [check.verdict for check in answered().values()],
    }.items():
        judged[column] = "check", np.array(values)
    judged.attrs.update(checks=ABOUT, posterior_reason=posterior.reason)
    return judged, scores.assign(
        verdict=("attack", _words(by_attack)),
        worst_case_verdict=("threat", _words(by_threat)),
        posterior_verdict=verdict({"inference": posterior}, "posterior"),
    )


def _judge(evaluated: Evaluated, figure: Figure, limits: Mapping[str, float]) -> Findings:
    evidence = FigureEvidence(evaluated, figure)
    return {name: attempt(check.run, evidence, allowed(check, limits[name])) for name, check in answered().items()}


def _words(judged: Mapping[str, Findings]) -> np.ndarray:
    return np.array([verdict(findings, "attack") for findings in judged.values()], dtype=str)


def _carrier(evaluated: Evaluated, where: tuple[str, float], judged: Mapping[str, Findings], margin: float) -> str:
    """The attack that the worst case in a ball rests on."""
    accuracy = {name: float(evaluated.right[name].mean()) for name in judged if evaluated.balls.get(name) == where}
    near = [name for name in accuracy if accuracy[name] <= min(accuracy.values()) + margin]

    def faults(name: str) -> int:
        found = judged[name].items()
        return sum(one.objects and check not in COMPARED and CHECKS[check].verdict == "attack" for check, one in found)

    return min(near, key=lambda name: (faults(name), accuracy[name]))


def _columns(judged: Mapping[str, Findings], dim: str, prefix: str = "") -> xr.Dataset:
    """The findings as columns `[check, dim]`."""
    names = list(answered())

    def column(read: Callable[[Finding], Any], dtype: type) -> tuple[tuple[str, str], np.ndarray]:
        rows = [[read(findings[name]) for findings in judged.values()] for name in names]
        return ("check", dim), np.array(rows, dtype=dtype).reshape(len(names), len(judged))

    return xr.Dataset(
        {
            f"{prefix}value": column(lambda one: one.value, float),
            f"{prefix}passed": column(lambda one: one.passed, bool),
            f"{prefix}status": column(lambda one: one.outcome, str),
            f"{prefix}reason": column(lambda one: one.reason, str),
        },
        coords={"check": names, dim: np.array(list(judged), dtype=str)},
    )
