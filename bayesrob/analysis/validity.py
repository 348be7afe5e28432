"""What counts as an adversarial example: by its norm alone, or only while the true label stays (Stutz)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, binomial_interval
from bayesrob.errors import InputError

__all__ = ["DEFINITIONS", "validity"]

DEFINITIONS = ("norm", "label_invariant")


def validity(
    clean: Any,
    adversarial: Any,
    labels: Any,
    conditional: Any,
    supported: Any = None,
    allowed: Any = None,
    level: float = LEVEL,
) -> xr.Dataset:
    """How many of each attack's successes are adversarial examples under two definitions, and robust accuracy under both.

    *norm*: x' is one if f(x') != y. *label_invariant*: if also f(x) = y, p(x, y) > 0, and p(y | pi(x')) > p(y' | pi(x'))
    for all y' != y, pi being the projection onto the support of p (Stutz's definition, seed paper 004). A point is robust
    that is right and of which no adversarial example was found; so by the second definition one stays robust that an attack
    carried to where another class is likelier.

    Args:
        clean: predicted classes f(x) `[point]`, or (log) probabilities `[point, class]`. adversarial: the same of x', after
            one attack or `[attack, ...]`; an xarray dim `attack` keeps its names.
        labels: classes y `[point]`.
        conditional: p(y | pi(x')) `[point, class]` or `[attack, point, class]`, as
            `data.conditional(data.project(x_adversarial))` gives it.
        supported: whether p(x, y) > 0 `[point]`, as `data.supports(x, y)`; None: of every point, as of points drawn from p.
        allowed: whether x' is in the attack's ball and bounds, `[attack, point]` or `[point]`; None: all are. What is not
            is no success under either definition.
        level: coverage of the intervals.

    Returns:
        Dataset over `definition` (norm, label_invariant), `attack`, `point` (and `bound`, lower and upper):
        `adversarial_example` (bool); `count` of them; `share`, of the attack's successes (f(x') != y and allowed; NaN of
        none), and `robust_accuracy`, of all points, both with Wilson intervals; `worst_case_accuracy` over all attacks
        together, with its interval; `successes` `[attack]`; `accuracy`.

    Raises:
        InputError: shapes that do not fit, classes that are none, probabilities that are not finite.
    """
    y = np.asarray(labels)
    if y.ndim != 1 or not y.size or y.dtype.kind not in "iu" or y.min() < 0:
        raise InputError(f"Labels are {y.dtype} {y.shape}.", "Each point has a class.", "Give whole numbers [point].")
    p = _by_attack("conditional", conditional, 3, y.size)
    if not np.isfinite(p).all() or (p < 0).any() or y.max() >= p.shape[-1]:
        raise InputError(
            f"conditional is {p.shape}, labels reach {y.max()}.",
            "It must give each class a probability.",
            "See Dataset.conditional.",
        )
    before, after = (
        _classes(name, values, y.size, p.shape[-1]) for name, values in (("clean", clean), ("adversarial", adversarial))
    )
    if before.shape[0] != 1 or p.shape[0] != after.shape[0]:
        raise InputError(
            f"{before.shape[0]} clean predictions, {after.shape[0]} attacks, conditionals of {p.shape[0]}.",
            "Points are predicted once before, and projected once after each attack.",
            "Check the arrays.",
        )
    correct = before[0] == y
    success = (after != y) & _yes("allowed", allowed, after.shape)
    own = p[:, np.arange(y.size), y]
    others = np.where(np.arange(p.shape[-1]) == y[:, None], -math.inf, p).max(-1)
    found = np.stack([success, success & correct & _yes("supported", supported, y.shape) & (own > others)])
    robust = correct & ~found
    count, total = found.sum(-1), success.sum(-1)
    with np.errstate(invalid="ignore"):
        share = np.where(total > 0, count / np.where(total > 0, total, 1), math.nan)
    worst = robust.all(1)

    def intervals(hits: np.ndarray, trials: Any) -> np.ndarray:
        pairs = np.broadcast(hits, trials)
        rows = [binomial_interval(int(k), int(n), level) if n else (math.nan, math.nan) for k, n in pairs]
        return np.array(rows, dtype=np.float64).reshape(*hits.shape, 2)

    by = ("definition", "attack")
    return xr.Dataset(
        {
            "adversarial_example": ((*by, "point"), found),
            "count": (by, count),
            "share": (by, share),
            "share_interval": ((*by, "bound"), intervals(count, total)),
            "robust_accuracy": (by, robust.mean(-1)),
            "robust_accuracy_interval": ((*by, "bound"), intervals(robust.sum(-1), y.size)),
            "worst_case_accuracy": ("definition", worst.mean(-1)),
            "worst_case_accuracy_interval": (("definition", "bound"), intervals(worst.sum(-1), y.size)),
            "successes": ("attack", total),
            "accuracy": correct.mean(),
        },
        coords={
            "definition": list(DEFINITIONS),
            "attack": _names(adversarial, len(after)),
            "bound": ["lower", "upper"],
        },
        attrs={"level": level, "num_points": y.size},
    )


def _classes(name: str, values: Any, points: int, classes: int) -> np.ndarray:
    """Predicted classes `[attack, point]`, of classes as they are or of (log) probabilities."""
    array = _ordered(values)
    if array.dtype.kind in "iu":
        found = _by_attack(name, array, 2, points)
        if found.min() < 0 or found.max() >= classes:
            raise InputError(f"{name} has classes up to {found.max()}.", f"There are {classes}.", "Check the predictions.")
        return found
    scores = _by_attack(name, array, 3, points)
    if np.isnan(scores).any() or scores.shape[-1] != classes:
        raise InputError(
            f"{name} is {scores.shape}, or has NaNs.", f"There are {classes} classes.", "Give each a (log) probability."
        )
    return scores.argmax(-1)


def _by_attack(name: str, values: Any, ndim: int, points: int) -> np.ndarray:
    """With a leading axis of attacks, added where there is none."""
    array = _ordered(values)
    array = array[None] if array.ndim == ndim - 1 else array
    if array.ndim != ndim or array.shape[1] != points or 0 in array.shape:
        wanted = "[attack, point, class]" if ndim == 3 else "[attack, point]"
        raise InputError(f"{name} is {array.dtype} {array.shape}.", f"{points} points were labelled.", f"Give {wanted}.")
    return array


def _yes(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    if values is None:
        return np.ones(shape, dtype=bool)
    array = _ordered(values)
    if array.dtype != bool or array.shape not in (shape, shape[-1:]):
        raise InputError(f"{name} is {array.dtype} {array.shape}.", f"It says yes or no, {shape}.", "Give booleans.")
    return np.broadcast_to(array, shape)


def _ordered(values: Any) -> np.ndarray:
    """As an array, xarray's dims in the order attack, point, class."""
    if isinstance(values, xr.DataArray):
        values = values.transpose(*[dim for dim in ("attack", "point", "class") if dim in values.dims], ...).values
    return np.asarray(values)


def _names(values: Any, count: int) -> np.ndarray:
    if isinstance(values, xr.DataArray) and "attack" in values.coords:
        return np.atleast_1d(values["attack"].values)
    return np.arange(count)
