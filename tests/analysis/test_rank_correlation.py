from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bayesrob.analysis import rank_correlation
from bayesrob.errors import InputError


def test_it_is_spearmans_ties_and_all():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, 50), generator.normal(size=50)
    correlation, low, high = rank_correlation(x, y)
    assert correlation == pytest.approx(stats.spearmanr(x, y).statistic)
    assert low < correlation < high


def test_any_rising_function_is_a_perfect_correlation():
    x = np.random.default_rng(1).normal(size=30)
    assert rank_correlation(x, np.exp(x)) == pytest.approx((1.0, 1.0, 1.0))
    assert rank_correlation(x, -(x**3)) == pytest.approx((-1.0, -1.0, -1.0))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of bivariate normals of correlation r Spearman's is 6 / pi arcsin(r / 2) (Pearson 1907)."""
    generator, r, held = np.random.default_rng(2), 0.5, 0
    for trial in range(100):
        x = generator.normal(size=80)
        y = r * x + np.sqrt(1 - r**2) * generator.normal(size=80)
        _, low, high = rank_correlation(x, y, num_resamples=200, seed=trial)
        held += low <= 6 / np.pi * np.arcsin(r / 2) <= high
    assert 86 <= held <= 100  # 95 expected; 86 and fewer has a probability of 0.0005


def test_settings_of_one_run_do_not_count_as_if_they_were_apart():
    """Ten copies of every setting say no more than one."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 20))
    alone = rank_correlation(x, y)
    copied = rank_correlation(np.repeat(x, 10), np.repeat(y, 10), groups=np.repeat(np.arange(20), 10))
    naive = rank_correlation(np.repeat(x, 10), np.repeat(y, 10))
    assert copied[2] - copied[1] == pytest.approx(alone[2] - alone[1], rel=0.2)
    assert naive[2] - naive[1] < 0.6 * (alone[2] - alone[1])


def test_what_has_no_ranks():
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5))).all()
    assert np.isnan(rank_correlation(np.arange(2), np.arange(2))).all()
    with pytest.raises(InputError, match="one of each for every setting"):
        rank_correlation(np.arange(3), np.arange(4))
    with pytest.raises(InputError, match="not finite"):
        rank_correlation(np.array([1, 2, np.nan]), np.arange(3))
