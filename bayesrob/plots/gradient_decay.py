"""The norm of the averaged gradient against the number of draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["gradient_decay"]

STYLES = {"draw_norm": ":", "norm": "-", "standard_error": "--"}


def gradient_decay(trees: Mapping[str, xr.DataTree], precision: str = "float64") -> Figure:
    """Draw medians over test points against the number of draws, in a panel for each objective.

    Solid: norm of the averaged gradient. Dashed: its Monte Carlo standard error, which falls as 1/sqrt(draws) even where
    the gradient does not. Dotted: norm of the single draws' gradients. A solid line above the dashed one shows a gradient
    that does not vanish; a solid line that follows the dashed one shows only noise.

    Args:
        trees: results of `evaluate_gradients` by the name that the legend shows.
        precision: precision in which the gradients were computed, "float64" or the model's own.
    """
    first = next(iter(trees.values()))["statistics"].to_dataset()
    objectives = first["objective"].values.tolist()
    figure = Figure(figsize=(3.8 * len(objectives), 3.6), layout="constrained")
    panels = figure.subplots(1, len(objectives), sharey=True, squeeze=False)[0]
    for axes, objective in zip(panels, objectives, strict=True):
        for (name, tree), colour in zip(trees.items(), sns.color_palette("colorblind"), strict=False):
            at = tree["statistics"].to_dataset().sel(objective=objective, precision=precision)
            for variable, style in STYLES.items():
                values = at[variable].median("point").values
                label = name if variable == "norm" else None
                axes.plot(at["num_draws"].values, np.where(values > 0, values, np.nan), style, color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="draws averaged", title=objective)
        axes.grid(alpha=0.3)
    # The median of a few draws of confident networks can lie any number of decades below: they would be all one saw.
    top = panels[0].get_ylim()[1]
    panels[0].set_ylim(max(panels[0].get_ylim()[0], 1e-6 * top), top)
    panels[0].set_ylabel("l2 norm, median over points")
    panels[0].legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure
