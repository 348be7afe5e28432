"""The input gradients of one Predictive, averaged over more and more of its draws."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import progress
from bayesrob._version import __version__
from bayesrob.analysis import checked_prefixes, component_quantiles, gradient_statistics
from bayesrob.arguments import whole
from bayesrob.data import Dataset
from bayesrob.errors import InputError, check_name
from bayesrob.evaluation.datatree import record
from bayesrob.evaluation.points import check_arguments, chosen_points
from bayesrob.numerics import CACHE_BYTES, MEMORY_BYTES, slices
from bayesrob.predictive import FreshDraws, HeldDraws, Predictive
from bayesrob.types import Batch, Labels

__all__ = ["evaluate_gradients"]

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
ARTEFACT = "double_softmax_per_draw"
"""The loss of Carbone et al. 2020's code, which applies softmax twice."""


def evaluate_gradients(
    predictive: Predictive,
    dataset: Dataset,
    num_points: int | None = 1000,
    num_draws: Sequence[int] | None = None,
    precisions: Sequence[str] = ("float32", "float64"),
    *,
    num_images: int = 10,
    seed: int = 0,
) -> xr.DataTree:
    """Return averaged input gradients at test points against the number of draws (Carbone et al. 2020, figures 2 and 3).

    Args:
        predictive: held draws, of which prefixes are taken, or fresh ones, drawn once from `seed`.
        dataset: its test points are used.
        num_points: how many, a subset drawn from `seed` (1,000 as in the paper); None: all.
        num_draws: prefixes of the same draws, increasing; None: those of 1, 10, 50, 100, 250, 500 that can be had.
        precisions: "float32", "float64" or both: a gradient that is exactly zero in the first and not in the second was
            rounded away.
        num_images: points whose whole averaged gradients are returned, for pictures.
        seed: fixes points and draws.

    Returns:
        DataTree with the groups `statistics` (`analysis.gradient_statistics` over `precision`, `objective`, `num_draws`,
        `point`; `double_softmax_per_draw` is the reference code's loss, softmax applied twice, where there are classes),
        `components` (quantiles over all components of all points) and `images` (inputs, labels and averaged gradients of
        the first points, over `component`).

    Raises:
        InputError: prefixes that cannot be had, points that do not fit: before any work.

    Example:
        >>> tree = br.evaluation.evaluate_gradients(post, ds, 5, [1, 3], ["float32"])
        >>> tree["statistics"]["num_draws"].values.tolist()
        [1, 3]
    """
    check_arguments("evaluate_gradients", predictive, dataset)
    whole("num_images", num_images, least=0)
    drawn_fresh = isinstance(predictive, FreshDraws)
    prefixes = checked_prefixes(num_draws, math.inf if drawn_fresh else predictive.num_draws)
    precisions = _checked_precisions(precisions)
    index, x, y = chosen_points(dataset, num_points, seed)
    predictive.check_inputs(x)
    predictive.check_labels(x, y)
    held = predictive.freeze(max(prefixes), seed=seed)
    # Many points at once for the products' sake; their gradients under all draws must fit the memory.
    batches = list(slices(len(x), max(1, MEMORY_BYTES // (max(prefixes) * x[0].numel() * x.element_size()))))
    statistics, components, images = [], [], []
    with progress.bar("gradients", len(precisions) * len(batches)) as advance:
        for precision in precisions:
            dtype = PRECISIONS[precision]
            same = all(p.dtype == dtype for p in held.parameters())
            typed = held if same else copy.deepcopy(held).to(dtype)
            parts = []
            for part in batches:
                parts.append(_statistics(typed, x[part].to(dtype), y[part], prefixes, _chains(predictive)))
                advance(1, note=precision)
            whole_set = xr.concat(parts, "point").assign_coords(point=index.numpy())
            components.append(component_quantiles(whole_set["gradient"]))
            images.append(whole_set["gradient"].isel(point=slice(num_images)).astype(np.float64))
            statistics.append(whole_set.drop_vars("gradient"))
    along = xr.DataArray(precisions, dims="precision", name="precision")
    groups = {
        "statistics": xr.concat(statistics, along),
        "components": xr.Dataset({"gradient": xr.concat(components, along)}),
        "images": _images(xr.concat(images, along), x[:num_images], y[:num_images]),  # pyright: ignore[reportArgumentType]
    }
    tree = xr.DataTree.from_dict(groups)
    settings = {"num_points": len(x), "num_draws": prefixes, "precisions": precisions, "seed": int(seed)}
    tree.attrs.update(record(predictive), evaluation=json.dumps({**settings, "bayesrob": __version__}))
    return tree


def _checked_precisions(precisions: Sequence[str]) -> list[str]:
    """`precisions` by name, each once."""
    names = [precisions] if isinstance(precisions, str) else precisions
    checked = list(dict.fromkeys(check_name("precision", name, PRECISIONS) for name in names))
    if not checked:
        raise InputError("precisions is empty.", "Gradients are taken in one at least.", 'Give e.g. ("float32",).')
    return checked


def _images(gradients: xr.DataArray, x: Batch, y: Labels) -> xr.Dataset:
    """The group `images`: inputs and labels beside their gradients."""
    axes = tuple(f"axis_{i}" for i in range(x.ndim - 1))
    return xr.Dataset(
        {
            "gradient": gradients,
            "input": (("point", *axes), x.cpu().numpy()),
            "label": (("point", "output")[: y.ndim], y.cpu().numpy()),
        }
    )


def _chains(predictive: Predictive) -> int | None:
    """The number of Markov chains that the draws come from; None if they do not."""
    return predictive.num_chains if isinstance(predictive, HeldDraws) and predictive.sample_stats else None


def _statistics(held: Predictive, x: Batch, y: Labels, prefixes: list[int], chains: int | None) -> xr.Dataset:
    """Statistics of every objective, `[objective, num_draws, point]`, in a classifier those of the artefact too."""
    losses, gradients = held.draw_gradients(x, y)
    statistics = _by_point(gradients, -losses, prefixes, chains)
    if y.is_floating_point():
        return statistics
    artefact = _by_point(held.draw_gradients(x, y, ARTEFACT)[1], None, prefixes, chains)
    return xr.concat([statistics, artefact.assign_coords(objective=[ARTEFACT])], "objective")


def _by_point(gradients: Tensor, log_likelihood: Tensor | None, prefixes: list[int], chains: int | None) -> xr.Dataset:
    """The statistics of all points, computed a few points at a time: numpy makes float64 copies of what it averages."""
    g = gradients.cpu().numpy()
    log_p = None if log_likelihood is None else log_likelihood.cpu().numpy()
    parts = [
        gradient_statistics(g[:, part], None if log_p is None else log_p[:, part], prefixes, chains)
        for part in slices(g.shape[1], max(1, CACHE_BYTES // (g[:, 0].size * 8)))
    ]
    return xr.concat(parts, "point")
