"""Statistics of gradients, as the plots take them in their tests."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesrob.analysis import component_quantiles, gradient_statistics


def make_gradients(scale: float = 1.0, shape: tuple[int, ...] = (1, 4, 3)) -> xr.DataTree:
    """A result of `evaluate_gradients` of known draws, in two precisions that differ plainly."""
    rng = np.random.default_rng(1)
    points, prefixes = 7, (1, 5, 20)
    g = scale * (0.2 + rng.normal(size=(20, points, *shape)))
    statistics = xr.concat(
        [
            gradient_statistics(g * factor, -np.abs(g[..., 0].sum(axis=tuple(range(2, g.ndim - 1)))), prefixes)
            for factor in (10, 1)
        ],
        xr.DataArray(["float32", "float64"], dims="precision", name="precision"),
    )
    axes = [f"axis_{i}" for i in range(len(shape))]
    images = xr.Dataset(
        {
            "gradient": statistics["gradient"].isel(point=slice(5)),
            "input": (("point", *axes), rng.uniform(size=(5, *shape))),
            "label": ("point", np.arange(5) + 2),
        }
    )
    quantiles = [component_quantiles(statistics["gradient"].sel(precision=name)) for name in ("float32", "float64")]
    quantiles = xr.concat(quantiles, statistics["precision"])
    return xr.DataTree.from_dict(
        {
            "statistics": statistics.drop_vars("gradient"),
            "components": xr.Dataset({"gradient": quantiles}),
            "images": images,
        }
    )


def make_grid() -> xr.DataTree:
    rng = np.random.default_rng(2)
    dims = ("objective", "n_train", "warmup", "width")  # in no order that a plot may count on
    coords = {
        "objective": ["expected_loss", "predictive_loss"],
        "n_train": [100, 200, 300],
        "warmup": [5, 10],
        "width": [4, 16, 64, 256],
        "bound": ["lower", "upper"],
    }
    shape = (2, 3, 2, 4)
    norm = rng.uniform(1, 2, size=shape)
    grid = {
        "norm": (dims, norm),
        "standard_error": (dims, rng.uniform(0.1, 0.2, size=shape)),
        "draw_norm": (dims, rng.uniform(3, 4, size=shape)),
        "norm_interval": (("bound", *dims), np.stack([norm * 0.9, norm * 1.3])),
    }
    return xr.DataTree.from_dict({"grid": xr.Dataset(grid, coords)})


def make_parts(scale: float = 1.0, parts: tuple[str, ...] = ("tangent", "off")) -> xr.Dataset:
    rng = np.random.default_rng(7)
    each = [gradient_statistics(scale * (k + rng.normal(size=(20, 6, 3))), None, (1, 5, 20)) for k in range(len(parts))]
    return xr.concat(each, xr.Variable("part", list(parts)))
