"""Accuracy against the size of the perturbation, from the smallest perturbations that attacks found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, binomial_interval, median_interval
from bayesrob.errors import InputError

__all__ = ["median_perturbation", "robustness_curve", "smallest_perturbation"]


def smallest_perturbation(points: xr.Dataset, norms: Mapping[str, str]) -> xr.DataArray:
    """How far each attack had to go at each point, `[attack, point]`, in the attack's own norm.

    0 where the prediction is wrong before the attack, infinite where it is still right afterwards: each value is an upper
    bound of the smallest perturbation that there is. NaN for attacks that `norms` does not name.

    Args:
        points: the group `points` of an evaluation: `label` `[point]`, `log_probability` `[point, class]`,
            `adversarial_log_probability` `[attack, point, class]` and `perturbation_<norm>` `[attack, point]`.
        norms: the norm by the name of each attack that looks for small perturbations, "l_inf", "l_2", "l_1" or "l_0".
    """
    right, survived = _right(points, "log_probability"), _right(points, "adversarial_log_probability")
    found = np.full(survived.shape, np.nan)
    for i, name in enumerate(points["attack"].values.tolist()):
        if name in norms:
            sizes = points[f"perturbation_{norms[name]}"].transpose("attack", "point").values[i]
            found[i] = np.where(right, np.where(survived[i], np.inf, sizes), 0.0)
    return xr.DataArray(found, dims=("attack", "point"), coords={name: points[name] for name in ("attack", "point")})


def median_perturbation(smallest: xr.DataArray, level: float = LEVEL) -> xr.Dataset:
    """Median over the points that are right before the attack (`smallest` > 0), with an interval of order statistics.

    Args:
        smallest: as `smallest_perturbation` gives it, `[attack, point]`. level: coverage of the interval.

    Returns:
        Dataset over `attack`: `median_perturbation`, infinite where the attack failed at half of the points or more, and
        `median_perturbation_interval` (also `bound`). NaN for attacks that are NaN, and where no point is right.
    """
    medians, intervals = [], []
    for row in smallest.transpose("attack", "point").values:
        row = row[row != 0]
        usable = row.size > 0 and not np.isnan(row).any()
        medians.append(_median(row) if usable else np.nan)
        intervals.append(median_interval(row, level) if usable else (np.nan, np.nan))
    return xr.Dataset(
        {
            "median_perturbation": ("attack", np.array(medians, dtype=np.float64)),
            "median_perturbation_interval": (("attack", "bound"), np.array(intervals).reshape(-1, 2)),
        },
        coords={"attack": smallest["attack"], "bound": ["lower", "upper"]},
    )


def robustness_curve(smallest: xr.DataArray, eps: Sequence[float] | None = None, level: float = LEVEL) -> xr.Dataset:
    """Accuracy against eps: the share of points that no perturbation of norm <= eps is known to break.

    From several attacks in one norm take `smallest.min("attack")` first: the best that any of them found at each point.

    Args:
        smallest: smallest known perturbations, dimension `point` and any others; 0 where the point is wrong without any,
            infinite where none was found. Of an evaluation, rows of `points["smallest_perturbation"]`.
        eps: where to evaluate, increasing, from 0 on; None: 0 and wherever the curve steps, so that it is exact.
        level: coverage of the intervals.

    Returns:
        Dataset over the other dimensions and `eps`: `accuracy` (at eps 0 the clean one) and `accuracy_interval` (also
        `bound`), Wilson's. Upper bounds: a better attack can only lower the curve.

    Raises:
        InputError: no points, NaN (a fixed-radius attack looks for no smallest perturbation), or eps that do not increase.
    """
    ordered = smallest.transpose(..., "point")
    values = ordered.values
    if values.shape[-1] == 0 or np.isnan(values).any() or (values < 0).any():
        raise InputError(
            "The smallest perturbations are empty, negative or NaN.",
            "An attack of fixed radius looks for none.",
            "Take attacks that do: DeepFool, FAB, CarliniWagner, Boundary, SmallestFGSM.",
        )
    if eps is None:
        at = np.unique(np.append(values[np.isfinite(values)], 0.0))
    else:
        at = np.asarray(eps, dtype=np.float64)
        if at.ndim != 1 or at.size == 0 or not (np.isfinite(at).all() and at[0] >= 0 and (np.diff(at) > 0).all()):
            raise InputError(f"eps is {eps!r}.", "A curve goes from small to large.", "Give increasing numbers >= 0.")
    count = values.shape[-1]
    standing = (values[..., None, :] > at[:, None]).sum(-1)
    intervals = np.array([binomial_interval(k, count, level) for k in range(count + 1)])
    dims = ordered.dims[:-1]
    return xr.Dataset(
        {
            "accuracy": ((*dims, "eps"), standing / count),
            "accuracy_interval": ((*dims, "eps", "bound"), intervals[standing]),
        },
        coords={**{dim: ordered[dim] for dim in dims if dim in ordered.coords}, "eps": at, "bound": ["lower", "upper"]},
        attrs={"level": level, "num_points": count},
    )


def _right(points: xr.Dataset, name: str) -> np.ndarray:
    predictions = points[name].transpose(..., "point", "class").values.argmax(-1)
    return predictions == points["label"].values


def _median(values: np.ndarray) -> float:
    """As numpy's, but without its NaN for the mean of two infinite values."""
    low, high = np.sort(values)[[(values.size - 1) // 2, values.size // 2]]
    return float(high) if np.isinf(high) else float((low + high) / 2)
