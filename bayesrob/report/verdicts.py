"""The verdict of the checks of an evaluation on each of its accuracies, with the reasons."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesrob.analysis import BELIEVED, DOUBTFUL, NOT_JUDGED, state

__all__ = ["MARKS", "figure_rows"]

MARKS = {BELIEVED: "good", DOUBTFUL: "bad", NOT_JUDGED: "none"}
"""How each state of a verdict looks."""


def figure_rows(tree: xr.DataTree) -> list[dict[str, object]]:
    """Return the rows of the report's table of verdicts.

    Args:
        tree: a result of `evaluate`.

    Returns:
        A row for each attack, for the worst case in each ball, and for the posterior, with `figure`, `accuracy`,
        `verdict`, `mark` and `reasons`. A tree without verdicts has no rows.
    """
    if "checks" not in tree.children or "verdict" not in tree["robustness"]:
        return []
    scores, checks = tree["robustness"].to_dataset().transpose(..., "bound"), tree["checks"].to_dataset()
    rows = []
    for dim, accuracy, prefix in (("attack", "adversarial_accuracy", ""), ("threat", "worst_case_accuracy", "worst_case_")):
        for name in scores[dim].values.tolist():
            at, checked = scores.sel({dim: name}), checks.sel({dim: name})
            low, high = at[f"{accuracy}_interval"].values.tolist()
            objects = np.isin(checked[f"{prefix}status"].values, ["failed", "error"])
            bad = objects & (checked["about"].values == "attack")
            said = zip(checked["check"].values[bad].tolist(), checked[f"{prefix}reason"].values[bad].tolist(), strict=True)
            verdict = str(at[f"{prefix}verdict"].item())
            rows.append(
                {
                    "figure": f"worst case, {name}" if prefix else name,
                    "accuracy": f"{float(at[accuracy]):.3f} [{low:.3f}, {high:.3f}]",
                    "verdict": verdict,
                    "mark": MARKS[state(verdict)],
                    "reasons": [f"{check}: {reason}" for check, reason in said],
                }
            )
    stated = str(scores["posterior_verdict"].item())
    mark = MARKS[state(stated)]
    reasons = [checks.attrs["posterior_reason"]]
    rows.append({"figure": "the posterior", "accuracy": "", "verdict": stated, "mark": mark, "reasons": reasons})
    return rows
