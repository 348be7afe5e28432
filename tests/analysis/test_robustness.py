"""Robustness against hand counts and a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from bayesrob.analysis import binomial_interval, mean_interval, robustness
from bayesrob.errors import InputError


def logs(probabilities, *dims, **coords):
    return xr.DataArray(np.log(np.array(probabilities, dtype=np.float64)), dims=dims, coords=coords)


@pytest.fixture
def by_hand():
    """Four points. Attack "a" flips one right point, rights one wrong point, and leaves two; "none" changes nothing."""
    clean = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]
    attacked = [[0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3]]
    labels = xr.DataArray([0, 1, 1, 1], dims="point")
    return (
        logs(clean, "point", "class"),
        logs([attacked, clean], "attack", "point", "class", attack=["a", "none"]),
        labels,
    )


def test_by_hand(by_hand):
    found = robustness(*by_hand)
    assert float(found.accuracy) == 0.5  # the last two are wrong
    # All points count: the first falls, the third is wrong before and right after, the fourth is wrong throughout.
    assert found.adversarial_accuracy.sel(attack="a") == 0.5
    assert found.adversarial_accuracy.sel(attack="none") == 0.5
    # 1 - mean of the largest changes 0.5, 0, 0.3, 0.
    assert float(found.softmax_robustness.sel(attack="a")) == pytest.approx(0.8)
    assert found.softmax_robustness.sel(attack="none") == 1.0
    assert found.attrs == {"level": 0.95, "num_points": 4}


def test_a_point_wrong_before_and_after_counts_as_fooled(by_hand):
    clean, adversarial, labels = (values.isel(point=[3]) for values in by_hand)
    found = robustness(clean, adversarial, labels)
    assert float(found.accuracy) == 0.0
    assert (found.adversarial_accuracy == 0.0).all()


def test_equals_a_loop():
    rng = np.random.default_rng(0)
    clean = rng.dirichlet(np.ones(5), size=40)
    adversarial = rng.dirichlet(np.ones(5), size=(3, 40))
    labels = rng.integers(5, size=40)
    names = ["x", "y", "z"]
    found = robustness(
        logs(clean, "point", "class"),
        logs(adversarial, "attack", "point", "class", attack=names),
        xr.DataArray(labels, dims="point"),
        level=0.9,
    )
    right = [int(max(range(5), key=lambda c, n=n: clean[n][c]) == labels[n]) for n in range(40)]
    assert float(found.accuracy) == sum(right) / 40
    assert found.accuracy_interval.values == pytest.approx(binomial_interval(sum(right), 40, 0.9))
    for a, name in enumerate(names):
        one = found.sel(attack=name)
        survived, kept = 0, []
        for n in range(40):
            survived += max(range(5), key=lambda c, n=n: adversarial[a][n][c]) == labels[n]
            kept.append(1 - max(abs(clean[n][c] - adversarial[a][n][c]) for c in range(5)))
        assert float(one.adversarial_accuracy) == survived / 40
        assert float(one.softmax_robustness) == pytest.approx(sum(kept) / 40)
        assert one.adversarial_accuracy_interval.values == pytest.approx(binomial_interval(survived, 40, 0.9))
        assert one.softmax_robustness_interval.values == pytest.approx(mean_interval(np.array(kept), 0.9))
    assert found["bound"].values.tolist() == ["lower", "upper"]


def test_total_reversal_has_no_robustness():
    """Certain of one class, then of the other: zero, which double softmax could never give."""
    found = robustness(
        logs([[1 - 1e-12, 1e-12]], "point", "class"),
        logs([[[1e-12, 1 - 1e-12]]], "attack", "point", "class", attack=["a"]),
        xr.DataArray([0], dims="point"),
    )
    assert found.softmax_robustness.item() == pytest.approx(0.0, abs=1e-9)


def test_robustness_interval_stays_in_the_unit_interval(by_hand):
    interval = robustness(*by_hand).softmax_robustness_interval.sel(attack="a")
    assert interval.sel(bound="upper") == 1.0  # the t interval alone would go beyond
    assert 0 <= interval.sel(bound="lower") < 0.8


def test_one_point_has_no_interval_for_its_mean(by_hand):
    found = robustness(*(values.isel(point=[0]) for values in by_hand))
    assert np.isnan(found.softmax_robustness_interval).all()
    assert np.isfinite(found.adversarial_accuracy_interval).all()


def test_impossible_classes_are_fine():
    """A log probability of minus infinity is a probability of zero, no error."""
    clean = xr.DataArray([[0.0, -math.inf]], dims=("point", "class"))
    adversarial = xr.DataArray([[[-math.inf, 0.0]]], dims=("attack", "point", "class"), coords={"attack": ["a"]})
    found = robustness(clean, adversarial, xr.DataArray([0], dims="point"))
    assert found.softmax_robustness.item() == 0.0
    assert found.adversarial_accuracy.item() == 0.0


def test_no_attacks(by_hand):
    clean, adversarial, labels = by_hand
    found = robustness(clean, adversarial.isel(attack=[]), labels)
    assert found.sizes["attack"] == 0
    assert float(found.accuracy) == 0.5


@pytest.mark.parametrize(("which", "name"), [(0, "clean"), (1, "adversarial")])
def test_nan_is_an_error(by_hand, which, name):
    arrays = [values.copy() for values in by_hand]
    arrays[which][..., 2, 0] = np.nan
    with pytest.raises(InputError, match=f"{name} predictions are NaN"):
        robustness(*arrays)
