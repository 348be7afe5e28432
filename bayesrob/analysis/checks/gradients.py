"""Checks 3 and 15: is there a gradient, and is it more than noise?"""

from __future__ import annotations

import numpy as np

from bayesrob.analysis.evidence import Evidence, if_available
from bayesrob.analysis.findings import Finding, check, not_applicable

__all__ = ["gradient_noise", "zero_gradients"]

NO_GRADIENTS = "The attack takes no gradients."


@check(3, threshold=0.01, source="Carlini & Wagner 2017, section V; AutoAttack")
def zero_gradients(evidence: Evidence, threshold: float) -> Finding:
    """At how many points is the gradient that the attack climbs exactly zero?

    The value is the share of points where every component is zero, in the model's own precision, for all objectives of the
    attack. A softmax that rounds to one has no gradient in float32, and may have one in float64; the margin still has one.
    """
    objectives = evidence.climbed()
    if not objectives:
        return not_applicable(NO_GRADIENTS)
    zero = evidence.zero_gradients()
    value = float(zero.mean())
    more = evidence.about_zero(zero) if value > 0 else ""
    text = f"The gradient of {' and '.join(objectives)} is exactly zero at {int(zero.sum())} of {len(zero)} points{more}."
    return Finding(value, value <= threshold, text)


@check(15, threshold=0.5, source="Carbone et al. 2020, section 5.1; Athalye et al. 2018, section 4.2")
def gradient_noise(evidence: Evidence, threshold: float) -> Finding:
    """Is the gradient that the attack climbs more than noise?

    The value is the share of points where gradients at the same place, taken as the attack takes them, differ by more than
    what they have in common: the standard deviation of one of them, over components, exceeds the norm of their mean with
    the noise taken out. Beside it, where there are several draws: at how many points the averaged loss gradient is within
    two of its Monte Carlo standard errors of zero. Calling those vanished would be calling noise vanished.
    """
    objectives = evidence.climbed()
    if not objectives:
        return not_applicable(NO_GRADIENTS)
    gradients = evidence.repeated_gradients().astype(np.float64)
    mean, noise = gradients.mean(0), gradients.var(0, ddof=1).sum(-1)
    squared = np.square(mean).sum(-1)
    lost = (noise > np.maximum(squared - noise / len(gradients), 0)) & (noise > 1e-12 * squared)
    value = float(lost.mean())
    same = "are the same each time"
    if noise.max() > 0:
        same = f"are mostly noise at {int(lost.sum())} of {len(lost)} points"
    text = f"{len(gradients)} gradients of {objectives[0]} at the same points {same}."
    small = if_available(evidence.within_error)
    if small is not None:
        text += (
            f" Of {evidence.scoring_draws} draws the averaged loss gradient is within two Monte Carlo standard errors of "
            f"zero at {int(small.sum())} of {len(small)} points: there it has not vanished, it is not known."
        )
    return Finding(value, value <= threshold, text)
