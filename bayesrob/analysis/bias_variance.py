"""Bias and variance of a set of models, for squared error and cross-entropy (seed paper 000, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL
from bayesrob.analysis.model_axis import Loss, check_targets, labelled, log_probabilities
from bayesrob.errors import InputError, check_name

__all__ = ["bias_variance"]

CHUNK = 2**21
"""Numbers in the largest temporary: 16 MB, so that memory does not grow with the number of points."""

NAMES = ("bias", "variance", "loss")


class _Values(NamedTuple):
    """`[point]` each, or `[resample, point]`."""

    bias: np.ndarray
    variance: np.ndarray
    loss: np.ndarray


def bias_variance(
    predictions: Any = None,
    targets: Any = None,
    loss: Loss = "mse",
    estimator: Literal["plugin", "unbiased"] = "plugin",
    noise_variance: float | None = None,
    *,
    log_predictions: Any = None,
    axis: str = "model",
    num_resamples: int = 200,
    seed: int = 0,
    level: float = LEVEL,
) -> xr.Dataset:
    """Split the expected loss of models f_1..f_T into what all of them share and in what they differ.

    Squared error (equation 1 of the paper): bias = (f - f_bar)^2, that is *squared* bias, variance = mean_t (f_t - f_bar)^2,
    and bias + variance + noise = loss. Several outputs are averaged. Cross-entropy: with pi_star the normalised geometric
    mean of the predictions, bias = KL(one-hot || pi_star) = -log pi_star_y, variance = mean_t KL(pi_star || pi_t)
    = -log sum_c exp(mean_t log pi_t,c), and bias + variance = loss, the mean cross-entropy.

    Args:
        predictions: probabilities `[model, point, class]`, or real predictions `[model, point]` or `[model, point,
            output]`; an array, or a DataArray with dims of these names in any order, and any further dims, over each of
            which the decomposition is made by itself. Give these or `log_predictions`.
        targets: classes `[point]` (whole numbers), or real targets `[point]` or `[point, output]`.
        loss: "mse" or "cross_entropy".
        estimator: "plugin" divides the variance by T; "unbiased", of squared error only, by T - 1, and takes the mean's
            own variance / T off the bias, which may then be negative. Of cross-entropy none is known without bias.
        noise_variance: None: `targets` are what was observed, and the bias holds their noise. A number: `targets` are the
            true f without noise, and `loss` has this variance of the noise added.
        log_predictions: log probabilities instead: small ones keep their digits, -inf is an exact zero.
        axis: what the models are: "seed", "split", or posterior draws ("draw": "variance" is then epistemic spread). The
            dim's name in a DataArray, a name in the result's attributes for an array.
        num_resamples: bootstrap resamples, of models and points together; 0: no intervals. 200 know an end to about a
            tenth of the interval's length.
        seed: of the resamples. level: coverage of the intervals.

    Returns:
        Dataset over `point` (and further dims): `bias`, `variance`, `loss`; averaged over points `mean_bias`,
        `mean_variance`, `mean_loss`, and `<name>_interval` (over `bound`), basic bootstrap intervals (Davison & Hinkley
        1997, section 5.2) for new models and new points; the bootstrap cannot see more than T models: with five it is too
        short. Squared error: `noise`. Cross-entropy: `infinite_losses`, the pairs of model and point whose true class has
        probability exactly 0 (their loss, and the mean, is infinite), and `undefined`, the points at which every class has
        probability 0 under some model, so that no pi_star exists (NaN bias).

    Raises:
        InputError: fewer than two models, shapes that do not fit, NaNs, probabilities that do not sum to 1, classes out of
            range, real targets for "cross_entropy", settings that the loss does not have.
    """
    check_name("loss", loss, ["mse", "cross_entropy"])
    check_name("estimator", estimator, ["plugin", "unbiased"])
    _check_settings(loss, estimator, noise_variance, predictions is None, log_predictions is None, num_resamples, level)
    values = predictions if log_predictions is None else log_predictions
    last = "class" if loss == "cross_entropy" else "output"
    array = labelled(values, axis, last)
    y = np.asarray(targets)
    check_targets(array, y, loss, axis, last)
    others = [dim for dim in array.dims if dim not in (axis, "point", last)]
    order = (axis, "point", *([last] if last in array.dims else []))
    settings = (loss, estimator, log_predictions is not None, num_resamples, seed, level)

    def one(part: xr.DataArray) -> xr.Dataset:
        return _decomposed(part.transpose(*order).values, y, *settings)

    found = _over(array, [str(dim) for dim in others], one)
    if loss == "mse":
        noise = 0.0 if noise_variance is None else float(noise_variance)
        for name in [name for name in found if str(name).endswith(("loss", "loss_interval"))]:
            found[name] = found[name] + noise
        found["noise"] = noise
    if "point" in array.coords:
        found = found.assign_coords(point=array["point"])
    found.attrs = {"axis": axis, "num_models": array.sizes[axis], "loss": loss, "estimator": estimator, "level": level}
    return found


def _decomposed(
    values: np.ndarray, y: np.ndarray, loss: Loss, estimator: str, logs: bool, num_resamples: int, seed: int, level: float
) -> xr.Dataset:
    """One set of models `[model, point, ...]`, a few points at a time."""
    count, points = values.shape[:2]
    random = np.random.default_rng([seed, count, points])
    model_counts = random.multinomial(count, np.full(count, 1 / count), size=num_resamples)
    point_counts = random.multinomial(points, np.full(points, 1 / points), size=num_resamples)
    split = _cross_entropy if loss == "cross_entropy" else _squared_error
    corrected = count / (count - 1) if estimator == "unbiased" else 1.0
    width = max(1, math.prod(values.shape[2:]))
    own: list[_Values] = []
    resampled = np.zeros((3, num_resamples))
    infinite = undefined = 0
    for part in _parts(points, max(count, num_resamples) * width):
        chunk, labels = values[:, part], y[part]
        if loss == "cross_entropy":
            chunk = log_probabilities(chunk, logs)
            picked = np.take_along_axis(chunk, labels[None, :, None], 2)
            infinite += int((picked == -np.inf).sum())
            undefined += int((chunk == -np.inf).any(0).all(1).sum())
        exact = split(chunk.astype(np.float64), labels, np.full((1, count), 1 / count))
        own.append(_Values(*(rows[0] for rows in exact)))
        if num_resamples:
            # Half the memory and time; an interval's ends are known to a tenth of its length.
            chunk = chunk.astype(np.float32) if loss == "cross_entropy" else chunk
            rows = _corrected(split(chunk, labels, model_counts / count), corrected, count)
            weights = point_counts[:, part] / points
            with np.errstate(invalid="ignore"):
                resampled += [np.where(weights > 0, weights * values, 0.0).sum(1) for values in rows]
    plugin = _Values(*(np.concatenate(column) for column in zip(*own, strict=True)))
    estimate = _corrected(plugin, corrected, count)
    found: dict[str, Any] = {}
    for name, value, mean, draws in zip(NAMES, estimate, (v.mean() for v in plugin), resampled, strict=True):
        found[name] = ("point", value)
        found[f"mean_{name}"] = value.mean()
        if num_resamples:
            found[f"mean_{name}_interval"] = ("bound", _basic(float(value.mean()), float(mean), draws, level))
    if loss == "cross_entropy":
        found |= {"infinite_losses": infinite, "undefined": undefined}
    return xr.Dataset(found, coords={"bound": ["lower", "upper"]} if num_resamples else {})


def _squared_error(values: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Values:
    """`[resample, point]`, of models `[model, point, ...]` weighted by rows of `weights`."""
    count, points = values.shape[:2]
    error = (values - y).reshape(count, points, -1).astype(np.float64)
    centre = error.mean(0)
    spread = (error - centre).reshape(count, -1)  # about the mean: squares of the raw values would cancel
    shift = weights @ spread
    square = (centre.reshape(-1) + shift) ** 2
    variance = weights @ spread**2 - shift**2
    bias, variance = (rows.reshape(len(weights), points, -1).mean(-1) for rows in (square, variance.clip(0)))
    return _Values(bias, variance, bias + variance)


def _cross_entropy(log_p: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Values:
    """As `_squared_error`, of log probabilities `[model, point, class]`.

    Classes stand before points in memory: a maximum or a sum over ten neighbours would take as long as the exponential.
    """
    count, points, classes = log_p.shape
    weights = weights.astype(log_p.dtype)
    flat = log_p.transpose(0, 2, 1).reshape(count, -1)
    zero = flat == -np.inf
    some = bool(zero.any())
    mean = (weights @ (np.where(zero, 0, flat) if some else flat)).reshape(len(weights), classes, points)
    if some:
        mean[(weights @ zero.astype(log_p.dtype)).reshape(mean.shape) > 0] = -np.inf
    loss = -np.take_along_axis(mean, y[None, None], 1)[:, 0]
    top = mean.max(1, keepdims=True)
    np.subtract(mean, np.where(top == -np.inf, 0, top), out=mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = -(np.log(np.exp(mean, out=mean).sum(1)) + top[:, 0])
        bias = np.where(variance == np.inf, np.nan, loss - variance)
    return _Values(*(rows.astype(np.float64) for rows in (bias, variance, loss)))


def _corrected(values: _Values, factor: float, count: int) -> _Values:
    """The unbiased estimator (`factor` T / (T - 1)) from the plug-in's; their sum stays."""
    if factor == 1:
        return values
    variance = values.variance * factor
    return _Values(values.bias - variance / count, variance, values.loss)


