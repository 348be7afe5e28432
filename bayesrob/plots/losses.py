"""Training losses."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["losses"]


def losses(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw the training loss of every method that records one.

    For SGD it is the mean negative log likelihood, for SVI the negative ELBO for each data point.

    Args:
        trees: results of `evaluate` by the name that the legend shows; their attributes hold the losses.

    Example:
        >>> import json, xarray as xr
        >>> tree = xr.DataTree()
        >>> tree.attrs["predictive"] = json.dumps({"losses": [3.0, 2.0, 1.0], "steps": 300})
        >>> len(br.plots.losses({"SGD": tree}).axes[0].lines)
        1
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for (name, tree), colour in zip(trees.items(), sns.color_palette("colorblind"), strict=False):
        info = json.loads(tree.attrs["predictive"])
        if "losses" in info:
            steps = np.linspace(0, info["steps"], len(info["losses"]) + 1)[1:]
            axes.plot(steps, info["losses"], color=colour, label=name)
    axes.set(yscale="log", xlabel="step", ylabel="training loss per point")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    sns.despine(figure)
    return figure
