"""How effective draws grow with draws: a line that stays flat means chains that go nowhere."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesrob.plots.worst_points import plotted, worst_points

__all__ = ["effective_draws"]


def effective_draws(tree: xr.DataTree, num_points: int = 3) -> Figure:
    """ArviZ's evolution of effective sample sizes, bulk (first colour) and tail, at the points where chains agree least.

    Args:
        tree: a result of `evaluate` on chains, of at least 20 draws each.
        num_points: number of points that are shown, those with the largest R-hat.
    """
    import arviz as az

    posterior = worst_points(tree, num_points)
    steps = min(20, posterior["posterior"].sizes["draw"] // 4)  # a prefix of fewer than four draws has no size
    return plotted(az.plot_ess_evolution, posterior, (3.7 * len(posterior["posterior"].data_vars), 3), n_points=steps)
