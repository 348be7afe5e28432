"""What counts as an adversarial example: by its norm alone, or only while the true label does not change (Stutz 2018)."""

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
    *,
    supported: Any = None,
    allowed: Any = None,
    level: float = LEVEL,
) -> xr.Dataset:
    """Count the adversarial examples of each attack under two definitions, and compute robust accuracy under both.

    By *norm*, x' is an adversarial example if f(x') != y. By *label_invariant* (Stutz 2018) it is one if also f(x) = y,
    p(x, y) > 0, and p(y | pi(x')) > p(y' | pi(x')) for all y' != y, where pi is the projection onto the support of p. A
    point is robust if it is classified correctly and no attack produced an adversarial example of it. By the second
    definition a point therefore stays robust if an attack moved it to where another class is more probable.

    Args:
        clean: predicted classes f(x), `[point]`, or (log) probabilities `[point, class]`.
        adversarial: predictions at x', of the same kind, after one attack or `[attack, ...]`. A DataArray's coordinate
            `attack` gives the names of the attacks.
        labels: classes y, `[point]`.
        conditional: p(y | pi(x')), `[point, class]` or `[attack, point, class]`, as
            `data.conditional(data.project(x_adversarial))` returns it.
        supported: whether p(x, y) > 0, `[point]`, as `data.supports(x, y)` returns it. None, the default, means at every
            point, which is true for points drawn from p.
        allowed: whether x' is in the attack's ball and bounds, `[attack, point]` or `[point]`. Other x' are no adversarial
            examples under either definition. None, the default, means all.
        level: coverage of the intervals.

    Returns:
        Dataset over `definition` (norm, label_invariant), `attack`, `point` (and `bound`, lower and upper):

        - `adversarial_example`: whether x' is one.
        - `count`: the number of adversarial examples.
        - `share`: their share of the attack's successes (f(x') != y and allowed), NaN where there are none; with a Wilson
          interval, like `robust_accuracy`.
        - `robust_accuracy`: the share of all points that are robust.
        - `worst_case_accuracy`: the share of points that are robust to every attack, with its interval.
        - `successes` `[attack]` and `accuracy`.

    Raises:
        InputError: shapes that do not fit, labels that are no classes, or probabilities that are not finite.

    Example:
        >>> import numpy as np
        >>> truth = np.array([[0.9, 0.1], [0.2, 0.8]])
        >>> table = br.analysis.validity(np.array([0, 0]), np.array([1, 1]), np.array([0, 0]), truth)
        >>> table["count"].values.ravel().tolist()
        [2, 1]
    """
    y, p, before, after = _checked(clean, adversarial, labels, conditional)
    correct = before == y
    success = (after != y) & _booleans("allowed", allowed, after.shape)
    own = p[:, np.arange(y.size), y]
    others = np.where(np.arange(p.shape[-1]) == y[:, None], -math.inf, p).max(-1)
    same_label = correct & _booleans("supported", supported, y.shape) & (own > others)
    examples = np.stack([success, success & same_label])
    robust = correct & ~examples
    count, total = examples.sum(-1), success.sum(-1)
    with np.errstate(invalid="ignore"):
        share = np.where(total > 0, count / np.where(total > 0, total, 1), math.nan)
    worst = robust.all(1)
    by = ("definition", "attack")
    return xr.Dataset(
        {
            "adversarial_example": ((*by, "point"), examples),
            "count": (by, count),
            "share": (by, share),
            "share_interval": ((*by, "bound"), _intervals(count, total, level)),
            "robust_accuracy": (by, robust.mean(-1)),
            "robust_accuracy_interval": ((*by, "bound"), _intervals(robust.sum(-1), y.size, level)),
            "worst_case_accuracy": ("definition", worst.mean(-1)),
            "worst_case_accuracy_interval": (("definition", "bound"), _intervals(worst.sum(-1), y.size, level)),
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


def _checked(clean: Any, adversarial: Any, labels: Any, conditional: Any) -> tuple[np.ndarray, ...]:
    """Return labels `[point]`, p `[attack, point, class]`, and predicted classes `[point]` and `[attack, point]`."""
    y = np.asarray(labels)
    if y.ndim != 1 or not y.size or y.dtype.kind not in "iu" or y.min() < 0:
        raise InputError(f"The labels are {y.dtype} {y.shape}.", "Each point has a class.", "Give whole numbers [point].")
    p = _by_attack("conditional", conditional, 3, y.size)
    if not np.isfinite(p).all() or (p < 0).any() or y.max() >= p.shape[-1]:
        raise InputError(
            f"conditional is {p.shape}, labels reach {y.max()}.",
            "It must give each class a probability.",
            "Use Dataset.conditional.",
        )
    before, after = (
        _classes(name, values, y.size, p.shape[-1]) for name, values in (("clean", clean), ("adversarial", adversarial))
    )
    if before.shape[0] != 1 or p.shape[0] != after.shape[0]:
        raise InputError(
            f"There are {before.shape[0]} clean predictions, {after.shape[0]} attacks, conditionals of {p.shape[0]}.",
            "Each point has one clean prediction, and one projection after each attack.",
            "Check the arrays.",
        )
    return y, p, before[0], after


def _intervals(hits: np.ndarray, trials: Any, level: float) -> np.ndarray:
    """Return Wilson intervals `[..., bound]`, NaN where there are no trials."""
    pairs = np.broadcast(hits, trials)
    rows = [binomial_interval(int(k), int(n), level) if n else (math.nan, math.nan) for k, n in pairs]
    return np.array(rows, dtype=np.float64).reshape(*hits.shape, 2)


def _classes(name: str, values: Any, points: int, classes: int) -> np.ndarray:
    """Return predicted classes `[attack, point]`, given classes or (log) probabilities."""
    array = _ordered(values)
    if array.dtype.kind in "iu":
        predicted = _by_attack(name, array, 2, points)
        if predicted.min() < 0 or predicted.max() >= classes:
            raise InputError(
                f"{name} has classes up to {predicted.max()}.", f"There are {classes} classes.", "Check the predictions."
            )
        return predicted
    scores = _by_attack(name, array, 3, points)
    if np.isnan(scores).any() or scores.shape[-1] != classes:
        raise InputError(
            f"{name} is {scores.shape}, or has NaNs.", f"There are {classes} classes.", "Give each a (log) probability."
        )
    return scores.argmax(-1)


def _by_attack(name: str, values: Any, ndim: int, points: int) -> np.ndarray:
    """Return an array with a leading axis of attacks, which is added where it is missing."""
    array = _ordered(values)
    array = array[None] if array.ndim == ndim - 1 else array
    if array.ndim != ndim or array.shape[1] != points or 0 in array.shape:
        wanted = "[attack, point, class]" if ndim == 3 else "[attack, point]"
        raise InputError(f"{name} is {array.dtype} {array.shape}.", f"{points} points were labelled.", f"Give {wanted}.")
    return array


def _booleans(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return booleans of a shape; all true where none are given."""
    if values is None:
        return np.ones(shape, dtype=bool)
    array = _ordered(values)
    if array.dtype != bool or array.shape not in (shape, shape[-1:]):
        raise InputError(
            f"{name} is {array.dtype} {array.shape}.", f"It has one boolean for each of {shape}.", "Give booleans."
        )
    return np.broadcast_to(array, shape)


def _ordered(values: Any) -> np.ndarray:
    """Return an array; the dims of a DataArray are put into the order attack, point, class."""
    if isinstance(values, xr.DataArray):
        values = values.transpose(*[dim for dim in ("attack", "point", "class") if dim in values.dims], ...).values
    return np.asarray(values)


def _names(values: Any, count: int) -> np.ndarray:
    if isinstance(values, xr.DataArray) and "attack" in values.coords:
        return np.atleast_1d(values["attack"].values)
    return np.arange(count)
