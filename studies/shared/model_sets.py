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
from bayesrob.predictive import Predictive, from_modules

__all__ = ["attacked", "cell", "curves", "outputs", "rows", "spread"]


def outputs(model: Predictive, x: Tensor) -> np.ndarray:
    """One model's, the average of its draws: log predictive `[point, class]` in float64, of a regression `[point, output]`.

    In float64, so that losses of networks that are sure of themselves do not stop at float32's smallest difference from 1.
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
        models: each with held draws. attack: makes the attack of a size.
        own: each model is attacked by itself, as by an adversary who knows it. Else one perturbation for all, made on the
            set: the theorems of the seed paper on bias and variance are about that.
        dim: what the sizes are called.
        scored: the models whose predictions are kept, where they are others than those attacked (other draws).

    Returns:
        Dataset: `predictions` `[model, dim, point, class or output]`, see `outputs`; `mse` `[dim]`, the mean squared
        difference from x; `moved` `[dim]`, the share of points that moved; `perturbed` `[dim, model, point, feature]`,
        with one perturbation for all `[dim, point, feature]`.
    """
    together, found, mse, moved, kept = from_modules(list(models)), [], [], [], []
    for size in sizes:
        victims = models if own else [together]
        inputs = [attack(size)(post, x, y, seed) for post in victims] if size else [x]
        each = inputs * (len(models) if len(inputs) == 1 else 1)
        found.append(np.stack([outputs(model, perturbed) for model, perturbed in zip(scored or models, each, strict=True)]))
        steps = torch.stack([perturbed - x for perturbed in inputs]).double().flatten(2)
        mse.append(float(steps.square().mean()))
        moved.append(float((steps != 0).any(-1).double().mean()))
        kept.append(torch.stack(each if own else inputs[:1]).flatten(2).numpy())
    last = "class" if models[0].likelihood.name == "categorical" else "output"
    result = xr.Dataset(
        {
            "predictions": ((dim, "model", "point", last), np.stack(found)),
            "mse": (dim, mse),
            "moved": (dim, moved),
        },
        coords={dim: list(sizes)},
    )
    every = xr.DataArray(np.stack(kept), dims=(dim, "model", "point", "feature"))
    return result.assign(perturbed=every if own else every.isel(model=0))


def curves(found: xr.Dataset, y: np.ndarray, seed: int = 0, **settings: Any) -> xr.Dataset:
    """Bias, variance and loss of what `attacked` found, averaged over points, with intervals; of classes also the error.

    Args:
        y: classes, or real targets `[point, output]`. settings: of `analysis.bias_variance`.

    Returns:
        Dataset over the size: `mean_bias`, `mean_variance`, `mean_loss` and their intervals; of classes `accuracy`, with an
        interval over models and points alike, and `accuracy_spread` and `loss_spread`, standard deviations over models of
        means over points (what the paper's figures 2 to 6 call variance); `mse`, `moved`.
    """
    values = found["predictions"]
    if "class" not in values.dims:
        split = bias_variance(values, y, "mse", seed=seed, **settings)
        return split.drop_dims("point").assign(found[["mse", "moved"]])
    split = bias_variance(log_predictions=values, targets=y, loss="cross_entropy", seed=seed, **settings)
    split = split.drop_dims("point").assign(found[["mse", "moved"]])
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
    """Variance across the draws of one model at its own attacked points, mean over models; one draw has none."""
    if models[0].num_draws < 2:
        return np.full(at.sizes["eps"], np.nan)
    found = np.zeros(at.sizes["eps"])
    for i, inputs in enumerate(at["perturbed"].transpose("eps", "model", ...).values):
        for model, perturbed in zip(models, torch.from_numpy(inputs), strict=True):
            with torch.no_grad():
                draws = model.logits(perturbed.view_as(x)).double().log_softmax(-1)
            split = bias_variance(
                log_predictions=draws.numpy(), targets=y.numpy(), loss="cross_entropy", axis="draw", num_resamples=0
            )
            found[i] += float(split["mean_variance"]) / len(models)
    return found


def cell(value: Any, interval: Any = None) -> str:
    """Three digits, whatever the order of magnitude, and the interval."""
    if interval is None:
        return f"{float(value):.3g}"
    low, high = (float(bound) for bound in interval)
    return f"{float(value):.3g} [{low:.3g}, {high:.3g}]"


def rows(of: Mapping[str, str], found: xr.Dataset, names: Sequence[str], dim: str = "eps") -> list[dict[str, str]]:
    """A line of a table for each size: `of`, the size, and the variables `names` with their intervals."""
    lines = []
    for size in found[dim].values.tolist():
        at = found.sel({dim: size})
        line = {**of, dim: f"{size:g}", "rms": f"{float(at['mse']) ** 0.5:.3g}"}
        for name in names:
            interval = at[f"{name}_interval"].values if f"{name}_interval" in at else None
            line[name.removeprefix("mean_").replace("_", " ")] = cell(at[name], interval)
        lines.append(line)
    return lines
