"""Averaged input gradients as images (Carbone et al. 2020, figure 2)."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["gradient_images"]


def gradient_images(
    tree: xr.DataTree, objective: str = "expected_loss", precision: str = "float64", num_images: int = 4
) -> Figure:
    """Draw a row for each test image: the image, then its gradients averaged over more and more draws.

    The norm stands above each gradient. All images of a row have the same colour scale (the largest absolute component,
    without the top 0.5%), so that a gradient that vanishes fades.

    Args:
        tree: a result of `evaluate_gradients` for images.
        objective: name of the objective whose gradients are shown.
        precision: precision in which the gradients were computed, "float64" or the model's own.
        num_images: number of rows.
    """
    group = tree["images"].to_dataset().isel(point=slice(num_images))
    shape = group["input"].shape[1:]
    gradients = group["gradient"].sel(objective=objective, precision=precision)
    draws = gradients["num_draws"].values
    rows = group.sizes["point"]
    figure = Figure(figsize=(1.25 * (len(draws) + 1), 1.45 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, len(draws) + 1, squeeze=False)
    for row in range(rows):
        image = np.moveaxis(group["input"].values[row], 0, -1)
        panels[row, 0].imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray")
        panels[row, 0].set_ylabel(f"label {group['label'].values[row]}", fontsize=8)
        values = gradients.isel(point=row).transpose("num_draws", "component").values
        scale = max(float(np.quantile(np.abs(values), 0.995)), 1e-30)
        for column, gradient in enumerate(values, start=1):
            # Of several colour channels the mean is drawn: signs stay readable.
            picture = gradient.reshape(shape).mean(0)
            panels[row, column].imshow(picture, cmap="RdBu_r", vmin=-scale, vmax=scale)
            panels[row, column].set_title(f"{np.linalg.norm(gradient):.2g}", fontsize=8, pad=2)
            if row == rows - 1:
                panels[row, column].set_xlabel(f"{draws[column - 1]}", fontsize=8)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    figure.supxlabel("draws averaged", fontsize=8)
    return figure
