"""How often, and by how much, an attack changes the posterior predictive."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, binomial_interval, mean_interval
from bayesrob.errors import InputError

__all__ = ["robustness"]


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
