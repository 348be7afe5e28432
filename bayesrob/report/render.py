"""The page of a folder of results: what was measured, with which settings, and how far it can be trusted."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import xarray as xr

from bayesrob.analysis import MIN_BFMI
from bayesrob.errors import CheckpointError
from bayesrob.evaluation import read_manifest
from bayesrob.report.verdicts import figure_rows

__all__ = ["environment", "render"]


def render(folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` into a folder of results.

    The page contains everything that it shows (figures as data, no scripts, no links), so that it can be sent by mail.

    Args:
        folder: folder of the results of a study.

    Returns:
        The path of the page.

    Raises:
        CheckpointError: no results in the folder, or one of its files is missing.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    files = [entry["file"] for kind in ("figures", "tables", "trees") for entry in manifest[kind].values()]
    missing = [file for file in files if not (folder / file).exists()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing)}.", "The manifest names them.", "Run the study again, or restore the files."
        )
    page = (
        environment()
        .get_template("template.html")
        .render(
            manifest=manifest,
            tables={name: _table(folder, entry) for name, entry in manifest["tables"].items()},
            figures={name: _figure(folder, entry) for name, entry in manifest["figures"].items()},
            trees={name: _tree(folder, entry) for name, entry in manifest["trees"].items()},
        )
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def environment() -> jinja2.Environment:
    """Return the environment of the templates, which escapes every text that it inserts."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bayesrob.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["interval"] = re.compile(r"[-+.\w]+ \[[^][]*\]").fullmatch  # "0.95 [0.93, 0.97]"
    return environment


def _table(folder: Path, entry: dict[str, str]) -> dict[str, Any]:
    table = pd.read_csv(folder / entry["file"], dtype=str, keep_default_na=False)
    return {**entry, "columns": list(table.columns), "rows": table.to_numpy().tolist()}


def _figure(folder: Path, entry: dict[str, str]) -> dict[str, Any]:
    content = (folder / entry["file"]).read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of a PNG's header
    # On a phone the letters of a wide figure would be too small to read, so that it scrolls there.
    return {**entry, "source": f"data:image/png;base64,{base64.b64encode(content).decode()}", "wide": width > 2 * height}


def _tree(folder: Path, entry: dict[str, str]) -> dict[str, Any]:
    with xr.open_datatree(folder / entry["file"], engine="h5netcdf") as tree:
        records = {name: json.loads(value) for name, value in tree.attrs.items() if str(value).startswith("{")}
        groups = list(tree.children)
        flags, rows = _flags(tree), figure_rows(tree)
    records.get("predictive", {}).pop("losses", None)
    texts = {name: json.dumps(value, indent=1) for name, value in records.items()}
    return {**entry, "records": texts, "groups": groups, "flags": flags, "verdicts": rows}


def _flags(tree: xr.DataTree) -> list[tuple[bool | None, str]]:
    """Return each diagnostic in words, and whether it is good; None where it is for comparison only."""
    if "diagnostics" not in tree.children:
        return []
    diagnostics = tree["diagnostics"].to_dataset()
    good_rhat, good_ess = diagnostics.attrs["rhat_threshold"], diagnostics.attrs["ess_threshold"]
    flags: list[tuple[bool | None, str]] = []
    for prefix, what in (("", "the log predictive at test points"), ("gradient_", "input gradients")):
        if f"{prefix}rhat_max" not in diagnostics:
            continue
        rhat, ess = float(diagnostics[f"{prefix}rhat_max"]), float(diagnostics[f"{prefix}ess_bulk_min"])
        middle = float(diagnostics[f"{prefix}rhat"].median())
        flags += [
            (rhat <= good_rhat, f"R-hat of {what} at most {rhat:.3f}, median {middle:.3f} (should be at most {good_rhat})"),
            (ess >= good_ess, f"bulk ESS of {what} at least {ess:.0f} (should be at least {good_ess:.0f})"),
        ]
    if int(diagnostics.get("constant", 0)):
        flags.append((None, f"{int(diagnostics['constant'])} points where no draw differs: their R-hat is undefined"))
    if "bfmi" in diagnostics:
        bfmi = float(diagnostics["bfmi"].min())
        flags.append(
            (bfmi >= MIN_BFMI, f"fraction of missing information (BFMI) at least {bfmi:.2f} (should be {MIN_BFMI})")
        )
    if "divergences" in diagnostics:
        count = int(diagnostics["divergences"].sum())
        flags.append((count == 0, f"{count} divergent trajectories"))
    if "acceptance_rate" in diagnostics:
        rates = ", ".join(f"{rate:.2f}" for rate in diagnostics["acceptance_rate"].values)
        flags.append((bool((diagnostics["acceptance_rate"] > 0.5).all()), f"acceptance by chain {rates}"))
    stats = tree["sample_stats"].to_dataset()
    if "reached_max_treedepth" in stats:
        count = int(stats["reached_max_treedepth"].sum())
        flags.append((count == 0, f"{count} trajectories cut off at the largest tree depth"))
    if "weight_rhat_max" in diagnostics:
        # For comparison only, because weights of a network may disagree where its functions agree.
        text = f"R-hat of single weights, median {float(diagnostics['weight_rhat'].median()):.3f}, for comparison only"
        flags.append((None, text))
    if "distinct_draws" in diagnostics:
        distinct = diagnostics["distinct_draws"].values.tolist()
        draws = tree["sample_stats"].sizes["draw"]
        flags.append((min(distinct) > draws / 2, f"distinct draws by chain {distinct} of {draws}"))
    return flags
