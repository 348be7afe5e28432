"""Convergence diagnostics of chains, computed from the functions that their draws define."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

__all__ = ["MAX_RHAT", "MIN_BFMI", "MIN_ESS_PER_CHAIN", "chain_diagnostics"]

MAX_RHAT = 1.01
"""Rank-normalised split R-hat above which chains disagree (Vehtari et al. 2021)."""

MIN_ESS_PER_CHAIN = 100
"""Bulk effective draws per chain below which Monte Carlo standard errors are not reliable (Vehtari et al. 2021)."""

MIN_BFMI = 0.3
"""Bayesian fraction of missing information, the variance of energy that new momenta bring relative to the energy's own
variance, below which a chain does not reach the tails (ArviZ)."""


def chain_diagnostics(
    log_likelihood: xr.DataArray,
    sample_stats: xr.Dataset | None,
    input_gradients: xr.DataArray | None = None,
    weights: xr.DataArray | None = None,
) -> xr.Dataset:
    """Return R-hat and effective sample sizes in function space and in weight space, and the sampler's own statistics.

    The weights of a neural network have symmetries (permuting units gives the same function), so that chains can agree on
    every prediction and on no weight. The log probability of the true class and the loss gradient at fixed points have no
    such symmetries. The statistics of weights are given for comparison only.

    Args:
        log_likelihood: log probability of the true label, `[chain, draw, point]`.
        sample_stats: statistics of the sampler, `[chain, draw]`, as the inference recorded them; None: there are none.
        input_gradients: loss gradient of each draw at fixed points, `[chain, draw, point, direction]`; None to leave out.
        weights: some of the weights, `[chain, draw, weight]`; None to leave out.

    Returns:
        Dataset with `rhat`, `ess_bulk` and `ess_tail` `[point]` of the log likelihood; `gradient_rhat`,
        `gradient_ess_bulk` and `gradient_ess_tail` `[gradient_point, direction]`; `weight_rhat` and `weight_ess_bulk`
        `[weight]`. Of one chain R-hat compares its two halves, and can only tell that it has not arrived. They are NaN
        where they are undefined: for fewer than four draws (eight of one chain), or draws that are all equal. `..._max` and
        `..._min` are the worst of each over the quantities that are not constant, and `..._constant` counts those that no
        draw of any chain changes, such as a log probability of a confident network that is exactly zero (the worst is NaN
        if all are constant; chains that do not move show in `distinct_draws`). The sampler's statistics are `divergences`,
        `acceptance_rate`, `bfmi`, `distinct_draws` and `step_size` `[chain]`.
    """
    import arviz as az

    chains = log_likelihood.sizes["chain"]
    if input_gradients is not None:
        # Gradients are at fewer points than the likelihood. With the same name they would be padded with NaN.
        input_gradients = input_gradients.rename(point="gradient_point")
    parts = {"": log_likelihood, "gradient_": input_gradients, "weight_": weights}
    table = xr.Dataset(attrs={"rhat_threshold": MAX_RHAT, "ess_threshold": float(MIN_ESS_PER_CHAIN * chains)})
    for prefix, values in parts.items():
        if values is None:
            continue
        constant = (values == values.isel(chain=0, draw=0, drop=True)).all(("chain", "draw"))
        rhat, bulk, tail = _convergence(values, constant)
        table[f"{prefix}rhat"], table[f"{prefix}ess_bulk"] = rhat, bulk
        table[f"{prefix}constant"] = constant.sum()
        table[f"{prefix}rhat_max"] = _worst(rhat, constant).max(skipna=False)
        table[f"{prefix}ess_bulk_min"] = _worst(bulk, constant).min(skipna=False)
        if prefix != "weight_":
            table[f"{prefix}ess_tail"] = tail
            table[f"{prefix}ess_tail_min"] = _worst(tail, constant).min(skipna=False)
    if sample_stats is None:
        return table
    if "diverging" in sample_stats:
        table["divergences"] = sample_stats["diverging"].sum("draw")
    for name in ("acceptance_rate", "step_size"):
        if name in sample_stats:
            table[name] = sample_stats[name].mean("draw")
    if "energy" in sample_stats and sample_stats.sizes["draw"] > 1:
        with np.errstate(all="ignore"):
            table["bfmi"] = ("chain", np.atleast_1d(az.bfmi(sample_stats["energy"].values)))
    if "accepted" in sample_stats:
        # The first draw may repeat the warmup's last, but not another draw of its chain.
        table["distinct_draws"] = 1 + sample_stats["accepted"].isel(draw=slice(1, None)).sum("draw")
    return table


def _convergence(values: xr.DataArray, constant: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return rank-normalised split R-hat, bulk and tail effective sample sizes, over every dim but chain and draw."""
    import arviz as az

    undefined = xr.full_like(constant, np.nan, dtype=np.float64)
    if values.sizes["draw"] < 4:
        return undefined, undefined, undefined
    halves = values if values.sizes["chain"] > 1 else _halves(values)
    # Chains that never moved divide by zero, which gives NaN. ArviZ counts constant draws as all effective, although
    # nothing is known about how they would have moved; here they are NaN.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        rhat = az.rhat(halves).where(~constant) if halves.sizes["draw"] >= 4 else undefined
        bulk, tail = (az.ess(values, method=method).where(~constant) for method in ("bulk", "tail"))
    return rhat, bulk, tail


def _halves(values: xr.DataArray) -> xr.DataArray:
    """Return the two halves of one chain as two chains."""
    half = values.sizes["draw"] // 2
    parts = [values.isel(draw=slice(i * half, (i + 1) * half)).drop_vars(["chain", "draw"], errors="ignore") for i in (0, 1)]
    return xr.concat(parts, "chain")


def _worst(values: xr.DataArray, constant: xr.DataArray) -> xr.DataArray:
    """Return the values of the quantities that are not constant, or NaN if all are."""
    varying = values.values[~constant.values]
    return xr.DataArray(varying if varying.size else np.array([np.nan]))
