"""Effective sample sizes against the number of draws; a flat line means chains that do not explore."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesrob.plots.worst_points import plotted, worst_points

__all__ = ["effective_draws"]


def effective_draws(tree: xr.DataTree, num_points: int = 3) -> Figure:
    """Draw bulk (first colour) and tail effective sample sizes by ArviZ, at the points where chains agree least.

    Args:
        tree: a result of `evaluate` for chains with at least 20 draws each.
        num_points: number of points that are shown, those with the largest R-hat.
    """
    import arviz as az

    posterior = worst_points(tree, num_points)
    steps = min(20, posterior["posterior"].sizes["draw"] // 4)  # a prefix of fewer than four draws has no size
    return plotted(az.plot_ess_evolution, posterior, (3.7 * len(posterior["posterior"].data_vars), 3), n_points=steps)
