"""Inputs before and after an attack."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["examples"]


def examples(tree: xr.DataTree, attack: str | None = None, num_images: int = 8) -> Figure:
    """Draw three rows: clean images, attacked images, and their differences, with the label or the prediction above each.

    Inputs that are no images are drawn as a scatter plot of their first two components.

    Args:
        tree: a result of `evaluate`.
        attack: name of the attack in the tree; None, the default, for the last one.
        num_images: number of columns.

    Example:
        >>> tree = br.evaluate(post, ds, {"fgsm": br.attacks.FGSM(eps=0.1)}, num_points=5)
        >>> len(br.plots.examples(tree, attack="fgsm").axes)  # one scatter plot, since inputs are no images
        1
    """
    group = tree["examples"].to_dataset()
    name = str(group["attack"].values[-1]) if attack is None else attack
    count = min(num_images, group.sizes["point"])
    clean = group["clean"].values[:count]
    adversarial = group["adversarial"].sel(attack=name).values[:count]
    points = tree["points"].to_dataset().isel(point=slice(count))
    labels = points["label"].values
    predicted = points["log_probability"].values.argmax(-1)
    attacked = points["adversarial_log_probability"].sel(attack=name).values.argmax(-1)
    if clean.ndim < 4:
        return _scatter(clean, adversarial, labels, name)
    figure = Figure(figsize=(1.05 * count + 0.8, 3.9), layout="constrained")
    panels = figure.subplots(3, count, squeeze=False)
    scale = max(np.abs(adversarial - clean).max(), 1e-12)
    rows = (("clean", clean, predicted), (name, adversarial, attacked), ("difference", (adversarial - clean) / scale, None))
    for row, (title, images, guesses) in enumerate(rows):
        for column in range(count):
            axes = panels[row, column]
            image = np.moveaxis(images[column], 0, -1)
            signed = guesses is None
            if image.shape[-1] == 1:
                axes.imshow(image[..., 0], cmap="RdBu" if signed else "gray", vmin=-1 if signed else 0, vmax=1)
            else:
                axes.imshow((image + 1) / 2 if signed else image.clip(0, 1))
            axes.set_xticks([])
            axes.set_yticks([])
            if guesses is not None:
                wrong = guesses[column] != labels[column]
                axes.set_title(str(guesses[column]), fontsize=9, color="crimson" if wrong else "black", pad=2)
        panels[row, 0].set_ylabel(title, fontsize=9)
    return figure


def _scatter(clean: np.ndarray, adversarial: np.ndarray, labels: np.ndarray, name: str) -> Figure:
    figure = Figure(figsize=(4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*clean.reshape(len(clean), -1)[:, :2].T, c=labels, cmap="coolwarm", label="clean")
    axes.quiver(
        *clean.reshape(len(clean), -1)[:, :2].T,
        *(adversarial - clean).reshape(len(clean), -1)[:, :2].T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.005,
    )
    axes.set(title=name, xlabel="first component", ylabel="second component")
    return figure
