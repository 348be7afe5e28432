"""Accuracy of several predictives under several attacks, with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["attack_accuracy"]


def attack_accuracy(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw the accuracy without an attack and under each attack as points with intervals, with a colour for each predictive.

    Args:
        trees: results of `evaluate` by the name that the legend shows, all with the same attacks.

    Example:
        >>> tree = br.evaluate(post, ds, {"fgsm": br.attacks.FGSM(eps=0.1)}, num_points=5)
        >>> br.plots.attack_accuracy({"ensemble": tree}).axes[0].get_ylabel()
        'accuracy'
    """
    first = next(iter(trees.values()))["robustness"].to_dataset()
    labels = ["none", *first["attack"].values.tolist()]
    figure = Figure(figsize=(1.5 + 1.3 * len(labels), 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.7 / len(trees)
    for i, ((name, tree), colour) in enumerate(zip(trees.items(), sns.color_palette("colorblind"), strict=False)):
        result = tree["robustness"].to_dataset()
        values = np.append(result["accuracy"].values, result["adversarial_accuracy"].values)
        intervals = np.vstack([result["accuracy_interval"].values, result["adversarial_accuracy_interval"].values])
        where = np.arange(len(labels)) + (i - (len(trees) - 1) / 2) * width
        bars = np.abs(intervals.T - values)
        axes.errorbar(where, values, yerr=bars, fmt="o", capsize=3, color=colour, label=name)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylim=(-0.02, 1.02), ylabel="accuracy", xlabel="attack")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    sns.despine(figure)
    return figure
