"""Accuracy under many attacks in the same ball, and in their worst case."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["threats"]


def threats(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw accuracy with intervals: a panel for each threat model, a row for each attack, a colour for each predictive.

    The first row is the accuracy without an attack. Then follow the attacks from the weakest to the strongest, and last the
    worst case: the share of points that none of them broke.

    Args:
        trees: results of `evaluate` by the name that the legend shows, all with the same attacks.

    Example:
        >>> tree = br.evaluate(post, ds, {"fgsm": br.attacks.FGSM(eps=0.1)}, num_points=5)
        >>> br.plots.threats({"ensemble": tree}).axes[0].get_title()
        'l_inf <= 0.1'
    """
    scores = {name: tree["robustness"].to_dataset().transpose(..., "bound") for name, tree in trees.items()}
    first, tree = next(iter(scores.values())), next(iter(trees.values()))
    settings = json.loads(tree.attrs["attacks"])
    panels = []
    for threat in first["threat"].values.tolist():
        where = first.sel(threat=threat)
        ball = {"norm": where["norm"].item(), "eps": where["eps"].item()}
        inside = [
            name
            for name, attack in settings.items()
            if np.isnan(first["median_perturbation"].sel(attack=name)) and {key: attack.get(key) for key in ball} == ball
        ]
        mean = {n: np.mean([float(s["adversarial_accuracy"].sel(attack=n)) for s in scores.values()]) for n in inside}
        panels.append((threat, sorted(inside, key=lambda name: -mean[name])))
    longest = max((len(inside) for _, inside in panels), default=0)
    figure = Figure(figsize=(1 + 4.6 * max(len(panels), 1), 1.2 + 0.3 * (longest + 2)), layout="constrained")
    for axes, (threat, inside) in zip(figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels, strict=False):
        norm = first["norm"].sel(threat=threat).item()
        labels = ["no attack", *(name.removesuffix(f" {norm}") for name in inside), "all, point by point"]
        step = 0.6 / len(scores)
        for i, ((name, s), colour) in enumerate(zip(scores.items(), sns.color_palette("colorblind"), strict=False)):
            at, worst = s.sel(attack=inside), s.sel(threat=threat)
            single, worst_case = at["adversarial_accuracy"].values, worst["worst_case_accuracy"].item()
            values = np.array([s["accuracy"].item(), *single, worst_case])
            intervals = [
                s["accuracy_interval"].values,
                *at["adversarial_accuracy_interval"].values,
                worst["worst_case_accuracy_interval"].values,
            ]
            rows = np.arange(len(labels)) + (i - (len(scores) - 1) / 2) * step
            bars = np.abs(np.array(intervals).T - values)
            axes.errorbar(values, rows, xerr=bars, fmt="o", markersize=4, capsize=2, color=colour, label=name)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(labels) - 0.4, -0.6), xlabel="accuracy", title=threat)
        axes.grid(axis="x", alpha=0.3)
    if panels:
        figure.axes[0].legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure
