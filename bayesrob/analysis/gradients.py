"""Do averaged input gradients vanish? What each number of draws can say about it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from bayesrob.analysis.intervals import LEVEL
from bayesrob.errors import InputError

__all__ = ["NUM_DRAWS", "QUANTILES", "checked_prefixes", "component_quantiles", "gradient_statistics", "mean_cosine"]

NUM_DRAWS = (1, 10, 50, 100, 250, 500)
"""Numbers of draws that Carbone et al. 2020 average (figures 2 and 3)."""

ENOUGH_CHAINS = 4
"""From here on each chain is one batch: three degrees of freedom a component, and hundreds of components to a norm."""

BATCHES = 10
"""Batches of independent draws, or of a single chain, between whose averages cosines are taken."""

QUANTILES = (0.0, 0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995, 1.0)


def gradient_statistics(
    gradients: Any, log_likelihood: Any = None, num_draws: Sequence[int] | None = None, num_chains: int | None = None
) -> xr.Dataset:
    """Averaged input gradients over growing prefixes of the same draws, and whether what is left is more than noise.

    With draws' loss gradients g_d = -grad_x log p_d(y | x), the gradient of `expected_loss` is mean_d g_d (Carbone et al.
    2020, equation 2) and that of `predictive_loss` sum_d p_d g_d / sum_d p_d. An average over D draws never vanishes: its
    squared norm is in expectation that of the posterior's own gradient plus the squared standard error, which falls as 1/D
    whatever the posterior. So the error stands beside every norm, and `debiased_norm` is what remains without it.

    Args:
        gradients: the draws' own gradients, `[draw, point, *components]`: an array, kept in its precision (float32 or
            float64; sums are float64), or a DataArray with dims of these names, or `[chain, draw, point, *components]`.
        log_likelihood: log p_d(y | x) `[draw, point]`; without it only the mean, `expected_loss`, is taken.
        num_draws: prefixes, at most as many as there are draws; None: those of 1, 10, 50, 100, 250, 500 that there are.
        num_chains: None: the draws are independent. k: they come from k Markov chains, interleaved (draw 0 of every
            chain, then draw 1, ...), and standard errors are those of batch means, which correlation within a batch does
            not fool. Four chains or more: each is one batch, so that chains that have not met count as the few draws
            that they are; fewer: batches of about sqrt(draws of a chain) (Flegal & Jones 2010).

    Returns:
        Dataset over `objective`, `num_draws` and `point`: `gradient` (over `component`, flattened), `norm` (l_2 over
        components), `norm_l_inf`, `standard_error` (l_2 over components; NaN of one draw), `debiased_norm` =
        sqrt(max(0, norm^2 - standard_error^2)), `draw_norm` (average norm of the single draws' gradients, weighted as
        they are), `effective_draws` = (sum w)^2 / sum w^2 of the weights (where few draws hold nearly all the weight,
        fewer than about five, their error is not known either), `zero_fraction` (components exactly zero in the
        gradients' own precision), `unsure_fraction` (components whose 95% t interval holds zero: they are not known to
        differ from it) and `cosine` (over `batch`, `other_batch`) between the averages of batches of draws that know
        nothing of each other: chains, or ten batches of independent draws (of a single chain stretches, which are
        correlated unless it mixes fast); see `mean_cosine`.

    Raises:
        InputError: shapes that do not fit, NaNs, prefixes longer than the draws.
    """
    g, num_chains = _by_draw(gradients, num_chains)
    weights: dict[str, np.ndarray | None] = {"expected_loss": None}
    if log_likelihood is not None:
        log_p = _by_draw(log_likelihood, num_chains)[0].astype(np.float64)
        if log_p.shape != g.shape[:2]:
            raise InputError(
                f"Log likelihoods {log_p.shape} with gradients {g.shape}.",
                "Each draw has one at each point.",
                "Give [draw, point].",
            )
        weights["predictive_loss"] = log_p
    if g.ndim < 2 or 0 in g.shape:
        raise InputError(f"Gradients of shape {g.shape}.", "[draw, point, *components] is needed.", "Check the array.")
    g = g.reshape(*g.shape[:2], -1)
    prefixes = checked_prefixes(num_draws, len(g))
    _check_chains(num_chains)
    if any(not np.isfinite(values).all() for values in (g, weights.get("predictive_loss")) if values is not None):
        raise InputError("Gradients or likelihoods are not finite.", "An average would hide it.", "Look for overflow.")
    rows = [[_average(g[:n], None if w is None else w[:n], num_chains) for n in prefixes] for w in weights.values()]
    dims = ("objective", "num_draws", "point")
    more = {"gradient": ("component",), "cosine": ("batch", "other_batch")}
    return xr.Dataset(
        {name: ((*dims, *more.get(name, ())), np.array([[r[name] for r in row] for row in rows])) for name in rows[0][0]},
        coords={"objective": list(weights), "num_draws": list(prefixes)},
        attrs={"draws": "independent" if num_chains is None else f"{num_chains} chains, batch means"},
    )


def component_quantiles(gradient: xr.DataArray, quantiles: Sequence[float] = QUANTILES) -> xr.DataArray:
    """The distribution of all components of all points together (Carbone et al. 2020, figure 3), and their spread.

    Args:
        gradient: `[objective, num_draws, point, component]`, as `gradient_statistics` gives it.

    Returns:
        `[quantile, objective, num_draws]`.
    """
    return gradient.quantile(list(quantiles), dim=("point", "component"))


def mean_cosine(cosine: xr.DataArray, level: float = LEVEL) -> tuple[float, float, float]:
    """Do batches of draws agree on a direction? The mean cosine over pairs and points, with an interval over *draws*.

    The cosine of two averages that know nothing of each other is in expectation the squared length of their expected
    direction: zero if and only if that is noise, however heavy the tails that make norms hard to know. All points share
    the draws, so the interval is a jackknife over batches (Arvesen 1969), not over points.

    Args:
        cosine: `[point, batch, other_batch]` of `gradient_statistics`. level: coverage.

    Returns:
        Mean, lower and upper end; NaN where there are no batches, the ends also where there are fewer than three.
    """
    pairs = cosine.transpose("point", "batch", "other_batch").values
    counts = np.isfinite(pairs).sum(0)  # a point whose gradients are all zero has no direction
    sums = np.nansum(pairs, axis=0)
    count = len(sums)
    if counts.sum() == 0:
        return math.nan, math.nan, math.nan

    def mean(kept: list[int]) -> float:
        part = np.ix_(kept, kept)
        return float(sums[part].sum() / max(counts[part].sum(), 1))

    batches = list(range(count))
    if count < 3:
        return mean(batches), math.nan, math.nan
    without = np.array([mean(batches[:b] + batches[b + 1 :]) for b in batches])
    error = math.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    half = special.stdtrit(count - 1, 0.5 + level / 2) * error
    return mean(batches), float(mean(batches) - half), float(mean(batches) + half)


def _average(g: np.ndarray, log_p: np.ndarray | None, num_chains: int | None) -> dict[str, np.ndarray]:
    """One prefix `[draw, point, component]`, averaged with weights proportional to exp(log_p) (or equal ones)."""
    count = len(g)
    w = np.ones(g.shape[:2]) if log_p is None else np.exp(log_p - log_p.max(0))
    w = w / w.sum(0)
    # Relative to each point's largest component: squares of a confident network's gradients underflow.
    scale = np.abs(g).max((0, 2)).astype(np.float64)
    scale[scale == 0] = 1.0
    own, g = g.dtype, g / scale[:, None]
    mean = np.einsum("dp,dpc->pc", w, g)
    # Each draw's influence on the average; for weighted averages the delta method (Owen 2013, equation 9.8).
    influence = g - mean
    influence *= w[..., None]
    sums = _batch_sums(influence, _error_batches(count, num_chains))
    used = len(sums)
    if used > 1:
        variance = np.einsum("bpc,bpc->pc", sums, sums) * used / (used - 1)
        reach = special.stdtrit(used - 1, 0.5 + LEVEL / 2)
        unsure = (np.abs(mean) <= reach * np.sqrt(variance)).mean(-1)
    else:
        variance, unsure = np.full_like(mean, math.nan), np.full(len(mean), math.nan)
    norm, error = np.linalg.norm(mean, axis=-1), np.sqrt(variance.sum(-1))
    excess = norm**2 - error**2
    rounded = (mean * scale[:, None]).astype(own)
    return {
        "gradient": rounded,
        "norm": norm * scale,
        "norm_l_inf": np.abs(mean).max(-1) * scale,
        "standard_error": error * scale,
        "debiased_norm": np.sqrt(np.where(excess < 0, 0.0, excess)) * scale,
        "draw_norm": (w * np.linalg.norm(g, axis=-1)).sum(0) * scale,
        "effective_draws": 1 / (w**2).sum(0),
        "zero_fraction": (rounded == 0).mean(-1),
        "unsure_fraction": unsure,
        "cosine": _cosines(g, w, num_chains),
    }


def _error_batches(count: int, num_chains: int | None) -> np.ndarray | None:
    """The batch of each draw `[draw]`, whose sums are as good as independent; None: every draw is one."""
    draw = np.arange(count)
    if num_chains is None or count < 2 * num_chains:
        return None
    if num_chains >= ENOUGH_CHAINS:
        return draw % num_chains
    length = math.isqrt(count // num_chains)
    if length < 2:
        return None
    blocks = count // num_chains // length
    return np.minimum(draw // num_chains // length, blocks - 1) * num_chains + draw % num_chains  # the last takes the rest


def _batch_sums(values: np.ndarray, batches: np.ndarray | None) -> np.ndarray:
    """Sums over each batch of draws, `[batch, point, component]`."""
    if batches is None:
        return values
    return np.stack([values[batches == b].sum(0) for b in range(batches.max() + 1)])


def _cosines(g: np.ndarray, w: np.ndarray, num_chains: int | None) -> np.ndarray:
    """Between the batches' averages, `[point, batch, other]`; NaN on the diagonal, and everywhere if draws are too few."""
    count = len(g)
    draw = np.arange(count)
    chains = BATCHES if num_chains is None else num_chains
    parts = 1 if chains > 1 else BATCHES  # one chain has nothing independent of itself: stretches of it
    total = chains * parts
    if count < 2 * total:
        return np.full((g.shape[1], total, total), math.nan)
    each = count // chains
    batches = np.minimum(draw // chains * parts // each, parts - 1) * chains + draw % chains
    sums = np.stack([np.einsum("dp,dpc->pc", w[batches == b], g[batches == b]) for b in range(total)], axis=1)
    top = np.abs(sums).max(-1, keepdims=True)
    unit = sums / np.where(top > 0, top, math.nan)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    cosines = np.einsum("pbc,poc->pbo", unit, unit)
    cosines[:, range(total), range(total)] = math.nan
    return cosines


def _by_draw(values: Any, num_chains: int | None) -> tuple[np.ndarray, int | None]:
    """`[draw, point, ...]` as an array of floats, and the number of chains if the values say it themselves."""
    if isinstance(values, xr.DataArray) and "draw" in values.dims:
        if "point" not in values.dims:
            raise InputError(f"Dims {values.dims}.", "Gradients are taken at points.", "Name them draw, point, ...")
        if "chain" in values.dims:
            num_chains = values.sizes["chain"]
            values = values.transpose("draw", "chain", "point", ...)
            array = values.values.reshape(-1, *values.shape[2:])
        else:
            array = values.transpose("draw", "point", ...).values
    else:
        array = np.asarray(values)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise InputError(f"Values of type {array.dtype}.", "Gradients are real numbers.", "Give an array of floats.")
    return (array if array.dtype.kind == "f" else array.astype(np.float64)), num_chains


def checked_prefixes(num_draws: Any, available: float) -> list[int]:
    """Growing numbers of draws, at most `available`; None: those of `NUM_DRAWS` that there are. Else `InputError`."""
    if num_draws is None:
        num_draws = [n for n in NUM_DRAWS if n <= available]
    whole = isinstance(num_draws, Sequence | np.ndarray) and all(isinstance(n, numbers.Integral) for n in num_draws)
    prefixes = [int(n) for n in num_draws] if whole and not isinstance(num_draws, str) else []
    if not prefixes or min(prefixes) < 1 or max(prefixes) > available or sorted(set(prefixes)) != prefixes:
        raise InputError(
            f"num_draws is {num_draws} of {available} draws.",
            "They are growing prefixes of the same draws.",
            f"Give increasing whole numbers from 1 to {available}, or None.",
        )
    return prefixes


def _check_chains(num_chains: int | None) -> None:
    counted = isinstance(num_chains, numbers.Integral) and not isinstance(num_chains, bool)
    if num_chains is not None and not (counted and num_chains >= 1):
        raise InputError(f"num_chains is {num_chains!r}.", "Draws come from one chain at least.", "Give it, or None.")
