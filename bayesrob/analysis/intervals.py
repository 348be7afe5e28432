"""Intervals for what a finite number of test points can say."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from bayesrob.errors import InputError

__all__ = ["LEVEL", "binomial_interval", "difference_interval", "mean_interval", "median_interval"]

LEVEL = 0.95
"""Coverage of every interval unless another is asked for."""


def binomial_interval(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927): inside [0, 1] and honest near both ends.

    Args:
        successes: of `trials` independent points. level: coverage.

    Raises:
        InputError: no trials, more successes than trials, or a level outside (0, 1).
    """
    _check_level(level)
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(f"{successes} successes in {trials} trials.", "That is no proportion.", "Check the counts.")
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def difference_interval(one: tuple[int, int], other: tuple[int, int], level: float = LEVEL) -> tuple[float, float]:
    """Newcombe's interval for the difference of two independent proportions (Newcombe 1998b, method 10, of Wilson's).

    Args:
        one, other: successes and trials; the difference is that of the first minus the second. level: coverage.

    Raises:
        InputError: as `binomial_interval`.
    """
    (low_1, high_1), (low_2, high_2) = (binomial_interval(*counts, level) for counts in (one, other))
    p_1, p_2 = one[0] / one[1], other[0] / other[1]
    difference = p_1 - p_2
    return difference - math.hypot(p_1 - low_1, high_2 - p_2), difference + math.hypot(high_1 - p_1, p_2 - low_2)


def mean_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval for the mean of independent `values`; NaN, NaN of a single one."""
    _check_level(level)
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.5 + level / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def median_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Order statistics that hold the median of independent `values` with at least probability `level` (exact, binomial).

    The smallest and largest value where even those cannot promise it (fewer than six values at 95%).
    """
    _check_level(level)
    values = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if values.size == 0:
        return math.nan, math.nan
    below = max(int(stats.binom.ppf((1 - level) / 2, values.size, 0.5)), 1)
    return float(values[below - 1]), float(values[values.size - below])


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "It is the probability that an interval covers.", "Give e.g. 0.95.")
