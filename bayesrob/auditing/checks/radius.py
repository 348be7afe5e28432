"""Check 8: accuracy against the radius, out to where nothing can be robust."""

from __future__ import annotations

import math

from bayesrob.analysis import checks
from bayesrob.analysis.checks import GREY
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.levels import with_radius
from bayesrob.auditing.registry import Finding, not_applicable, shared

__all__ = ["accuracy_falls"]

FAR = 10.0
"""Without bounds, so many times the points' largest absolute component is taken for unbounded."""


@shared
def accuracy_falls(bench: Bench, threshold: float) -> Finding:
    if with_radius(bench.attack, bench.eps) is None:
        return not_applicable("The attack has no radius: it looks for the smallest perturbation.")
    unbounded = _unbounded(bench)
    grey = GREY if bench.norm == "l_inf" and bench.post.bounds == (0, 1) else None
    radii = {*(factor * bench.eps for factor in bench.level.radii), *([] if grey is None else [grey]), unbounded}
    curve = {0.0: float(bench.clean.double().mean()), bench.eps: bench.audited.accuracy}
    for eps in sorted(radii - curve.keys()):
        attack = with_radius(bench.attack, eps)
        assert attack is not None
        if eps <= unbounded:
            curve[eps] = bench.run(f"radius {eps:g}", attack).accuracy
    return checks.accuracy_falls(curve, bench.chance, grey, unbounded, threshold)


def _unbounded(bench: Bench) -> float:
    """A radius that holds all inputs there are."""
    bounds, components = bench.post.bounds, bench.x[0].numel()
    width = bounds[1] - bounds[0] if bounds is not None else FAR * float(bench.x.abs().max())
    return max(width * (math.sqrt(components) if bench.norm == "l_2" else 1.0), bench.eps)
