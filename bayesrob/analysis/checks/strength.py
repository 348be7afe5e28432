"""Checks 4, 5 and 9: would another objective, one step, or more steps find something else?"""

from __future__ import annotations

import math

from bayesrob.analysis.evidence import Evidence, if_available
from bayesrob.analysis.findings import Finding, check, not_applicable

__all__ = ["convergence", "objectives", "single_step"]


@check(4, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.1; Croce & Hein 2020")
def objectives(evidence: Evidence, threshold: float) -> Finding:
    """Does PGD on another objective find more than the audited attack?

    The value is the accuracy that the attack leaves minus the lowest that attacks on other objectives leave.
    """
    others, what = evidence.other_objectives()
    value = evidence.accuracy - min(others.values())
    each = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in others.items())
    return Finding(value, value <= threshold, f"The attack leaves {evidence.accuracy:.3f}; {what} {each}.")


@check(5, threshold=0.0, accuracy=True, source="Athalye et al. 2018, section 3.1; Carlini et al. 2019, section 5.2")
def single_step(evidence: Evidence, threshold: float) -> Finding:
    """Is the audited attack at least as strong as one step?

    The value is the accuracy that the attack leaves minus that under one step, the lowest of several.
    """
    others = evidence.single_steps().accuracy
    best = min(others, key=others.__getitem__)
    value = evidence.accuracy - others[best]
    return Finding(value, value <= threshold, f"{best} leaves {others[best]:.3f}, the attack {evidence.accuracy:.3f}.")


@check(9, threshold=0.005, accuracy=True, source="Carlini et al. 2019, section 5.5")
def convergence(evidence: Evidence, threshold: float) -> Finding:
    """Does the attack with twice the steps and twice the restarts find more?

    The value is the accuracy that the attack leaves minus what the doubled attack leaves. A fixed step that is larger
    than the ball's radius fails whatever the value: every step then ends at the ball's far side, and more of them refine
    nothing.
    """
    steps = evidence.steps()
    if steps is None:
        return not_applicable("The attack has no steps to double.")
    doubled = if_available(evidence.doubled)
    value = math.nan if doubled is None else evidence.accuracy - doubled.accuracy
    text = "Twice the steps were not tried."
    if doubled is not None:
        text = f"Doubled steps and restarts leave {doubled.accuracy:.3f}, the attack {evidence.accuracy:.3f}.{doubled.loss}"
    large = max(steps.sizes, default=0.0)
    if large > steps.eps:
        return Finding(value, False, f"{text} Its step of {large:g} is larger than the radius {steps.eps:g}.")
    return not_applicable(text) if doubled is None else Finding(value, value <= threshold, text)
