"""All results of a sweep in one tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayesrob.errors import InputError
from bayesrob.sweeps import files
from bayesrob.sweeps.cell import canonical
from bayesrob.sweeps.engine import cells_in

__all__ = ["collect"]


def collect(folder: str | os.PathLike[str]) -> xr.DataTree:
    """What the cells of `folder` scored, as far as they are done.

    Returns:
        DataTree with a group for each method, Datasets over `cell` (its key) and `attack`: the scores that
        `sweeps.work.score` names, `training_seconds` (of a shared run: until the cell was reached), `notes`; as coordinates
        the settings, by place: `net.width`, `inference.epochs`, ... Large ones: `collect(folder).to_zarr(path)`, with zarr.

    Raises:
        InputError: no sweep in the folder, or none of its cells is done.
    """
    place, by_method = Path(folder), {}
    for cell in cells_in(place):
        scores = files.found(place, cell)
        if scores is not None:
            by_method.setdefault(str(cell.inference.get("method")), []).append((cell, scores))
    if not by_method:
        raise InputError(f"{folder} has no results yet.", "None of its cells is done.", "Run the sweep, see sweeps.status.")
    return xr.DataTree.from_dict({name: _together(found) for name, found in by_method.items()})


def _together(found: list[tuple[Any, xr.Dataset]]) -> xr.Dataset:
    notes = [scores.attrs.get("notes", "[]") for _, scores in found]
    whole = xr.concat(
        [scores.drop_attrs() for _, scores in found], "cell", join="outer", coords="minimal", compat="override"
    ).assign_coords(cell=[cell.key for cell, _ in found])
    whole["notes"] = "cell", notes
    settings = [flat(cell.config) for cell, _ in found]
    for name in dict.fromkeys(name for one in settings for name in one):
        values = [one.get(name) for one in settings]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        column = np.array(values) if numbers else np.array([_word(value) for value in values])
        whole = whole.assign_coords({name: ("cell", column)})
    return whole


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by place; those of attacks as one."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        place = f"{above}{name}"
        deeper = isinstance(value, Mapping) and place != "evaluation.attacks"
        found |= flat(value, f"{place}.") if deeper else {place: value}
    return found


def _word(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else canonical(value)
