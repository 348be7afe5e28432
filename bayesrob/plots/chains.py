"""Traces of chains in function space, which show whether they sample the same posterior predictive."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesrob.plots.worst_points import plotted, worst_points

__all__ = ["chains"]


def chains(tree: xr.DataTree, num_points: int = 3) -> Figure:
    """Draw ArviZ traces and densities of the log probability of the true class, at the test points where chains agree least.

    Args:
        tree: a result of `evaluate` for chains.
        num_points: number of points that are shown, those with the largest R-hat.
    """
    import arviz as az

    posterior = worst_points(tree, num_points)
    return plotted(az.plot_trace_dist, posterior, (11, 2.6 * len(posterior["posterior"].data_vars)), compact=False)
