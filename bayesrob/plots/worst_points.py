"""What the plots of chains share: the test points where chains agree least, in ArviZ's form, and its figures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["plotted", "worst_points"]


def worst_points(tree: xr.DataTree, num_points: int) -> xr.DataTree:
    """Return a group `posterior` with the log probability of the true class `[chain, draw]`, one variable for each point.

    Args:
        tree: a result of `evaluate` for chains.
        num_points: number of points. Those with the largest R-hat come first, and undefined R-hats (constant draws, one
            chain) last.
    """
    diagnostics = tree["diagnostics"].to_dataset()
    rhat = diagnostics["rhat"].values
    worst = np.argsort(-np.nan_to_num(rhat, nan=-np.inf), kind="stable")[:num_points]
    where = diagnostics["point"].values[worst]
    values = tree["log_likelihood"].to_dataset()["obs"].sel(point=where)
    variables = {f"point {where[k]} (R-hat {rhat[i]:.2f})": values.isel(point=k, drop=True) for k, i in enumerate(worst)}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(variables)})


def plotted(plot: Callable[..., Any], posterior: xr.DataTree, size: tuple[float, float], **options: Any) -> Figure:
    """Return the figure of an ArviZ plot, released from pyplot, which would hold it in memory.

    Args:
        plot: the function of ArviZ.
        posterior: the result of `worst_points`.
        size: width and height of the figure in inches.
        **options: further arguments of `plot`.
    """
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ warns about constant chains, which the diagnostics report
        collection = plot(
            posterior, backend="matplotlib", figure_kwargs={"figsize": size, "layout": "constrained"}, **options
        )
    figure = collection.viz["figure"].item()
    pyplot.close(figure)
    return figure
