"""Accuracy against one setting, with a line for each training and a panel for each value of a third setting."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["accuracy_lines"]


def accuracy_lines(tree: xr.DataTree, against: str = "n_train", panels: str = "eps") -> Figure:
    """Draw a panel for each value of `panels`, and in it the accuracy of each training against `against`, with intervals.

    Args:
        tree: a group `accuracy` with `accuracy` over `training`, `against` and `panels`, and `accuracy_interval`, which has
            also `bound`.
        against: name of the dim on the horizontal axis. The axis is logarithmic if its values span a factor of ten and none
            is zero.
        panels: name of the dim that has a panel for each value.

    Example:
        >>> import numpy as np, xarray as xr
        >>> coords = {"training": ["SGD"], "n_train": [10, 100], "eps": [0.0, 0.1]}
        >>> accuracy = xr.DataArray(np.full((1, 2, 2), 0.8), coords)
        >>> interval = xr.concat([accuracy - 0.1, accuracy + 0.1], "bound")
        >>> group = xr.Dataset({"accuracy": accuracy, "accuracy_interval": interval})
        >>> len(br.plots.accuracy_lines(xr.DataTree.from_dict({"accuracy": group})).axes)
        2
    """
    accuracy = tree["accuracy"].to_dataset()[["accuracy", "accuracy_interval"]]
    values, where = accuracy[panels].values.tolist(), accuracy[against].values
    figure = Figure(figsize=(2.5 * len(values) + 0.6, 3.0), layout="constrained")
    for axes, value in zip(figure.subplots(1, len(values), sharey=True, squeeze=False)[0], values, strict=True):
        for name, colour in zip(accuracy["training"].values.tolist(), sns.color_palette("colorblind"), strict=False):
            at = accuracy.sel({"training": name, panels: value}).transpose(against, "bound")
            heights = at["accuracy"].values
            bars = np.abs(at["accuracy_interval"].values.T - heights)
            axes.errorbar(
                where, heights, yerr=bars, fmt="o-", markersize=3, capsize=2, linewidth=1, color=colour, label=name
            )
        if where.min() > 0 and where.max() >= 10 * where.min():
            axes.set_xscale("log")
        axes.set(title=f"{panels} {value:g}", xlabel=against)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(frameon=False, fontsize=7)
    sns.despine(figure)
    return figure
