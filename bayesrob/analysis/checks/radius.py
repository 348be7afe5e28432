"""Check 8: accuracy against the radius, out to where nothing can be robust."""

from __future__ import annotations

import itertools
import math

from bayesrob.analysis.evidence import Evidence
from bayesrob.analysis.findings import Finding, check, not_applicable

__all__ = ["GREY", "accuracy_falls"]

GREY = 0.5
"""The radius at which every image in [0, 1] can be made the same grey one (l_inf)."""


@check(8, threshold=0.005, accuracy=True, source="Carlini et al. 2019, sections 5.6 and 5.7; Athalye et al. 2018, 3.1")
def accuracy_falls(evidence: Evidence, threshold: float) -> Finding:
    """Does accuracy fall with eps, to chance at 0.5 and to nothing without a bound?

    The value is the largest of three: by how much accuracy rises from one radius to the next, by how much it exceeds
    chance at 0.5 (l_inf, inputs in [0, 1]), and the accuracy that an unbounded attack leaves.
    """
    curve = evidence.by_radius()
    if curve is None:
        return not_applicable("The attack has no radius.")
    accuracy, grey, unbounded = curve
    chance, radii = 1 / evidence.log_probabilities().shape[-1], sorted(accuracy)
    rises = [accuracy[wider] - accuracy[eps] for eps, wider in itertools.pairwise(radii)]
    over = -math.inf if grey is None else accuracy[grey] - chance
    value = max([*rises, over, -math.inf if unbounded is None else accuracy[unbounded]])
    text = f"Accuracy is {', '.join(f'{accuracy[eps]:.3f} at {eps:g}' for eps in radii)}"
    text += "." if unbounded is None else ", where the last radius reaches everything."
    return Finding(value, value <= threshold, f"{text} Chance is {chance:.3f}.")
