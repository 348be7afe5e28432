"""Standard and robust accuracy on the distribution of Tsipras et al. 2019 (`data.robust_features`), where both are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from bayesrob.analysis.intervals import binomial_interval
from bayesrob.arguments import number
from bayesrob.errors import InputError

__all__ = ["check_radius", "check_world", "expected_excess", "hinge_loss", "linear_accuracy", "tradeoff"]


def tradeoff(correct: Any, survived: Any, eta: float, p: float, eps: float, *, level: float = 0.99) -> xr.Dataset:
    """Compare measured standard and robust accuracy with the bound of the trade-off theorem (Tsipras et al. 2019).

    By the theorem a standard accuracy of at least 1 - delta implies a robust accuracy of at most delta p / (1 - p) at
    eps >= 2 eta in l_inf. An equivalent statement is that at most a share p of the points that are either robust or wrong
    are robust. This is a single proportion, so that its interval says whether a sample contradicts the theorem.

    Args:
        correct: whether each point is classified correctly, bool `[point]`.
        survived: whether each point is classified correctly under attack, bool `[point]`.
        eta: mean of the weak features of the data.
        p: probability that the first feature of the data has the label's sign.
        eps: radius of the attack in l_inf.
        level: coverage of the intervals (99%, since a violation of a theorem needs strong evidence).

    Returns:
        Dataset: `accuracy` and `robust_accuracy` (correct before *and* under attack, since the ball contains the point
        itself), with Wilson intervals over `bound` (lower, upper); `theorem` = min(1, delta p / (1 - p)) for the measured
        delta, NaN below eps = 2 eta, where the theorem does not hold; `robust_share` of the points that are robust or
        wrong, with its interval (NaN where there are no such points); and `violated`, which is true if that interval lies
        above p although eps >= 2 eta.

    Raises:
        InputError: arrays that are not boolean `[point]` of one length, or eta, p, eps or level out of range.

    Example:
        >>> import numpy as np
        >>> right, stays = np.arange(20) < 18, np.arange(20) < 5
        >>> bool(br.analysis.tradeoff(right, stays, eta=0.4, p=0.9, eps=0.8)["violated"])
        False
    """
    (eta, p), eps = check_world(eta, p), check_radius(eps)
    right, stays = (
        values.values if isinstance(values, xr.DataArray) else np.asarray(values) for values in (correct, survived)
    )
    if right.dtype != bool or stays.dtype != bool or right.ndim != 1 or right.shape != stays.shape or right.size == 0:
        raise InputError(
            f"correct is {right.dtype} {right.shape}, survived {stays.dtype} {stays.shape}.",
            "Both are of the same points.",
            "Give boolean arrays [point].",
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
    """Return the exact accuracy of sign(w . x + b) under the worst perturbation of radius eps in l_inf.

    The worst perturbation is -eps y sign(w). The margin is then y (w . x + b) - eps |w|_1, which is normal given y and x_1.
    The averaging classifier w = (0, 1/d, ..., 1/d) has accuracy Phi((eta - eps) sqrt(d)), and w = (1, 0, ...) has accuracy
    p at any eps < 1. A network with linear logits of classes 0 and 1 has w = w_1 - w_0.

    Args:
        weights: weights of the classifier, `[component]` with that of x_1 first, or `[draw, component]`.
        eta: mean of the weak features of the data.
        p: probability that the first feature of the data has the label's sign.
        eps: one radius or several; 0 gives the standard accuracy.
        bias: bias of the classifier, a number or `[draw]`.

    Returns:
        Accuracies `[eps]`, or `[draw, eps]`. A margin of exactly 0 counts as wrong.

    Raises:
        InputError: weights of another shape or not finite, or eta, p or eps out of range.

    Example:
        >>> br.analysis.linear_accuracy([1.0, 0.0, 0.0], eta=0.4, p=0.9, eps=0.5).values.round(3).tolist()
        [0.9]
    """
    w, b = _weights(weights, bias)
    (eta, p), radii = check_world(eta, p), check_radii(eps)
    mean = w[..., 1:].sum(-1) * eta
    spread = np.linalg.norm(w[..., 1:], axis=-1)
    accuracy = np.zeros((*w.shape[:-1], len(radii)))
    for y in (-1, 1):
        for x_1, probability in ((1, p), (-1, 1 - p)):
            margin = (x_1 * w[..., 0] + mean + y * b)[..., None] - np.multiply.outer(np.abs(w).sum(-1), radii)
            z = np.divide(margin, spread[..., None], out=np.zeros_like(margin), where=spread[..., None] > 0)
            accuracy += probability / 2 * np.where(spread[..., None] > 0, special.ndtr(z), margin > 0)
    return xr.DataArray(accuracy, dims=(*("draw",) * (w.ndim - 1), "eps"), coords={"eps": radii})


def hinge_loss(weights: Any, eta: float, p: float, eps: float | Sequence[float] = 0.0) -> xr.DataArray:
    """Return the exact expected hinge loss E max(0, 1 - y w . x + eps |w|_1) under the worst perturbation in l_inf.

    Let m and s be the mean and standard deviation of y w . x given x_1, and a = 1 + eps |w|_1 - m. The loss is the average
    of a Phi(a / s) + s phi(a / s) over x_1. There is no bias, as in the paper.

    Args:
        weights: weights of the classifier, `[component]` with that of x_1 first, or `[draw, component]`.
        eta: mean of the weak features of the data.
        p: probability that the first feature of the data has the label's sign.
        eps: one radius or several; 0 gives the standard loss.

    Returns:
        Losses `[eps]`, or `[draw, eps]`.

    Raises:
        InputError: as for `linear_accuracy`.

    Example:
        >>> standard, robust = br.analysis.hinge_loss([0.5, 0.1, 0.1], eta=0.4, p=0.9, eps=[0.0, 0.1]).values
        >>> bool(standard < robust)
        True
    """
    w, _ = _weights(weights, 0.0)
    (eta, p), radii = check_world(eta, p), check_radii(eps)
    mean = w[..., 1:].sum(-1) * eta
    spread = np.linalg.norm(w[..., 1:], axis=-1)[..., None]
    penalty = np.multiply.outer(np.abs(w).sum(-1), radii)
    loss = np.zeros_like(penalty)
    for x_1, probability in ((1, p), (-1, 1 - p)):
        loss += probability * expected_excess(1 + penalty - (x_1 * w[..., 0] + mean)[..., None], spread)
    return xr.DataArray(loss, dims=(*("draw",) * (w.ndim - 1), "eps"), coords={"eps": radii})


def expected_excess(mean: Any, spread: Any) -> np.ndarray:
    """Return E max(0, N(mean, spread^2)) of every element; `spread` may be 0."""
    mean, spread = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(spread, dtype=np.float64))
    z = np.divide(mean, spread, out=np.zeros(mean.shape), where=spread > 0)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.where(spread > 0, mean * special.ndtr(z) + spread * density, np.maximum(mean, 0))


def check_world(eta: Any, p: Any) -> tuple[float, float]:
    """Return eta and p of `data.robust_features` as floats, or raise `InputError`."""
    return (
        number("eta", eta, "It is the mean of the weak features of data.robust_features.", above=0),
        number("p", p, "It is how often the first feature of data.robust_features is right.", above=0.5, below=1),
    )


def check_radii(eps: Any) -> np.ndarray:
    """Return one radius or several as floats `[eps]`, or raise `InputError`."""
    values = eps if isinstance(eps, Sequence | np.ndarray) and not isinstance(eps, str) else [eps]
    if not len(values):
        raise InputError(f"eps is {eps!r}.", "At least one radius is needed.", "Give finite numbers >= 0.")
    return np.array([check_radius(value) for value in values])


def check_radius(eps: Any) -> float:
    """Return one radius as a float, or raise `InputError`."""
    return number("eps", eps, "It is the radius of a ball.", least=0)


def _weights(weights: Any, bias: Any) -> tuple[np.ndarray, np.ndarray]:
    w = np.asarray(weights, dtype=np.float64)
    b = np.asarray(bias, dtype=np.float64)
    if w.ndim not in (1, 2) or w.shape[-1] < 2 or b.shape not in ((), w.shape[:-1]) or not np.isfinite(w).all():
        raise InputError(
            f"The weights have shape {w.shape}, the bias {b.shape}.",
            "A classifier has a finite weight for x_1, one for each weak feature, and one bias.",
            "Give [component] or [draw, component], x_1 first.",
        )
    if not np.isfinite(b).all():
        raise InputError("The bias is not finite.", "It predicts nothing.", "Check the weights for overflow.")
    return w, b
