"""Accuracy against the size of the perturbation in each norm."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from bayesrob.analysis import robustness_curve

__all__ = ["robustness_curves"]


def robustness_curves(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw the share of points that no perturbation of norm <= eps broke: a panel for each norm, a colour for each tree.

    Line and band: the smallest perturbation of any attack at each point, with its interval. Dotted: each attack alone.
    Squares: the worst case of the attacks of fixed radius. A square below the line shows that those attacks succeeded where
    the attacks that minimise the perturbation did not.

    Args:
        trees: results of `evaluate` by the name that the legend shows, all with the same attacks.
    """
    settings = json.loads(next(iter(trees.values())).attrs["attacks"])
    first = next(iter(trees.values()))["points"].to_dataset()["smallest_perturbation"]
    looking = [name for name in first["attack"].values.tolist() if not first.sel(attack=name).isnull().any()]
    norms = list(dict.fromkeys(settings[name].get("norm") for name in looking))
    figure = Figure(figsize=(1 + 3.8 * max(len(norms), 1), 3.6), layout="constrained")
    for axes, norm in zip(figure.subplots(1, max(len(norms), 1), sharey=True, squeeze=False)[0], norms, strict=False):
        names = [name for name in looking if settings[name].get("norm") == norm]
        top = 0.0
        for (label, tree), colour in zip(trees.items(), sns.color_palette("colorblind"), strict=False):
            smallest = tree["points"].to_dataset()["smallest_perturbation"].sel(attack=names)
            finite = smallest.min("attack").values
            finite = finite[np.isfinite(finite)]
            top = max(top, float(finite.max(initial=0.0)))
            curve = robustness_curve(smallest.min("attack")).transpose("eps", "bound")
            axes.step(curve["eps"], curve["accuracy"], where="post", color=colour, label=label)
            low, high = curve["accuracy_interval"].values.T
            axes.fill_between(curve["eps"], low, high, step="post", color=colour, alpha=0.15, linewidth=0)
            for name in names if len(names) > 1 else []:
                single = robustness_curve(smallest.sel(attack=name))
                axes.step(single["eps"], single["accuracy"], ":", where="post", color=colour, linewidth=0.8)
            scores = tree["robustness"].to_dataset().transpose(..., "bound")
            balls = scores.isel(threat=np.flatnonzero(scores["norm"].values == norm))
            values = balls["worst_case_accuracy"].values
            bars = np.abs(balls["worst_case_accuracy_interval"].values.T - values)
            if values.size:
                axes.errorbar(balls["eps"].values, values, yerr=bars, fmt="s", markersize=4, capsize=3, color=colour)
        axes.set(xlim=(0, 1.05 * top if top else 1), ylim=(-0.02, 1.02), xlabel=f"eps ({norm})")
        axes.set_title(", ".join(name.removesuffix(f" {norm}") for name in names), fontsize=8, wrap=True)
        axes.grid(alpha=0.3)
    if norms:
        figure.axes[0].set_ylabel("accuracy")
        figure.axes[0].legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure
