"""Checks of the draws that the attack averages, each on a case made by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bayesrob.attacks import PGD, Attack, Transfer
from bayesrob.auditing import CHECKS
from bayesrob.predictive import HeldDraws
from tests.auditing.linear import (
    COMMON,
    EPS,
    NEAR,
    NET,
    Moved,
    bench,
    finding,
    fresh,
    linear,
    points,
)

# ---- 10, 11, 12: draws --------------------------------------------------------------------------------------------------


def test_an_attack_that_fails_on_one_draw_fails():
    result = finding("frozen_draw", linear(num_draws=2), Moved())
    assert result.value == 0.5
    assert not result.passed
    assert finding("frozen_draw", linear(num_draws=2)).value == 0.0


@pytest.mark.parametrize(("attack", "passed"), [(PGD(eps=EPS, num_draws=3), False), (PGD(eps=EPS), True)])
def test_held_draws_must_all_be_seen(attack, passed):
    assert finding("attack_draws", linear(num_draws=4), attack).passed is passed


def test_an_attack_on_another_model_sees_no_draw():
    result = finding("attack_draws", linear(num_draws=4), Transfer(surrogate=linear(), attack=PGD(eps=EPS)))
    assert not result.passed
    assert "never uses the model" in result.reason


@dataclasses.dataclass(frozen=True)
class OnMeanLogits(Attack):
    """Climbs the margin of the draws' mean logits, and says that it looks at the model."""

    eps: float = EPS
    norm: str = "l_inf"

    def perturb(self, victim, x, generator):
        mean = {name: tensor.mean(0, keepdim=True) for name, tensor in victim.predictive.weights.items()}
        return PGD(eps=self.eps, objective="margin")(HeldDraws(NET, mean, **COMMON), x, victim.y)


@pytest.mark.parametrize("hidden", [False, True])
def test_logits_averaged_where_probabilities_are_scored_are_caught_by_what_they_miss(hidden):
    """Two draws outvote the surest, whose attack moves them away from being wrong; PGD on the prediction turns all points.

    Where draws are wrong for the same inputs, as networks trained on the same data are, the figure is right to two images,
    and only the check that asks what the attack uses can fail.
    """
    slopes = torch.tensor([[2.0, 2.0, -1.0, -1.0], *[[-1.0, -1.0, 2.0, 2.0]] * 2]) * torch.tensor(
        [[3000.0], [300.0], [300.0]]
    )
    weight = torch.stack([-slopes, slopes], 1) / 2
    post = HeldDraws(NET, {"1.weight": weight, "1.bias": -0.5 * weight.sum(-1)}, **COMMON)
    mean = HeldDraws(NET, {name: tensor.mean(0, keepdim=True) for name, tensor in post.weights.items()}, **COMMON)
    attack = OnMeanLogits() if hidden else Transfer(surrogate=mean, attack=PGD(eps=EPS, objective="margin"))
    one = bench(post, *points(NEAR), attack)
    assert one.runs.audited.accuracy == 1.0
    asked = ("objectives", "accuracy_falls", "transfer", "attack_draws")
    failed = {name for name in asked if not CHECKS[name].run(one, 0.2).passed}
    assert {"objectives", "accuracy_falls", "transfer"} <= failed
    assert CHECKS["objectives"].run(one, 0.2).value == 1.0
    assert ("attack_draws" in failed) is not hidden


def test_fresh_draws_are_tried_beyond_the_attacks_own():
    result = finding("attack_draws", fresh(0.01, 5))
    assert result.passed
    for number in (1, 5, 20):
        assert f" with {number}" in result.reason


def test_a_figure_that_depends_on_the_scoring_draws_fails():
    """One draw of a threshold so uncertain that it decides the class of every point alike."""
    assert not finding("rescored", fresh(50.0, 1)).passed
    result = finding("rescored", fresh(0.01, 5))
    assert result.value == 0.0
    assert "Of its 10 successes 1.000 [" in result.reason
