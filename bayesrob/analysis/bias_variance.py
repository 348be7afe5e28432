"""Bias and variance of a set of models, for squared error and cross-entropy (Aboutalebi et al. 2020, section 3)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from bayesrob.analysis.intervals import LEVEL, check_level
from bayesrob.analysis.model_axis import Loss, check_given_once, check_targets, labelled, log_probabilities
from bayesrob.arguments import number, require, whole
from bayesrob.errors import check_name

__all__ = ["bias_variance"]

CHUNK = 2**21
"""How many numbers the largest temporary array has (16 MB), so that memory does not grow with the number of points."""

NAMES = ("bias", "variance", "loss")


class _Values(NamedTuple):
    """Bias, variance and loss, each `[point]` or `[resample, point]`."""

    bias: np.ndarray
    variance: np.ndarray
    loss: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What is computed of one set of models; the fields are the arguments of `bias_variance`, and `logs` says which."""

    loss: Loss
    estimator: str
    logs: bool
    num_resamples: int
    seed: int
    level: float


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
    """Split the expected loss of models f_1..f_T into a part that all of them share and a part by which they differ.

    Squared error (equation 1 of the paper): bias = (f - f_bar)^2, that is *squared* bias, variance = mean_t (f_t - f_bar)^2,
    and bias + variance + noise = loss. Several outputs are averaged. Cross-entropy: with pi_star the normalised geometric
    mean of the predictions, bias = KL(one-hot || pi_star) = -log pi_star_y, variance = mean_t KL(pi_star || pi_t)
    = -log sum_c exp(mean_t log pi_t,c), and bias + variance = loss, the mean cross-entropy.

    Args:
        predictions: probabilities `[model, point, class]`, or real predictions `[model, point]` or `[model, point,
            output]`: an array, or a DataArray with dims of these names in any order. Each value of any further dims has a
            decomposition of its own. Give these or `log_predictions`.
        targets: classes `[point]` (whole numbers), or real targets `[point]` or `[point, output]`.
        loss: "mse" or "cross_entropy".
        estimator: "plugin" divides the variance by T. "unbiased" (for squared error only) divides it by T - 1 and subtracts
            variance / T, the variance of the mean, from the bias, which may then be negative. For cross-entropy no unbiased
            estimator is known.
        noise_variance: None, the default, says that `targets` are observations, whose noise is part of the bias. A number
            says that `targets` are the true f without noise; it is the variance of the noise, and is added to `loss`.
        log_predictions: log probabilities instead of probabilities. Small ones keep their digits, and -inf is an exact zero.
        axis: name of the dim of models, which says what they are: "seed", "split", or posterior draws ("draw"; `variance`
            is then the epistemic spread). For an array the name only enters the result's attributes.
        num_resamples: number of bootstrap resamples, each of models and points; 0 computes no intervals. With 200 the ends
            of an interval have a standard error of about a tenth of its length.
        seed: seed of the resamples.
        level: coverage of the intervals.

    Returns:
        Dataset over `point` (and further dims):

        - `bias`, `variance` and `loss`.
        - `mean_bias`, `mean_variance` and `mean_loss`, averaged over points, with `<name>_interval` (over `bound`): basic
          bootstrap intervals (Davison & Hinkley 1997, section 5.2) for new models and new points. With as few as five
          models they are too short.
        - `noise`, for squared error.
        - `infinite_losses`, for cross-entropy: the number of pairs of model and point whose true class has probability
          exactly 0 (their loss, and the mean, is infinite).
        - `undefined`, for cross-entropy: the number of points at which every class has probability 0 under some model, so
          that no pi_star exists (the bias is NaN).

    Raises:
        InputError: fewer than two models, shapes that do not fit, NaN, probabilities that do not sum to 1, classes out of
            range, real targets for "cross_entropy", or settings that the loss does not have.

    Example:
        >>> import numpy as np
        >>> split = br.analysis.bias_variance(np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([0.0, 0.0]))
        >>> split["bias"].values.tolist(), split["variance"].values.tolist(), split["loss"].values.tolist()
        ([4.0, 4.0], [1.0, 0.0], [5.0, 4.0])
    """
    check_name("loss", loss, ["mse", "cross_entropy"])
    check_name("estimator", estimator, ["plugin", "unbiased"])
    check_given_once(predictions, log_predictions)
    _check_loss(loss, estimator, noise_variance, log_predictions is not None)
    num_resamples = whole("num_resamples", num_resamples, "It counts bootstrap resamples.", least=0)
    check_level(level)
    values = predictions if log_predictions is None else log_predictions
    last = "class" if loss == "cross_entropy" else "output"
    array = labelled(values, axis, last)
    y = np.asarray(targets)
    check_targets(array, y, loss, axis, last)
    others = [dim for dim in array.dims if dim not in (axis, "point", last)]
    order = (axis, "point", *([last] if last in array.dims else []))
    settings = _Settings(loss, estimator, log_predictions is not None, num_resamples, seed, level)

    def one(part: xr.DataArray) -> xr.Dataset:
        return _decomposed(part.transpose(*order).values, y, settings)

    split = _over(array, [str(dim) for dim in others], one)
    if loss == "mse":
        noise = 0.0 if noise_variance is None else float(noise_variance)
        for name in [name for name in split if str(name).endswith(("loss", "loss_interval"))]:
            split[name] = split[name] + noise
        split["noise"] = noise
    if "point" in array.coords:
        split = split.assign_coords(point=array["point"])
    split.attrs = {"axis": axis, "num_models": array.sizes[axis], "loss": loss, "estimator": estimator, "level": level}
    return split


