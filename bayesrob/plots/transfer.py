"""How attacks transfer among several predictives."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["transfer"]


def transfer(tree: xr.DataTree) -> Figure:
    """Accuracy of each target (columns) on what was found on each source (rows), with intervals; two panels.

    Left: of all points, and in the last row without an attack. Right: of the points that source and target had right before.

    Args:
        tree: a group `transfer`, the result of `evaluation.transfer_matrix`.
    """
    found = tree["transfer"].to_dataset().transpose("source", "target", "bound", ...)
    sources, targets = found["source"].values.tolist(), found["target"].values.tolist()
    figure = Figure(figsize=(2.4 + 2.2 * len(targets), 1.8 + 0.6 * len(sources)), layout="constrained")
    left, right = figure.subplots(1, 2)
    everything = np.vstack([found["adversarial_accuracy"].values, found["accuracy"].values[None]])
    intervals = np.concatenate([found["adversarial_accuracy_interval"].values, found["accuracy_interval"].values[None]])
    image = _panel(left, everything, intervals, [*sources, "no attack"], targets, "all points")
    values, intervals = found["both_right_accuracy"].values, found["both_right_accuracy_interval"].values
    _panel(right, values, intervals, sources, targets, "points that both had right")
    left.set_ylabel("attacked (source)")
    figure.colorbar(image, ax=[left, right], label="accuracy", shrink=0.8)
    return figure


def _panel(axes, values: np.ndarray, intervals: np.ndarray, rows: list[str], columns: list[str], title: str):
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
