"""Robustness against hand counts and a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from bayesrob.analysis import binomial_interval, mean_interval, robust_points, robustness, worst_case
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
    accuracies = robustness(*by_hand)
    assert float(accuracies.accuracy) == 0.5  # the last two are wrong
    # All points count: the first falls, the third is wrong before and right after, the fourth is wrong throughout.
    assert accuracies.adversarial_accuracy.sel(attack="a") == 0.5
    assert accuracies.adversarial_accuracy.sel(attack="none") == 0.5
    # 1 - mean of the largest changes 0.5, 0, 0.3, 0.
    assert float(accuracies.softmax_robustness.sel(attack="a")) == pytest.approx(0.8)
    assert accuracies.softmax_robustness.sel(attack="none") == 1.0
    assert accuracies.attrs == {"level": 0.95, "num_points": 4}


def test_a_point_wrong_before_and_after_counts_as_fooled(by_hand):
    clean, adversarial, labels = (values.isel(point=[3]) for values in by_hand)
    accuracies = robustness(clean, adversarial, labels)
    assert float(accuracies.accuracy) == 0.0
    assert (accuracies.adversarial_accuracy == 0.0).all()


def test_equals_a_loop():
    rng = np.random.default_rng(0)
    clean = rng.dirichlet(np.ones(5), size=40)
    adversarial = rng.dirichlet(np.ones(5), size=(3, 40))
    labels = rng.integers(5, size=40)
    names = ["x", "y", "z"]
    accuracies = robustness(
        logs(clean, "point", "class"),
        logs(adversarial, "attack", "point", "class", attack=names),
        xr.DataArray(labels, dims="point"),
        level=0.9,
    )
    right = [int(max(range(5), key=lambda c, n=n: clean[n][c]) == labels[n]) for n in range(40)]
    assert float(accuracies.accuracy) == sum(right) / 40
    assert accuracies.accuracy_interval.values == pytest.approx(binomial_interval(sum(right), 40, 0.9))
    for a, name in enumerate(names):
        one = accuracies.sel(attack=name)
        survived, kept = 0, []
        for n in range(40):
            survived += max(range(5), key=lambda c, n=n: adversarial[a][n][c]) == labels[n]
            kept.append(1 - max(abs(clean[n][c] - adversarial[a][n][c]) for c in range(5)))
        assert float(one.adversarial_accuracy) == survived / 40
        assert float(one.softmax_robustness) == pytest.approx(sum(kept) / 40)
        assert one.adversarial_accuracy_interval.values == pytest.approx(binomial_interval(survived, 40, 0.9))
        assert one.softmax_robustness_interval.values == pytest.approx(mean_interval(np.array(kept), 0.9))
    assert accuracies["bound"].values.tolist() == ["lower", "upper"]


def test_total_reversal_has_no_robustness():
    """Certain of one class, then of the other: zero, which double softmax could never give."""
    accuracies = robustness(
        logs([[1 - 1e-12, 1e-12]], "point", "class"),
        logs([[[1e-12, 1 - 1e-12]]], "attack", "point", "class", attack=["a"]),
        xr.DataArray([0], dims="point"),
    )
    assert accuracies.softmax_robustness.item() == pytest.approx(0.0, abs=1e-9)


def test_robustness_interval_stays_in_the_unit_interval(by_hand):
    interval = robustness(*by_hand).softmax_robustness_interval.sel(attack="a")
    assert interval.sel(bound="upper") == 1.0  # the t interval alone would go beyond
    assert 0 <= interval.sel(bound="lower") < 0.8


def test_one_point_has_no_interval_for_its_mean(by_hand):
    accuracies = robustness(*(values.isel(point=[0]) for values in by_hand))
    assert np.isnan(accuracies.softmax_robustness_interval).all()
    assert np.isfinite(accuracies.adversarial_accuracy_interval).all()


def test_impossible_classes_are_fine():
    """A log probability of minus infinity is a probability of zero, no error."""
    clean = xr.DataArray([[0.0, -math.inf]], dims=("point", "class"))
    adversarial = xr.DataArray([[[-math.inf, 0.0]]], dims=("attack", "point", "class"), coords={"attack": ["a"]})
    accuracies = robustness(clean, adversarial, xr.DataArray([0], dims="point"))
    assert accuracies.softmax_robustness.item() == 0.0
    assert accuracies.adversarial_accuracy.item() == 0.0


def test_no_attacks(by_hand):
    clean, adversarial, labels = by_hand
    accuracies = robustness(clean, adversarial.isel(attack=[]), labels)
    assert accuracies.sizes["attack"] == 0
    assert float(accuracies.accuracy) == 0.5


@pytest.mark.parametrize(("which", "name"), [(0, "clean"), (1, "adversarial")])
def test_nan_is_an_error(by_hand, which, name):
    arrays = [values.copy() for values in by_hand]
    arrays[which][..., 2, 0] = np.nan
    with pytest.raises(InputError, match=f"{name} predictions are NaN"):
        robustness(*arrays)


# ---- worst case ----------------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "far", "near", "wider"]
BALLS = {"a": ("l_inf", 0.1), "b": ("l_inf", 0.1), "wider": ("l_2", 0.5)}


@pytest.fixture
def run() -> xr.Dataset:
    """Seven points, all of class 0. "a" and "b" stay in l_inf <= 0.1, "wider" in l_2 <= 0.5; "near", "far" in no ball."""
    wrong_before = [0, 0, 0, 0, 0, 0, 1]
    wrong_after = {
        "a": [1, 0, 0, 0, 0, 0, 0],  # the last one it puts right
        "b": [0, 1, 0, 0, 0, 0, 0],
        "far": [0, 0, 1, 0, 0, 1, 0],  # in l_inf at 0.3; the sixth at 0.05 but out of the bounds
        "near": [0, 0, 0, 1, 0, 0, 0],  # in l_inf at 0.1 and a rounding error
        "wider": [0, 0, 0, 0, 1, 0, 0],  # in l_inf at 0.3
    }
    sizes = {"a": 0.1, "b": 0.1, "far": 0.3, "near": 0.1 + 4e-7, "wider": 0.3}
    l_inf = np.array([[sizes[name]] * 7 for name in NAMES])
    l_inf[2, 5] = 0.05
    inside = np.ones((5, 7), dtype=bool)
    inside[2, 5] = False

    def predictions(wrong):
        return np.log(np.where(np.array(wrong)[..., None] == [0, 1], 0.9, 0.1))

    return xr.Dataset(
        {
            "label": ("point", [0] * 7),
            "log_probability": (("point", "class"), predictions(wrong_before)),
            "adversarial_log_probability": (("attack", "point", "class"), predictions([wrong_after[n] for n in NAMES])),
            "perturbation_l_inf": (("attack", "point"), l_inf),
            "perturbation_l_2": (("attack", "point"), 2 * l_inf),
            "inside_bounds": (("attack", "point"), inside),
        },
        coords={"attack": NAMES, "point": np.arange(7) * 10},
    )


def test_the_worst_case_by_hand(run):
    robust = robust_points(run, BALLS)
    assert robust["threat"].values.tolist() == ["l_inf <= 0.1", "l_2 <= 0.5"]
    assert robust["norm"].values.tolist() == ["l_inf", "l_2"]
    assert robust["eps"].values.tolist() == [0.1, 0.5]
    # The fifth falls only to an attack that goes further; the last was wrong to begin with.
    np.testing.assert_array_equal(robust.sel(threat="l_inf <= 0.1"), [0, 0, 1, 0, 1, 1, 0])
    # "wider" itself ends at 0.6 by this record: its own ball is not measured again. What "a", "b", "near" found is inside.
    np.testing.assert_array_equal(robust.sel(threat="l_2 <= 0.5"), [0, 0, 1, 0, 0, 1, 0])
    scores = worst_case(robust, level=0.9)
    np.testing.assert_allclose(scores["worst_case_accuracy"], [3 / 7, 2 / 7])
    np.testing.assert_allclose(scores["worst_case_accuracy_interval"][0], binomial_interval(3, 7, 0.9))
    assert scores["bound"].values.tolist() == ["lower", "upper"]
    turned = robust_points(run.transpose("class", "point", "attack"), BALLS)
    xr.testing.assert_identical(turned, robust)


def test_the_worst_case_is_at_most_each_attack_s(run):
    accuracies = robustness(run["log_probability"], run["adversarial_log_probability"], run["label"])
    scores = worst_case(robust_points(run, BALLS))
    assert float(scores["worst_case_accuracy"][0]) <= float(accuracies["adversarial_accuracy"].sel(attack=["a", "b"]).min())
    assert float(scores["worst_case_accuracy"].max()) <= float(accuracies["accuracy"])


def test_the_worst_case_of_a_larger_ball_is_no_larger(run):
    balls = {"a": ("l_inf", 0.1), "wider": ("l_inf", 0.3)}
    small, large = robust_points(run, balls)
    assert (large <= small).all()
    np.testing.assert_array_equal(large, [0, 0, 0, 0, 0, 1, 0])


def test_without_balls_there_is_no_threat(run):
    scores = worst_case(robust_points(run, {}))
    assert scores.sizes["threat"] == 0
    assert scores["worst_case_accuracy_interval"].shape == (0, 2)
