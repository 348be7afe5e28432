"""The checks of an evaluation: cases made by hand, whose answer is known."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import xarray as xr

import bayesrob as br
from bayesrob import evaluate
from bayesrob.attacks import FGSM, PGD, DeepFool, Random, RandomSearch, Square, Transfer
from bayesrob.auditing import CHECKS
from bayesrob.evaluation.verdict import answered
from bayesrob.predictive import HeldDraws
from tests.evaluation.judged import EPS, NEAR_AND_FAR, GivesUp, Moved, found, linear, points, said, worst

# ---- each check against known numbers -----------------------------------------------------------------------------------


def test_another_objective_that_leaves_less_is_named_with_its_figure():
    tree = evaluate(linear(), NEAR_AND_FAR, {"still": Moved(), "fgsm": FGSM(eps=EPS), "pgd": PGD(eps=EPS)})
    assert float(found(tree, "objectives", "still")["value"]) == 0.5
    assert "others in this ball leave pgd 0.500" in found(tree, "objectives", "still")["reason"].item()
    assert said(tree, "still") == "doubtful because of objectives, single_step"
    assert said(tree, "pgd") == said(tree, "fgsm") == "believed"  # one step is all that a linear model asks for
    assert worst(tree) == "believed"  # a weak attack beside it is no scandal


def test_attacks_in_other_balls_are_not_compared():
    tree = evaluate(linear(), NEAR_AND_FAR, {"still": Moved(eps=0.3), "pgd": PGD(eps=EPS)})
    assert found(tree, "objectives", "still")["status"].item() == "not_applicable"


def test_smallest_perturbations_count_where_they_end_in_the_ball():
    tree = evaluate(linear(), NEAR_AND_FAR, {"still": Moved(), "deepfool": DeepFool(norm="l_inf")})
    assert "deepfool 0.500" in found(tree, "objectives", "still")["reason"].item()


@pytest.mark.parametrize(
    ("other", "check"),
    [
        (Square(eps=EPS, queries=200), "gradient_free"),
        (RandomSearch(eps=EPS, samples=200), "random_search"),
        (Transfer(surrogate=linear(), attack=PGD(eps=EPS)), "transfer"),
        (FGSM(eps=EPS), "single_step"),
    ],
)
def test_what_beats_an_attack_by_half_of_the_points(other, check):
    tree = evaluate(linear(), points(0.04, 0.2), {"still": Moved(), "other": other})
    assert float(found(tree, check, "still")["value"]) == 0.5
    assert check in said(tree, "still")


def test_accuracy_that_rises_with_the_radius_is_doubted_by_how_much():
    attacks = {"near": PGD(eps=0.1), "far": PGD(eps=0.3), "still": Moved(), "farther": Moved(eps=0.3)}
    tree = evaluate(linear(), NEAR_AND_FAR, attacks)
    assert float(found(tree, "accuracy_falls", "near")["value"]) == -0.5
    assert "1.000 at 0, 0.500 at 0.1, 0.000 at 0.3" in found(tree, "accuracy_falls", "far")["reason"].item()
    rising = evaluate(linear(), points(-0.05, 0.2), {"a": Moved(by=-0.06), "b": Moved(by=0.25, eps=0.3)})
    assert float(found(rising, "accuracy_falls", "a")["value"]) == 0.5  # from none to the first radius


def test_chance_at_grey_and_nothing_without_a_bound():
    tree = evaluate(linear(), NEAR_AND_FAR, {"grey": Moved(eps=0.5), "all": Moved(eps=1.0)})
    assert float(found(tree, "accuracy_falls", "grey")["value"]) == 1.0
    assert said(tree, "grey").endswith("accuracy_falls")


def test_an_attack_that_no_radius_stops_must_leave_nothing():
    """DeepFool reaches every point of a linear model; to give up at the farther half is no robustness."""
    attacks = {"deepfool": DeepFool(norm="l_inf"), "gives up": GivesUp()}
    tree = evaluate(linear(), NEAR_AND_FAR, attacks)
    assert said(tree, "deepfool") == "believed"
    assert float(found(tree, "accuracy_falls", "deepfool")["value"]) == 0.0
    assert float(found(tree, "accuracy_falls", "gives up")["value"]) == 0.5
    assert said(tree, "gives up").endswith("accuracy_falls")


def test_a_step_larger_than_the_ball():
    tree = evaluate(linear(), NEAR_AND_FAR, {"leaps": PGD(eps=EPS, step_size=2.0), "pgd": PGD(eps=EPS, step_size=0.1)})
    assert said(tree, "leaps") == "doubtful because of convergence"
    assert "step of 2 is larger than the radius 0.1" in found(tree, "convergence", "leaps")["reason"].item()
    assert said(tree, "pgd") == worst(tree) == "believed"


@pytest.mark.parametrize(("draws", "passed"), [(1, False), (3, False), (4, True), (None, True)])
def test_fewer_draws_attacked_than_scored(draws, passed):
    rival = PGD(eps=EPS, objective="margin_per_draw")
    tree = evaluate(linear(4), NEAR_AND_FAR, {"pgd": PGD(eps=EPS, num_draws=draws), "rival": rival})
    assert bool(found(tree, "attack_draws", "pgd")["passed"]) is passed
    assert said(tree, "pgd") == ("believed" if passed else "doubtful because of attack_draws")


def test_fewer_scoring_draws_need_fewer_attacked():
    rival = PGD(eps=EPS, objective="margin_per_draw", num_draws=2)
    tree = evaluate(linear(4), NEAR_AND_FAR, {"pgd": PGD(eps=EPS, num_draws=2), "rival": rival}, num_draws=2)
    assert said(tree, "pgd") == "believed"


def test_points_outside_the_ball_and_repaired_points_are_counted():
    tree = evaluate(linear(), points(-0.05, 0.2), {"out": Moved(by=0.15), "repairs": Moved(by=-0.1)})
    assert float(found(tree, "nothing_dropped", "out")["value"]) == 1.0
    assert float(found(tree, "nothing_dropped", "repairs")["value"]) == 0.5
    assert "nothing_dropped" in worst(tree)  # what left the ball counts in its worst case


@pytest.mark.parametrize("objective", ["expected_loss", "margin_per_draw"])
def test_gradients_that_underflow(objective):
    """exp(-margin) is 0 in float32 beyond 104: margins are 4, 200, 800 and 1600 under this slope."""
    tree = evaluate(linear(slope=1000.0), points(0.001, 0.05, 0.2, 0.4), {"pgd": PGD(eps=EPS, objective=objective)})
    share = 0.75 if objective == "expected_loss" else 0.0
    assert float(found(tree, "zero_gradients", "pgd")["value"]) == share
    assert ("zero_gradients" in said(tree, "pgd")) == (share > 0)


def test_a_mean_within_its_monte_carlo_error_is_not_called_vanished():
    one = linear(2)
    signs = torch.tensor([1.0, -1.0])
    opposite = {name: tensor * signs.view(-1, *[1] * (tensor.ndim - 1)) for name, tensor in one.weights.items()}
    post = HeldDraws(one.net, opposite, bounds=(0.0, 1.0), input_shape=(4,), out_features=2)
    reason = found(evaluate(post, NEAR_AND_FAR, {"pgd": PGD(eps=EPS)}), "gradient_noise", "pgd")["reason"].item()
    assert "within two Monte Carlo standard errors of zero at 20 of 20 points" in reason


def test_chains_get_their_own_verdict(chains, moons):
    tree = evaluate(chains, moons, {}, num_points=20)
    rhat = float(tree["diagnostics"]["rhat_max"])
    assert f"at most {rhat:.3f}" in tree["checks"].attrs["posterior_reason"]
    assert tree["robustness"]["posterior_verdict"].item() == "doubtful because of inference"


# ---- form ---------------------------------------------------------------------------------------------------------------


def test_the_rows_are_the_audit_s_own():
    tree = evaluate(linear(2), NEAR_AND_FAR, {"pgd": PGD(eps=EPS), "random": Random(eps=EPS)})
    rows = tree["checks"].to_dataset()
    assert set(rows["check"].values) == set(answered()) == set(CHECKS) - {"frozen_draw"}
    for name in rows["check"].values.tolist():
        row, check = rows.sel(check=name), CHECKS[name]
        stated = int(row["number"]), row["source"].item(), row["question"].item()
        assert stated == (check.number, check.source, check.question)
        least = 2 / 20 if check.accuracy else 0.0
        assert float(row["threshold"]) == max(check.threshold, least)
    assert rows["number"].values.tolist() == sorted(rows["number"].values.tolist())
    assert set(rows["status"].values.ravel()) <= {"passed", "failed", "not_applicable"}
    assert (rows["passed"] == (rows["status"] == "passed")).all()
    measured = rows["value"].notnull() & (rows["status"] != "not_applicable")
    assert (~(rows["status"] == "not_applicable") | rows["value"].isnull()).all()
    assert measured.any()
    assert "br.audit makes all" in rows.attrs["checks"]
    json.dumps(rows.attrs)


def test_a_check_that_cannot_be_made_does_not_pass(monkeypatch):
    def broken(*_):
        raise RuntimeError("no memory")

    monkeypatch.setitem(CHECKS, "gradient_noise", dataclasses.replace(CHECKS["gradient_noise"], run=broken))
    tree = evaluate(linear(), NEAR_AND_FAR, {"pgd": PGD(eps=EPS)})
    assert found(tree, "gradient_noise", "pgd")["status"].item() == "error"
    assert said(tree, "pgd") == "doubtful because of gradient_noise"
    assert math.isnan(float(found(tree, "gradient_noise", "pgd")["value"]))


def test_results_keep_the_verdicts(tmp_path):
    tree = evaluate(linear(2), NEAR_AND_FAR, {"pgd": PGD(eps=EPS), "still": Moved()})
    results = br.evaluation.Results(tmp_path / "out", "mine", "A study.", {})
    results.tree("linear", tree, "evaluation")
    with xr.open_datatree(tmp_path / "out" / "linear.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), tree)


def test_without_a_random_model_nothing_is_scored_again():
    tree = evaluate(linear(), NEAR_AND_FAR, {"pgd": PGD(eps=EPS)})
    assert found(tree, "rescored", "pgd")["status"].item() == "not_applicable"
    assert np.isnan(found(tree, "rescored", "pgd")["value"])
