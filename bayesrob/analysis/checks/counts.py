"""Check 13: which points the accuracy counts, and which perturbations."""

from __future__ import annotations

from bayesrob.analysis.evidence import Evidence
from bayesrob.analysis.findings import Finding, check

__all__ = ["nothing_dropped"]


@check(13, threshold=0.0, accuracy=True, source="Carlini et al. 2019, sections 4.5 and 5.9")
def nothing_dropped(evidence: Evidence, threshold: float) -> Finding:
    """Does the figure count every point, and only what the threat model allows?

    The value is the share of points that no accuracy should count: outside the ball or the bounds, not finite, or wrong
    before the attack and right after it.
    """
    clean, outside, infinite = evidence.clean, evidence.outside(), ~evidence.finite()
    repaired = evidence.right & ~clean
    value = float((outside | infinite | repaired).mean())
    text = (
        f"All {len(clean)} points are in the denominator, {int((~clean).sum())} of them wrong before the attack; "
        f"{int(outside.sum())} left the ball or the bounds, {int(infinite.sum())} are not finite, {int(repaired.sum())} "
        f"are right only after the attack."
    )
    return Finding(value, value <= threshold, text)
