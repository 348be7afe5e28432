"""How far a fitted distribution is from the posterior: the tail of its importance weights."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from bayesrob import progress
from bayesrob.models import BayesianNetwork, LogJoint
from bayesrob.nets import values_kept
from bayesrob.numerics import CACHE_BYTES, chunk_size, slices
from bayesrob.predictive import NormalDraws
from bayesrob.types import Batch, Labels

__all__ = ["pareto_khat"]


@torch.no_grad()
def pareto_khat(
    posterior: NormalDraws, model: BayesianNetwork, x: Batch, y: Labels, *, num_draws: int, generator: torch.Generator
) -> dict[str, Any]:
    """The shape k of the generalised Pareto distribution of the largest importance weights p(w, y | x) / q(w).

    Below 0.5 their variance is finite; above 0.7 the weights of any number of draws are no good, and q is no stand-in for
    the posterior (Yao, Vehtari, Simpson & Gelman 2018, "Yes, but did it work?", section 3; Vehtari et al. 2024). Of wide
    networks expect more than that: small errors in each of their weights add up.

    Args:
        posterior: q.
        model: the network with its prior.
        x: all training points.
        y: their labels.
        num_draws: draws of q; the log joint is evaluated on all points at each.
        generator: where q's noise comes from.

    Returns:
        `value`, k-hat; `draws`; `seconds`. Log densities are sums in float64.
    """
    start = time.perf_counter()
    target = LogJoint(model, x, y)
    bytes_each = 2 * next(iter(posterior.loc.values())).element_size() * values_kept(model.net, x[:1]) * len(x)
    ratios = []
    parts = list(slices(num_draws, chunk_size(num_draws, bytes_each, CACHE_BYTES) if model.batches_draws else 1))
    with progress.bar("k-hat", num_draws) as advance:
        for part in parts:
            weights = posterior.sample(part.stop - part.start, generator)
            ratios.append(target.value(model.flatten(weights)) - posterior.log_density(weights))
            advance(part.stop - part.start)
    return {"value": _shape(torch.cat(ratios)), "draws": num_draws, "seconds": time.perf_counter() - start}


def _shape(log_ratios: torch.Tensor) -> float:
    from arviz_stats.base.array import array_stats

    if not bool(log_ratios.isfinite().all()):
        return math.inf
    try:
        return float(array_stats.psislw(-log_ratios.cpu().numpy())[1])  # it takes the logarithms' negatives
    except ValueError:  # all the largest weights are equal: there is no tail
        return 0.0
