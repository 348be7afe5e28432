"""A table of images: gradients, adversarial examples, paths from one image to another."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["pictures"]


def pictures(tree: xr.DataTree) -> Figure:
    """Draw images in rows and columns, with a text above each and the column's name at the top.

    Images are drawn in [0, 1]. Signed pictures, such as gradients, are drawn by their mean over channels, blue below and
    red above zero, each on its own scale (its largest absolute component, without the top 0.5%), so that their sizes must
    be given in the text.

    Args:
        tree: a group `pictures` with `picture` `[row, column, channel, height, width]`, `text` `[row, column]` and `signed`
            `[column]`; `row` and `column` are names.

    Example:
        >>> import numpy as np, xarray as xr
        >>> variables = {
        ...     "picture": (("row", "column", "channel", "height", "width"), np.zeros((1, 2, 1, 4, 4))),
        ...     "text": (("row", "column"), [["7", "7"]]),
        ...     "signed": ("column", [False, True]),
        ... }
        >>> group = xr.Dataset(variables, {"row": ["first"], "column": ["image", "gradient"]})
        >>> len(br.plots.pictures(xr.DataTree.from_dict({"pictures": group})).axes)
        2
    """
    group = tree["pictures"].to_dataset().transpose("row", "column", "channel", "height", "width", ...)
    rows, columns = group["row"].values.tolist(), group["column"].values.tolist()
    figure = Figure(figsize=(0.95 * len(columns) + 0.5, 1.12 * len(rows) + 0.3), layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for j, column in enumerate(columns):
        for i, row in enumerate(rows):
            axes, picture = panels[i, j], group["picture"].values[i, j]
            if bool(group["signed"].values[j]):
                scale = max(float(np.quantile(np.abs(picture.mean(0)), 0.995)), 1e-30)
                axes.imshow(picture.mean(0), cmap="RdBu_r", vmin=-scale, vmax=scale)
            else:
                image = np.moveaxis(picture, 0, -1).clip(0, 1)
                axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
            text = str(group["text"].values[i, j])
            axes.set_title("\n".join(part for part in (str(column) if i == 0 else "", text) if part), fontsize=7, pad=2)
            axes.set_xticks([])
            axes.set_yticks([])
            if j == 0:
                axes.set_ylabel(str(row), fontsize=7)
    return figure
