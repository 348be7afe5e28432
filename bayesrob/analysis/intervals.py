"""Intervals for what a finite number of test points can say."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from bayesrob.arguments import number
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
    """Return Wilson's score interval for a proportion (Wilson 1927), which lies inside [0, 1] and covers near both ends.

    Args:
        successes: how many of the independent points are successes.
        trials: number of points.
        level: coverage of the interval.

    Raises:
        InputError: no trials, more successes than trials, or a level outside (0, 1).

    Example:
        >>> low, high = br.analysis.binomial_interval(8, 10)
        >>> 0 < low < 0.8 < high < 1
        True
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
    """Return an interval for the first of two independent proportions minus the second (Newcombe 1998b, method 10).

    Args:
        one: successes and trials of the first proportion.
        other: successes and trials of the second proportion.
        level: coverage of the interval.

    Raises:
        InputError: as for `binomial_interval`.

    Example:
        >>> low, high = br.analysis.difference_interval((9, 10), (2, 10))
        >>> 0 < low < 0.7 < high
        True
    """
    (low_1, high_1), (low_2, high_2) = (binomial_interval(*counts, level) for counts in (one, other))
    p_1, p_2 = one[0] / one[1], other[0] / other[1]
    difference = p_1 - p_2
    return difference - math.hypot(p_1 - low_1, high_2 - p_2), difference + math.hypot(high_1 - p_1, p_2 - low_2)


def paired_interval(one: np.ndarray, other: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return an interval for the difference of two proportions of the same points (Newcombe 1998c, method 10).

    It is `difference_interval` with a correction for the correlation of the two proportions (and a continuity correction
    where that is positive). Two attacks on the same images differ significantly sooner than two on different images.

    Args:
        one: whether each point is a success of the first kind, bool `[point]`.
        other: whether each point is a success of the second kind, bool `[point]`. Its proportion is subtracted.
        level: coverage of the interval.

    Raises:
        InputError: different shapes or no points, or a level outside (0, 1).

    Example:
        >>> import numpy as np
        >>> low, high = br.analysis.paired_interval(np.arange(50) < 40, np.arange(50) < 20)
        >>> 0 < low < 0.4 < high
        True
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
    """Return Student's t interval for a mean.

    Args:
        values: independent values, `[value]`.
        level: coverage of the interval.

    Returns:
        The lower and the upper end; NaN for fewer than two values.

    Raises:
        InputError: a level outside (0, 1).

    Example:
        >>> low, high = br.analysis.mean_interval([1.0, 2.0, 3.0])
        >>> low < 2 < high
        True
    """
    check_level(level)
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        return math.nan, math.nan
    half = special.stdtrit(values.size - 1, 0.5 + level / 2) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def median_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the order statistics between which the median lies with at least probability `level` (exact, binomial).

    Args:
        values: independent values of any shape.
        level: coverage of the interval.

    Returns:
        The lower and the upper end. They are the smallest and the largest value where even those do not reach the
        coverage (fewer than six values at 95%), and NaN where there are no values.

    Raises:
        InputError: a level outside (0, 1).

    Example:
        >>> br.analysis.median_interval([3.0, 1.0, 2.0])
        (1.0, 3.0)
    """
    check_level(level)
    values = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if values.size == 0:
        return math.nan, math.nan
    below = max(_binomial_quantile((1 - level) / 2, values.size), 1)
    return float(values[below - 1]), float(values[values.size - below])


def check_level(level: object) -> float:
    """Return the coverage of an interval as a float, or raise `InputError` unless it lies between 0 and 1."""
    return number("level", level, "It is the probability that an interval covers.", above=0, below=1)


def _binomial_quantile(probability: float, trials: int) -> int:
    """The smallest k with P(successes <= k) >= `probability` at p = 1/2; `scipy.stats` takes a second to import."""
    above = math.ceil(special.bdtrik(probability, trials, 0.5))
    below = max(above - 1, 0)
    return below if special.bdtr(below, trials, 0.5) >= probability else above
