"""An audit as lines of text."""

from __future__ import annotations

import textwrap

import xarray as xr

from bayesrob.analysis import Finding, state, verdict
from bayesrob.analysis.checks import CHECKS

__all__ = ["summary", "verdicts"]

MARKS = {"passed": "ok", "failed": "FAIL", "not_applicable": "n/a", "error": "ERROR"}


def verdicts(tree: xr.DataTree) -> list[tuple[str, str]]:
    """Return the two verdicts, of the figure and of the posterior: each its state, and a sentence."""
    checks = tree["checks"].to_dataset()
    # Out of the findings, as the verdicts in the tree are: audits of 0.1 have no verdicts in words.
    columns = (checks[name].values.tolist() for name in ("check", "value", "passed", "reason", "status"))
    findings = {name: Finding(*rest) for name, *rest in zip(*columns, strict=True) if name in CHECKS}
    stated = {"The attack's figure": verdict(findings, "attack"), "The posterior": verdict(findings, "posterior")}
    return [(state(words), f"{what} is {words}.") for what, words in stated.items()]


def summary(tree: xr.DataTree, width: int = 110) -> str:
    """Return the figures, the two verdicts, and a row for each check, as a terminal shows them.

    Args:
        tree: the result of `audit`.
        width: characters in a line.
    """
    figures, checks = tree["figures"].to_dataset(), tree["checks"].to_dataset()
    words = {"accuracy": "accuracy", "robust_accuracy": "robust accuracy", "strongest_accuracy": "strongest attack found"}
    lines = [
        "   ".join(
            f"{text} {float(figures[name]):.3f} [{low:.3f}, {high:.3f}]"
            for name, text in words.items()
            for low, high in [figures[f"{name}_interval"].values.tolist()]
        ),
        *(text for _, text in verdicts(tree)),
        "",
    ]
    for name in checks["check"].values.tolist():
        row = checks.sel(check=name)
        head = f"{int(row['number']):2} {name:16} {MARKS[row['status'].item()]:5} "
        head += f"{_number(row['value'])} {_number(row['threshold'])}  "
        lines.append(textwrap.fill(row["reason"].item(), width, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(lines)


def _number(value: xr.DataArray) -> str:
    return f"{float(value):8.3g}" if value.notnull() else " " * 8
