"""Ranks of each chain's draws among all draws, which are uniform if the chains sample the same function."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesrob.plots.worst_points import plotted, worst_points

__all__ = ["ranks"]


def ranks(tree: xr.DataTree, num_points: int = 3) -> Figure:
    """Draw ArviZ's rank plot of the log probability of the true class, at the test points where chains agree least.

    The lines are the chains' empirical distributions of ranks minus the uniform one. ArviZ marks where a chain differs from
    the others, with the p value of that test. The ranks of a single chain are always uniform.

    Args:
        tree: a result of `evaluate` for chains.
        num_points: number of points that are shown, those with the largest R-hat.
    """
    import arviz as az

    posterior = worst_points(tree, num_points)
    method = "mtc_c" if posterior["posterior"].sizes["chain"] > 1 else "envelope"
    return plotted(az.plot_rank, posterior, (3.7 * len(posterior["posterior"].data_vars), 3), method=method)
