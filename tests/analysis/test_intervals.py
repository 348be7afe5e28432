"""Intervals against published formulas, scipy, and their own promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bayesrob.analysis import binomial_interval, difference_interval, mean_interval, median_interval
from bayesrob.errors import InputError


def wilson(successes: int, trials: int, z: float) -> tuple[float, float]:
    """Wilson 1927, as printed in textbooks."""
    p = successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    return centre - half, centre + half


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 1), (0, 1), (81, 263), (15, 148), (499, 500)])
@pytest.mark.parametrize(("level", "z"), [(0.95, 1.959963984540054), (0.9, 1.6448536269514722)])
def test_wilson_by_its_formula(successes, trials, level, z):
    assert binomial_interval(successes, trials, level) == pytest.approx(wilson(successes, trials, z), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "trials", "published"), [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))]
)
def test_wilson_as_published(successes, trials, published):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert binomial_interval(successes, trials) == pytest.approx(published, abs=5e-5)


def test_none_and_all_are_not_certainties():
    low, high = binomial_interval(0, 50)
    assert low == 0.0
    assert 0.05 < high < 0.1
    assert binomial_interval(50, 50) == pytest.approx((1 - high, 1.0))


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_binomial_coverage(p):
    """Summed over the binomial distribution, not simulated: near 95%, though Wilson's dips at the ends."""
    n = 200
    covers = [low <= p <= high for low, high in (binomial_interval(k, n) for k in range(n + 1))]
    assert stats.binom.pmf(np.arange(n + 1), n, p)[covers].sum() == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_mean_interval_is_scipys(level):
    values = np.random.default_rng(0).normal(3, 2, size=17)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert mean_interval(values, level) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_mean_coverage_by_simulation():
    rows = np.random.default_rng(0).normal(1, 2, size=(4000, 6))
    covered = np.mean([low <= 1 <= high for low, high in map(mean_interval, rows)])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_mean_of_one_value_has_no_interval():
    assert all(math.isnan(bound) for bound in mean_interval(np.array([0.5])))


def test_mean_of_equal_values_is_certain():
    assert mean_interval(np.full(4, 0.25, dtype=np.float32)) == (0.25, 0.25)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_no_proportion(successes, trials):
    with pytest.raises(InputError, match=f"{successes} successes in {trials} trials"):
        binomial_interval(successes, trials)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.1, math.nan])
def test_level_is_a_probability(level):
    with pytest.raises(InputError, match="level is"):
        binomial_interval(1, 2, level)
    with pytest.raises(InputError, match="level is"):
        mean_interval(np.arange(3.0), level)
    with pytest.raises(InputError, match="level is"):
        median_interval(np.arange(3.0), level)


def ranks(n: int, level: float) -> tuple[int, int]:
    """Which order statistics the interval takes, counted from 1."""
    low, high = median_interval(np.arange(1.0, n + 1), level)
    return int(low), int(high)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 9, 10, 30, 31, 100, 1001])
def test_median_coverage_is_exact_and_no_wider_than_it_must_be(n, level):
    """The median lies between the j-th and k-th of n values if j to k - 1 of them are below it: binomial, no simulation.

    The next narrower symmetric pair would cover less than promised.
    """

    def coverage(low: int, high: int) -> float:
        return float(stats.binom.cdf(high - 1, n, 0.5) - stats.binom.cdf(low - 1, n, 0.5))

    low, high = ranks(n, level)
    assert low + high == n + 1
    if coverage(1, n) >= level:
        assert coverage(low, high) >= level - 1e-12
        assert low + 1 >= high or coverage(low + 1, high - 1) < level
    else:
        assert (low, high) == (1, n)


def test_median_interval_as_in_textbooks():
    """Tables of the sign test's interval: of 6 values the 1st to 6th, of 10 the 2nd to 9th, of 20 the 6th to 15th, ..."""
    assert [ranks(n, 0.95) for n in (6, 10, 20, 100)] == [(1, 6), (2, 9), (6, 15), (40, 61)]


def test_median_coverage_by_simulation_of_skewed_values():
    rows = np.random.default_rng(0).exponential(size=(4000, 15))
    covered = np.mean([low <= math.log(2) <= high for low, high in map(median_interval, rows)])
    exact = stats.binom.cdf(11, 15, 0.5) - stats.binom.cdf(3, 15, 0.5)
    assert ranks(15, 0.95) == (4, 12)
    assert covered == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


def test_median_interval_takes_values_in_any_order_and_shape():
    values = np.random.default_rng(0).normal(size=24)
    expected = median_interval(values)
    assert median_interval(np.sort(values)[::-1].reshape(4, 6)) == expected
    assert expected[0] in values
    assert expected[0] < np.median(values) < expected[1]


def test_median_of_nothing_has_no_interval():
    assert all(math.isnan(bound) for bound in median_interval(np.array([])))


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
    ],
)
def test_differences_have_newcombe_s_interval(one, other, published):
    """Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10."""
    assert difference_interval(one, other) == pytest.approx(published, abs=6e-5)
