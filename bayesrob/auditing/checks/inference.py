"""Check 16: is there a posterior that the figure could be about?"""

from __future__ import annotations

import torch

from bayesrob.analysis import checks
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.registry import Finding, shared
from bayesrob.evaluation.chains import chain_groups
from bayesrob.evaluation.looks import distinct
from bayesrob.predictive import HeldDraws

__all__ = ["inference"]


@shared
def inference(bench: Bench, threshold: float) -> Finding:
    post, same, diagnostics = bench.post, None, None
    if isinstance(post, HeldDraws) and post.num_draws > 1:
        same = distinct(post)
        groups = chain_groups(post, bench.x, bench.y, torch.arange(len(bench.x)), bench.seed)
        diagnostics = groups.get("diagnostics")
    return checks.inference(diagnostics, same, post.num_draws, post.info, threshold)
