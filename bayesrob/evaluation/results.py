"""A folder of results: trees, tables, figures, and a manifest that says what made them."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from bayesrob import numerics
from bayesrob._version import __version__
from bayesrob.errors import CheckpointError, InputError

__all__ = ["MANIFEST", "Results", "read_manifest"]

MANIFEST = "study.json"


class Results:
    """A folder that a study writes and a report reads. Every call is on disk at once: a crash loses nothing computed.

    Args:
        folder: made if it is not there. It must be empty, or hold earlier results, which are overwritten name by name.
        study: the study's name.
        title: one line that says what the study is about.
        settings: the study's arguments; they must be JSON values.

    Raises:
        InputError: the folder holds something else.

    Example:
        >>> results = br.evaluation.Results("out", "mine", "A study.", {"seed": 0})
        >>> results.note("The report shows this sentence.")
        >>> (results.finish() / "study.json").exists()
        True
    """

    def __init__(self, folder: str | os.PathLike[str], study: str, title: str, settings: dict[str, Any]):
        self.folder = Path(folder)
        if self.folder.exists() and (
            not self.folder.is_dir() or (any(self.folder.iterdir()) and not (self.folder / MANIFEST).exists())
        ):
            raise InputError(
                f"{self.folder} is not empty and holds no results.",
                "Files of yours could be overwritten.",
                "Choose another.",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "report.html").unlink(missing_ok=True)  # of an earlier run; this one may be interrupted
        self._started = time.perf_counter()
        self.manifest: dict[str, Any] = {
            "study": study,
            "title": title,
            "settings": settings,
            "versions": _versions(),
            "machine": {"platform": platform.platform(), "threads": torch.get_num_threads(), "numerics": numerics.asked()},
            "notes": [],
            "trees": {},
            "tables": {},
            "figures": {},
            "finished": False,
        }
        self._write()

    def tree(self, name: str, tree: xr.DataTree, caption: str) -> None:
        """Save a DataTree as `NAME.nc` (netCDF; `xarray.open_datatree` reads it back identical)."""
        partial = self.folder / f".{name}.nc.partial"
        tree.to_netcdf(partial, engine="h5netcdf")
        partial.replace(self.folder / f"{name}.nc")
        self._add("trees", name, f"{name}.nc", caption)

    def table(self, name: str, table: Any, caption: str) -> None:
        """Save a pandas DataFrame as `NAME.csv`."""
        table.to_csv(self.folder / f"{name}.csv", index=False)
        self._add("tables", name, f"{name}.csv", caption)

    def figure(self, name: str, figure: Any, caption: str) -> None:
        """Save a matplotlib figure as `NAME.png`."""
        figure.savefig(self.folder / f"{name}.png", dpi=110, bbox_inches="tight")
        self._add("figures", name, f"{name}.png", caption)

    def note(self, text: str) -> None:
        """Save a sentence that the report shows: a result, or what speaks against it."""
        self.manifest["notes"].append(text)
        self._write()

    def finish(self) -> Path:
        """Mark the results as complete, and return the folder."""
        self.manifest["finished"] = True
        self.manifest["seconds"] = time.perf_counter() - self._started
        self._write()
        return self.folder

    def _add(self, kind: str, name: str, file: str, caption: str) -> None:
        self.manifest[kind][name] = {"file": file, "caption": caption}
        self._write()

    def _write(self) -> None:
        partial = self.folder / f".{MANIFEST}.partial"
        partial.write_text(json.dumps(self.manifest, indent=1))
        partial.replace(self.folder / MANIFEST)


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest that `Results` wrote.

    Args:
        folder: the folder of results.

    Raises:
        CheckpointError: no results there, or a damaged manifest.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist.",
            "A report is made from a study's results.",
            "Run a study: bayesrob run NAME --out DIR.",
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}.", "The file is damaged.", "Run the study again.") from error
    return manifest


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "bayesrob": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "pyro-ppl", "arviz", "xarray", "numpy")},
    }
