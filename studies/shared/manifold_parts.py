"""Input gradients by part of the data manifold: along it, across it to the other class, and off the support."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

import bayesrob as br
from bayesrob.analysis import manifold_statistics, mean_cosine
from bayesrob.predictive import HeldDraws, Predictive

__all__ = ["PARTS", "averages", "bases", "cosines", "gradients", "left", "mirrored", "rms"]

PARTS = ("tangent", "across", "off")
"""Along the manifold; normal, from class to class; normal, along components that are 0 at every point."""


def bases(dataset: br.Dataset) -> dict[str, np.ndarray]:
    """Orthonormal vectors of each part at the test points, `[point, vector, component]`; the first normal one is across."""
    x = dataset.x_test.double()
    normal, tangent = dataset.normal_basis(x).numpy(), dataset.tangent_basis(x).numpy()
    parts = {"tangent": tangent, "across": normal[:, :1], "off": normal[:, 1:]}
    return {name: basis for name, basis in parts.items() if basis.shape[1]}


def gradients(post: Predictive, dataset: br.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Losses `[draw, point]` and their gradients `[draw, point, component]`, in float64."""
    losses, gradients = copy.deepcopy(post).double().draw_gradients(dataset.x_test.double(), dataset.y_test)
    return losses.numpy(), gradients.numpy()


def mirrored(post: Predictive, extra: int) -> HeldDraws:
    """Each draw followed by its mirror image: weights of the extra inputs negated, which no data point sees.

    Prior and likelihood are the same, so the exact posterior holds both alike.
    """
    assert isinstance(post, HeldDraws)
    first = next(iter(post.weights))  # the first layer's weights, [draw, unit, input]
    sign = torch.ones(post.weights[first].shape[-1])
    sign[-extra:] = -1
    weights = {
        name: torch.stack([values, values * sign if name == first else values], 1).flatten(0, 1)
        for name, values in post.weights.items()
    }
    common: dict[str, Any] = {"input_shape": post.input_shape, "out_features": post.out_features}
    return HeldDraws(post.net, weights, likelihood=post.likelihood, **common)


def averages(post: Predictive, dataset: br.Dataset, prefixes: Sequence[int]) -> xr.Dataset:
    """`analysis.manifold_statistics` of each part along `part`; its "normal" is what lies in the basis that it is given."""
    losses, g = gradients(post, dataset)
    chains = post.num_chains if isinstance(post, HeldDraws) and post.sample_stats else None
    counts = sorted({*(n for n in prefixes if n <= len(g)), len(g)})
    axes = bases(dataset)
    by_part = [
        manifold_statistics(g, normal=basis, log_likelihood=-losses, num_draws=counts, num_chains=chains)
        .sel(part="normal", drop=True)
        .drop_vars("gradient")
        for basis in axes.values()
    ]
    return xr.concat(by_part, xr.Variable("part", list(axes)))


def cosines(averaged: xr.Dataset, part: str, objective: str = "expected_loss") -> tuple[float, float, float]:
    """The cosine between averages of independent batches of draws for one part, with its interval."""
    return mean_cosine(averaged["cosine"].sel(part=part, objective=objective).isel(num_draws=-1))


def left(averaged: xr.Dataset, part: str, objective: str = "expected_loss") -> float:
    """Averaged over single gradients, beyond the Monte Carlo error, as root mean squares over points."""
    at = averaged.sel(part=part, objective=objective).isel(num_draws=-1)
    excess = float((at["norm"] ** 2 - at["standard_error"] ** 2).mean())
    return np.sqrt(max(excess, 0.0)) / rms(at["draw_norm"])


def rms(values: xr.DataArray) -> float:
    """The root mean square."""
    return float(np.sqrt((values**2).mean()))
