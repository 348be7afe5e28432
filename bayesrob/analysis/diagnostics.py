"""Was the posterior reached? Chains judged by the functions that they make, where R-hat means something."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

__all__ = ["MAX_RHAT", "MIN_ESS_PER_CHAIN", "chain_diagnostics"]

MAX_RHAT = 1.01
"""Rank-normalised split R-hat above which chains disagree (Vehtari et al. 2021)."""

MIN_ESS_PER_CHAIN = 100
"""Bulk effective draws per chain below which a Monte Carlo error is itself not known (Vehtari et al. 2021)."""


def chain_diagnostics(log_likelihood: xr.DataArray, sample_stats: xr.Dataset) -> xr.Dataset:
    """R-hat and effective sample size in function space, with the sampler's own statistics.

    Weights of a neural network have symmetries (permuted units are the same function), so chains can agree on every
    prediction and on no weight. The log probability of the true class at fixed points has none.

    Args:
        log_likelihood: of the true label, `[chain, draw, point]`.
        sample_stats: the sampler's record `[chain, draw]`, as the inference wrote it.

    Returns:
        Dataset: `rhat`, `ess_bulk` `[point]` (NaN where they are undefined: one chain, or fewer than four draws);
        `rhat_max`, `ess_bulk_min`; `divergences`, `acceptance_rate`, `distinct_draws` and `step_size` `[chain]`.
    """
    import arviz as az

    chains, draws, points = (log_likelihood.sizes[name] for name in ("chain", "draw", "point"))
    rhat = ess = np.full(points, np.nan)
    # Chains that never moved are constant, which divides by zero: that is NaN, and the flags below say so.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if draws >= 4:
            ess = az.ess(log_likelihood, method="bulk").values
            rhat = az.rhat(log_likelihood).values if chains > 1 else rhat
            # ArviZ calls constant draws all effective; nothing is known of how they would have moved.
            constant = (log_likelihood == log_likelihood.isel(chain=0, draw=0)).all(("chain", "draw")).values
            ess = np.where(constant, np.nan, ess)
    found = xr.Dataset(
        {
            "rhat": ("point", rhat),
            "ess_bulk": ("point", ess),
            "rhat_max": np.max(rhat),
            "ess_bulk_min": np.min(ess),
        },
        coords={"point": log_likelihood["point"]} if "point" in log_likelihood.coords else None,
        attrs={"rhat_threshold": MAX_RHAT, "ess_threshold": float(MIN_ESS_PER_CHAIN * chains)},
    )
    if "diverging" in sample_stats:
        found["divergences"] = sample_stats["diverging"].sum("draw")
    for name in ("acceptance_rate", "step_size"):
        if name in sample_stats:
            found[name] = sample_stats[name].mean("draw")
    if "accepted" in sample_stats:
        # The first draw may repeat the warmup's last, but not another draw of its chain.
        found["distinct_draws"] = 1 + sample_stats["accepted"].isel(draw=slice(1, None)).sum("draw")
    return found
