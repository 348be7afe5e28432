"""A measurement after every epoch of training."""

from __future__ import annotations

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["epochs"]


def epochs(tree: xr.DataTree, ylabel: str = "accuracy") -> Figure:
    """Draw a panel for each group and a line for each curve: the mean over seeds, with a band for their range.

    Args:
        tree: groups with `value` `[curve, seed, epoch]`; a curve that a group lacks is NaN there. The coordinate is the
            number of the epoch, with 0 where the start was measured, too.
        ylabel: label of the vertical axis, which says what `value` is.

    Example:
        >>> import numpy as np, xarray as xr
        >>> value = xr.DataArray(np.random.rand(1, 2, 3), dims=("curve", "seed", "epoch"), name="value")
        >>> group = value.assign_coords(curve=["SGD"], epoch=[1, 2, 3]).to_dataset()
        >>> br.plots.epochs(xr.DataTree.from_dict({"clean": group})).axes[0].get_title()
        'clean'
    """
    groups = {name: child.to_dataset()["value"] for name, child in tree.children.items()}
    figure = Figure(figsize=(1 + 3.6 * len(groups), 3.4), layout="constrained")
    names = list(dict.fromkeys(curve for value in groups.values() for curve in value["curve"].values.tolist()))
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    for axes, (title, value) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        for curve in value["curve"].values.tolist():
            at = value.sel(curve=curve).transpose("seed", "epoch").dropna("epoch", how="all")
            axes.plot(at["epoch"], at.mean("seed"), "o-", markersize=3, color=colours[curve], label=curve)
            axes.fill_between(at["epoch"], at.min("seed"), at.max("seed"), color=colours[curve], alpha=0.2, linewidth=0)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel(ylabel)
    sns.despine(figure)
    return figure
