"""What chains are judged by: their draws as functions, on fixed points, with a few of their weights beside."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesrob import rng
from bayesrob.analysis import chain_diagnostics
from bayesrob.evaluation.datatree import by_chain, log_likelihood, sample_stats
from bayesrob.numerics import slices
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.types import Batch, Labels

__all__ = ["chain_groups"]

GRADIENT_POINTS, DIRECTIONS, WEIGHTS = 20, 10, 200


def chain_groups(predictive: Predictive, x: Batch, y: Labels, index: Tensor, seed: int) -> dict[str, xr.Dataset]:
    """Groups `log_likelihood`, `input_gradients`, `posterior`, `diagnostics` of draws of chains; none of others.

    `sample_stats` is among them where the sampler left a record: what draws are as functions needs none.

    `input_gradients` holds each draw's loss gradient at the first 20 points, along the axes of inputs with at most ten
    components, along ten random unit directions of larger ones: every component has its part in them, where most
    single pixels of an image's border have none. `posterior` holds 200 weights, or all, drawn from `seed`.
    """
    if not isinstance(predictive, HeldDraws) or predictive.origin != "chain" or predictive.num_draws < 2:
        return {}
    if predictive.num_draws % predictive.num_chains:  # chains of several lengths would not make a table
        whole = predictive.num_draws - predictive.num_draws % predictive.num_chains
        return chain_groups(predictive[:whole], x, y, index, seed) if whole else {}
    stats = sample_stats(predictive)
    log_p = log_likelihood(predictive, x, y).assign_coords(point=index.numpy())
    chains = {"chain": log_p["chain"].values, "draw": log_p["draw"].values}
    directions = _directions(x[0].numel(), seed)
    along = []
    for part in slices(min(len(x), GRADIENT_POINTS), 5):
        gradients = predictive.draw_gradients(x[part], y[part])[1].flatten(2)
        along.append(gradients.cpu() @ directions.to(gradients.dtype))
    gradients = xr.DataArray(
        by_chain(predictive, torch.cat(along, dim=1)),
        dims=("chain", "draw", "point", "direction"),
        coords={**chains, "point": index[:GRADIENT_POINTS].numpy()},
    )
    where, values = _some_weights(predictive, seed)
    weights = xr.DataArray(values, dims=("chain", "draw", "weight"), coords={**chains, "weight": where})
    return {
        **({} if stats is None else {"sample_stats": stats}),
        "log_likelihood": xr.Dataset({"obs": log_p}),
        "input_gradients": xr.Dataset(
            {"gradient": gradients, "directions": (("component", "direction"), directions.numpy())}
        ),
        "posterior": xr.Dataset({"weights": weights}),
        "diagnostics": chain_diagnostics(log_p, stats, gradients, weights),
    }


def _directions(components: int, seed: int) -> Tensor:
    if components <= DIRECTIONS:
        return torch.eye(components, dtype=torch.float64)
    noise = torch.randn(components, DIRECTIONS, generator=rng.generator(seed, "evaluate", "directions"), dtype=torch.float64)
    return noise / noise.norm(dim=0)


def _some_weights(held: HeldDraws, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the flat weight vector, and values `[chain, draw, weight]`; no copy of the others is made."""
    sizes = [tensor[0].numel() for tensor in held.weights.values()]
    order = torch.randperm(sum(sizes), generator=rng.generator(seed, "evaluate", "weights"))
    where = order[:WEIGHTS].sort().values
    picked, start = [], 0
    for tensor, size in zip(held.weights.values(), sizes, strict=True):
        inside = where[(where >= start) & (where < start + size)] - start
        picked.append(tensor.flatten(1)[:, inside.to(tensor.device)].cpu())
        start += size
    return where.numpy(), by_chain(held, torch.cat(picked, dim=1))
