"""Robust accuracy under two definitions of an adversarial example."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["definitions"]


def definitions(worlds: Mapping[str, xr.Dataset]) -> Figure:
    """Draw accuracy (dashes) and robust accuracy with intervals: a panel for each data set, a colour for each definition.

    Args:
        worlds: Datasets by the title of the panel, with `worst_case_accuracy` `[classifier, definition]`,
            `worst_case_accuracy_interval` (also over `bound`) and `accuracy` `[classifier]`, as `analysis.validity` returns
            them for each classifier. `best`, if it is there, is drawn as a line: the robust accuracy that no classifier
            exceeds by the norm alone.
    """
    across = min(5, len(worlds))
    down = -(-len(worlds) // across)
    figure = Figure(figsize=(0.6 + 2.3 * across, 3.6 * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, (title, each) in zip(panels.flat, worlds.items(), strict=False):
        names = each["classifier"].values.tolist()
        where = np.arange(len(names))
        axes.plot(where, each["accuracy"].transpose("classifier"), "_", color="0.4", markersize=9, label="accuracy")
        kinds = each["definition"].values.tolist()
        for number, (kind, colour) in enumerate(zip(kinds, sns.color_palette("colorblind"), strict=False)):
            at = each.sel(definition=kind)
            values = at["worst_case_accuracy"].transpose("classifier").values
            bars = np.abs(at["worst_case_accuracy_interval"].transpose("bound", "classifier").values - values)
            shift = 0.14 * (2 * number - len(kinds) + 1)
            label = str(kind).replace("_", "-")
            axes.errorbar(where + shift, values, yerr=bars, fmt="o", markersize=4, capsize=2, color=colour, label=label)
        if "best" in each:
            axes.axhline(float(each["best"]), color="0.2", linewidth=0.8, linestyle=":")
        axes.set_xticks(where, names, rotation=60, ha="right", fontsize=7)
        axes.set_title(title, fontsize=8)
        axes.set_ylim(-0.03, 1.03)
        axes.grid(axis="y", alpha=0.3)
    for axes in panels.flat[len(worlds) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("robust accuracy")
    panels[0, 0].legend(frameon=False, fontsize=7)
    sns.despine(figure)
    return figure
