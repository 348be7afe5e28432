"""Transfer of adversarial examples between several predictives."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["transfer"]


def transfer(tree: xr.DataTree) -> Figure:
    """Draw the accuracy of each target (columns) on adversarial examples made for each source (rows), with intervals.

    The left panel is for all points, and its last row without an attack. The right panel is for the points that both source
    and target classify correctly before the attack.

    Args:
        tree: a group `transfer`, the result of `evaluation.transfer_matrix`.
    """
    matrix = tree["transfer"].to_dataset().transpose("source", "target", "bound", ...)
    sources, targets = matrix["source"].values.tolist(), matrix["target"].values.tolist()
    figure = Figure(figsize=(2.4 + 2.2 * len(targets), 1.8 + 0.6 * len(sources)), layout="constrained")
    left, right = figure.subplots(1, 2)
    everything = np.vstack([matrix["adversarial_accuracy"].values, matrix["accuracy"].values[None]])
    intervals = np.concatenate([matrix["adversarial_accuracy_interval"].values, matrix["accuracy_interval"].values[None]])
    image = _panel(left, everything, intervals, ([*sources, "no attack"], targets), "all points")
    values, intervals = matrix["both_right_accuracy"].values, matrix["both_right_accuracy_interval"].values
    _panel(right, values, intervals, (sources, targets), "points that both had right")
    left.set_ylabel("attacked (source)")
    figure.colorbar(image, ax=[left, right], label="accuracy", shrink=0.8)
    return figure


def _panel(axes, values: np.ndarray, intervals: np.ndarray, labels: tuple[list[str], list[str]], title: str):
    rows, columns = labels
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for i, j in np.ndindex(values.shape):
        if np.isfinite(values[i, j]):
            text = f"{values[i, j]:.3f}\n[{intervals[i, j, 0]:.2f}, {intervals[i, j, 1]:.2f}]"
            colour = "black" if values[i, j] > 0.6 else "white"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="scored (target)", title=title)
    return image
