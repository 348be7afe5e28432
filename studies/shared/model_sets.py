"""Sets of models, trained apart, under attack: their predictions, bias and variance with intervals, rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob.analysis import bias_variance
from bayesrob.attacks import Attack
from bayesrob.predictive import Predictive, from_predictives

__all__ = ["attacked", "cell", "curves", "outputs", "rows", "spread"]


def outputs(model: Predictive, x: Tensor) -> np.ndarray:
    """The average of one model's draws at x, in float64: log predictive `[point, class]`, of a regression `[point, output]`.

    In float64 the losses of confident networks do not stop at float32's smallest difference from 1.
    """
    with torch.no_grad():
        draws = model.logits(x).double()
    if model.likelihood.name != "categorical":
        return draws.mean(0).numpy()
    return (draws.log_softmax(-1).logsumexp(0) - np.log(len(draws))).numpy()


def attacked(
    models: Sequence[Predictive],
    attack: Callable[[float], Attack],
    sizes: Sequence[float],
    x: Tensor,
    y: Tensor,
    *,
    own: bool,
    seed: int = 0,
    dim: str = "eps",
    scored: Sequence[Predictive] | None = None,
) -> xr.Dataset:
    """Predictions of every model at what the attack of each size makes of x; size 0 is x itself.

    Args:
        models: the models, each with held draws.
        attack: makes the attack of a size.
        sizes: sizes of the attack.
        x: the points `[point, *shape]`.
        y: their classes `[point]` or targets `[point, output]`.
        own: whether each model is attacked by itself, as by an adversary who knows it. Otherwise one perturbation is made
            on the whole set, which is what the theorems of Aboutalebi et al. 2020 are about.
        seed: fixes the attacks.
        dim: name of the dim of the sizes.
        scored: the models that predict, where they are others than those attacked (other draws).

    Returns:
        Dataset: `predictions` `[model, dim, point, class or output]`, see `outputs`; `mse` `[dim]`, the mean squared
        difference from x; `moved` `[dim]`, the share of points that moved; `perturbed` `[dim, model, point, feature]`,
        with one perturbation for all `[dim, point, feature]`.
    """
    ensemble, predictions, mse, moved, inputs_by_size = from_predictives(list(models)), [], [], [], []
    for size in sizes:
        victims = models if own else [ensemble]
        inputs = [attack(size)(post, x, y, seed) for post in victims] if size else [x]
        each = inputs * (len(models) if len(inputs) == 1 else 1)
        predictions.append(
            np.stack([outputs(model, perturbed) for model, perturbed in zip(scored or models, each, strict=True)])
        )
        steps = torch.stack([perturbed - x for perturbed in inputs]).double().flatten(2)
        mse.append(float(steps.square().mean()))
        moved.append(float((steps != 0).any(-1).double().mean()))
        inputs_by_size.append(torch.stack(each if own else inputs[:1]).flatten(2).numpy())
    last = "class" if models[0].likelihood.name == "categorical" else "output"
    result = xr.Dataset(
        {
            "predictions": ((dim, "model", "point", last), np.stack(predictions)),
            "mse": (dim, mse),
            "moved": (dim, moved),
        },
        coords={dim: list(sizes)},
    )
    every = xr.DataArray(np.stack(inputs_by_size), dims=(dim, "model", "point", "feature"))
    return result.assign(perturbed=every if own else every.isel(model=0))


def curves(predicted: xr.Dataset, y: np.ndarray, seed: int = 0, **settings: Any) -> xr.Dataset:
    """Bias, variance and loss of the predictions of `attacked`, means over points with intervals; of classes the error too.

    Args:
        predicted: what `attacked` returned.
        y: classes `[point]`, or real targets `[point, output]`.
        seed: fixes the bootstrap.
        **settings: further settings of `analysis.bias_variance`.

    Returns:
        Dataset over the size: `mean_bias`, `mean_variance`, `mean_loss` and their intervals; of classes `accuracy`, with an
        interval over models and points alike, and `accuracy_spread` and `loss_spread`, standard deviations over models of
        means over points (what the paper's figures 2 to 6 call variance); `mse`, `moved`.
    """
    values = predicted["predictions"]
    if "class" not in values.dims:
        split = bias_variance(values, y, "mse", seed=seed, **settings)
        return split.drop_dims("point").assign(predicted[["mse", "moved"]])
    split = bias_variance(log_predictions=values, targets=y, loss="cross_entropy", seed=seed, **settings)
    split = split.drop_dims("point").assign(predicted[["mse", "moved"]])
    right = (values.argmax("class") == xr.DataArray(y, dims="point")).astype(float)
    # Of zeros and ones the squared distance from one is the error, and its interval knows models and points.
    error = bias_variance(right, np.ones(len(y)), "mse", seed=seed)
    return split.assign(
        accuracy=1 - error["mean_loss"],
        accuracy_interval=1 - error["mean_loss_interval"].isel(bound=[1, 0]).assign_coords(bound=["lower", "upper"]),
        accuracy_spread=right.mean("point").std("model", ddof=1),
        loss_spread=(-values.sel({"class": xr.DataArray(y, dims="point")})).mean("point").std("model", ddof=1),
    )


def spread(models: Sequence[Predictive], at: xr.Dataset, x: Tensor, y: Tensor) -> np.ndarray:
    """The variance across the draws of one model at its own attacked points, mean over models; NaN for a single draw."""
    if models[0].num_draws < 2:
        return np.full(at.sizes["eps"], np.nan)
    variances = np.zeros(at.sizes["eps"])
    for i, inputs in enumerate(at["perturbed"].transpose("eps", "model", ...).values):
        for model, perturbed in zip(models, torch.from_numpy(inputs), strict=True):
            with torch.no_grad():
                draws = model.logits(perturbed.view_as(x)).double().log_softmax(-1)
            split = bias_variance(
                log_predictions=draws.numpy(), targets=y.numpy(), loss="cross_entropy", axis="draw", num_resamples=0
            )
            variances[i] += float(split["mean_variance"]) / len(models)
    return variances


def cell(value: Any, interval: Any = None) -> str:
    """A number with three digits, whatever its order of magnitude, and its interval."""
    if interval is None:
        return f"{float(value):.3g}"
    low, high = (float(bound) for bound in interval)
    return f"{float(value):.3g} [{low:.3g}, {high:.3g}]"


def rows(of: Mapping[str, str], split: xr.Dataset, names: Sequence[str], dim: str = "eps") -> list[dict[str, str]]:
    """A row for each size: the cells `of`, the size, and the variables `names` with their intervals."""
    lines = []
    for size in split[dim].values.tolist():
        at = split.sel({dim: size})
        line = {**of, dim: f"{size:g}", "rms": f"{float(at['mse']) ** 0.5:.3g}"}
        for name in names:
            interval = at[f"{name}_interval"].values if f"{name}_interval" in at else None
            line[name.removeprefix("mean_").replace("_", " ")] = cell(at[name], interval)
        lines.append(line)
    return lines
