"""How robustness is spread over the settings that share a value, e.g. a width."""

from __future__ import annotations

import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["robustness_by"]


def robustness_by(
    tree: xr.DataTree, place: str = "net.width", attack: str = "FGSM", score: str = "softmax_robustness"
) -> Figure:
    """A panel for each method, a box for each value: quartiles, whiskers to 1.5 times their distance, dots beyond (Tukey).

    Args:
        tree: what `sweeps.collect` gives.
        place: name of the setting, a coordinate over `cell`.
        attack: name of the attack whose score is shown.
        score: name of the score, e.g. "softmax_robustness" or "adversarial_accuracy".
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
