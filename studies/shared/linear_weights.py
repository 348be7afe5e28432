"""Linear classifiers of two classes: exact worst-case margins, and which features their weights use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["correlations", "linear", "use", "uses", "worst_margins"]


def linear(post: Any) -> list[tuple[np.ndarray, float]]:
    """Each draw's w_1 - w_0 and b_1 - b_0, in float64: its sign is the class."""
    weight, bias = (values.double().numpy() for values in post.weights.values())
    return [(w[1] - w[0], float(b[1] - b[0])) for w, b in zip(weight, bias, strict=True)]


def worst_margins(
    weights: np.ndarray, bias: float, x: np.ndarray, y: np.ndarray, *, eps: float, bounds: tuple[float, float] | None
) -> np.ndarray:
    """The least y (w . x' + b) over x' within eps of x in l_inf and in the bounds, `[point]`, y as -1 and 1: exact.

    Every component goes as far against y w as it may, alone.
    """
    sign = 2.0 * y - 1
    direction = -sign[:, None] * np.sign(weights)
    moved = x + eps * direction
    if bounds is not None:
        moved = moved.clip(*bounds)
    return sign * (moved @ weights + bias)


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's, of every feature `[point, feature]` with the class; NaN for one that is constant."""
    centred, label = x - x.mean(0), y - y.mean()
    norm = np.linalg.norm(centred, axis=0) * np.linalg.norm(label)
    return np.divide(label @ centred, norm, out=np.full(x.shape[1], np.nan), where=x.std(0) > 1e-12)


def use(weights: np.ndarray, correlation: np.ndarray, deviation: np.ndarray) -> dict[str, float]:
    """How weights `[feature]` are spread over features of strong and weak correlation; constant ones are left out."""
    varies = np.isfinite(correlation)
    size, strength = np.abs(weights[varies]), np.abs(correlation[varies])
    weak = strength < np.median(strength)
    spread = size * deviation[varies]
    return {
        "rank correlation": float(pd.Series(size).corr(pd.Series(strength), method="spearman")),
        "share on the weak half": float(size[weak].sum() / size.sum()),
        "share, weight x deviation": float(spread[weak].sum() / spread.sum()),
    }


def uses(weights: np.ndarray, features: xr.Dataset) -> pd.DataFrame:
    """`use` of every row of `[model, feature]`."""
    return pd.DataFrame([use(w, features["correlation"].values, features["deviation"].values) for w in weights])
