"""Mean and spread of accuracy and loss of several models under attacks of growing size."""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from bayesrob.errors import InputError

__all__ = ["model_spread"]

ROWS = {"accuracy": "accuracy", "mean_loss": "loss"}


def model_spread(curves: Mapping[str, Mapping[str, xr.Dataset]]) -> Figure:
    """Draw accuracy above and cross-entropy below, a column for each set of models (Aboutalebi et al. 2020, figure 2).

    Each attack has a line.

    Args:
        curves: by the set of models and the attack, Datasets over `rms`, the root mean square of the perturbations.
            `accuracy` and `mean_loss` are means over models. `accuracy_spread` and `loss_spread` are standard deviations
            over models, which are drawn as bands of one standard deviation to either side.

    Raises:
        InputError: no sets.
    """
    if not curves:
        raise InputError("There are no models.", "Nothing could be drawn.", "Give their curves by name.")
    figure = Figure(figsize=(1 + 3.2 * len(curves), 5.2), layout="constrained")
    attacks = list(dict.fromkeys(name for of in curves.values() for name in of))
    colours = dict(zip(attacks, sns.color_palette("colorblind", len(attacks)), strict=True))
    panels = figure.subplots(len(ROWS), len(curves), squeeze=False, sharex="col", sharey="row")
    for row, (value, label) in zip(panels, ROWS.items(), strict=True):
        for axes, (title, of) in zip(row, curves.items(), strict=True):
            for name, curve in of.items():
                x, mean, spread = curve["rms"], curve[value], curve[f"{label}_spread"]
                axes.plot(x, mean, ".-", markersize=4, linewidth=1, color=colours[name], label=name)
                axes.fill_between(x, mean - spread, mean + spread, color=colours[name], alpha=0.2, linewidth=0)
            axes.grid(alpha=0.3)
            if value == "accuracy":
                axes.set(title=title, ylim=(-0.02, 1.02))
            else:
                axes.set(xlabel="rms perturbation")
        row[0].set_ylabel(label)
    panels[0][0].legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure
