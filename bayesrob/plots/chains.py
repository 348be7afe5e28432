"""Chains in function space: did they find the same posterior predictive?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["chains"]


def chains(tree: xr.DataTree, num_points: int = 3) -> Figure:
    """ArviZ traces and densities of the log probability of the true class, at the test points where chains agree least.

    Args:
        tree: a result of `evaluate` on chains. num_points: the points with the largest R-hat.
    """
    import arviz as az
    from matplotlib import pyplot

    diagnostics = tree["diagnostics"].to_dataset()
    rhat = diagnostics["rhat"].values
    worst = np.argsort(-np.nan_to_num(rhat, nan=-np.inf))[:num_points]
    where = diagnostics["point"].values[worst]
    values = tree["log_likelihood"].to_dataset()["obs"].sel(point=where)
    posterior = xr.Dataset(
        {f"point {where[k]} (R-hat {rhat[i]:.2f})": values.isel(point=k, drop=True) for k, i in enumerate(worst)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ warns of constant chains, which the diagnostics say already
        collection: Any = az.plot_trace_dist(
            xr.DataTree.from_dict({"posterior": posterior}),
            backend="matplotlib",
            compact=False,
            figure_kwargs={"figsize": (11, 2.6 * len(worst)), "layout": "constrained"},
        )
    figure = collection.viz["figure"].item()
    pyplot.close(figure)  # pyplot would keep it alive
    return figure
