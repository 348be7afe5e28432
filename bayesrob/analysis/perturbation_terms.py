"""What the first order says of bias and variance at perturbed inputs (seed paper 000, theorems 2 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis.model_axis import Loss, check_targets, labelled, log_probabilities
from bayesrob.errors import InputError, check_name

__all__ = ["perturbation_terms"]


def perturbation_terms(
    predictions: Any = None,
    targets: Any = None,
    slopes: Any = None,
    loss: Loss = "mse",
    eps: Sequence[float] = (1.0,),
    *,
    log_predictions: Any = None,
    axis: str = "model",
) -> xr.Dataset:
    """Bias and variance at x + eps * beta as theorems 2 and 3 predict them from values and slopes at x.

    Squared error (theorem 2): with c = grad f_bar . beta, bias(eps) = (f - f_bar - eps c)^2, and with
    c'_t = 2 (f_t - f_bar)(grad f_t - grad f_bar) . beta, variance(eps) = variance + eps mean_t c'_t. The true f is taken to
    stay where it is. Cross-entropy (theorem 3): bias(eps) = bias + eps c with c = -grad log pi_star_y . beta, and
    variance(eps) = variance + eps mean_t c'_t, c'_t = -sum_c grad(pi_star_c log(pi_t,c / pi_star_c)) . beta; each model's
    loss changes by `loss_slope` = -grad log pi_t,y . beta (theorem 4). What is left out is of the order of eps^2: compare
    with `bias_variance` of the predictions at x + eps * beta.

    Args:
        predictions: at x, `[model, point, class]`, or `[model, point]` or `[model, point, output]`, as `bias_variance`
            takes them, without further dims. targets: likewise.
        slopes: of the same shape, derivatives along beta: grad f_t . beta of squared error, grad log pi_t,c . beta of
            cross-entropy (`evaluation.slopes` gives both).
        loss: "mse" or "cross_entropy". eps: multiples of beta. log_predictions: log probabilities instead.
        axis: what the models are.

    Returns:
        Dataset: `c` `[point]` (squared error with several outputs: `[point, output]`), `c_prime` `[model, point]`,
        `loss_slope` `[model, point]` (cross-entropy), `bias` and `variance` `[eps, point]`, `mean_bias` and
        `mean_variance` `[eps]`.

    Raises:
        InputError: as `bias_variance`; slopes of another shape or not finite; probabilities that are exactly 0.
    """
    check_name("loss", loss, ["mse", "cross_entropy"])
    if (predictions is None) == (log_predictions is None):
        raise InputError("Predictions are needed once.", "They say the same.", "Give predictions= or log_predictions=.")
    last = "class" if loss == "cross_entropy" else "output"
    array = labelled(predictions if log_predictions is None else log_predictions, axis, last)
    dims = (axis, "point", *([last] if last in array.dims else []))
    if set(array.dims) != set(dims):
        raise InputError(f"Predictions have the dims {array.dims}.", "Terms are of one set of models.", f"Give {dims}.")
    y = np.asarray(targets)
    check_targets(array, y, loss, axis, last)
    along = slopes.transpose(*dims).values if isinstance(slopes, xr.DataArray) else np.asarray(slopes)
    if along.shape != array.transpose(*dims).shape or not np.isfinite(along).all():
        raise InputError(
            f"Slopes of shape {along.shape}.", f"They must be finite, {dims} as the predictions.", "See evaluation.slopes."
        )
    values, along = array.transpose(*dims).values.astype(np.float64), along.astype(np.float64)
    scales = np.asarray(eps, dtype=np.float64).reshape(-1)
    if loss == "mse":
        found = _squared_error(values, y, along, scales, axis)
    else:
        logs = log_probabilities(values, log_predictions is not None)
        if not np.isfinite(logs).all():
            raise InputError(
                "Some probabilities are exactly 0.", "Their logs have no slope.", "Give log_predictions= of more precision."
            )
        found = _cross_entropy(logs, y, along, scales, axis)
    for name in ("bias", "variance"):
        found[f"mean_{name}"] = found[name].mean("point")
    return found.assign_coords(eps=scales).assign_attrs(axis=axis, num_models=array.sizes[axis], loss=loss)


def _squared_error(f: np.ndarray, y: np.ndarray, slope: np.ndarray, scales: np.ndarray, axis: str) -> xr.Dataset:
    outputs = (1,) * (f.ndim - 2)
    mean, c = f.mean(0), slope.mean(0)
    bias = _over_outputs((y - mean - scales.reshape(-1, 1, *outputs) * c) ** 2)
    variance = _over_outputs((f - mean) ** 2).mean(0)
    c_prime = _over_outputs(2 * (f - mean) * (slope - c))
    return xr.Dataset(
        {
            "c": (("point", "output")[: c.ndim], c),
            "c_prime": ((axis, "point"), c_prime),
            "bias": (("eps", "point"), bias),
            "variance": (("eps", "point"), variance + scales[:, None] * c_prime.mean(0)),
        }
    )


def _over_outputs(values: np.ndarray) -> np.ndarray:
    """Mean over the outputs, if there are any: `[row, point]`."""
    return values.reshape(*values.shape[:2], -1).mean(-1)


def _cross_entropy(log_p: np.ndarray, y: np.ndarray, slope: np.ndarray, scales: np.ndarray, axis: str) -> xr.Dataset:
    mean = log_p.mean(0)
    top = mean.max(-1, keepdims=True)
    log_norm = top + np.log(np.exp(mean - top).sum(-1, keepdims=True))
    log_star = mean - log_norm
    star = np.exp(log_star)
    star_slope = slope.mean(0)
    star_slope = star_slope - (star * star_slope).sum(-1, keepdims=True)  # of log pi_star: the norm moves too

    def at(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, np.broadcast_to(y[:, None], (*values.shape[:-1], 1)), -1)[..., 0]

    c = -at(star_slope)
    c_prime = -(star * (star_slope * (log_p - log_star) + slope - star_slope)).sum(-1)
    return xr.Dataset(
        {
            "c": ("point", c),
            "c_prime": ((axis, "point"), c_prime),
            "loss_slope": ((axis, "point"), -at(slope)),
            "bias": (("eps", "point"), -at(log_star) + scales[:, None] * c),
            "variance": (("eps", "point"), -log_norm[..., 0] + scales[:, None] * c_prime.mean(0)),
        }
    )
