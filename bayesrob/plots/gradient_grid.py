"""Averaged gradients over a grid of posteriors (Carbone et al. 2020, figure 1)."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["gradient_grid"]


def gradient_grid(tree: xr.DataTree, objective: str = "expected_loss") -> Figure:
    """Draw the norm of the averaged gradient against width: a line for each `n_train`, a panel for each warmup.

    Solid: mean over test points with its interval. Dashed: the Monte Carlo standard error. Dotted: the norm of the single
    draws' gradients. Where solid and dotted lines fall alike, the single networks' gradients shrink, and averaging cancels
    no more than before.

    Args:
        tree: a group `grid` with `norm`, `standard_error`, `draw_norm` `[objective, warmup, n_train, width]` and
            `norm_interval` (also over `bound`).
        objective: name of the objective whose gradients are shown.
    """
    grid = tree["grid"].to_dataset().sel(objective=objective)
    warmups = grid["warmup"].values.tolist()
    figure = Figure(figsize=(3.6 * len(warmups), 3.5), layout="constrained")
    panels = figure.subplots(1, len(warmups), sharey=True, squeeze=False)[0]
    widths = grid["width"].values
    for axes, warmup in zip(panels, warmups, strict=True):
        for n_train, colour in zip(grid["n_train"].values, sns.color_palette("colorblind"), strict=False):
            at = grid.sel(warmup=warmup, n_train=n_train).transpose("width", "bound", ...)
            values = at["norm"].values
            bars = np.abs(at["norm_interval"].values.T - values)
            axes.errorbar(widths, values, yerr=bars, fmt="o-", capsize=3, color=colour, label=f"{n_train} points")
            axes.plot(widths, at["standard_error"].values, "--", color=colour)
            axes.plot(widths, at["draw_norm"].values, ":", color=colour)
        axes.set(xscale="log", ylim=(0, None), xlabel="width", title=f"warmup {warmup}")
        axes.set_xticks(widths, [str(w) for w in widths])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"l2 norm ({objective})")
    panels[0].legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure
