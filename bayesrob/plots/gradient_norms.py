"""Norms of averaged gradients and their standard errors, which show whether a gradient vanishes or is lost in noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["gradient_norms"]


def gradient_norms(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw the cumulative share of test points by the norm of the averaged gradient (solid) and its standard error (dotted).

    Where the dotted line is left of the solid one, the gradient is known and an attack can climb it. Where they meet, its
    direction is noise. There is a panel for each objective. Deterministic networks have no standard error.

    Args:
        trees: results of `evaluate` by the name that the legend shows.

    Example:
        >>> tree = br.evaluate(post, ds, {"fgsm": br.attacks.FGSM(eps=0.1)}, num_points=5)
        >>> len(br.plots.gradient_norms({"ensemble": tree}).axes)  # a panel for each objective
        2
    """
    objectives = next(iter(trees.values()))["gradients"].to_dataset()["objective"].values.tolist()
    figure = Figure(figsize=(4.2 * len(objectives), 3.4), layout="constrained")
    panels = figure.subplots(1, len(objectives), sharey=True, squeeze=False)[0]
    for axes, objective in zip(panels, objectives, strict=True):
        for (name, tree), colour in zip(trees.items(), sns.color_palette("colorblind"), strict=False):
            gradients = tree["gradients"].to_dataset().sel(objective=objective)
            for variable, style in (("norm", "-"), ("standard_error", ":")):
                values = np.sort(gradients[variable].values)
                values = values[np.isfinite(values) & (values > 0)]
                if len(values):
                    # Points whose gradient is exactly zero are below every positive norm.
                    share = 1 - np.arange(len(values), 0, -1) / gradients.sizes["point"]
                    axes.step(values, share, style, color=colour, label=name if variable == "norm" else None)
        axes.set(xscale="log", xlabel="l2 norm over components", title=objective)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share of test points below")
    panels[0].legend(frameon=False)
    sns.despine(figure)
    return figure
