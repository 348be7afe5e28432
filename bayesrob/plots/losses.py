"""How training went."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["losses"]


def losses(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Training loss of every method that has one (SGD: mean negative log likelihood; SVI: negative ELBO per data point).

    Args:
        trees: results of `evaluate`, whose attributes hold the predictive's record.
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
