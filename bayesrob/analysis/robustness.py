"""How often, and by how much, an attack changes the posterior predictive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, binomial_interval, mean_interval
from bayesrob.errors import InputError

__all__ = ["robust_points", "robustness", "worst_case"]

TOLERANCE = 1e-6
"""How far a perturbation may exceed a radius by rounding, for inputs of the order of one."""


def robustness(clean: xr.DataArray, adversarial: xr.DataArray, labels: xr.DataArray, level: float = LEVEL) -> xr.Dataset:
    """Return accuracy, adversarial accuracy and softmax robustness, each with an interval.

    Args:
        clean: log posterior predictive probabilities, `[point, class]` (softmax applied once).
        adversarial: log posterior predictive probabilities at the attacked points, `[attack, point, class]`.
        labels: true classes, `[point]`.
        level: coverage of the intervals.

    Returns:
        Dataset over `attack` (and `bound`, lower and upper): `accuracy`; `adversarial_accuracy`, the share of *all* points
        whose attacked prediction is the true label, including points that are wrong before the attack; both with Wilson
        intervals; and `softmax_robustness` = 1 - mean over points of max over classes abs(p - p_adversarial) (Carbone et
        al. 2020, section 5.3), in [0, 1], with a t interval.

    Raises:
        InputError: probabilities that are NaN, since a score of them would hide that the model failed.

    Example:
        >>> import numpy as np, xarray as xr
        >>> clean = xr.DataArray(np.log([[0.9, 0.1], [0.4, 0.6]]), dims=("point", "class"))
        >>> attacked = clean[:, ::-1].expand_dims(attack=["swap"])
        >>> scores = br.analysis.robustness(clean, attacked, xr.DataArray([0, 1], dims="point"))
        >>> scores["accuracy"].item(), scores["adversarial_accuracy"].item()
        (1.0, 0.0)
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
    unchanged = 1 - np.abs(np.exp(clean.values.astype(np.float64)) - np.exp(adversarial.values.astype(np.float64))).max(-1)
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
            "softmax_robustness": ("attack", unchanged.mean(-1)),
            "softmax_robustness_interval": (
                interval, np.array([mean_interval(row, level) for row in unchanged]).reshape(-1, 2).clip(0, 1),
            ),
        },
        coords={"attack": attack, "bound": ["lower", "upper"]},
        attrs={"level": level, "num_points": count},
    )  # fmt: skip


def robust_points(points: xr.Dataset, balls: Mapping[str, tuple[str, float]]) -> xr.DataArray:
    """Return which points no attack of an evaluation broke, for each threat model.

    A threat model is a ball, named e.g. "l_inf <= 0.1", and has all attacks with its norm and radius. A point is robust in
    it if the prediction is right before any attack, after each of these attacks, and at the end point of every other attack
    of the evaluation (such as one that minimises the perturbation, or one in a smaller ball) that lies inside this ball and
    the bounds.

    Args:
        points: the group `points` of an evaluation: `label` `[point]`, `log_probability` `[point, class]`,
            `adversarial_log_probability` `[attack, point, class]`, `perturbation_<norm>` and `inside_bounds`
            `[attack, point]`.
        balls: norm and radius by the name of each attack that stays in a ball.

    Returns:
        Booleans `[threat, point]`, with coordinates `norm` and `eps` `[threat]`.
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
    robust = np.array(rows, dtype=bool).reshape(len(threats), len(right))
    return xr.DataArray(robust, dims=("threat", "point"), coords=coords)


def worst_case(robust: xr.DataArray, level: float = LEVEL) -> xr.Dataset:
    """Return the share of points that are robust to every attack of a threat model, with Wilson intervals.

    It is at most the adversarial accuracy of each single attack.

    Args:
        robust: the result of `robust_points`, `[threat, point]`.
        level: coverage of the intervals.

    Returns:
        Dataset over `threat`: `worst_case_accuracy` and `worst_case_accuracy_interval` (also `bound`).

    Example:
        >>> import xarray as xr
        >>> coords = {"threat": ["l_inf <= 0.1"], "norm": ("threat", ["l_inf"]), "eps": ("threat", [0.1])}
        >>> robust = xr.DataArray([[True, True, False, True]], dims=("threat", "point"), coords=coords)
        >>> br.analysis.worst_case(robust)["worst_case_accuracy"].values.tolist()
        [0.75]
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
