"""How often, and by how much, an attack changes the posterior predictive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, binomial_interval, mean_interval
from bayesrob.errors import InputError

__all__ = ["robust_points", "robustness", "worst_case"]

TOLERANCE = 1e-6
"""By how much a perturbation may exceed a radius: rounding, for inputs of the order of one."""


def robustness(clean: xr.DataArray, adversarial: xr.DataArray, labels: xr.DataArray, level: float = LEVEL) -> xr.Dataset:
    """Accuracy, adversarial accuracy and softmax robustness, each with an interval.

    Args:
        clean: log posterior predictive probabilities `[point, class]` (softmax applied once).
        adversarial: the same at the attacked points, `[attack, point, class]`.
        labels: true classes `[point]`.
        level: coverage of the intervals.

    Returns:
        Dataset over `attack` (and `bound`, lower and upper): `accuracy`; `adversarial_accuracy`, the fraction of *all*
        points whose attacked prediction is the true label, also of those wrong to begin with; both with Wilson
        intervals; `softmax_robustness` = 1 - mean over points of max over classes abs(p - p_adversarial) (Carbone et al.
        2020, section 5.3), in [0, 1], with a t interval.

    Raises:
        InputError: probabilities that are NaN: a score of them would hide that the model failed.
    """
    for name, values in (("clean", clean), ("adversarial", adversarial)):
        bad = int(np.isnan(values.values).any(axis=-1).sum())
        if bad:
            raise InputError(
                f"{bad} {name} predictions are NaN.",
                "They are neither right nor wrong.",
                "Check the weights for overflow.",
            )
    truth = labels.values
    correct = clean.values.argmax(-1) == truth
    survived = adversarial.values.argmax(-1) == truth
    kept = 1 - np.abs(np.exp(clean.values.astype(np.float64)) - np.exp(adversarial.values.astype(np.float64))).max(-1)
    attack = adversarial["attack"].values
    interval = ("attack", "bound")
    count = len(truth)
    return xr.Dataset(
        {
            "accuracy": correct.mean(),
            "accuracy_interval": ("bound", np.array(binomial_interval(correct.sum(), count, level))),
            "adversarial_accuracy": ("attack", survived.mean(-1)),
            "adversarial_accuracy_interval": (
                interval, np.array([binomial_interval(row.sum(), count, level) for row in survived]).reshape(-1, 2),
            ),
            "softmax_robustness": ("attack", kept.mean(-1)),
            "softmax_robustness_interval": (
                interval, np.array([mean_interval(row, level) for row in kept]).reshape(-1, 2).clip(0, 1),
            ),
        },
        coords={"attack": attack, "bound": ["lower", "upper"]},
        attrs={"level": level, "num_points": count},
    )  # fmt: skip


def robust_points(points: xr.Dataset, balls: Mapping[str, tuple[str, float]]) -> xr.DataArray:
    """Which points no attack of a run broke, `[threat, point]`, for each threat model that the run has.

    A threat model is a ball: all attacks with one norm and radius, named e.g. "l_inf <= 0.1". A point is robust there if it
    is right before any attack, after each of these, and wherever another attack of the run (one that looks for the smallest
    perturbation, one of a smaller ball) happened to end inside this ball and the bounds.

    Args:
        points: the group `points` of an evaluation: `label` `[point]`, `log_probability` `[point, class]`,
            `adversarial_log_probability` `[attack, point, class]`, `perturbation_<norm>` and `inside_bounds`
            `[attack, point]`.
        balls: norm and radius by the name of each attack that stays in a ball.

    Returns:
        Also coordinates `norm` and `eps` `[threat]`.
    """
    label = points["label"]
    right = (points["log_probability"].argmax("class") == label).values
    wrong = (points["adversarial_log_probability"].argmax("class") != label).transpose("attack", "point").values
    allowed = points["inside_bounds"].transpose("attack", "point").values
    names = points["attack"].values.tolist()
    threats = list(dict.fromkeys(balls.values()))
    rows = []
    for norm, eps in threats:
        members = np.array([balls.get(name) == (norm, eps) for name in names])
        near = points[f"perturbation_{norm}"].transpose("attack", "point").values <= eps + TOLERANCE
        rows.append(right & ~(wrong & (members[:, None] | (near & allowed))).any(0))
    coords = {
        "threat": [f"{norm} <= {eps:g}" for norm, eps in threats],
        "norm": ("threat", [norm for norm, _ in threats]),
        "eps": ("threat", np.array([eps for _, eps in threats], dtype=np.float64)),
        "point": points["point"],
    }
    found = np.array(rows, dtype=bool).reshape(len(threats), len(right))
    return xr.DataArray(found, dims=("threat", "point"), coords=coords)


def worst_case(robust: xr.DataArray, level: float = LEVEL) -> xr.Dataset:
    """The share of points that are robust to all attacks together, with Wilson intervals; at most every single attack's.

    Args:
        robust: as `robust_points` gives it, `[threat, point]`. level: coverage of the intervals.

    Returns:
        Dataset over `threat`: `worst_case_accuracy` and `worst_case_accuracy_interval` (also `bound`).
    """
    rows = robust.transpose("threat", "point").values
    intervals = [binomial_interval(row.sum(), row.size, level) for row in rows]
    return xr.Dataset(
        {
            "worst_case_accuracy": ("threat", np.array([row.mean() for row in rows], dtype=np.float64)),
            "worst_case_accuracy_interval": (("threat", "bound"), np.array(intervals).reshape(-1, 2)),
        },
        coords={**{name: robust[name] for name in ("threat", "norm", "eps")}, "bound": ["lower", "upper"]},
    )
