"""Published numbers and measured ones."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["published"]


def published(tree: xr.DataTree) -> Figure:
    """Draw a panel for each row of a table: measured values with intervals, and a cross for the published number.

    Args:
        tree: a group `table` with `measured` and `published` (NaN where the paper has none) `[row, column]`, and `interval`
            `[row, column, bound]`.
    """
    table = tree["table"].to_dataset()
    rows, columns = table["row"].values.tolist(), table["column"].values.tolist()
    across = min(2, len(rows))
    down = -(-len(rows) // across)
    figure = Figure(figsize=((1.2 + 0.62 * len(columns)) * across, 3.1 * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    where = np.arange(len(columns))
    for axes, row in zip(panels.flat, rows, strict=False):
        at = table.sel(row=row)
        values, interval = at["measured"].values, at["interval"].transpose("column", "bound").values
        axes.errorbar(where, values, yerr=np.abs(interval.T - values), fmt="o", capsize=3, color="C0", label="measured, 95%")
        axes.plot(where, at["published"].values, "x", color="crimson", markersize=8, label="published")
        axes.set_xticks(where, [str(column).replace("_", " ") for column in columns], rotation=40, ha="right", fontsize=8)
        axes.set(title=row, ylim=(-0.02, 1.02))
        axes.grid(axis="y", alpha=0.3)
    for axes in panels.flat[len(rows) :]:
        axes.set_visible(False)
    panels[0, 0].set_ylabel("accuracy")
    panels[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    sns.despine(figure)
    return figure
