"""Study 13 at smoke scale: exact robust accuracies, shares of known weights, tables of the tree's numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.studies.helpers import check_report, manifest, shared, table, tree

STUDY = "linear_digits"


def test_report_shows_everything(folder):
    check_report(folder)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_worst_margins_are_those_of_the_worst_corner(module, bounds):
    """The ball's corners, each moved into the bounds, hold the least of a linear function."""
    rng = np.random.default_rng(0)
    x, y, w, b, eps = rng.uniform(size=(20, 4)), rng.integers(0, 2, 20), np.array([2.0, -1.0, 0.0, 0.5]), -0.3, 0.4
    corners = x + eps * np.array(list(itertools.product((-1, 1), repeat=4)))[:, None]
    if bounds is not None:
        corners = corners.clip(*bounds)
    least = ((2 * y - 1) * (corners @ w + b)).min(0)
    np.testing.assert_allclose(module.worst_margins(w, b, x, y, eps=eps, bounds=bounds), least)


def test_without_bounds_the_worst_costs_eps_times_the_l_1_norm(module):
    rng = np.random.default_rng(1)
    x, y, w = rng.normal(size=(9, 5)), rng.integers(0, 2, 9), rng.normal(size=5)
    result = module.worst_margins(w, 0.2, x, y, eps=0.3, bounds=None)
    np.testing.assert_allclose(result, (2 * y - 1) * (x @ w + 0.2) - 0.3 * np.abs(w).sum())


def test_correlations_are_pearson_s_and_constants_have_none(module):
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 50)
    x = np.stack([y + rng.normal(size=50), 1.0 - y, np.full(50, 0.3)], axis=1)
    result = module.correlations(x, y)
    np.testing.assert_allclose(result[:2], [np.corrcoef(x[:, 0], y)[0, 1], -1])
    assert np.isnan(result[2])


def test_use_of_weights_whose_spread_is_known(module):
    use = shared("linear_weights").use

    correlation, deviation = np.array([0.1, -0.2, 0.3, -0.4, np.nan]), np.array([1.0, 1.0, 2.0, 2.0, 0.0])
    result = use(np.array([-1.0, 2.0, -3.0, 4.0, 100.0]), correlation, deviation)
    assert result["rank correlation"] == pytest.approx(1)
    assert result["share on the weak half"] == pytest.approx(0.3)  # 1 and 2 of 10
    assert result["share, weight x deviation"] == pytest.approx(3 / 17)
    assert use(-np.array([4.0, 3, 2, 1, 0]), correlation, deviation)["rank correlation"] == pytest.approx(-1)


def test_attacks_find_what_is_exact(module, folder):
    rows = table(folder, "attacks").set_index("classifier")
    linear = rows.drop("HMC")
    assert linear["FGSM 0.1"].tolist() == linear["exact"].tolist()
    notes = manifest(folder)["notes"]
    names = list(module.trainings(module.SIZES["smoke"]))
    assert all(any(note.startswith(f"{name}: FGSM") and "disagree at 0 of" in note for note in notes) for name in names)
    exact = table(folder, "accuracy").set_index("classifier").loc[names, "eps 0.1"]
    assert exact.tolist() == linear.loc[names, "exact"].tolist()


def test_weights_are_tabled_as_the_tree_holds_them(module, folder):
    use = shared("linear_weights").use

    features = tree(folder, "features")["features"].to_dataset()
    rows = table(folder, "weights").set_index("classifier")
    for name in features["model"].values.tolist():
        result = use(
            features["weights"].sel(model=name).values, features["correlation"].values, features["deviation"].values
        )
        for key, value in result.items():
            assert float(rows.loc[name, key].split()[0]) == pytest.approx(value, abs=6e-4)


def test_robust_training_is_more_robust_on_its_own_ball(folder):
    rows = table(folder, "accuracy").set_index("classifier")["eps 0.2"]
    assert float(rows["robust 0.2"].split()[0]) > float(rows["plain"].split()[0]) + 0.3
