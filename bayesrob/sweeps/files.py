"""The files of a sweep: its manifest, and one small netCDF file for each result, which is written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import scipy.io
import xarray as xr

from bayesrob.errors import InputError
from bayesrob.sweeps.cell import Cell, canonical

__all__ = [
    "MANIFEST",
    "begin",
    "cells_in",
    "end",
    "error",
    "error_of",
    "fail",
    "is_done",
    "path_of",
    "read",
    "replace",
    "running",
    "write",
]

MANIFEST = "sweep.json"
"""Name of the file that says which cells a sweep has."""


def cells_in(folder: Path) -> list[Cell]:
    """Return the cells of the sweep in `folder`.

    Raises:
        InputError: the folder holds no sweep, or its manifest is damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return [Cell(**config) for config in manifest["cells"]]
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no sweep.", f"It has no {MANIFEST}.", "Run one: sweeps.run(grid, folder)."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / MANIFEST} is damaged: {error}.",
            "It says to which settings the results belong.",
            "Use another folder.",
        ) from error


def path_of(folder: Path, cell: Cell) -> Path:
    """Return the path of the cell's result."""
    return folder / "cells" / f"{cell.key}.nc"


def error_of(folder: Path, cell: Cell) -> Path:
    """Return the path of the cell's error."""
    return folder / "errors" / f"{cell.key}.json"


def replace(path: Path, content: bytes) -> None:
    """Write `content` to a file beside `path` and rename it, so that no reader and no crash sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write(folder: Path, cell: Cell, scores: xr.Dataset) -> None:
    """Store the cell's result and delete its earlier error, if there is one."""
    content = scores.assign_attrs(key=cell.key, config=canonical(cell.config))
    replace(path_of(folder, cell), bytes(content.to_netcdf(engine="scipy")))
    error_of(folder, cell).unlink(missing_ok=True)


def fail(folder: Path, cell: Cell, text: str) -> None:
    """Store `text` as the cell's error."""
    replace(error_of(folder, cell), json.dumps({"config": cell.config, "error": text}).encode())


def read(folder: Path, cell: Cell) -> xr.Dataset | None:
    """Return the cell's result; None where there is none, or where the file is truncated or of another cell."""
    if not is_done(folder, cell):
        return None
    with xr.open_dataset(path_of(folder, cell), engine="scipy") as opened:
        return opened.load()


def is_done(folder: Path, cell: Cell) -> bool:
    """Return whether `read` would return a result, in a fifth of its time."""
    try:
        with scipy.io.netcdf_file(path_of(folder, cell), mmap=False) as file:  # reads the whole file
            return vars(file)["config"].decode() == canonical(cell.config) and "accuracy" in file.variables
    except Exception:  # no file, or a damaged one, for which the reader raises any kind of error
        return False


def error(folder: Path, cell: Cell) -> str | None:
    """Return the error with which the cell failed last; None where it did not fail."""
    try:
        return str(json.loads(error_of(folder, cell).read_text())["error"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):
        return "an unreadable record of an error"


def begin(folder: Path, key: str) -> None:
    """Mark a run as begun, so that a run whose process died can be told from one that has not started."""
    replace(folder / "running" / key, b"")


def end(folder: Path, key: str) -> None:
    """Remove the mark of `begin`."""
    (folder / "running" / key).unlink(missing_ok=True)


def running(folder: Path, key: str) -> bool:
    """Return whether a run is marked as begun."""
    return (folder / "running" / key).exists()
