"""Check 8: accuracy against the radius, out to where nothing can be robust."""

from __future__ import annotations

import itertools
import math

from bayesrob.auditing.bench import Bench
from bayesrob.auditing.levels import with_radius
from bayesrob.auditing.registry import Finding, check, not_applicable

__all__ = ["accuracy_falls"]

GREY = 0.5
"""Radius at which every image in [0, 1] can be made the same grey one (l_inf)."""
FAR = 10.0
"""Without bounds, so many times the points' largest absolute component is taken for unbounded."""


@check(8, threshold=0.005, accuracy=True, source="Carlini et al. 2019, sections 5.6 and 5.7; Athalye et al. 2018, 3.1")
def accuracy_falls(bench: Bench, threshold: float) -> Finding:
    """Does accuracy fall with eps, to chance at 0.5 and to nothing without a bound?

    The value is the largest of three: by how much accuracy rises from one radius to the next, by how much it exceeds
    chance at 0.5 (l_inf, inputs in [0, 1]), and the accuracy that an unbounded attack leaves.
    """
    if with_radius(bench.attack, bench.eps) is None:
        return not_applicable("The attack has no radius: it looks for the smallest perturbation.")
    unbounded = _unbounded(bench)
    grey = bench.norm == "l_inf" and bench.post.bounds == (0, 1)
    radii = {*(factor * bench.eps for factor in bench.level.radii), *([GREY] if grey else []), unbounded}
    curve = {0.0: float(bench.clean.double().mean()), bench.eps: bench.audited.accuracy}
    for eps in sorted(radii - curve.keys()):
        attack = with_radius(bench.attack, eps)
        assert attack is not None
        if eps <= unbounded:
            curve[eps] = bench.run(f"radius {eps:g}", attack).accuracy
    radii_in_order = sorted(curve)
    rises = [curve[b] - curve[a] for a, b in itertools.pairwise(radii_in_order)]
    over = curve[GREY] - bench.chance if grey else -math.inf
    value = max(*rises, over, curve[unbounded])
    points = ", ".join(f"{curve[eps]:.3f} at {eps:g}" for eps in radii_in_order)
    text = f"Accuracy is {points}, where the last radius reaches everything."
    return Finding(value, value <= threshold, f"{text} Chance is {bench.chance:.3f}.")


def _unbounded(bench: Bench) -> float:
    """A radius that holds all inputs there are."""
    bounds, components = bench.post.bounds, bench.x[0].numel()
    width = bounds[1] - bounds[0] if bounds is not None else FAR * float(bench.x.abs().max())
    return max(width * (math.sqrt(components) if bench.norm == "l_2" else 1.0), bench.eps)
