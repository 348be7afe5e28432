"""Curves of accuracy against eps, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from bayesrob.analysis import (
    binomial_interval,
    median_interval,
    median_perturbation,
    robustness_curve,
    smallest_perturbation,
)
from bayesrob.errors import InputError

INF = math.inf


def perturbations(*rows, **coords) -> xr.DataArray:
    names = coords or {"attack": [f"a{i}" for i in range(len(rows))]}
    (dim,) = names
    return xr.DataArray(np.array(rows, dtype=float), dims=(dim, "point"), coords=names)


@pytest.fixture
def points() -> xr.Dataset:
    """Point 0 falls at 0.3, 1 is wrong before, 2 stands, 3 falls at 0.7 (l_2; twice that in l_1); the attack "ball" too."""
    right, wrong = [np.log(0.9), np.log(0.1)], [np.log(0.2), np.log(0.8)]
    after = [wrong, wrong, right, wrong]
    return xr.Dataset(
        {
            "label": ("point", [0, 0, 0, 0]),
            "log_probability": (("point", "class"), [right, wrong, right, right]),
            "adversarial_log_probability": (("attack", "point", "class"), [after, after, after]),
            "perturbation_l_2": (("attack", "point"), [[0.3, 0.5, 0.6, 0.7]] * 3),
            "perturbation_l_1": (("attack", "point"), [[0.6, 1.0, 1.2, 1.4]] * 3),
        },
        coords={"attack": ["near", "ball", "sum"], "point": [10, 11, 12, 13]},
    )


def test_smallest_perturbations_by_hand(points):
    smallest = smallest_perturbation(points, {"near": "l_2", "sum": "l_1"})
    np.testing.assert_array_equal(smallest.sel(attack="near"), [0.3, 0.0, INF, 0.7])
    np.testing.assert_array_equal(smallest.sel(attack="sum"), [0.6, 0.0, INF, 1.4])
    assert smallest.sel(attack="ball").isnull().all()
    np.testing.assert_array_equal(smallest["point"], [10, 11, 12, 13])


def test_dimensions_in_another_order_are_the_same(points):
    turned = points.transpose("class", "point", "attack")
    xr.testing.assert_identical(
        smallest_perturbation(turned, {"near": "l_2"}), smallest_perturbation(points, {"near": "l_2"})
    )


def test_a_curve_by_hand():
    """Of five points one is wrong at once, two fall at 0.1 and 0.2, one at 0.2 too, one never."""
    curve = robustness_curve(perturbations([0.0, 0.1, 0.2, 0.2, INF]), level=0.9).sel(attack="a0")
    np.testing.assert_array_equal(curve["eps"], [0.0, 0.1, 0.2])
    # A perturbation of exactly eps is one of norm <= eps.
    np.testing.assert_allclose(curve["accuracy"], [0.8, 0.6, 0.2])
    for where, standing in enumerate((4, 3, 1)):
        np.testing.assert_allclose(curve["accuracy_interval"][where], binomial_interval(standing, 5, 0.9))
    assert curve.attrs == {"level": 0.9, "num_points": 5}


def test_a_curve_where_it_is_asked_for():
    curve = robustness_curve(perturbations([0.1, 0.2, INF, INF]), eps=[0.05, 0.1, 0.15, 3.0])
    np.testing.assert_allclose(curve["accuracy"][0], [1.0, 0.75, 0.75, 0.5])


def test_several_attacks_share_an_axis_and_their_best_lies_below_each():
    rows = perturbations([0.1, INF, 0.3], [INF, 0.2, 0.1])
    both = robustness_curve(rows)
    np.testing.assert_array_equal(both["eps"], [0.0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(both["accuracy"], np.array([[3, 2, 2, 1], [3, 2, 1, 1]]) / 3)
    best = robustness_curve(rows.min("attack"), eps=both["eps"].values)
    assert best["accuracy"].dims == ("eps",)
    np.testing.assert_allclose(best["accuracy"], np.array([3, 1, 0, 0]) / 3)
    assert (best["accuracy"] <= both["accuracy"]).all()


def test_other_dimensions_are_kept():
    values = xr.DataArray(np.full((2, 4, 3), 0.5), dims=("point", "posterior", "attack"), coords={"attack": list("xyz")})
    curve = robustness_curve(values, eps=[0, 1])
    assert curve["accuracy"].sizes == {"posterior": 4, "attack": 3, "eps": 2}
    assert curve["accuracy_interval"].sizes == {"posterior": 4, "attack": 3, "eps": 2, "bound": 2}
    assert (curve["accuracy"].sel(eps=0) == 1).all()
    assert (curve["accuracy"].sel(eps=1) == 0).all()


def test_nothing_found_is_a_flat_line():
    curve = robustness_curve(perturbations([INF, INF]))
    np.testing.assert_array_equal(curve["eps"], [0.0])
    assert float(curve["accuracy"].item()) == 1.0


@pytest.mark.parametrize("bad", [[np.nan, 0.1], [-0.1, 0.1], []])
def test_what_is_no_smallest_perturbation_is_refused(bad):
    with pytest.raises(InputError, match="empty, negative or NaN"):
        robustness_curve(perturbations(bad))


@pytest.mark.parametrize("eps", [[], [0.2, 0.1], [0.1, 0.1], [-0.1, 0.1], [0.1, INF], [[0.1]]])
def test_eps_that_do_not_increase_are_refused(eps):
    with pytest.raises(InputError, match="Give increasing numbers"):
        robustness_curve(perturbations([0.1]), eps=eps)


def test_medians_by_hand():
    rows = perturbations(
        [0.0, 0.1, 0.3, 0.2, 0.0],  # of the three that were right
        [0.4, 0.1, 0.3, 0.2, 0.0],  # of four: between the middle ones
        [INF, 0.1, INF, 0.2, 0.0],  # half of four failed
        [INF, INF, INF, 0.2, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],  # none was right
        [np.nan] * 5,
    )
    medians = median_perturbation(rows, level=0.8)
    np.testing.assert_allclose(medians["median_perturbation"], [0.2, 0.25, INF, INF, np.nan, np.nan])
    interval = medians["median_perturbation_interval"]
    np.testing.assert_allclose(interval[1], median_interval(np.array([0.1, 0.2, 0.3, 0.4]), 0.8))
    np.testing.assert_allclose(interval[3], median_interval(np.array([0.2, INF, INF, INF]), 0.8))
    assert np.isnan(interval[4:]).all()
    assert medians["bound"].values.tolist() == ["lower", "upper"]


def test_a_median_beside_infinity_is_no_nan():
    medians = median_perturbation(perturbations([0.1, INF], [INF, INF], [0.1, 0.1, INF][:2]))
    np.testing.assert_array_equal(medians["median_perturbation"], [INF, INF, 0.1])


def test_no_attacks():
    nothing = xr.DataArray(np.zeros((0, 3)), dims=("attack", "point"), coords={"attack": np.zeros(0)})
    assert median_perturbation(nothing)["median_perturbation_interval"].shape == (0, 2)
