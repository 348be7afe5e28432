"""Was the posterior reached? Chains judged by the functions that they make, where R-hat means something."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

__all__ = ["MAX_RHAT", "MIN_BFMI", "MIN_ESS_PER_CHAIN", "chain_diagnostics"]

MAX_RHAT = 1.01
"""Rank-normalised split R-hat above which chains disagree (Vehtari et al. 2021)."""

MIN_ESS_PER_CHAIN = 100
"""Bulk effective draws per chain below which a Monte Carlo error is itself not known (Vehtari et al. 2021)."""


MIN_BFMI = 0.3
"""Energy that a new momentum brings, against what a chain must travel: below this its tails are out of reach (ArviZ)."""


def chain_diagnostics(
    log_likelihood: xr.DataArray,
    sample_stats: xr.Dataset,
    input_gradients: xr.DataArray | None = None,
    weights: xr.DataArray | None = None,
) -> xr.Dataset:
    """R-hat and effective sample size in function space and in weight space, with the sampler's own statistics.

    Weights of a neural network have symmetries (permuted units are the same function), so chains can agree on every
    prediction and on no weight. The log probability of the true class and the loss gradient at fixed points have none;
    weights are shown beside them, and judge nothing.

    Args:
        log_likelihood: of the true label, `[chain, draw, point]`.
        sample_stats: the sampler's record `[chain, draw]`, as the inference wrote it.
        input_gradients: each draw's loss gradient at fixed points, `[chain, draw, point, direction]`.
        weights: some of them, `[chain, draw, weight]`.

    Returns:
        Dataset: `rhat`, `ess_bulk`, `ess_tail` `[point]` of the log likelihood, `gradient_rhat` and `gradient_ess_bulk`
        `[gradient_point, direction]`, `weight_rhat` and `weight_ess_bulk` `[weight]` (NaN where they are undefined: one
        chain, fewer than four draws, or draws that are all the same); the worst of each as `..._max` and `..._min`, over
        what is not `constant`: that counts the quantities that no draw of any chain changes, as the log probability of a
        network so confident that it is exactly zero (all constant: NaN; stuck chains show in `distinct_draws`);
        `divergences`, `acceptance_rate`, `bfmi`, `distinct_draws` and `step_size` `[chain]`.
    """
    import arviz as az

    chains = log_likelihood.sizes["chain"]
    if input_gradients is not None:
        # At fewer points than the likelihood: under its own name, or it would be padded with NaN, which means undefined.
        input_gradients = input_gradients.rename(point="gradient_point")
    parts = {"": log_likelihood, "gradient_": input_gradients, "weight_": weights}
    found = xr.Dataset(attrs={"rhat_threshold": MAX_RHAT, "ess_threshold": float(MIN_ESS_PER_CHAIN * chains)})
    for prefix, values in parts.items():
        if values is None:
            continue
        constant = (values == values.isel(chain=0, draw=0, drop=True)).all(("chain", "draw"))
        rhat, bulk, tail = _convergence(values, constant)
        found[f"{prefix}rhat"], found[f"{prefix}ess_bulk"] = rhat, bulk
        found[f"{prefix}constant"] = constant.sum()
        found[f"{prefix}rhat_max"] = _worst(rhat, constant).max(skipna=False)
        found[f"{prefix}ess_bulk_min"] = _worst(bulk, constant).min(skipna=False)
        if not prefix:
            found["ess_tail"], found["ess_tail_min"] = tail, _worst(tail, constant).min(skipna=False)
    if "diverging" in sample_stats:
        found["divergences"] = sample_stats["diverging"].sum("draw")
    for name in ("acceptance_rate", "step_size"):
        if name in sample_stats:
            found[name] = sample_stats[name].mean("draw")
    if "energy" in sample_stats and sample_stats.sizes["draw"] > 1:
        with np.errstate(all="ignore"):
            found["bfmi"] = ("chain", np.atleast_1d(az.bfmi(sample_stats["energy"].values)))
    if "accepted" in sample_stats:
        # The first draw may repeat the warmup's last, but not another draw of its chain.
        found["distinct_draws"] = 1 + sample_stats["accepted"].isel(draw=slice(1, None)).sum("draw")
    return found


def _convergence(values: xr.DataArray, constant: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Rank-normalised split R-hat, bulk and tail effective sample sizes, over every dim but chain and draw."""
    import arviz as az

    undefined = xr.full_like(constant, np.nan, dtype=np.float64)
    if values.sizes["draw"] < 4:
        return undefined, undefined, undefined
    # Chains that never moved divide by zero: that is NaN. ArviZ calls constant draws all effective; but nothing is known
    # of how they would have moved.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        rhat = az.rhat(values).where(~constant) if values.sizes["chain"] > 1 else undefined
        bulk, tail = (az.ess(values, method=method).where(~constant) for method in ("bulk", "tail"))
    return rhat, bulk, tail


def _worst(values: xr.DataArray, constant: xr.DataArray) -> xr.DataArray:
    """Values that must be defined: all but those of constants, or NaN if everything is constant."""
    kept = values.values[~constant.values]
    return xr.DataArray(kept if kept.size else np.array([np.nan]))
