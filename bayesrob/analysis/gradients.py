"""Whether averaged input gradients vanish, and what each number of draws can say about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from bayesrob.analysis.intervals import LEVEL
from bayesrob.arguments import is_whole, whole
from bayesrob.errors import InputError

__all__ = ["NUM_DRAWS", "QUANTILES", "checked_prefixes", "component_quantiles", "gradient_statistics", "mean_cosine"]

NUM_DRAWS = (1, 10, 50, 100, 250, 500)
"""Numbers of draws that Carbone et al. 2020 average (figures 2 and 3)."""

ENOUGH_CHAINS = 4
"""From this number of chains on each chain is one batch: a component then has three degrees of freedom, and a norm has
hundreds of components."""

BATCHES = 10
"""Number of batches of independent draws, or of a single chain, between whose averages cosines are computed."""

QUANTILES = (0.0, 0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995, 1.0)
"""The quantiles of components that `component_quantiles` returns by default."""


def gradient_statistics(
    gradients: Any, log_likelihood: Any = None, num_draws: Sequence[int] | None = None, num_chains: int | None = None
) -> xr.Dataset:
    """Return statistics of input gradients averaged over growing prefixes of the same draws, with their standard errors.

    Let g_d = -grad_x log p_d(y | x) be the loss gradient of draw d. The gradient of `expected_loss` is mean_d g_d (Carbone
    et al. 2020, equation 2), and that of `predictive_loss` is sum_d p_d g_d / sum_d p_d. An average over D draws never
    vanishes: the expectation of its squared norm is that of the posterior's own gradient plus the squared standard error,
    which falls as 1/D for every posterior. Each norm is therefore given with its standard error, and `debiased_norm` is
    what remains without it.

    Args:
        gradients: gradients of the single draws, `[draw, point, *components]`, in float32 or float64 (sums are computed in
            float64): an array, or a DataArray with dims of these names, or with dims `[chain, draw, point, *components]`.
        log_likelihood: log p_d(y | x), `[draw, point]`. Without it only the statistics of `expected_loss` are computed.
        num_draws: lengths of the prefixes, at most the number of draws. None, the default, takes those of 1, 10, 50, 100,
            250 and 500 that are not larger (the numbers of draws in Carbone et al. 2020).
        num_chains: None, the default, says that the draws are independent. A number k says that they come from k Markov
            chains and are interleaved (draw 0 of every chain, then draw 1, ...). Standard errors are then those of batch
            means, which are right also for correlated draws. With four chains or more each chain is one batch, so that
            chains that disagree give a large error; with fewer a batch has about sqrt(draws of a chain) draws (Flegal &
            Jones 2010).

    Returns:
        Dataset over `objective`, `num_draws` and `point`:

        - `gradient`: the average, over `component` (flattened).
        - `norm` and `norm_l_inf`: its norms over components.
        - `standard_error`: the l_2 norm of the components' standard errors; NaN for one draw.
        - `debiased_norm`: sqrt(max(0, norm^2 - standard_error^2)).
        - `draw_norm`: the average norm of the single draws' gradients, with the weights of the average.
        - `effective_draws`: (sum w)^2 / sum w^2 of the weights w. Below about five the standard error is not reliable.
        - `zero_fraction`: the share of components that are exactly zero in the precision of the gradients.
        - `unsure_fraction`: the share of components whose 95% t interval contains zero.
        - `cosine`: the cosines between the averages of batches of independent draws, over `batch` and `other_batch`. The
          batches are the chains, or ten batches of independent draws, or ten parts of a single chain (which are correlated
          unless it mixes fast); see `mean_cosine`.

    Raises:
        InputError: shapes that do not fit, NaN, or prefixes longer than the number of draws.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(size=(100, 5, 3))
        >>> norms = br.analysis.gradient_statistics(noise, num_draws=[1, 100])["norm"].mean("point").squeeze()
        >>> bool(norms[1] < norms[0])
        True
    """
    g, num_chains = _by_draw(gradients, num_chains)
    weights: dict[str, np.ndarray | None] = {"expected_loss": None}
    if log_likelihood is not None:
        log_p = _by_draw(log_likelihood, num_chains)[0].astype(np.float64)
        if log_p.shape != g.shape[:2]:
            raise InputError(
                f"The log likelihood has shape {log_p.shape}, the gradients {g.shape}.",
                "Each draw has one log likelihood at each point.",
                "Give [draw, point].",
            )
        weights["predictive_loss"] = log_p
    if g.ndim < 2 or 0 in g.shape:
        raise InputError(
            f"The gradients have shape {g.shape}.", "Every draw has a gradient at every point.", "Give [draw, point, ...]."
        )
    g = g.reshape(*g.shape[:2], -1)
    prefixes = checked_prefixes(num_draws, len(g))
    num_chains = whole("num_chains", num_chains, "Draws come from at least one chain.", or_none=True)
    if any(not np.isfinite(values).all() for values in (g, weights.get("predictive_loss")) if values is not None):
        raise InputError(
            "Gradients or log likelihoods are not finite.", "An average would hide it.", "Check the weights for overflow."
        )
    rows = [[_average(g[:n], None if w is None else w[:n], num_chains) for n in prefixes] for w in weights.values()]
    dims = ("objective", "num_draws", "point")
    more = {"gradient": ("component",), "cosine": ("batch", "other_batch")}
    return xr.Dataset(
        {name: ((*dims, *more.get(name, ())), np.array([[r[name] for r in row] for row in rows])) for name in rows[0][0]},
        coords={"objective": list(weights), "num_draws": list(prefixes)},
        attrs={"draws": "independent" if num_chains is None else f"{num_chains} chains, batch means"},
    )


def component_quantiles(gradient: xr.DataArray, quantiles: Sequence[float] = QUANTILES) -> xr.DataArray:
    """Return quantiles of all components of all points (Carbone et al. 2020, figure 3).

    Args:
        gradient: `gradient` of the result of `gradient_statistics`, `[objective, num_draws, point, component]`.
        quantiles: probabilities of the quantiles; the defaults show the spread of a distribution and its tails.

    Returns:
        `[quantile, objective, num_draws]`.

    Example:
        >>> import numpy as np
        >>> gradient = br.analysis.gradient_statistics(np.ones((4, 2, 3)), num_draws=[4])["gradient"]
        >>> br.analysis.component_quantiles(gradient, [0.0, 1.0]).values.ravel().tolist()
        [1.0, 1.0]
    """
    return gradient.quantile(list(quantiles), dim=("point", "component"))


def mean_cosine(cosine: xr.DataArray, level: float = LEVEL) -> tuple[float, float, float]:
    """Return the mean cosine between batches of draws, which says whether they agree on a direction, and its interval.

    The expected cosine of two independent averages is the squared length of their expected direction. It is zero if and
    only if the direction is noise, even where heavy tails make norms hard to estimate. All points share the draws, so that
    the interval is a jackknife over batches (Arvesen 1969) and not over points.

    Args:
        cosine: `cosine` of the result of `gradient_statistics`, `[point, batch, other_batch]`.
        level: coverage of the interval.

    Returns:
        The mean, the lower and the upper end. All are NaN where there are no batches; the ends are NaN for fewer than three.

    Example:
        >>> import numpy as np
        >>> alike = np.ones((40, 5, 3)) + np.random.default_rng(0).normal(size=(40, 5, 3))
        >>> cosine = br.analysis.gradient_statistics(alike, num_draws=[40])["cosine"].squeeze()
        >>> mean, low, high = br.analysis.mean_cosine(cosine)
        >>> 0 < low < mean < high
        True
    """
    pairs = cosine.transpose("point", "batch", "other_batch").values
    counts = np.isfinite(pairs).sum(0)  # a point whose gradients are all zero has no direction
    sums = np.nansum(pairs, axis=0)
    count = len(sums)
    if counts.sum() == 0:
        return math.nan, math.nan, math.nan

    def mean(chosen: list[int]) -> float:
        part = np.ix_(chosen, chosen)
        return float(sums[part].sum() / max(counts[part].sum(), 1))

    batches = list(range(count))
    if count < 3:
        return mean(batches), math.nan, math.nan
    without = np.array([mean(batches[:b] + batches[b + 1 :]) for b in batches])
    error = math.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    half = special.stdtrit(count - 1, 0.5 + level / 2) * error
    return mean(batches), float(mean(batches) - half), float(mean(batches) + half)


def _average(g: np.ndarray, log_p: np.ndarray | None, num_chains: int | None) -> dict[str, np.ndarray]:
    """Return the statistics of one prefix `[draw, point, component]`, with weights proportional to exp(log_p), or equal."""
    count = len(g)
    w = np.ones(g.shape[:2]) if log_p is None else np.exp(log_p - log_p.max(0))
    w = w / w.sum(0)
    # Scaled by each point's largest component, because squares of a confident network's gradients underflow.
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
    """Return the number of each draw's batch, `[draw]`, so that batches are nearly independent; None for single draws."""
    draw = np.arange(count)
    if num_chains is None or count < 2 * num_chains:
        return None
    if num_chains >= ENOUGH_CHAINS:
        return draw % num_chains
    length = math.isqrt(count // num_chains)
    if length < 2:
        return None
    blocks = count // num_chains // length
    # The last block also contains the draws that do not fill a block.
    return np.minimum(draw // num_chains // length, blocks - 1) * num_chains + draw % num_chains


def _batch_sums(values: np.ndarray, batches: np.ndarray | None) -> np.ndarray:
    """Return the sum over each batch of draws, `[batch, point, component]`."""
    if batches is None:
        return values
    return np.stack([values[batches == b].sum(0) for b in range(batches.max() + 1)])


def _cosines(g: np.ndarray, w: np.ndarray, num_chains: int | None) -> np.ndarray:
    """Return cosines between the batches' averages, `[point, batch, other]`; NaN on the diagonal or for too few draws."""
    count = len(g)
    draw = np.arange(count)
    chains = BATCHES if num_chains is None else num_chains
    parts = 1 if chains > 1 else BATCHES  # a single chain is cut into parts
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
    """Return `[draw, point, ...]` as an array of floats, and the number of chains, which the values may have as a dim."""
    if isinstance(values, xr.DataArray) and "draw" in values.dims:
        if "point" not in values.dims:
            raise InputError(f"The dims are {values.dims}.", "Gradients are taken at points.", "Name them draw, point, ...")
        if "chain" in values.dims:
            num_chains = values.sizes["chain"]
            values = values.transpose("draw", "chain", "point", ...)
            array = values.values.reshape(-1, *values.shape[2:])
        else:
            array = values.transpose("draw", "point", ...).values
    else:
        array = np.asarray(values)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise InputError(f"The values are {array.dtype}.", "Gradients are real numbers.", "Give an array of floats.")
    return (array if array.dtype.kind == "f" else array.astype(np.float64)), num_chains


def checked_prefixes(num_draws: Any, available: float) -> list[int]:
    """Return growing numbers of draws as a list of integers.

    Args:
        num_draws: increasing whole numbers; None for those of `NUM_DRAWS` that are at most `available`.
        available: number of draws.

    Raises:
        InputError: anything else, or a number above `available`.
    """
    if num_draws is None:
        num_draws = [n for n in NUM_DRAWS if n <= available]
    counted = isinstance(num_draws, Sequence | np.ndarray) and all(map(is_whole, num_draws))
    prefixes = [int(n) for n in num_draws] if counted and not isinstance(num_draws, str) else []
    if not prefixes or min(prefixes) < 1 or max(prefixes) > available or sorted(set(prefixes)) != prefixes:
        raise InputError(
            f"num_draws is {num_draws} of {available} draws.",
            "They are lengths of growing prefixes of the same draws.",
            f"Give increasing whole numbers from 1 to {available}, or None.",
        )
    return prefixes
