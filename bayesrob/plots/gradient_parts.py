"""The parts of the input gradient that cancel when draws are averaged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["gradient_parts"]

STYLES = {"draw_norm": ":", "norm": "-", "standard_error": "--"}


def gradient_parts(parts: Mapping[str, xr.Dataset], objective: str = "expected_loss") -> Figure:
    """Draw means over points against the number of draws, with a panel for each Dataset and a colour for each part.

    Solid: norm of the average of that part. Dashed: its Monte Carlo standard error. Dotted: norm of the single draws'
    parts.

    Args:
        parts: results of `analysis.manifold_statistics`, over `part`, by the title of the panel.
        objective: name of the objective whose gradients are shown.
    """
    across = min(4, len(parts))
    down = -(-len(parts) // across)
    figure = Figure(figsize=(0.6 + 2.5 * across, 0.4 + 2.5 * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=False, squeeze=False)
    names = list(dict.fromkeys(str(part) for each in parts.values() for part in each["part"].values))
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    for axes, (title, each) in zip(panels.flat, parts.items(), strict=False):
        for part in each["part"].values.tolist():
            at = each.sel(part=part, objective=objective)
            for variable, style in STYLES.items():
                values = at[variable].mean("point").values
                label = part if variable == "norm" else None
                axes.plot(
                    at["num_draws"].values, np.where(values > 0, values, np.nan), style, color=colours[part], label=label
                )
        axes.set(xscale="log", yscale="log", xlabel="draws averaged")
        axes.set_title(title, fontsize=8)
        axes.grid(alpha=0.3)
        # What cancels to the last bit would squeeze the rest.
        top = axes.get_ylim()[1]
        axes.set_ylim(max(axes.get_ylim()[0], 1e-6 * top), top)
    for axes in panels.flat[len(parts) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("l2 norm, mean over points", fontsize=8)
    panels.flat[0].legend(frameon=False, fontsize=7)
    sns.despine(figure)
    return figure
