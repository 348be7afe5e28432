"""Do averaged input gradients vanish? What each number of draws can say about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from bayesrob.analysis.intervals import LEVEL
from bayesrob.errors import InputError

__all__ = ["NUM_DRAWS", "QUANTILES", "component_quantiles", "gradient_statistics"]

NUM_DRAWS = (1, 10, 50, 100, 250, 500)
"""Numbers of draws that Carbone et al. 2020 average (figures 2 and 3)."""

ENOUGH_CHAINS = 4
"""From here on each chain is one batch: three degrees of freedom a component, and hundreds of components to a norm."""

QUANTILES = (0.0, 0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995, 1.0)


def gradient_statistics(
    gradients: Any, log_likelihood: Any = None, num_draws: Sequence[int] = NUM_DRAWS, num_chains: int | None = None
) -> xr.Dataset:
    """Averaged input gradients over growing prefixes of the same draws, and whether what is left is more than noise.

    With draws' loss gradients g_d = -grad_x log p_d(y | x), the gradient of `expected_loss` is mean_d g_d (Carbone et al.
    2020, equation 2) and that of `predictive_loss` sum_d p_d g_d / sum_d p_d. An average over D draws never vanishes: its
    squared norm is in expectation that of the posterior's own gradient plus the squared standard error, which falls as 1/D
    whatever the posterior. So the error stands beside every norm, and `debiased_norm` is what remains without it.

    Args:
        gradients: the draws' own gradients, `[draw, point, *components]`, numpy or DataArray, float32 or float64 (kept;
            sums are float64).
        log_likelihood: log p_d(y | x) `[draw, point]`; without it only the mean, `expected_loss`, is taken.
        num_draws: prefixes, at most as many as there are draws.
        num_chains: None: the draws are independent. k: they come from k Markov chains, interleaved (draw 0 of every
            chain, then draw 1, ...), and standard errors are those of batch means, which correlation within a batch does
            not fool. Four chains or more: each is one batch, so that chains that have not met count as the few draws
            that they are; fewer: batches of about sqrt(draws of a chain) (Flegal & Jones 2010).

    Returns:
        Dataset over `objective`, `num_draws` and `point`: `gradient` (over `component`, flattened), `norm` (l_2 over
        components), `norm_l_inf`, `standard_error` (l_2 over components; NaN of one draw), `debiased_norm` =
        sqrt(max(0, norm^2 - standard_error^2)), `draw_norm` (average norm of the single draws' gradients, weighted as
        they are), `zero_fraction` (components exactly zero in the gradients' own precision) and `unsure_fraction`
        (components whose 95% t interval holds zero: they are not known to differ from it).

    Raises:
        InputError: shapes that do not fit, NaNs, prefixes longer than the draws.
    """
    g = np.asarray(gradients)
    if g.ndim < 2 or 0 in g.shape:
        raise InputError(f"Gradients of shape {g.shape}.", "[draw, point, *components] is needed.", "Check the array.")
    g = g.reshape(*g.shape[:2], -1)
    weights: dict[str, np.ndarray | None] = {"expected_loss": None}
    if log_likelihood is not None:
        log_p = np.asarray(log_likelihood, dtype=np.float64)
        if log_p.shape != g.shape[:2]:
            raise InputError(
                f"Log likelihoods {log_p.shape} with gradients {g.shape}.",
                "Each draw has one at each point.",
                "Give [draw, point].",
            )
        weights["predictive_loss"] = log_p
    prefixes = _checked_prefixes(num_draws, len(g), num_chains)
    if any(not np.isfinite(values).all() for values in (g, log_likelihood) if values is not None):
        raise InputError("Gradients or likelihoods are not finite.", "An average would hide it.", "Look for overflow.")
    rows = [[_average(g[:n], None if w is None else w[:n], num_chains) for n in prefixes] for w in weights.values()]
    dims = ("objective", "num_draws", "point")
    return xr.Dataset(
        {
            name: ((*dims, "component") if name == "gradient" else dims, np.array([[r[name] for r in row] for row in rows]))
            for name in rows[0][0]
        },
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


def _average(g: np.ndarray, log_p: np.ndarray | None, num_chains: int | None) -> dict[str, np.ndarray]:
    """One prefix `[draw, point, component]`, averaged with weights proportional to exp(log_p) (or equal ones)."""
    count = len(g)
    w = np.ones(g.shape[:2]) if log_p is None else np.exp(log_p - log_p.max(0))
    w = w / w.sum(0)
    mean = np.einsum("dp,dpc->pc", w, g, dtype=np.float64)
    # Each draw's influence on the average; for weighted averages the delta method (Owen 2013, equation 9.8).
    influence = g - mean
    influence *= w[..., None]
    blocks = _block_sums(influence, num_chains)
    used = len(blocks)
    if used > 1:
        variance = np.einsum("bpc,bpc->pc", blocks, blocks) * used / (used - 1) * (count / _covered(count, num_chains))
    else:
        variance = np.full_like(mean, math.nan)
    norm, error = np.linalg.norm(mean, axis=-1), np.sqrt(variance.sum(-1))
    excess = norm**2 - error**2
    reach = stats.t.ppf(0.5 + LEVEL / 2, used - 1) if used > 1 else math.nan
    rounded = mean.astype(g.dtype)
    return {
        "gradient": rounded,
        "norm": norm,
        "norm_l_inf": np.abs(mean).max(-1),
        "standard_error": error,
        "debiased_norm": np.sqrt(np.where(excess < 0, 0.0, excess)),
        "draw_norm": (w * np.linalg.norm(g.astype(np.float64), axis=-1)).sum(0),
        "zero_fraction": (rounded == 0).mean(-1),
        "unsure_fraction": np.where(used > 1, (np.abs(mean) <= reach * np.sqrt(variance)).mean(-1), math.nan),
    }


def _block_length(count: int, num_chains: int | None) -> int:
    if num_chains is None:
        return 1
    each = count // num_chains
    return max(1, each if num_chains >= ENOUGH_CHAINS else math.isqrt(each))


def _covered(count: int, num_chains: int | None) -> int:
    """How many of `count` draws lie in complete batches."""
    size = _block_length(count, num_chains) * (num_chains or 1)
    return count if _block_length(count, num_chains) == 1 else count // size * size


def _block_sums(influence: np.ndarray, num_chains: int | None) -> np.ndarray:
    """Sums over batches of consecutive draws of one chain, `[batch, point, component]`."""
    length = _block_length(len(influence), num_chains)
    if length == 1:
        return influence
    assert num_chains is not None
    whole = influence[: _covered(len(influence), num_chains)]
    return whole.reshape(-1, length, num_chains, *whole.shape[1:]).sum(1).reshape(-1, *whole.shape[1:])


def _checked_prefixes(num_draws: Sequence[int], available: int, num_chains: int | None) -> list[int]:
    prefixes = [int(n) for n in num_draws]
    if not prefixes or min(prefixes) < 1 or max(prefixes) > available or sorted(set(prefixes)) != prefixes:
        raise InputError(
            f"num_draws is {tuple(num_draws)} of {available} draws.",
            "They are growing prefixes of the same draws.",
            f"Give increasing numbers from 1 to {available}.",
        )
    if num_chains is not None and num_chains < 1:
        raise InputError(f"num_chains is {num_chains}.", "Draws come from one chain at least.", "Give >= 1, or None.")
    return prefixes
