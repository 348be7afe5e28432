"""Two attack protocols: accuracy and input gradients against the size of the perturbation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bayesrob.analysis import binomial_interval

__all__ = ["protocols"]

STYLES = ("--", "-", ":", "-.")
FLOOR = 1e-12
"""Median norms below are drawn here: of a logarithm's axis zero is no place."""


def protocols(trees: Mapping[str, xr.DataTree]) -> Figure:
    """Draw the share of points that stay right, with intervals, and below it the median norm of the averaged input gradient.

    There is a column for each data set and a colour for each predictive. The first protocol (or objective) is dashed, the
    second solid, and a third dotted. The gap between dashed and solid lines is what the first protocol overstates.

    Args:
        trees: trees by the title of the column, each with the groups `accuracy`, which has `right` `[posterior, protocol,
            eps, point]`, and `gradients`, which has `norm` `[posterior, objective, eps, point]`.
    """
    groups = {name: (tree["accuracy"].to_dataset(), tree["gradients"].to_dataset()) for name, tree in trees.items()}
    measured = {name: (accuracy["right"], gradients["norm"]) for name, (accuracy, gradients) in groups.items()}
    names = list(dict.fromkeys(name for right, _ in measured.values() for name in right["posterior"].values.tolist()))
    colours = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    figure = Figure(figsize=(1.6 + 3.9 * len(measured), 6.2), layout="constrained")
    rows = figure.subplots(2, len(measured), sharex="col", sharey="row", squeeze=False)
    for i, (title, (right, norm)) in enumerate(measured.items()):
        for name in right["posterior"].values.tolist():
            _accuracy(rows[0, i], right.sel(posterior=name), colours[name])
            _norms(rows[1, i], norm.sel(posterior=name), colours[name])
        rows[0, i].set(title=title, ylim=(-0.02, 1.02))
        rows[1, i].set(yscale="log", xlabel="eps")
        for axes in rows[:, i]:
            axes.grid(alpha=0.3)
    rows[0, 0].set_ylabel("accuracy")
    rows[1, 0].set_ylabel("median norm of the averaged gradient")
    right, norm = next(iter(measured.values()))
    lines = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    rows[0, -1].legend(handles=lines, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    labels = itertools.zip_longest(right["protocol"].values, norm["objective"].values)
    texts = ["; ".join(str(label) for label in pair if label is not None) for pair in labels]
    lines = [Line2D([], [], color="gray", linestyle=style, label=text) for style, text in zip(STYLES, texts, strict=False)]
    rows[1, -1].legend(handles=lines, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    sns.despine(figure)
    return figure


def _accuracy(axes: Any, right: xr.DataArray, colour: Any) -> None:
    for values, style in zip(right.transpose("protocol", "eps", "point"), STYLES, strict=False):
        counts = values.sum("point").values
        low, high = np.array([binomial_interval(int(count), values.sizes["point"]) for count in counts]).T
        axes.plot(values["eps"], counts / values.sizes["point"], style, color=colour, marker=".")
        axes.fill_between(values["eps"], low, high, color=colour, alpha=0.06, linewidth=0)


def _norms(axes: Any, norm: xr.DataArray, colour: Any) -> None:
    for values, style in zip(norm.transpose("objective", "eps", "point"), STYLES, strict=False):
        axes.plot(values["eps"], np.maximum(values.median("point"), FLOOR), style, color=colour, marker=".")
