"""Accuracy against robustness of many settings, with a dot for each setting."""

from __future__ import annotations

from collections.abc import Mapping

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["accuracy_robustness"]


def accuracy_robustness(tree: xr.DataTree, score: str = "softmax_robustness") -> Figure:
    """Draw a panel for each attack, a dot for each setting (Carbone et al. 2020, figure 4), and a colour for each method.

    Args:
        tree: the result of `sweeps.collect`: a group for each method with `accuracy` `[cell]` and the score `[cell,
            attack]`.
        score: name of the score on the vertical axis.

    Example:
        >>> import xarray as xr
        >>> scores = {"accuracy": ("cell", [0.8, 0.9]), "softmax_robustness": (("cell", "attack"), [[0.5], [0.4]])}
        >>> tree = xr.DataTree.from_dict({"SGD": xr.Dataset(scores, {"attack": ["FGSM"]})})
        >>> br.plots.accuracy_robustness(tree).axes[0].get_title()
        'FGSM'
    """
    groups: Mapping[str, xr.Dataset] = {name: node.to_dataset() for name, node in tree.children.items()}
    attacks = list(dict.fromkeys(name for cells in groups.values() for name in cells["attack"].values.tolist()))
    figure = Figure(figsize=(1 + 3.6 * len(attacks), 3.6), layout="constrained")
    colours = dict(zip(groups, sns.color_palette("colorblind", len(groups)), strict=True))
    for axes, attack in zip(figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0], attacks, strict=True):
        for name, cells in groups.items():
            if attack in cells["attack"].values:
                axes.scatter(cells["accuracy"], cells[score].sel(attack=attack), s=6, alpha=0.5, linewidth=0,
                             color=colours[name], label=name)  # fmt: skip
        axes.set(title=attack, xlabel="accuracy")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(score.replace("_", " "))
    figure.axes[0].legend(frameon=False, fontsize=8, markerscale=2)
    sns.despine(figure)
    return figure
