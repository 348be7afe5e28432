"""Bias and variance at perturbed inputs to first order (Aboutalebi et al. 2020, theorems 2 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.analysis.model_axis import Loss, check_given_once, check_targets, labelled, log_probabilities
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
    """Predict bias and variance at x + eps * beta by theorems 2 and 3, from predictions and their slopes at x.

    Squared error (theorem 2): with c = grad f_bar . beta, bias(eps) = (f - f_bar - eps c)^2, and with
    c'_t = 2 (f_t - f_bar)(grad f_t - grad f_bar) . beta, variance(eps) = variance + eps mean_t c'_t. The true f is assumed
    not to change. Cross-entropy (theorem 3): bias(eps) = bias + eps c with c = -grad log pi_star_y . beta, and
    variance(eps) = variance + eps mean_t c'_t with c'_t = -sum_c grad(pi_star_c log(pi_t,c / pi_star_c)) . beta. The loss
    of each model changes by `loss_slope` = -grad log pi_t,y . beta (theorem 4). The error is of order eps^2; it can be
    measured by `bias_variance` of the predictions at x + eps * beta.

    Args:
        predictions: predictions at x, `[model, point, class]`, or `[model, point]` or `[model, point, output]`, as for
            `bias_variance`, without further dims. Give these or `log_predictions`.
        targets: classes or real targets, as for `bias_variance`.
        slopes: derivatives along beta, of the same shape as the predictions: grad f_t . beta for squared error,
            grad log pi_t,c . beta for cross-entropy. `evaluation.slopes` returns both.
        loss: "mse" or "cross_entropy".
        eps: multiples of beta at which bias and variance are predicted.
        log_predictions: log probabilities instead of probabilities.
        axis: name of the dim of models.

    Returns:
        Dataset: `c` `[point]` (squared error with several outputs: `[point, output]`), `c_prime` `[model, point]`,
        `loss_slope` `[model, point]` (cross-entropy), `bias` and `variance` `[eps, point]`, `mean_bias` and
        `mean_variance` `[eps]`.

    Raises:
        InputError: as for `bias_variance`; slopes of another shape or not finite; probabilities that are exactly 0.

    Example:
        >>> import numpy as np
        >>> values, slopes = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])
        >>> terms = br.analysis.perturbation_terms(values, np.array([0.0]), slopes, "mse", eps=[0.0, 1.0])
        >>> terms["mean_bias"].values.tolist(), terms["mean_variance"].values.tolist()
        ([1.0, 4.0], [1.0, 1.0])
    """
    check_name("loss", loss, ["mse", "cross_entropy"])
    check_given_once(predictions, log_predictions)
    last = "class" if loss == "cross_entropy" else "output"
    array = labelled(predictions if log_predictions is None else log_predictions, axis, last)
    dims = (axis, "point", *([last] if last in array.dims else []))
    if set(array.dims) != set(dims):
        raise InputError(f"Predictions have the dims {array.dims}.", "Only one set of models is possible.", f"Give {dims}.")
    y = np.asarray(targets)
    check_targets(array, y, loss, axis, last)
    along = slopes.transpose(*dims).values if isinstance(slopes, xr.DataArray) else np.asarray(slopes)
    if along.shape != array.transpose(*dims).shape or not np.isfinite(along).all():
        raise InputError(
            f"The slopes have shape {along.shape}.",
            f"They must be finite and of the shape {dims} of the predictions.",
            "Use evaluation.slopes.",
        )
    values, along = array.transpose(*dims).values.astype(np.float64), along.astype(np.float64)
    scales = np.asarray(eps, dtype=np.float64).reshape(-1)
    if loss == "mse":
        terms = _squared_error(values, y, along, scales, axis)
    else:
        logs = log_probabilities(values, log_predictions is not None)
        if not np.isfinite(logs).all():
            raise InputError(
                "Some probabilities are exactly 0.",
                "Their logarithms have no slope.",
                "Give log_predictions= in a higher precision.",
            )
        terms = _cross_entropy(logs, y, along, scales, axis)
    for name in ("bias", "variance"):
        terms[f"mean_{name}"] = terms[name].mean("point")
    return terms.assign_coords(eps=scales).assign_attrs(axis=axis, num_models=array.sizes[axis], loss=loss)


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
    """Return the mean over the outputs, if there are any: `[row, point]`."""
    return values.reshape(*values.shape[:2], -1).mean(-1)


def _cross_entropy(log_p: np.ndarray, y: np.ndarray, slope: np.ndarray, scales: np.ndarray, axis: str) -> xr.Dataset:
    mean = log_p.mean(0)
    top = mean.max(-1, keepdims=True)
    log_norm = top + np.log(np.exp(mean - top).sum(-1, keepdims=True))
    log_star = mean - log_norm
    star = np.exp(log_star)
    star_slope = slope.mean(0)
    star_slope = star_slope - (star * star_slope).sum(-1, keepdims=True)  # the normalisation of pi_star changes too

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
