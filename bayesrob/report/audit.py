"""The page of an audit: its two verdicts, its accuracies, and why each check passed or failed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import xarray as xr

from bayesrob.auditing import verdicts
from bayesrob.report.render import environment
from bayesrob.report.verdicts import MARKS as STATES

__all__ = ["render_audit"]

FIGURES = {
    "accuracy": "points without an attack",
    "robust_accuracy": "points after the audited attack",
    "strongest_accuracy": "points after the strongest attack",
}
MARKS = {"passed": "good", "not_applicable": "none"}


def render_audit(tree: xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write the page of an audit.

    The page contains everything that it shows, without scripts and links, so that it can be sent by mail.

    Args:
        tree: the result of `br.audit`.
        path: path of the HTML file.

    Returns:
        `path`.
    """
    figures, runs = tree["figures"].to_dataset(), tree["runs"].to_dataset()
    records = {name: json.loads(value) for name, value in tree.attrs.items()}
    records["predictive"].pop("losses", None)
    page = (
        environment()
        .get_template("audit.html")
        .render(
            title=f"{records['attack']['attack']} on {records['predictive'].get('method', 'a predictive')}",
            settings=records["audit"],
            verdicts=verdicts(tree),
            states=STATES,
            figures=[
                (what, float(figures[name]), *figures[f"{name}_interval"].values.tolist()) for name, what in FIGURES.items()
            ],
            checks=_checks(tree["checks"].to_dataset()),
            runs=list(
                zip(*(runs[name].values.tolist() for name in ("run", "accuracy", "num_points", "seconds")), strict=True)
            ),
            seconds=float(runs["seconds"].sum()),
            records={name: json.dumps(record, indent=1) for name, record in records.items()},
        )
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _checks(checks: xr.Dataset) -> list[dict[str, object]]:
    rows = []
    for name in checks["check"].values.tolist():
        row = {key: values.item() for key, values in checks.sel(check=name).data_vars.items()}
        numbers = {key: "" if row[key] != row[key] else f"{row[key]:.3g}" for key in ("value", "threshold")}
        rows.append({"check": name, **row, **numbers, "mark": MARKS.get(row["status"], "bad")})
    return rows
