"""Checks of the predictions of several models: an axis of models, one of points, and one of classes or outputs."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from bayesrob.errors import InputError

__all__ = ["Loss", "check_given_once", "check_targets", "labelled", "log_probabilities"]

Loss = Literal["mse", "cross_entropy"]

TOLERANCE = 1e-4
"""How far the sum of probabilities may be from 1: float32 softmax over a thousand classes stays within 1e-5."""


def check_given_once(predictions: Any, log_predictions: Any) -> None:
    """Raise `InputError` unless exactly one of the two is given."""
    if (predictions is None) == (log_predictions is None):
        raise InputError(
            "Predictions are needed exactly once.",
            "Probabilities and log probabilities say the same.",
            "Give predictions= or log_predictions=.",
        )


def labelled(values: Any, axis: str, last: str) -> xr.DataArray:
    """Return predictions as a DataArray in float32 or float64.

    Args:
        values: predictions of two or more models, an array `[model, point]` or `[model, point, last]`, or a DataArray with
            these dims and any others.
        axis: name of the dim of models.
        last: name of the dim of classes or outputs.

    Raises:
        InputError: a dim that is missing, fewer than two models, no points, or NaN.
    """
    if isinstance(values, xr.DataArray):
        missing = [dim for dim in (axis, "point") if dim not in values.dims]
        if missing:
            raise InputError(
                f"Predictions have the dims {', '.join(map(str, values.dims))}, not {' and '.join(missing)}.",
                "It must be known which dims are models and points.",
                "Rename them, or name the models' dim with axis=.",
            )
        array = values
    else:
        array = np.asarray(values)
        if array.ndim not in (2, 3):
            raise InputError(
                f"The predictions have shape {array.shape}.",
                "Every model predicts at every point.",
                "Give [model, point] or [model, point, class], or a DataArray for more dims.",
            )
        array = xr.DataArray(array, dims=(axis, "point", last)[: array.ndim])
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if array.sizes[axis] < 2 or 0 in array.shape:
        raise InputError(
            f"There are {array.sizes[axis]} models at {array.sizes['point']} points.",
            "A variance needs two models, an average one point.",
            "Train more, with other seeds or on other splits (inference.Replicates).",
        )
    if np.isnan(array.values).any():
        raise InputError(
            "Predictions are NaN.", "An average would hide it.", "Check for overflow, or leave those models out."
        )
    return array


def check_targets(array: xr.DataArray, y: np.ndarray, loss: Loss, axis: str, last: str) -> None:
    """Raise `InputError` unless `y` are targets of these predictions.

    Args:
        array: the predictions, as `labelled` returns them.
        y: the targets, `[point]` or `[point, output]`.
        loss: the loss between predictions and targets.
        axis: name of the dim of models.
        last: name of the dim of classes or outputs.
    """
    points = array.sizes["point"]
    if loss == "mse":
        wanted = (points, array.sizes[last]) if last in array.dims else (points,)
        if y.shape != wanted or y.dtype.kind not in "fiu" or not np.isfinite(y).all():
            raise InputError(
                f"The targets are {y.dtype} {y.shape}, one model's predictions {wanted}.",
                "Squared error is between finite numbers of the same shape.",
                'Give one target for each prediction; for classes use loss="cross_entropy".',
            )
        return
    if last not in array.dims:
        raise InputError(
            "Predictions have no dim of classes.", "Cross-entropy needs probabilities.", f"Give [{axis}, point, class]."
        )
    if y.dtype.kind not in "iu" or y.shape != (points,):
        raise InputError(
            f"Targets are {y.dtype} {y.shape}.", "Cross-entropy needs a class for each point.", "Give whole numbers [point]."
        )
    if y.min() < 0 or y.max() >= array.sizes[last]:
        raise InputError(
            f"Targets are from {y.min()} to {y.max()}.",
            f"There are {array.sizes[last]} classes, from 0 on.",
            "Check the labels.",
        )


def log_probabilities(chunk: np.ndarray, logs: bool) -> np.ndarray:
    """Return log probabilities `[..., class]`.

    Args:
        chunk: probabilities or log probabilities, `[..., class]`.
        logs: whether `chunk` holds log probabilities.

    Raises:
        InputError: negative probabilities, or ones that do not sum to 1.
    """
    p = np.exp(chunk) if logs else chunk
    if not logs and (chunk < 0).any():
        raise InputError(
            "Predictions are negative.", "Probabilities are not negative.", "Apply softmax, or give log_predictions=."
        )
    off = float(np.abs(p.sum(-1, dtype=np.float64) - 1).max())
    if not off <= TOLERANCE:
        raise InputError(
            f"Predictions sum to 1 only within {off:.2g}.",
            "The decomposition is of probabilities over the classes.",
            "Give a softmax as predictions=, a log-softmax as log_predictions=.",
        )
    if logs:
        return chunk
    with np.errstate(divide="ignore"):
        return np.log(chunk)
