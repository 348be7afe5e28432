"""Check 13: what is in the figure's denominator, and what counts as robust."""

from __future__ import annotations

import torch

from bayesrob.analysis import checks
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, shared

__all__ = ["nothing_dropped"]


@shared
def nothing_dropped(bench: Bench, threshold: float) -> Finding:
    found = bench.run("audited", bench.attack)
    finite = found.x.isfinite().flatten(1).all(1) & ~bench.log_predictive(found.x).isnan().any(-1)
    outside = torch.zeros_like(finite) if bench.attack.minimal else ~bench.inside(found.x)
    if bench.post.bounds is not None:
        low, high = bench.x.new_tensor(bench.post.bounds).tolist()
        outside = outside | ((found.x < low) | (found.x > high)).flatten(1).any(1)
    points = (outside, finite, found.right, bench.clean)
    return checks.nothing_dropped(*(values.cpu().numpy() for values in points), threshold)
