"""The distribution of averaged gradients' components (Carbone et al. 2020, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["gradient_components"]

BANDS = ((0.0, 1.0, 0.12), (0.005, 0.995, 0.25), (0.05, 0.95, 0.45), (0.25, 0.75, 0.8))


def gradient_components(
    trees: Mapping[str, xr.DataTree], objective: str = "expected_loss", precision: str = "float64"
) -> Figure:
    """Draw bands that contain all, 99%, 90% and half of the components of all test points, against the number of draws.

    Args:
        trees: results of `evaluate_gradients` by the title of the panel.
        objective: name of the objective whose gradients are shown.
        precision: precision in which the gradients were computed, "float64" or the model's own.

    Example:
        >>> tree = br.evaluation.evaluate_gradients(post, ds, num_points=5, num_draws=[1, 3])
        >>> br.plots.gradient_components({"ensemble": tree}).axes[0].get_title()
        'ensemble'
    """
    figure = Figure(figsize=(3.4 * len(trees), 3.4), layout="constrained")
    panels = figure.subplots(1, len(trees), squeeze=False)[0]
    for axes, (name, tree), colour in zip(panels, trees.items(), sns.color_palette("colorblind", len(trees)), strict=True):
        quantiles = tree["components"].to_dataset()["gradient"].sel(objective=objective, precision=precision)
        draws = quantiles["num_draws"].values
        where = range(len(draws))
        for low, high, alpha in BANDS:
            lower, upper = (quantiles.sel(quantile=q, method="nearest").values for q in (low, high))
            share = "all" if high == 1 else f"{high - low:.0%}"
            axes.fill_between(where, lower, upper, color=colour, alpha=alpha, linewidth=0, label=share)
        axes.set_xticks(where, [str(n) for n in draws])
        # Linear near zero, where the bulk is: single draws are orders of magnitude away from it.
        axes.set_yscale("symlog", linthresh=1e-2)
        axes.set(xlabel="draws averaged", title=name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"components of the averaged gradient\n({objective})")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8, title="share within")
    sns.despine(figure)
    return figure