def _basic(estimate: float, plugin: float, draws: np.ndarray, level: float) -> np.ndarray:
    """The estimate less the resamples' deviations from what they estimate: the value of the given models and points."""
    if not np.isfinite([estimate, plugin, *draws]).all():
        return np.array([np.nan, np.nan])
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return np.array([estimate - (high - plugin), estimate - (low - plugin)])


def _check_settings(
    loss: Loss, estimator: str, noise: float | None, no_p: bool, no_log_p: bool, num_resamples: int, level: float
) -> None:
    if no_p == no_log_p:
        raise InputError("Predictions are needed once.", "They say the same.", "Give predictions= or log_predictions=.")
    if loss == "cross_entropy" and estimator == "unbiased":
        raise InputError("Cross-entropy has no unbiased estimator.", "None is known.", 'Take estimator="plugin".')
    if loss == "cross_entropy" and noise is not None:
        raise InputError("Cross-entropy has no noise_variance.", "Its targets are classes.", "Leave it out.")
    if loss == "mse" and not no_log_p:
        raise InputError("log_predictions with squared error.", "Real predictions have no logs.", "Give predictions=.")
    if noise is not None and not 0 <= noise < math.inf:
        raise InputError(f"noise_variance is {noise!r}.", "It is a variance.", "Give a finite number >= 0.")
    if isinstance(num_resamples, bool) or not isinstance(num_resamples, int) or num_resamples < 0:
        raise InputError(f"num_resamples is {num_resamples!r}.", "It counts.", "Give a whole number >= 0.")
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "It is the probability that an interval covers.", "Give e.g. 0.95.")


def _parts(points: int, numbers: int) -> Iterator[slice]:
    """Slices of points whose largest temporary, of so many numbers a point, stays in bounds."""
    step = max(1, CHUNK // numbers)
    return (slice(start, start + step) for start in range(0, points, step))


def _over(array: xr.DataArray, dims: list[str], one: Any) -> xr.Dataset:
    """`one` of each slice along `dims`, put together again."""
    if not dims:
        return one(array)
    head, *rest = dims
    parts = [_over(array.isel({head: i}), rest, one) for i in range(array.sizes[head])]
    index = array[head] if head in array.coords else xr.DataArray(np.arange(array.sizes[head]), dims=head, name=head)
    return xr.concat(parts, index)
