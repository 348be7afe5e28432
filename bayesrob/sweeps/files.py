"""Results on disk: one small netCDF a cell, written whole or not at all, and known for what they are."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import scipy.io
import xarray as xr

from bayesrob.sweeps.cell import Cell, canonical

__all__ = ["begin", "end", "error", "error_of", "fail", "found", "is_done", "path_of", "replace", "running", "write"]


def path_of(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.key}.nc"


def error_of(folder: Path, cell: Cell) -> Path:
    return folder / "errors" / f"{cell.key}.json"


def replace(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and put it there in one step, so that no reader or crash sees half of it."""
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
    """Keep a result; an earlier error of the cell goes."""
    whole = scores.assign_attrs(key=cell.key, config=canonical(cell.config))
    replace(path_of(folder, cell), bytes(whole.to_netcdf(engine="scipy")))
    error_of(folder, cell).unlink(missing_ok=True)


def fail(folder: Path, cell: Cell, text: str) -> None:
    replace(error_of(folder, cell), json.dumps({"config": cell.config, "error": text}).encode())


def found(folder: Path, cell: Cell) -> xr.Dataset | None:
    """The cell's result; None where there is none, or a truncated or foreign file in its place."""
    if not is_done(folder, cell):
        return None
    with xr.open_dataset(path_of(folder, cell), engine="scipy") as opened:
        return opened.load()


def is_done(folder: Path, cell: Cell) -> bool:
    """Whether `found` finds something; in a fifth of the time, for sweeps of thousands."""
    try:
        with scipy.io.netcdf_file(path_of(folder, cell), mmap=False) as file:  # reads all of it
            return vars(file)["config"].decode() == canonical(cell.config) and "accuracy" in file.variables
    except Exception:  # none there, or whatever a damaged one makes of a reader
        return False


def error(folder: Path, cell: Cell) -> str | None:
    """What happened to the cell when it was tried last."""
    try:
        return str(json.loads(error_of(folder, cell).read_text())["error"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):
        return "an unreadable record of an error"


def begin(folder: Path, key: str) -> None:
    """Say that a run is on its way, so that one whose process dies can be told from those that wait."""
    replace(folder / "running" / key, b"")


def end(folder: Path, key: str) -> None:
    (folder / "running" / key).unlink(missing_ok=True)


def running(folder: Path, key: str) -> bool:
    return (folder / "running" / key).exists()
