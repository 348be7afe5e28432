"""Study 15 at smoke scale: steps alike for all numbers of points, means of known accuracies, verdicts that follow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.studies.helpers import check_report, manifest, table, tree

STUDY = "data_and_epsilon"
pytestmark = pytest.mark.slow  # its smoke run trains and attacks many networks


def test_report_shows_everything(folder):
    check_report(folder)


@pytest.mark.parametrize(("count", "epochs"), [(200, 500), (1000, 125), (20_000, 7)])
def test_all_networks_take_as_many_steps(module, count, epochs):
    """1,000 steps: batches of 128, the last one smaller or all alike."""
    plain = module.Size().trainings(count)["plain"]
    assert plain.epochs == epochs
    assert 1000 <= epochs * -(-count // 128) < 1000 + -(-count // 128)


def known(module):
    """Two numbers of points, three trainings, two replicates, eps 0 and 0.1; accuracies written by hand."""
    values = np.zeros((2, 3, 2, 2))
    values[0, :, :, 0] = [[0.60, 0.70], [0.72, 0.822], [0.50, 0.601]]
    values[1, :, :, 0] = [[0.90, 0.92], [0.80, 0.822], [0.90, 0.93]]
    values[..., 1] = 0.1
    return module.gathered(values, ["plain", "PGD 0.1", "noise 0.1"], (100, 1000), (0.1,))


def test_means_and_intervals_are_over_replicates(module):
    result = known(module)["accuracy"].to_dataset()
    at = result.sel(training="plain", n_train=100, eps=0.0)
    assert float(at["accuracy"]) == pytest.approx(0.65)
    half = stats.t.ppf(0.975, 1) * 0.05
    np.testing.assert_allclose(at["accuracy_interval"], [0.65 - half if half < 0.65 else 0, min(1, 0.65 + half)], atol=1e-12)
    gain = result["gain"].sel(training="PGD 0.1")
    np.testing.assert_allclose(gain, [0.121, -0.099])
    np.testing.assert_allclose(result["gain_interval"].sel(training="PGD 0.1", n_train=100).mean(), 0.121)


def test_what_helps_and_what_costs_follows_from_the_intervals(module):
    """Differences 0.002 apart, around 0.1: the interval of two replicates stays clear of zero."""
    gained, noise, *_ = module.notes(known(module))
    assert "100 points 0.121 [0.108, 0.134] (helps)" in gained
    assert "1000 points -0.099 [-0.112, -0.086] (costs)" in gained
    assert "(costs)" in noise.split(";")[0]
    assert "(not to be told from none)" in noise.split(";")[1]


def test_accuracy_is_said_to_fall_with_the_eps_of_training_only_if_it_does(module):
    lines = [note for note in module.notes(known(module)) if "eps of training" in note]
    assert "does not fall throughout: 0.650, 0.771" in lines[0]
    assert "falls: 0.910, 0.811" in lines[1]


def test_every_network_is_in_the_tables(module, folder):
    size = module.SIZES["smoke"]
    rows = table(folder, "accuracy")
    assert len(rows) == len(size.counts) * len(size.trainings(1))
    every = tree(folder, "accuracy")["accuracy"]["every"]
    for row in rows.itertuples(index=False):
        values = every.sel(training=row.training, n_train=int(row.points), eps=0.0).values
        assert float(row[2].split()[0]) == pytest.approx(values.mean(), abs=6e-4)
    assert all(any(f"{name} less plain" in note for note in manifest(folder)["notes"]) for name in ("PGD 0.2", "noise 0.1"))


def test_replicates_have_their_own_points_and_smaller_sets_begin_larger_ones(module):
    seeds = [module.Replicates.member_seed(0, r) for r in (0, 1)]
    small, large = (module.loaded("digits", n, 100, seeds[0]) for n in (40, 400))
    assert (large.x_train[:40] == small.x_train).all()
    assert not (module.loaded("digits", 40, 100, seeds[1]).x_train == small.x_train).all()
