"""Standard against robust accuracy, and the bound that no classifier exceeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["tradeoff"]


def tradeoff(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw a panel for each data set: classifiers with intervals, the theorem's bound, and linear classifiers.

    Args:
        trees: trees by the title of the panel. The accuracies of the linear classifiers are exact. The groups are
            `classifiers` (`accuracy` and `robust_accuracy` `[classifier]`, their `_interval` `[classifier, bound]`),
            `bound` (`robust_accuracy` over `accuracy`) and `family` (`accuracy`, `robust_accuracy`).
    """
    figure = Figure(figsize=(1.6 + 3.0 * len(trees), 3.8), layout="constrained")
    named = [tree["classifiers"].to_dataset()["classifier"].values for tree in trees.values()]
    names = list(dict.fromkeys(str(name) for each in named for name in each))
    colours = dict(zip(names, sns.color_palette("husl", len(names)), strict=True))
    panels = figure.subplots(1, len(trees), sharey=True, squeeze=False)[0]
    for axes, (title, tree) in zip(panels, trees.items(), strict=True):
        bound, family, trained = (tree[name].to_dataset() for name in ("bound", "family", "classifiers"))
        axes.plot(bound["accuracy"], bound["robust_accuracy"], color="0.2", linewidth=1, label="bound")
        axes.plot(family["accuracy"], family["robust_accuracy"], "--", color="0.5", linewidth=0.9, label="linear, exact")
        for number, name in enumerate(trained["classifier"].values.tolist()):
            at = trained.sel(classifier=name)
            x, y = float(at["accuracy"]), float(at["robust_accuracy"])
            bars = [
                np.abs(at[f"{variable}_interval"].transpose("bound").values - value)[:, None]
                for variable, value in (("accuracy", x), ("robust_accuracy", y))
            ]
            marker = "osD^v<>"[number % 7]
            axes.errorbar(
                [x], [y], xerr=bars[0], yerr=bars[1], fmt=marker, markersize=4, capsize=2, color=colours[name], label=name
            )
        axes.set(title=title, xlabel="standard accuracy", ylim=(-0.03, 1.03))
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("robust accuracy")
    figure.legend(*_legend(figure), loc="outside right upper", frameon=False, fontsize=7)
    sns.despine(figure)
    return figure


def _legend(figure: Figure) -> tuple[list, list[str]]:
    """Return the handles and names of all panels, each name once."""
    handles = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    return list(handles.values()), list(handles)
