"""Weights of linear classifiers against each feature's correlation with the label (Tsipras et al. 2019)."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["feature_weights"]


def feature_weights(tree: xr.DataTree) -> Figure:
    """Draw for each classifier its weights as an image, and below it |weight| against |correlation| of every feature.

    Weights are divided by the largest of their classifier, because the scale of weights does not say which features are
    used. The dashed line is the median correlation, which separates the weakly correlated half of the features on its left.

    Args:
        tree: a group `features` with `weights` `[model, feature]`, `correlation` `[feature]` (NaN for constant features,
            which the lower plot leaves out) and the attribute `shape`, the shape of one input (the image shows the mean
            over channels).
    """
    features = tree["features"].to_dataset()
    names, shape = features["model"].values.tolist(), tuple(int(side) for side in features.attrs["shape"])
    correlation = np.abs(features["correlation"].values)
    varies = np.isfinite(correlation)
    figure = Figure(figsize=(1.9 * len(names) + 0.6, 4.0), layout="constrained")
    panels = figure.subplots(2, len(names), squeeze=False, sharex="row", sharey="row")
    for (picture, scatter), name in zip(panels.T, names, strict=True):
        weights = features["weights"].sel(model=name).values
        weights = weights / max(np.abs(weights).max(), 1e-30)
        picture.imshow(weights.reshape(shape).mean(0) if len(shape) == 3 else weights[None], cmap="RdBu_r", vmin=-1, vmax=1)
        picture.set_title(name, fontsize=8)
        picture.set_xticks([])
        picture.set_yticks([])
        scatter.scatter(correlation[varies], np.abs(weights[varies]), s=4, alpha=0.5, linewidths=0)
        scatter.axvline(float(np.median(correlation[varies])), color="gray", linestyle="--", linewidth=0.8)
        scatter.set_xlabel("|correlation|", fontsize=8)
        scatter.tick_params(labelsize=7)
        sns.despine(ax=scatter)
    panels[1, 0].set_ylabel("|weight|, of the largest", fontsize=8)
    return figure
