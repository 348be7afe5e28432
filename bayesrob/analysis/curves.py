"""Accuracy against the size of the perturbation, from the smallest successful perturbations of attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, binomial_interval, median_interval
from bayesrob.errors import InputError

__all__ = ["median_perturbation", "robustness_curve", "smallest_perturbation"]


def smallest_perturbation(points: xr.Dataset, norms: Mapping[str, str]) -> xr.DataArray:
    """Return the size of each attack's successful perturbation at each point, in the attack's own norm.

    Each value is an upper bound of the smallest perturbation that exists.

    Args:
        points: the group `points` of an evaluation: `label` `[point]`, `log_probability` `[point, class]`,
            `adversarial_log_probability` `[attack, point, class]` and `perturbation_<norm>` `[attack, point]`.
        norms: the norm ("l_inf", "l_2", "l_1" or "l_0") by the name of each attack that minimises the perturbation.

    Returns:
        `[attack, point]`: 0 where the prediction is wrong before the attack, infinite where it is still right after it, and
        NaN for attacks that `norms` does not name.
    """
    right, survived = _right(points, "log_probability"), _right(points, "adversarial_log_probability")
    smallest = np.full(survived.shape, np.nan)
    for i, name in enumerate(points["attack"].values.tolist()):
        if name in norms:
            sizes = points[f"perturbation_{norms[name]}"].transpose("attack", "point").values[i]
            smallest[i] = np.where(right, np.where(survived[i], np.inf, sizes), 0.0)
    return xr.DataArray(smallest, dims=("attack", "point"), coords={name: points[name] for name in ("attack", "point")})


def median_perturbation(smallest: xr.DataArray, level: float = LEVEL) -> xr.Dataset:
    """Return the median over the points that are right before the attack, with an interval of order statistics.

    Args:
        smallest: the result of `smallest_perturbation`, `[attack, point]`; a point is right if its value is above 0.
        level: coverage of the interval.

    Returns:
        Dataset over `attack`: `median_perturbation`, infinite where the attack failed at half of the points or more, and
        `median_perturbation_interval` (also `bound`). Both are NaN for attacks that are NaN, and where no point is right.

    Example:
        >>> import xarray as xr
        >>> sizes = xr.DataArray([[0.0, 0.1, 0.2, 0.3]], dims=("attack", "point"), coords={"attack": ["fab"]})
        >>> br.analysis.median_perturbation(sizes)["median_perturbation"].values.tolist()
        [0.2]
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
    """Return accuracy against eps: the share of points that no perturbation of norm <= eps is known to break.

    For several attacks in one norm give `smallest.min("attack")`, the smallest perturbation of any of them at each point.

    Args:
        smallest: smallest known perturbations, with the dimension `point` and any others; 0 where the point is wrong without
            a perturbation, infinite where none is known. In an evaluation they are rows of
            `points["smallest_perturbation"]`.
        eps: radii at which the curve is evaluated, increasing from 0 or more. None, the default, takes 0 and every radius at
            which the curve changes, so that the curve is exact.
        level: coverage of the intervals.

    Returns:
        Dataset over the other dimensions and `eps`: `accuracy` (the clean accuracy at eps = 0) and `accuracy_interval`
        (Wilson, also over `bound`). They are upper bounds, since a stronger attack can only lower the curve.

    Raises:
        InputError: no points, NaN (attacks of fixed radius do not minimise the perturbation), or eps that do not increase.

    Example:
        >>> import xarray as xr
        >>> smallest = xr.DataArray([0.0, 0.1, 0.3, float("inf")], dims="point")
        >>> br.analysis.robustness_curve(smallest, [0.0, 0.2, 0.4])["accuracy"].values.tolist()
        [0.75, 0.5, 0.25]
    """
    ordered = smallest.transpose(..., "point")
    values = ordered.values
    if values.shape[-1] == 0 or np.isnan(values).any() or (values < 0).any():
        raise InputError(
            "The smallest perturbations are empty, negative or NaN.",
            "An attack of fixed radius does not minimise the perturbation.",
            "Use attacks that do: DeepFool, FAB, CarliniWagner, Boundary, SmallestFGSM.",
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
    """Return numpy's median, but not its NaN for the mean of two infinite values."""
    low, high = np.sort(values)[[(values.size - 1) // 2, values.size // 2]]
    return float(high) if np.isinf(high) else float((low + high) / 2)
