"""Cells and rows of the studies' tables: numbers with intervals, shares of points, verdicts of an evaluation."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from bayesrob.analysis import binomial_interval, paired_interval

__all__ = [
    "VERDICTS", "difference", "estimate", "file_name", "mcnemar", "right_after", "right_before", "share", "threats",
    "verdict_row", "with_interval", "worst_case_row",
]  # fmt: skip

VERDICTS = (
    "Can each figure be read as robustness, by the cheap checks of an evaluation? br.audit makes all sixteen. Doubtful "
    "because of objectives alone: another attack of the run left less, read the worst case."
)


def file_name(name: str) -> str:
    """A posterior's name as the name of a file: MNIST/HMC becomes MNIST-HMC."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)


def with_interval(value: Any, interval: Any) -> str:
    """An estimate and its interval, each with three decimals."""
    low, high = (float(bound) for bound in interval)
    return f"{float(value):.3f} [{low:.3f}, {high:.3f}]"


def estimate(scores: xr.Dataset, name: str) -> str:
    """The scalar variable `name` of an evaluation with its interval, the variable `NAME_interval`."""
    return with_interval(scores[name], scores[f"{name}_interval"].values)


def share(true: np.ndarray) -> str:
    """The share of true values, with Wilson's interval."""
    return with_interval(true.mean(), binomial_interval(int(true.sum()), true.size))


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """The difference of two shares of the same points, with Newcombe's paired interval."""
    return with_interval(one.mean() - other.mean(), paired_interval(one, other))


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """McNemar's exact p value: the probability of so uneven a split of the points at which the two differ."""
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    return float(stats.binomtest(only_one, only_one + only_other).pvalue) if only_one + only_other else 1.0


def right_before(tree: xr.DataTree) -> np.ndarray:
    """Which points of an evaluation are classified correctly before any attack, `[point]`."""
    points = tree["points"].to_dataset()
    return (points["log_probability"].argmax("class") == points["label"]).values


def right_after(tree: xr.DataTree) -> xr.DataArray:
    """Which points of an evaluation are classified correctly under each attack, `[attack, point]`."""
    points = tree["points"].to_dataset()
    return points["adversarial_log_probability"].argmax("class") == points["label"]


def threats(tree: Any) -> list[str]:
    """The names of the balls in which an evaluation has attacks."""
    return tree["robustness"]["threat"].values.tolist()


def verdict_row(tree: Any) -> dict[str, str]:
    """The verdicts of the cheap checks on every attack, on the worst case in every ball, and on the posterior."""
    scores = tree["robustness"].to_dataset()
    attacks = {name: str(scores["verdict"].sel(attack=name).item()) for name in scores["attack"].values.tolist()}
    balls = {f"worst case, {name}": str(scores["worst_case_verdict"].sel(threat=name).item()) for name in threats(tree)}
    return {**attacks, **balls, "posterior": str(scores["posterior_verdict"].item())}


def worst_case_row(tree: Any) -> dict[str, str]:
    """The accuracy under the worst of all attacks in each ball, point by point, with its verdict."""
    scores, row = tree["robustness"].to_dataset().transpose(..., "bound"), {}
    for name in threats(tree):
        at, ball = scores.sel(threat=name), f", {name}" if len(threats(tree)) > 1 else ""
        row[f"worst case{ball}"] = estimate(at, "worst_case_accuracy")
        row[f"verdict{ball}"] = str(at["worst_case_verdict"].item())
    return row
