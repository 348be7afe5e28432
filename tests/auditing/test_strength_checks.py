"""Checks of the strength of the attack: other attacks, steps, radii; each on a case made by hand."""

from __future__ import annotations

import pytest

from bayesrob.attacks import PGD, Random, Transfer
from bayesrob.auditing.levels import REFERENCE
from bayesrob.auditing.runs import Runs
from tests.auditing.linear import (
    EPS,
    FAR,
    NEAR,
    Moved,
    OnlyNear,
    Rounded,
    behind,
    finding,
    linear,
)

# ---- 4, 5, 9: strength --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["objectives", "single_step"])
def test_an_attack_that_does_nothing_is_beaten_by_half_of_the_points(name):
    result = finding(name, linear(), Moved())
    assert result.value == 0.5
    assert not result.passed


def test_beside_a_transfer_one_step_is_tried_on_every_reference_objective(monkeypatch):
    """It climbs nothing of this predictive that a step could be compared with."""
    asked = []
    run = Runs.run
    monkeypatch.setattr(Runs, "run", lambda runs, name, attack: asked.append(name) or run(runs, name, attack))
    result = finding("single_step", linear(), Transfer(surrogate=linear(), attack=Random(eps=1e-6)))
    assert result.value == 0.5
    assert [name for name in asked if name.startswith("single step")] == [f"single step {name}" for name in REFERENCE]


def test_doubled_steps_reach_what_the_attack_did_not():
    attack = PGD(eps=EPS, steps=3, step_size=0.02, random_start=False, objective="margin")  # goes 0.06
    result = finding("convergence", linear(), attack, at=(0.05, 0.08))
    assert result.value == 0.5
    assert not result.passed
    assert "Doubled steps and restarts leave 0.000, the attack 0.500." in result.reason


def test_a_step_larger_than_the_ball_fails_though_it_finds_everything():
    result = finding("convergence", linear(), PGD(eps=EPS, step_size=2.0, objective="margin"))
    assert result.value == 0.0
    assert not result.passed
    assert "step of 2 is larger than the radius 0.1" in result.reason


def test_the_change_of_the_loss_is_reported():
    attack = PGD(eps=EPS, steps=3, step_size=0.02, random_start=False, objective="margin")
    result = finding("convergence", linear(), attack, at=(0.2,))
    # Log odds 10 * 4 * (0.14 and then 0.1), from where the attacks ended.
    assert "mean margin goes from -5.6 to -4" in result.reason


def test_an_attack_without_steps_has_none_to_double():
    assert finding("convergence", linear(), Random(eps=EPS)).status == "not_applicable"


# ---- 6, 7, 14: without gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradient_free", "random_search", "transfer"])
def test_masked_gradients_are_seen_through(name):
    """Rounding to a thousandth hides every gradient and changes no class here. Few random starts go as far as 0.085."""
    result = finding(name, behind(Rounded()), PGD(eps=EPS, objective="margin", random_start=False), at=(0.085, FAR))
    assert result.value == pytest.approx(0.5, abs=0.11)
    assert not result.passed


def test_survivors_not_looked_at_are_taken_to_be_like_those_that_were():
    result = finding("random_search", behind(Rounded()), PGD(eps=EPS, random_start=False), at=(0.085,), images=5)
    assert "5 were tried" in result.reason
    assert result.value >= 0.8


def test_where_nothing_survives_nothing_is_asked():
    result = finding("gradient_free", linear(), at=(NEAR,))
    assert result.outcome == "passed"
    assert result.value == 0.0


# ---- 8: radius ----------------------------------------------------------------------------------------------------------


def test_accuracy_that_rises_with_eps_fails_by_how_much():
    result = finding("accuracy_falls", linear(), OnlyNear())
    assert result.value == 1.0  # an unbounded attack leaves all
    result = finding("accuracy_falls", linear(), at=(0.07, 0.15))
    assert result.value <= 0.0
    assert "1.000 at 0, 1.000 at 0.05, 0.500 at 0.1, 0.000 at 0.2, 0.000 at 0.5, 0.000 at 1" in result.reason
