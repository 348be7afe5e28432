"""What an evaluation says of several attacks together, on a linear classifier where it is known who falls to whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data, evaluate, nets
from bayesrob.analysis import binomial_interval, robustness_curve
from bayesrob.attacks import BV, FGSM, JSMA, PGD, DeepFool, RandomSearch, SinglePixel, TargetedFGSM, Transfer
from bayesrob.evaluation.attacked import ball, own_norm
from bayesrob.predictive import HeldDraws

DISTANCE = np.array([0.02, 0.06, 0.09, 0.2, 0.02, 0.07, 0.09, 0.3, 0.05])
SIDE = np.array([1, 1, 1, 1, -1, -1, -1, -1, 1])
LABEL = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0])
"""The last point lies on the wrong side."""


@pytest.fixture
def classifier() -> HeldDraws:
    """Class 1 where the first component is above 0.5: in every norm the distance to the boundary is |x_0 - 0.5|."""
    weights = {"1.weight": torch.tensor([[[-4.0, 0.0], [4.0, 0.0]]]), "1.bias": torch.tensor([[2.0, -2.0]])}
    return HeldDraws(nets.mlp(2, (), 2), weights, bounds=(0, 1), input_shape=(2,))


@pytest.fixture
def dataset() -> data.Dataset:
    x = np.stack([0.5 + SIDE * DISTANCE, np.full(9, 0.4)], axis=1).astype(np.float32)
    return data.from_arrays(x, LABEL, x, LABEL, bounds=(0, 1))


@pytest.fixture
def tree(classifier, dataset) -> xr.DataTree:
    attacks = {
        "to 0": TargetedFGSM(eps=0.08, target=0),
        "to 1": TargetedFGSM(eps=0.08, target=1),
        "deepfool": DeepFool(),
        "l_2": FGSM(eps=0.25, norm="l_2"),
    }
    return evaluate(classifier, dataset, attacks, num_points=None, level=0.9)


def test_each_attack_breaks_one_class_and_the_worst_case_both(tree):
    found, points = tree["robustness"].to_dataset(), tree["points"].to_dataset()
    right = points["adversarial_log_probability"].argmax("class") == points["label"]
    near, lies_right = DISTANCE <= 0.08, np.where(LABEL == 1, 1, -1) == SIDE
    np.testing.assert_array_equal(right.sel(attack="to 0"), np.where(LABEL == 1, lies_right & ~near, lies_right | near))
    np.testing.assert_array_equal(right.sel(attack="to 1"), np.where(LABEL == 0, lies_right & ~near, True))
    assert found["threat"].values.tolist() == ["l_inf <= 0.08", "l_2 <= 0.25"]
    robust = points["robust"]
    # DeepFool's 1.02 * 0.09 is outside of 0.08; the l_2 attack goes far.
    np.testing.assert_array_equal(robust.sel(threat="l_inf <= 0.08"), lies_right & ~near)
    np.testing.assert_array_equal(robust.sel(threat="l_2 <= 0.25"), lies_right & (DISTANCE > 0.25))
    assert found["worst_case_accuracy"].values.tolist() == [4 / 9, 1 / 9]
    for where, count in enumerate((4, 1)):
        np.testing.assert_allclose(found["worst_case_accuracy_interval"][where], binomial_interval(count, 9, 0.9))


def test_a_smallest_perturbation_inside_the_ball_counts(classifier, dataset):
    attacks = {"to 0": TargetedFGSM(eps=0.08, target=0), "deepfool": DeepFool()}
    alone = evaluate(classifier, dataset, {"to 0": attacks["to 0"]}, num_points=None)["points"]["robust"]
    both = evaluate(classifier, dataset, attacks, num_points=None)["points"]["robust"]
    right = np.where(LABEL == 1, 1, -1) == SIDE
    near = DISTANCE <= 0.08
    np.testing.assert_array_equal(alone[0], right & ~(near & (LABEL == 1)))
    np.testing.assert_array_equal(both[0], right & ~near)


def test_smallest_perturbations_are_the_distances(tree):
    """DeepFool on a linear model: 1.02 times the distance, found at once."""
    points, found = tree["points"].to_dataset(), tree["robustness"].to_dataset()
    smallest = points["smallest_perturbation"].sel(attack="deepfool")
    expected = np.where(np.arange(9) == 8, 0.0, 1.02 * DISTANCE)
    np.testing.assert_allclose(smallest, expected, rtol=1e-4, atol=1e-7)
    at = found.sel(attack="deepfool")
    assert float(at["median_perturbation"]) == pytest.approx(1.02 * np.median(DISTANCE[:8]), rel=1e-4)
    assert at["median_perturbation_interval"].values[0] <= float(at["median_perturbation"])
    for name in ("to 0", "to 1", "l_2"):
        assert points["smallest_perturbation"].sel(attack=name).isnull().all()
        assert np.isnan(found["median_perturbation"].sel(attack=name))
    curve = robustness_curve(smallest, eps=[0.0, 0.05, 0.1, 0.5])
    np.testing.assert_allclose(curve["accuracy"], np.array([8, 6, 2, 0]) / 9)
    assert float(curve["accuracy"][0]) == float(found["accuracy"])


def test_perturbations_are_measured_in_every_norm(tree):
    points = tree["points"].to_dataset().sel(attack="to 0")
    for norm, size in (("l_inf", 0.08), ("l_2", 0.08), ("l_1", 0.08), ("l_0", 1.0)):
        np.testing.assert_allclose(points[f"perturbation_{norm}"], np.full(9, size), rtol=1e-5)


def test_costs_are_the_attack_s_own(classifier, dataset):
    attacks = {"pgd": PGD(steps=7), "search": RandomSearch(samples=40), "deepfool": DeepFool()}
    tree = evaluate(classifier, dataset, attacks, num_points=None, batch_size=4, seed=2)
    points, found = tree["points"].to_dataset(), tree["robustness"].to_dataset()
    assert (points["gradients"].sel(attack="pgd") == 7).all()
    assert (points["queries"].sel(attack="pgd") == 0).all()
    assert (points["gradients"].sel(attack="search") == 0).all()
    assert int(points["queries"].sel(attack="search").min()) >= 1
    assert int(points["queries"].sel(attack="search").max()) <= 40
    assert int(points["gradients"].sel(attack="deepfool")[8]) == 0  # wrong already
    for name in ("queries", "gradients"):
        np.testing.assert_allclose(found[name], points[name].mean("point"))
        assert points[name].dtype == np.int64
    assert (found["seconds"] > 0).all()
    assert "seconds" in found.coords  # not in the data, which are the same each time
    assert (found["seconds"] < 60).all()


def test_what_leaves_the_bounds_breaks_nothing_inside_them(classifier, dataset):
    """An unclipped step along the first component alone, longer the nearer the boundary is."""
    attacks = {"ball": FGSM(eps=5.0), "unclipped": BV(eps=0.15)}
    points = evaluate(classifier, dataset, attacks, num_points=None)["points"].to_dataset()
    inside = points["inside_bounds"].sel(attack="unclipped").values
    assert points["inside_bounds"].sel(attack="ball").all()
    moved = dataset.x_test.numpy()[:, 0] + np.where(LABEL == 1, -1, 1) * points["perturbation_l_inf"].sel(attack="unclipped")
    np.testing.assert_array_equal(inside, (moved >= 0) & (moved <= 1))
    assert 0 < inside.sum() < 9


def test_balls_and_norms_of_attacks():
    assert ball(PGD(eps=0.2, norm="l_2")) == ("l_2", 0.2)
    assert ball(Transfer(attack=PGD(eps=1))) == ("l_inf", 1.0)
    for attack, norm in ((DeepFool(), "l_2"), (DeepFool(norm="l_1"), "l_1"), (JSMA(), "l_0"), (SinglePixel(), "l_0")):
        assert ball(attack) is None
        assert own_norm(attack) == norm
    assert own_norm(Transfer(attack=DeepFool())) == "l_2"
    assert own_norm(PGD()) is None
    assert ball(BV()) is None
    assert own_norm(BV()) is None
