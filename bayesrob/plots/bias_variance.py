"""Bias, variance and loss of several models against the size of the perturbation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesrob.errors import InputError

__all__ = ["bias_variance"]

PANELS = ("bias", "variance", "loss")


def bias_variance(curves: xr.Dataset | Mapping[str, xr.Dataset]) -> Figure:
    """Draw a panel each for mean bias, variance and loss, with their intervals, and a colour for each curve.

    Args:
        curves: the result of `analysis.bias_variance` for predictions with one further dim, the perturbation (eps, or an
            rms), whose coordinate is the horizontal axis; or several such results by the name that the legend shows. The
            bias of squared error is squared bias. Intervals are drawn where there are some. `predicted_bias`,
            `predicted_variance` and `predicted_loss`, e.g. those of `analysis.perturbation_terms`, are drawn dashed.

    Raises:
        InputError: no curve, or a curve that is not over exactly one further dim.

    Example:
        >>> import numpy as np, xarray as xr
        >>> outputs = xr.DataArray(np.random.rand(3, 4, 2), dims=("model", "point", "eps"), coords={"eps": [0.0, 0.1]})
        >>> figure = br.plots.bias_variance(br.analysis.bias_variance(outputs, np.zeros(4)))
        >>> [axes.get_title() for axes in figure.axes]
        ['bias', 'variance', 'loss']
    """
    named: dict[str, xr.Dataset] = {"": curves} if isinstance(curves, xr.Dataset) else dict(curves)
    dims = {name: _dim(name, dataset) for name, dataset in named.items()}
    if not named:
        raise InputError("There are no curves.", "Nothing could be drawn.", "Give what analysis.bias_variance returns.")
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for (name, dataset), colour in zip(named.items(), sns.color_palette("colorblind", len(named)), strict=True):
            x = dataset[dims[name]].values
            axes.plot(x, dataset[f"mean_{panel}"].values, ".-", color=colour, markersize=4, label=name or None)
            if (interval := f"mean_{panel}_interval") in dataset:
                low, high = dataset[interval].transpose("bound", ...).values
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            if (predicted := f"predicted_{panel}") in dataset:
                axes.plot(x, dataset[predicted].values, "--", color=colour, linewidth=0.9)
        axes.set(title=panel, xlabel=", ".join(dict.fromkeys(dims.values())))
        _measured_range(axes, [dataset[f"mean_{panel}"].values for dataset in named.values()])
        axes.grid(alpha=0.3)
    if len(named) > 1:
        figure.axes[0].legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure


def _measured_range(axes: Axes, values: list[np.ndarray]) -> None:
    """Choose the vertical range by the measured values; predictions and intervals may leave the panel."""
    finite = np.concatenate([np.asarray(row, dtype=float) for row in values])
    finite = finite[np.isfinite(finite)]
    if finite.size:
        low, high = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
        room = 0.15 * (high - low) or 1.0
        axes.set_ylim(low - room * (low < 0 or high == low) - 0.02 * room, high + room)


def _dim(name: str, dataset: xr.Dataset) -> str:
    dims = [str(dim) for dim in dataset["mean_loss"].dims]
    if len(dims) != 1:
        raise InputError(
            f"The curve {name!r} is over {', '.join(dims) or 'no dim'}.",
            "A curve is over one dim, the perturbation.",
            "Give bias_variance a DataArray with one further dim, or select values of the other dims with .sel().",
        )
    return dims[0]
