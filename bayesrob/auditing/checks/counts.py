"""Check 13: what is in the figure's denominator, and what counts as robust."""

from __future__ import annotations

import torch

from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, check

__all__ = ["nothing_dropped"]


@check(13, threshold=0.0, accuracy=True, source="Carlini et al. 2019, sections 4.5 and 5.9")
def nothing_dropped(bench: Bench, threshold: float) -> Finding:
    """Does the figure count every point, and only what the threat model allows?

    The value is the share of points that no figure should count: outside the ball or the bounds, not finite, or wrong
    before the attack and right after it.
    """
    found = bench.run("audited", bench.attack)
    finite = found.x.isfinite().flatten(1).all(1) & ~bench.log_predictive(found.x).isnan().any(-1)
    outside = torch.zeros_like(finite) if bench.attack.minimal else ~bench.inside(found.x)
    if bench.post.bounds is not None:
        low, high = bench.x.new_tensor(bench.post.bounds).tolist()
        outside = outside | ((found.x < low) | (found.x > high)).flatten(1).any(1)
    repaired = found.right & ~bench.clean
    bad, count = outside | ~finite | repaired, len(bench.x)
    value = float(bad.double().mean())
    text = (
        f"All {count} points are in the denominator, {int((~bench.clean).sum())} of them wrong before the attack; "
        f"{int(outside.sum())} left the ball or the bounds, {int((~finite).sum())} are not finite, {int(repaired.sum())} "
        f"are right only after the attack."
    )
    return Finding(value, value <= threshold, text)
