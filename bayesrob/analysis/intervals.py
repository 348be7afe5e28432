"""Intervals for what a finite number of test points can say."""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

from bayesrob.errors import InputError

__all__ = [
    "LEVEL",
    "binomial_interval",
    "check_level",
    "difference_interval",
    "mean_interval",
    "median_interval",
    "paired_interval",
]

LEVEL = 0.95
"""Coverage of every interval unless another is asked for."""


def binomial_interval(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927): inside [0, 1] and honest near both ends.

    Args:
        successes: of `trials` independent points. level: coverage.

    Raises:
        InputError: no trials, more successes than trials, or a level outside (0, 1).
    """
    check_level(level)
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(f"{successes} successes in {trials} trials.", "That is no proportion.", "Check the counts.")
    # Written out: scipy's binomtest computes an exact p-value first, which takes a hundred times as long.
    z, n, p = float(special.ndtri(0.5 + level / 2)), int(trials), successes / trials
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


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


def paired_interval(one: np.ndarray, other: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Newcombe's interval for the difference of two proportions of the same points (Newcombe 1998c, method 10).

    As `difference_interval`, less what the correlation of the two takes away (with a continuity correction where it is
    positive): two attacks on the same images differ by more than chance sooner than on different ones.

    Args:
        one, other: whether each point is a success, `[point]`; the difference is that of the first minus the second.
        level: coverage.

    Raises:
        InputError: different shapes or no points, or a level outside (0, 1).
    """
    one, other = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    if one.ndim != 1 or one.shape != other.shape or one.size == 0:
        raise InputError(f"Shapes {one.shape} and {other.shape}.", "Both are of the same points.", "Give [point] twice.")
    n = one.size
    (low_1, high_1), (low_2, high_2) = (binomial_interval(int(values.sum()), n, level) for values in (one, other))
    p_1, p_2 = one.mean(), other.mean()
    agree = int((one & other).sum()) * int((~one & ~other).sum()) - int((one & ~other).sum()) * int((~one & other).sum())
    agree = max(agree - n / 2, 0) if agree > 0 else agree
    scale = math.sqrt(float(one.sum()) * float((~one).sum()) * float(other.sum()) * float((~other).sum()))
    phi = agree / scale if scale else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a**2 - 2 * phi * a * b + b**2, 0.0))

    difference = float(p_1 - p_2)
    return difference - reach(p_1 - low_1, high_2 - p_2), difference + reach(high_1 - p_1, p_2 - low_2)


def mean_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval for the mean of independent `values`; NaN, NaN of a single one."""
    check_level(level)
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.5 + level / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def median_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Order statistics that hold the median of independent `values` with at least probability `level` (exact, binomial).

    The smallest and largest value where even those cannot promise it (fewer than six values at 95%).
    """
    check_level(level)
    values = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if values.size == 0:
        return math.nan, math.nan
    below = max(int(stats.binom.ppf((1 - level) / 2, values.size, 0.5)), 1)
    return float(values[below - 1]), float(values[values.size - below])


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "It is the probability that an interval covers.", "Give e.g. 0.95.")
