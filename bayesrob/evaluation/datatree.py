"""A Predictive as the groups that ArviZ reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob._version import __version__
from bayesrob.arguments import whole
from bayesrob.data import Dataset
from bayesrob.evaluation.points import check_arguments
from bayesrob.numerics import choose, slices
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.types import Batch, Labels

__all__ = ["by_chain", "log_likelihood", "record", "sample_stats", "to_datatree"]


def to_datatree(
    predictive: Predictive, dataset: Dataset, num_points: int | None = None, weights: bool = True, seed: int = 0
) -> xr.DataTree:
    """ArviZ groups: posterior, sample_stats (if the sampler left any), log_likelihood, observed_data.

    Args:
        predictive: the posterior predictive; of a predictive drawn fresh, `num_draws` draws are taken as one chain.
        dataset: its training points are the observed data.
        num_points: how many of them, from the first; None: all.
        weights: False leaves the posterior group out: the weights of wide networks take gigabytes.
        seed: fixes the draws of a predictive drawn fresh.

    Returns:
        DataTree with dims `chain`, `draw`, `point` and, for the weights, `<parameter>_dim_<i>`.

    Example:
        >>> tree = br.to_datatree(post, ds, num_points=10)
        >>> tree["log_likelihood"]["obs"].dims
        ('chain', 'draw', 'point')
    """
    check_arguments("to_datatree", predictive, dataset)
    whole("num_points", num_points, or_none=True)
    held = predictive.freeze(seed=seed)
    x, y = dataset.x_train[:num_points], dataset.y_train[:num_points]
    groups: dict[str, xr.Dataset] = {}
    if weights and isinstance(held, HeldDraws):
        variables, coords = {}, _draw_coords(held)
        for name, tensor in held.weights.items():
            values = by_chain(held, tensor)
            dims = [f"{name}_dim_{i}" for i in range(values.ndim - 2)]
            coords |= {dim: np.arange(size) for dim, size in zip(dims, values.shape[2:], strict=True)}
            variables[name] = (("chain", "draw", *dims), values)
        groups["posterior"] = xr.Dataset(variables, coords=coords)
    stats = sample_stats(held)
    if stats is not None:
        groups["sample_stats"] = stats
    groups["log_likelihood"] = xr.Dataset({"obs": log_likelihood(held, x, y)})
    dims = ("point",) if y.ndim == 1 else ("point", "output")
    groups["observed_data"] = xr.Dataset({"obs": (dims, y.numpy())}, coords={"point": np.arange(len(y))})
    tree = xr.DataTree.from_dict(groups)  # pyright: ignore[reportArgumentType]
    tree.attrs.update(record(predictive), inference_library="bayesrob", inference_library_version=__version__)
    return tree


def log_likelihood(held: Predictive, x: Batch, y: Labels, batch_size: int = 1000) -> xr.DataArray:
    """Return log p(y_n | x_n, w_d) of every held draw and every point, `[chain, draw, point]`."""
    with torch.no_grad():
        parts = [held.likelihood.log_prob(held.logits(x[part]), y[part]).cpu() for part in slices(len(x), batch_size)]
    values = by_chain(held, torch.cat(parts, dim=1))
    return xr.DataArray(values, dims=("chain", "draw", "point"), coords={**_draw_coords(held), "point": np.arange(len(x))})


def sample_stats(held: Predictive) -> xr.Dataset | None:
    """Return the sampler's record `[chain, draw]`, or None if there is none."""
    stats = getattr(held, "sample_stats", {})
    if not stats:
        return None
    return xr.Dataset({name: (("chain", "draw"), values) for name, values in stats.items()}, coords=_draw_coords(held))


def by_chain(held: Predictive, draws: Tensor) -> np.ndarray:
    """Return `draws`, `[chain * draw, ...]` interleaved as the predictive holds them, as `[chain, draw, ...]`."""
    chains = getattr(held, "num_chains", 1)
    return draws.detach().cpu().reshape(-1, chains, *draws.shape[1:]).transpose(0, 1).numpy()


def record(predictive: Predictive) -> dict[str, Any]:
    """Return attributes of a file, as JSON: where the draws come from, and which matrix products the results took."""
    draws = {**predictive.info, "num_draws": predictive.num_draws, "kind": predictive.kind}
    return {"predictive": json.dumps(draws), "numerics": json.dumps(choose(predictive.net).record())}


def _draw_coords(held: Predictive) -> dict[str, np.ndarray]:
    chains = getattr(held, "num_chains", 1)
    return {"chain": np.arange(chains), "draw": np.arange(held.num_draws // chains)}