def _decomposed(values: np.ndarray, y: np.ndarray, settings: _Settings) -> xr.Dataset:
    """Return the decomposition of one set of models `[model, point, ...]`, computed for several points at a time."""
    count, points = values.shape[:2]
    random, num_resamples = np.random.default_rng([settings.seed, count, points]), settings.num_resamples
    model_counts = random.multinomial(count, np.full(count, 1 / count), size=num_resamples)
    point_counts = random.multinomial(points, np.full(points, 1 / points), size=num_resamples)
    is_cross_entropy = settings.loss == "cross_entropy"
    split = _cross_entropy if is_cross_entropy else _squared_error
    corrected = count / (count - 1) if settings.estimator == "unbiased" else 1.0
    width = max(1, math.prod(values.shape[2:]))
    own: list[_Values] = []
    resampled = np.zeros((3, num_resamples))
    infinite = undefined = 0
    for part in _parts(points, max(count, num_resamples) * width):
        chunk, labels = values[:, part], y[part]
        if is_cross_entropy:
            chunk = log_probabilities(chunk, settings.logs)
            picked = np.take_along_axis(chunk, labels[None, :, None], 2)
            infinite += int((picked == -np.inf).sum())
            undefined += int((chunk == -np.inf).any(0).all(1).sum())
        exact = split(chunk.astype(np.float64), labels, np.full((1, count), 1 / count))
        own.append(_Values(*(rows[0] for rows in exact)))
        if num_resamples:
            # float32 halves memory and time, and its rounding is far below the standard error of an interval's ends.
            chunk = chunk.astype(np.float32) if is_cross_entropy else chunk
            rows = _corrected(split(chunk, labels, model_counts / count), corrected, count)
            weights = point_counts[:, part] / points
            with np.errstate(invalid="ignore"):
                resampled += [np.where(weights > 0, weights * values, 0.0).sum(1) for values in rows]
    plugin = _Values(*(np.concatenate(column) for column in zip(*own, strict=True)))
    estimate = _corrected(plugin, corrected, count)
    variables: dict[str, Any] = {}
    for name, value, mean, draws in zip(NAMES, estimate, (v.mean() for v in plugin), resampled, strict=True):
        variables[name] = ("point", value)
        variables[f"mean_{name}"] = value.mean()
        if num_resamples:
            variables[f"mean_{name}_interval"] = ("bound", _basic(float(value.mean()), float(mean), draws, settings.level))
    if is_cross_entropy:
        variables |= {"infinite_losses": infinite, "undefined": undefined}
    return xr.Dataset(variables, coords={"bound": ["lower", "upper"]} if num_resamples else {})


def _squared_error(values: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Values:
    """Return `[resample, point]` for models `[model, point, ...]` that are weighted by each row of `weights`."""
    count, points = values.shape[:2]
    error = (values - y).reshape(count, points, -1).astype(np.float64)
    centre = error.mean(0)
    spread = (error - centre).reshape(count, -1)  # about the mean, because squares of the raw values would cancel
    shift = weights @ spread
    square = (centre.reshape(-1) + shift) ** 2
    variance = weights @ spread**2 - shift**2
    bias, variance = (rows.reshape(len(weights), points, -1).mean(-1) for rows in (square, variance.clip(0)))
    return _Values(bias, variance, bias + variance)


def _cross_entropy(log_p: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Values:
    """Return `[resample, point]` for log probabilities `[model, point, class]`, as `_squared_error` does.

    Classes stand before points in memory, because a maximum or a sum over ten neighbours would take as long as the
    exponential.
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
    """Return the unbiased estimator (`factor` is T / (T - 1)) given the plug-in estimator; the sum does not change."""
    if factor == 1:
        return values
    variance = values.variance * factor
    return _Values(values.bias - variance / count, variance, values.loss)


def _basic(estimate: float, plugin: float, draws: np.ndarray, level: float) -> np.ndarray:
    """Return the estimate minus the quantiles of the resamples' deviations from `plugin`, the value that they estimate."""
    if not np.isfinite([estimate, plugin, *draws]).all():
        return np.array([np.nan, np.nan])
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return np.array([estimate - (high - plugin), estimate - (low - plugin)])


def _check_loss(loss: Loss, estimator: str, noise: float | None, logs: bool) -> None:
    """Raise `InputError` for settings that the loss does not have."""
    number("noise_variance", noise, "It is a variance.", least=0, or_none=True)
    if loss == "mse":
        require(
            not logs, "log_predictions with squared error.", "Real predictions have no logarithms.", "Give predictions=."
        )
        return
    none = "Cross-entropy has no unbiased estimator."
    require(estimator == "plugin", none, "No such estimator is known.", 'Use estimator="plugin".')
    require(noise is None, "Cross-entropy has no noise_variance.", "Its targets are classes.", "Leave it out.")


def _parts(points: int, numbers: int) -> Iterator[slice]:
    """Return slices of points such that temporary arrays with `numbers` values for each point stay below `CHUNK`."""
    step = max(1, CHUNK // numbers)
    return (slice(start, start + step) for start in range(0, points, step))


def _over(array: xr.DataArray, dims: list[str], one: Any) -> xr.Dataset:
    """Apply `one` to each slice along `dims`, and concatenate the results."""
    if not dims:
        return one(array)
    head, *rest = dims
    parts = [_over(array.isel({head: i}), rest, one) for i in range(array.sizes[head])]
    index = array[head] if head in array.coords else xr.DataArray(np.arange(array.sizes[head]), dims=head, name=head)
    return xr.concat(parts, index)
