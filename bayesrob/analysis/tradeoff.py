"""Standard against robust accuracy where both are known: the world of Tsipras et al. 2019 (`data.robust_features`)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from bayesrob.analysis.intervals import binomial_interval
from bayesrob.errors import InputError

__all__ = ["check_radius", "check_world", "expected_excess", "hinge_loss", "linear_accuracy", "tradeoff"]


def tradeoff(correct: Any, survived: Any, eta: float, p: float, eps: float, level: float = 0.99) -> xr.Dataset:
    """Measured standard and robust accuracy beside the trade-off theorem's bound, and whether they break it.

    Standard accuracy of at least 1 - delta leaves robust accuracy of at most delta p / (1 - p) at eps >= 2 eta in l_inf.
    An equal statement: among the points that are either robust or wrong, at most p are robust. That is one proportion, so
    its interval, which knows that both accuracies are of the same points, says whether a sample contradicts the theorem.

    Args:
        correct: whether each point is classified rightly, `[point]`. survived: whether it still is under attack.
        eta, p: of the data. eps: radius of the attack in l_inf. level: coverage of the intervals.

    Returns:
        Dataset: `accuracy` and `robust_accuracy` (right before *and* under attack: the ball holds the point itself), with
        Wilson intervals over `bound` (lower, upper); `theorem` = min(1, delta p / (1 - p)) of the measured delta, NaN below
        eps = 2 eta, where the theorem says nothing; `robust_share` of the points that are robust or wrong, with its interval
        (NaN where there are none); `violated`: that interval lies above p although eps >= 2 eta.

    Raises:
        InputError: arrays that are not boolean `[point]` of one length, eta, p, eps or level out of range.
    """
    (eta, p), eps = check_world(eta, p), check_radius(eps)
    right, stays = (
        values.values if isinstance(values, xr.DataArray) else np.asarray(values) for values in (correct, survived)
    )
    if right.dtype != bool or stays.dtype != bool or right.ndim != 1 or right.shape != stays.shape or right.size == 0:
        raise InputError(
            f"correct is {right.dtype} {right.shape}, survived {stays.dtype} {stays.shape}.",
            "Both say yes or no of the same points.",
            "Give boolean [point] twice.",
        )
    robust = right & stays
    count, hits, robust_hits = right.size, int(right.sum()), int(robust.sum())
    misses = count - hits
    applies = eps >= 2 * eta
    share, share_interval = math.nan, (math.nan, math.nan)
    if robust_hits + misses:
        share = robust_hits / (robust_hits + misses)
        share_interval = binomial_interval(robust_hits, robust_hits + misses, level)
    return xr.Dataset(
        {
            "accuracy": hits / count,
            "accuracy_interval": ("bound", np.array(binomial_interval(hits, count, level))),
            "robust_accuracy": robust_hits / count,
            "robust_accuracy_interval": ("bound", np.array(binomial_interval(robust_hits, count, level))),
            "theorem": min(1.0, misses / count * p / (1 - p)) if applies else math.nan,
            "robust_share": share,
            "robust_share_interval": ("bound", np.array(share_interval)),
            "violated": applies and share_interval[0] > p,
        },
        coords={"bound": ["lower", "upper"]},
        attrs={"eta": eta, "p": p, "eps": eps, "level": level, "num_points": count},
    )


def linear_accuracy(weights: Any, eta: float, p: float, eps: float | Sequence[float] = 0.0, bias: Any = 0.0) -> xr.DataArray:
    """The exact accuracy of sign(w . x + b) under the worst perturbation of radius eps in l_inf.

    That is x - eps y sign(w), which leaves y (w . x + b) - eps |w|_1, normal given y and x_1. Of w = (0, 1/d, ..., 1/d),
    the averaging classifier: Phi((eta - eps) sqrt(d)), so Phi(eta sqrt(d)) and, at 2 eta, 1 - Phi(eta sqrt(d)); of
    (1, 0, ...): p at any eps < 1. A network with linear logits of classes 0 and 1 has w = w_1 - w_0.

    Args:
        weights: `[component]`, x_1's first, or `[draw, component]`. eta, p: of the data. eps: one radius or several.
        bias: a number, or `[draw]`.

    Returns:
        `[eps]`, or `[draw, eps]`. A tie counts as wrong.

    Raises:
        InputError: weights of another shape or not finite, eta, p or eps out of range.
    """
    w, b = _weights(weights, bias)
    (eta, p), radii = check_world(eta, p), check_radii(eps)
    mean = w[..., 1:].sum(-1) * eta
    spread = np.linalg.norm(w[..., 1:], axis=-1)
    found = np.zeros((*w.shape[:-1], len(radii)))
    for y in (-1, 1):
        for x_1, probability in ((1, p), (-1, 1 - p)):
            margin = (x_1 * w[..., 0] + mean + y * b)[..., None] - np.multiply.outer(np.abs(w).sum(-1), radii)
            z = np.divide(margin, spread[..., None], out=np.zeros_like(margin), where=spread[..., None] > 0)
            found += probability / 2 * np.where(spread[..., None] > 0, special.ndtr(z), margin > 0)
    return xr.DataArray(found, dims=(*("draw",) * (w.ndim - 1), "eps"), coords={"eps": radii})


def hinge_loss(weights: Any, eta: float, p: float, eps: float | Sequence[float] = 0.0) -> xr.DataArray:
    """The exact population loss E max(0, 1 - y w . x + eps |w|_1): hinge, under the worst perturbation in l_inf.

    With m and s the mean and standard deviation of y w . x given x_1, and a = 1 + eps |w|_1 - m, it averages
    a Phi(a / s) + s phi(a / s) over x_1.

    Args:
        weights, eta, p, eps: as for `linear_accuracy`, without a bias, as in the paper.

    Returns:
        `[eps]`, or `[draw, eps]`.

    Raises:
        InputError: as `linear_accuracy`.
    """
    w, _ = _weights(weights, 0.0)
    (eta, p), radii = check_world(eta, p), check_radii(eps)
    mean = w[..., 1:].sum(-1) * eta
    spread = np.linalg.norm(w[..., 1:], axis=-1)[..., None]
    penalty = np.multiply.outer(np.abs(w).sum(-1), radii)
    found = np.zeros_like(penalty)
    for x_1, probability in ((1, p), (-1, 1 - p)):
        found += probability * expected_excess(1 + penalty - (x_1 * w[..., 0] + mean)[..., None], spread)
    return xr.DataArray(found, dims=(*("draw",) * (w.ndim - 1), "eps"), coords={"eps": radii})


def expected_excess(mean: Any, spread: Any) -> np.ndarray:
    """E max(0, N(mean, spread^2)), elementwise; `spread` may be 0."""
    mean, spread = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(spread, dtype=np.float64))
    z = np.divide(mean, spread, out=np.zeros(mean.shape), where=spread > 0)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.where(spread > 0, mean * special.ndtr(z) + spread * density, np.maximum(mean, 0))


def check_world(eta: Any, p: Any) -> tuple[float, float]:
    """eta and p of `data.robust_features` as floats, or `InputError`."""
    for name, value, good, do in (
        ("eta", eta, lambda v: 0 < v < math.inf, "a finite number above 0"),
        ("p", p, lambda v: 0.5 < v < 1, "a number above 0.5 and below 1"),
    ):
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not good(value):
            raise InputError(f"{name} is {value!r}.", "It is that of data.robust_features.", f"Give {do}.")
    return float(eta), float(p)


def check_radii(eps: Any) -> np.ndarray:
    """One radius or several as floats `[eps]`, or `InputError`."""
    values = eps if isinstance(eps, Sequence | np.ndarray) and not isinstance(eps, str) else [eps]
    if len(values) and all(isinstance(v, numbers.Real) and not isinstance(v, bool) and 0 <= v < math.inf for v in values):  # pyright: ignore
        return np.array(values, dtype=np.float64)
    raise InputError(f"eps is {eps!r}.", "It holds radii of balls.", "Give finite numbers of at least 0.")


def check_radius(eps: Any) -> float:
    """One radius as a float, or `InputError`."""
    radii = check_radii(eps)
    if len(radii) > 1:
        raise InputError(f"eps is {eps!r}.", "One ball is asked about.", "Give one number.")
    return float(radii[0])


def _weights(weights: Any, bias: Any) -> tuple[np.ndarray, np.ndarray]:
    w = np.asarray(weights, dtype=np.float64)
    b = np.asarray(bias, dtype=np.float64)
    if w.ndim not in (1, 2) or w.shape[-1] < 2 or b.shape not in ((), w.shape[:-1]) or not np.isfinite(w).all():
        raise InputError(
            f"Weights of shape {w.shape}, a bias of shape {b.shape}.",
            "There is a finite weight for x_1, one for each weak feature, and one bias.",
            "Give [component] or [draw, component], x_1 first.",
        )
    if not np.isfinite(b).all():
        raise InputError("The bias is not finite.", "No side of it is known.", "Look for overflow.")
    return w, b
