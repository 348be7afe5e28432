"""The distribution of robustness over the settings that share a value, e.g. a width."""

from __future__ import annotations

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["robustness_by"]


def robustness_by(
    tree: xr.DataTree, place: str = "net.width", attack: str = "FGSM", score: str = "softmax_robustness"
) -> Figure:
    """Draw a panel for each method and a box for each value of a setting.

    A box shows quartiles, with whiskers to 1.5 times their distance and dots beyond (Tukey).

    Args:
        tree: the result of `sweeps.collect`.
        place: name of the setting, a coordinate over `cell`.
        attack: name of the attack whose score is shown.
        score: name of the score, e.g. "softmax_robustness" or "adversarial_accuracy".

    Example:
        >>> import xarray as xr
        >>> scores = {"softmax_robustness": (("cell", "attack"), [[0.5], [0.4]])}
        >>> group = xr.Dataset(scores, {"attack": ["FGSM"], "net.width": ("cell", [8, 16])})
        >>> br.plots.robustness_by(xr.DataTree.from_dict({"SGD": group})).axes[0].get_xlabel()
        'net.width'
    """
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    figure = Figure(figsize=(1 + 3.2 * len(groups), 3.4), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, (name, cells) in zip(panels, groups.items(), strict=True):
        values = sorted(set(cells[place].values.tolist()))
        shown = cells[score].sel(attack=attack)
        boxes = [shown.values[cells[place].values == value] for value in values]
        axes.boxplot(boxes, tick_labels=[str(value) for value in values], flierprops={"markersize": 2})
        axes.set(title=name, xlabel=place)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].set_ylabel(f"{score.replace('_', ' ')}, {attack}")
    sns.despine(figure)
    return figure
