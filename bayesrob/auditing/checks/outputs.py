"""Checks 1 and 2: what the model puts out, and whether it is the same each time."""

from __future__ import annotations

import warnings

from bayesrob.analysis import checks
from bayesrob.auditing.bench import FORWARDS, Bench
from bayesrob.auditing.registry import Finding, shared
from bayesrob.errors import SuspiciousOutputs
from bayesrob.evaluation.looks import draws_seen, suspicious, takes_new

__all__ = ["outputs", "randomness"]


@shared
def outputs(bench: Bench, threshold: float) -> Finding:
    found = suspicious(bench.post, bench.x, (bench.seed, "audit", "raw"))
    finding = checks.outputs(bench.log_predictive(bench.x).cpu().numpy(), found, threshold)
    if any(found):
        warnings.warn(f"{finding.reason} Gradients die.", SuspiciousOutputs, stacklevel=2)
    return finding


@shared
def randomness(bench: Bench, threshold: float) -> Finding:
    seen = draws_seen(bench.attack, bench.post)
    return checks.randomness(bench.change, FORWARDS, seen, takes_new(bench.attack), threshold)
