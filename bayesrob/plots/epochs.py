"""What was measured after every epoch."""

from __future__ import annotations

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["epochs"]


def epochs(tree: xr.DataTree, ylabel: str = "accuracy") -> Figure:
    """A panel a group, a line a curve: the mean over seeds, and between the lowest and the highest of them a band.

    Args:
        tree: groups with `value` `[curve, seed, epoch]`; a curve that a group lacks is NaN there. The epoch is the
            coordinate: 0 where the start was measured, too.
        ylabel: what `value` is.
    """
    groups = {name: child["value"] for name, child in tree.children.items()}
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
