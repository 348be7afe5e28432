"""Reading all results of a sweep into one tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.arguments import is_number
from bayesrob.errors import InputError
from bayesrob.sweeps import files
from bayesrob.sweeps.cell import Cell, canonical

__all__ = ["collect"]


def collect(folder: str | os.PathLike[str]) -> xr.DataTree:
    """Return the scores of all cells of a sweep that are done.

    A large sweep can be stored for reading in parts by `collect(folder).to_zarr(path)`, if zarr is installed.

    Args:
        folder: folder of the sweep's results.

    Returns:
        DataTree with a group for each method, Datasets over `cell` (its key) and `attack`. The variables are the scores
        that `sweeps.work.score` returns, `training_seconds` (for a shared run: until this cell was reached),
        `scoring_seconds` and `notes`. The coordinates are the settings by their places: `net.width`, `inference.epochs`, ...

    Raises:
        InputError: no sweep in the folder, or none of its cells is done.
    """
    place, by_method = Path(folder), {}
    for cell in files.cells_in(place):
        scores = files.read(place, cell)
        if scores is not None:
            by_method.setdefault(str(cell.inference.get("method")), []).append((cell, scores))
    if not by_method:
        raise InputError(f"{folder} has no results yet.", "None of its cells is done.", "Run the sweep, see sweeps.status.")
    return xr.DataTree.from_dict({name: _concatenated(results) for name, results in by_method.items()})


def _concatenated(results: list[tuple[Cell, xr.Dataset]]) -> xr.Dataset:
    """Join the results of one method's cells over `cell`, with the settings as coordinates."""
    notes = [scores.attrs.get("notes", "[]") for _, scores in results]
    table = xr.concat(
        [scores.drop_attrs() for _, scores in results], "cell", join="outer", coords="minimal", compat="override"
    ).assign_coords(cell=[cell.key for cell, _ in results])
    table["notes"] = "cell", notes
    settings = [flat(cell.config) for cell, _ in results]
    for name in dict.fromkeys(name for one in settings for name in one):
        values = [one.get(name) for one in settings]
        column = np.array(values) if all(map(is_number, values)) else np.array([_text(value) for value in values])
        table = table.assign_coords({name: ("cell", column)})
    return table


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings by their places, such as "net.width"; the settings of all attacks are one value.

    Args:
        config: a cell's settings, or one of its parts.
        above: the place of that part, with a dot at its end.
    """
    settings: dict[str, Any] = {}
    for name, value in config.items():
        place = f"{above}{name}"
        nested = isinstance(value, Mapping) and place != "evaluation.attacks"
        settings |= flat(value, f"{place}.") if nested else {place: value}
    return settings


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else canonical(value)
