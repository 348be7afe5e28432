"""Theorems 2 and 3 of Aboutalebi et al. 2020 against what FGSM does: from which eps on is the first order wrong?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from bayesrob.analysis import bias_variance, perturbation_terms
from bayesrob.attacks import FGSM
from bayesrob.evaluation.slopes import slopes
from bayesrob.predictive import Predictive, from_predictives
from shared.model_sets import attacked

__all__ = ["ORDERS", "first_order", "order_note", "with_predictions"]

WRONG = 0.1
"""First order is called wrong from where it misses what is measured by more than this part of it."""

ORDERS = (
    "From which eps on, of 8 to a factor of ten, first order (theorem 2 or 3) misses by more than "
    f"{WRONG:.0%} what FGSM on the set does: to mean bias and mean variance; and to their changes from eps 0 point by point "
    "(mean miss over mean change: changes of either sign do not cancel)."
)
FINE = np.geomspace(1e-3, 10, 33)


def predicted(
    models: Sequence[Predictive], x: Tensor, y: Tensor, *, loss: Any, grid: Sequence[float], seed: int
) -> xr.Dataset:
    """What the theorem says along FGSM's direction on the set, which is the same direction for every eps."""
    ensemble = from_predictives(list(models))
    derivatives = slopes(ensemble, x, y, _fgsm(1.0)(ensemble, x, y, seed) - x)
    key = "predictions" if loss == "mse" else "log_predictions"
    given: Any = {key: derivatives[key], "targets": derivatives["targets"].values, "slopes": derivatives["slopes"]}
    return perturbation_terms(**given, loss=loss, eps=grid)


def with_predictions(
    models: Sequence[Predictive], split: xr.Dataset, x: Tensor, y: Tensor, *, loss: Any, seed: int
) -> xr.Dataset:
    """The curves of a set with what the theorem predicts beside them."""
    terms = predicted(models, x, y, loss=loss, grid=split["eps"].values.tolist(), seed=seed)
    bias, variance = terms["mean_bias"], terms["mean_variance"]
    noise = split.get("noise", 0.0)
    return split.assign(predicted_bias=bias, predicted_variance=variance, predicted_loss=bias + variance + noise)


def first_order(
    models: Sequence[Predictive], x: Tensor, y: Tensor, *, loss: Any, seed: int
) -> tuple[dict[str, str], xr.Dataset]:
    """The eps from which on the theorem is wrong, for bias and for variance; and prediction and measurement at each eps."""
    grid = [0.0, *FINE.tolist()]
    terms = predicted(models, x, y, loss=loss, grid=grid, seed=seed)
    values = attacked(models, _fgsm, grid, x, y, own=False, seed=seed)["predictions"]
    given: Any = {"predictions": values} if loss == "mse" else {"log_predictions": values}
    measured = bias_variance(**given, targets=y.numpy(), loss=loss, num_resamples=0)
    line, curves = {}, xr.Dataset(coords={"eps": grid})
    for name in ("bias", "variance"):
        said, is_so = (values[name].transpose("eps", "point").values for values in (terms, measured))
        mean, means = is_so.mean(1), said.mean(1)
        line[name] = beyond(np.abs(means - mean), np.abs(mean))
        # What is so at eps 0 both know.
        line[f"change of {name}"] = beyond(np.abs(said - is_so).mean(1), np.abs(is_so - is_so[0]).mean(1))
        curves = curves.assign({f"predicted_{name}": ("eps", means), f"measured_{name}": ("eps", mean)})
    return line, curves


def beyond(miss: np.ndarray, size: np.ndarray) -> str:
    """The first eps > 0 from which on, at every later one too, the miss is more than `WRONG` of the size."""
    off = (miss > WRONG * size)[1:]
    if not off[-1]:
        return f"beyond {FINE[-1]:g}"
    right = np.flatnonzero(~off)
    return f"{FINE[right[-1] + 1 if len(right) else 0]:.3g}"


def order_note(line: dict[str, str]) -> str:
    """Says from which eps on the theorem is wrong."""
    return (
        f"{line['problem']}, {line['models']}: theorem {line['theorem']} is more than {WRONG:.0%} wrong of the mean bias "
        f"from eps {line['bias']} on, of the mean variance from {line['variance']}; point by point, of the change of bias "
        f"from {line['change of bias']}, of variance from {line['change of variance']}."
    )


def _fgsm(eps: float) -> FGSM:
    return FGSM(eps=eps)
