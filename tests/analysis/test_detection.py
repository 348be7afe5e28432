"""Uncertainty and detectors against identities, brute force, scikit-learn and known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from bayesrob.analysis import auroc, binomial_interval, detection, difference_interval, paired_interval, uncertainty
from bayesrob.errors import InputError


def draws(seed: int = 0, scale: float = 3.0, shape: tuple[int, int, int] = (7, 20, 4)) -> np.ndarray:
    logits = scale * np.random.default_rng(seed).normal(size=shape)
    return logits - special.logsumexp(logits, axis=-1, keepdims=True)


# ---- uncertainty ---------------------------------------------------------------------------------------------------------


def test_scores_are_their_definitions():
    log_p = draws()
    p = np.exp(log_p)
    table = uncertainty(log_p)
    np.testing.assert_allclose(table["entropy"], stats.entropy(p.mean(0), axis=-1), rtol=1e-12)
    np.testing.assert_allclose(table["expected_entropy"], stats.entropy(p, axis=-1).mean(0), rtol=1e-12)
    divergence = stats.entropy(p, p.mean(0, keepdims=True), axis=-1).mean(0)
    np.testing.assert_allclose(table["mutual_information"], divergence, rtol=1e-10)
    np.testing.assert_allclose(table["mutual_information"], table["entropy"] - table["expected_entropy"], atol=1e-14)


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_equal_draws_know_the_same(scale):
    log_p = np.repeat(draws(scale=scale, shape=(1, 50, 5)), 6, axis=0)
    np.testing.assert_allclose(uncertainty(log_p)["mutual_information"], 0, atol=1e-15)
    np.testing.assert_array_equal(uncertainty(log_p[:1])["mutual_information"], 0)


def test_certain_draws_that_contradict_each_other():
    """K certain draws, each of its own class: nothing is open to any of them, log K to all together."""
    for classes in (2, 5):
        with np.errstate(divide="ignore"):
            log_p = np.log(np.eye(classes))[:, None, :]
        table = uncertainty(log_p)
        assert float(table["mutual_information"][0]) == pytest.approx(math.log(classes), rel=1e-14)
        assert float(table["entropy"][0]) == pytest.approx(math.log(classes), rel=1e-14)
        assert float(table["expected_entropy"][0]) == 0


def test_a_fair_coin_is_open_and_not_disagreed_about():
    table = uncertainty(np.full((9, 1, 2), math.log(0.5)))
    assert float(table["entropy"][0]) == pytest.approx(math.log(2), rel=1e-14)
    assert float(table["mutual_information"][0]) == pytest.approx(0, abs=1e-15)


def test_what_float32_would_round_away():
    """Nearly certain: p = 1 - e^-30. The entropy is about 31 e^-30; 1 - p in float32 is zero."""
    log_p = np.array([[[-math.exp(-30), -30.0]]])
    assert float(uncertainty(log_p)["entropy"][0]) == pytest.approx(31 * math.exp(-30), rel=0.02)


def test_dims_by_name():
    log_p = draws()
    named = xr.DataArray(log_p, dims=("draw", "point", "class")).transpose("class", "draw", "point")
    xr.testing.assert_identical(uncertainty(named), uncertainty(log_p))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (draws()[0], "Every draw predicts"),
        (draws() + 0.1, "sum to one"),
        (np.full((2, 3, 4), np.nan), "NaN"),
        (xr.DataArray(draws(), dims=("draw", "point", "axis")), "draw, point, class"),
        (np.zeros((0, 3, 4)), "Every draw predicts"),
    ],
)
def test_what_is_no_prediction_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        uncertainty(bad)


# ---- the area ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_the_area_is_a_comparison_of_all_pairs(decimals):
    """Also where most scores are equal."""
    rng = np.random.default_rng(decimals)
    low, high = rng.normal(0, 1, 40).round(decimals), rng.normal(0.7, 2, 31).round(decimals)
    pairs = (high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean()
    labels = np.repeat([0, 1], [40, 31])
    area, lower, upper = auroc(low, high)
    assert area == pytest.approx(pairs, rel=1e-13)
    assert area == pytest.approx(roc_auc_score(labels, np.concatenate([low, high])), rel=1e-13)
    assert area == pytest.approx(stats.mannwhitneyu(high, low).statistic / (40 * 31), rel=1e-13)
    assert 0 < lower < area < upper < 1


def test_the_interval_is_that_of_delong_by_brute_force():
    rng = np.random.default_rng(3)
    low, high = rng.normal(0, 1, 25).round(1), rng.normal(1, 1, 30).round(1)
    wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    error = math.sqrt(wins.mean(0).var(ddof=1) / 25 + wins.mean(1).var(ddof=1) / 30)
    area, *ends = auroc(low, high)
    half = 1.959963984540054 * error / (area * (1 - area))
    np.testing.assert_allclose(special.logit(ends), special.logit(area) + np.array([-half, half]), rtol=1e-12)


def test_negated_scores_and_swapped_sides_mirror_the_interval():
    rng = np.random.default_rng(1)
    low, high = rng.normal(size=20), rng.normal(1, size=30)
    area, lower, upper = auroc(low, high)
    expected = pytest.approx((1 - area, 1 - upper, 1 - lower), rel=1e-12)
    assert auroc(-low, -high) == expected
    assert auroc(high, low) == expected


@pytest.mark.parametrize(("distance", "spread"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.5, 3.0)])
def test_the_interval_covers_a_known_area(distance, spread):
    """Normal scores, also of unequal spread: the area is Phi(d / sqrt(1 + s^2)); 95% within four standard errors."""
    rng = np.random.default_rng(0)
    truth = stats.norm.cdf(distance / math.hypot(1, spread))
    ends = np.array([auroc(rng.normal(size=60), rng.normal(distance, spread, 80))[1:] for _ in range(3000)])
    coverage = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert coverage == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 3000))


def test_separated_scores_are_no_certainty():
    low, high = np.arange(10.0), np.arange(20.0, 35.0)
    area, lower, upper = auroc(low, high)
    assert (area, upper) == (1.0, 1.0)
    # Its own standard error by Hanley & McNeil 1982 with mean sample sizes, times z, reaches 1.
    q1, q2, count = lower / (2 - lower), 2 * lower**2 / (1 + lower), (10 + 15) / 2 - 1
    variance = (lower * (1 - lower) + count * (q1 - lower**2 + q2 - lower**2)) / (10 * 15)
    assert 1 - lower == pytest.approx(1.959963984540054 * math.sqrt(variance), rel=1e-9)
    assert auroc(high, low) == pytest.approx((0.0, 0.0, 1 - lower))
    assert auroc(low.repeat(20), high.repeat(20))[1] > lower


def test_no_scores_no_area():
    assert all(math.isnan(value) for value in auroc([], [1.0]))
    with pytest.raises(InputError, match="NaN"):
        auroc([math.nan], [1.0])
    with pytest.raises(InputError, match="level"):
        auroc([0.0], [1.0], level=1.0)


# ---- the detector --------------------------------------------------------------------------------------------------------


def test_the_detector_keeps_to_its_false_positives():
    rng = np.random.default_rng(0)
    clean, adversarial = rng.normal(size=200), rng.normal(2, size=50)
    table = detection(clean, adversarial)
    threshold = float(table["threshold"])
    assert (clean > threshold).sum() == 10
    assert float(table["false_positive_rate"]) == 0.05
    passed = int((adversarial <= threshold).sum())
    assert float(table["false_negative_rate"]) == passed / 50
    np.testing.assert_allclose(table["false_negative_interval"], binomial_interval(passed, 50))
    assert (float(table["auroc"]), *table["auroc_interval"].values) == auroc(clean, adversarial)


def test_the_threshold_of_normal_scores():
    """At d the share that passes is Phi(Phi^-1(0.95) - d)."""
    rng = np.random.default_rng(1)
    table = detection(rng.normal(size=200_000), rng.normal(1.5, size=200_000))
    assert float(table["false_negative_rate"]) == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.95) - 1.5), abs=0.005)


def test_equal_scores_pass():
    """One network has no mutual information: nothing is refused, not everything."""
    table = detection(np.zeros(30), np.zeros(20))
    assert float(table["false_positive_rate"]) == 0
    assert float(table["false_negative_rate"]) == 1
    assert float(table["auroc"]) == 0.5


def test_without_adversarial_points_nothing_is_known():
    table = detection(np.arange(100.0), [])
    assert math.isnan(float(table["auroc"]))
    assert math.isnan(float(table["false_negative_rate"]))
    assert float(table["threshold"]) == 94
    assert math.isnan(float(detection([], [1.0])["threshold"]))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_is_between_none_and_all(share):
    with pytest.raises(InputError, match="false_positives"):
        detection([0.0], [1.0], false_positives=share)


# ---- paired differences --------------------------------------------------------------------------------------------------


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    one = np.repeat([True, True, False, False], [both, first, second, neither])
    return one, np.repeat([True, False, True, False], [both, first, second, neither])


def test_uncorrelated_pairs_are_as_independent_ones():
    one, other = pairs(12, 28, 18, 42)  # 40% and 30%, independent
    assert paired_interval(one, other) == pytest.approx(difference_interval((40, 100), (30, 100)), rel=1e-12)


def test_the_paired_interval_is_the_formula():
    """Newcombe 1998, method 10: Wilson's limits put together by sqrt(a^2 - 2 phi a b + b^2)."""
    one, other = pairs(60, 20, 5, 15)
    (l1, u1), (l2, u2) = binomial_interval(80, 100), binomial_interval(65, 100)
    phi = (60 * 15 - 20 * 5 - 50) / math.sqrt(80 * 20 * 65 * 35)
    low = math.sqrt((0.8 - l1) ** 2 - 2 * phi * (0.8 - l1) * (u2 - 0.65) + (u2 - 0.65) ** 2)
    high = math.sqrt((u1 - 0.8) ** 2 - 2 * phi * (u1 - 0.8) * (0.65 - l2) + (0.65 - l2) ** 2)
    assert paired_interval(one, other) == pytest.approx((0.15 - low, 0.15 + high), rel=1e-12)


@pytest.mark.parametrize("cells", [(0.5, 0.2, 0.05, 0.25), (0.1, 0.7, 0.0, 0.2), (0.0, 0.9, 0.0, 0.1)])
def test_the_paired_interval_covers(cells):
    counts = np.random.default_rng(0).multinomial(80, cells, 400)
    ends = np.array([paired_interval(*pairs(*row)) for row in counts])
    coverage = ((ends[:, 0] <= cells[1] - cells[2]) & (cells[1] - cells[2] <= ends[:, 1])).mean()
    assert 0.92 < coverage < 0.995


def test_all_broken_by_one_and_none_by_the_other():
    low, high = paired_interval(np.ones(50, bool), np.zeros(50, bool))
    assert 0.8 < low < 1
    assert high == 1
    for bad in (np.ones(3, bool), np.ones((50, 1), bool), np.zeros(0, bool)):
        with pytest.raises(InputError, match="same points"):
            paired_interval(bad, np.ones(50, bool) if bad.size else bad)
