"""Checks of outputs, randomness, counts, gradients and inference, each on a case made by hand whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bayesrob import data, models, nets
from bayesrob.attacks import PGD, Random
from bayesrob.auditing import CHECKS
from bayesrob.errors import SuspiciousOutputs
from bayesrob.inference import HMC, SVI
from bayesrob.predictive import HeldDraws, from_modules
from tests.auditing.linear import (
    COMMON,
    EPS,
    FAR,
    NEAR,
    NET,
    Moved,
    Noisy,
    Shaken,
    behind,
    bench,
    finding,
    fresh,
    linear,
    points,
)


def test_the_model_is_what_the_tests_say():
    x, y = points(NEAR, FAR)
    assert bool((linear()(x).argmax(1) == y).all())
    assert bench(linear(), x, y).runs.audited.accuracy == 0.5


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_nothing_fails_where_nothing_is_wrong(name):
    result = finding(name, linear())
    one_network = name in ("attack_draws", "frozen_draw", "inference", "rescored")  # which has nothing to answer them
    assert result.outcome == ("not_applicable" if one_network else "passed"), result.reason


# ---- 1, 2, 13: outputs, randomness, counts ------------------------------------------------------------------------------


def test_outputs_that_are_probabilities_fail_and_are_warned_about():
    post = behind(nn.Identity())
    probabilities = from_modules([Softmaxed(post.net)], num_classes=2)
    with pytest.warns(SuspiciousOutputs, match="1 of 1 draws"):
        result = finding("outputs", probabilities)
    assert not result.passed
    assert "Softmax is applied twice" in result.reason


class Softmaxed(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.eval()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(-1)


def test_predictions_that_do_not_sum_to_one_fail_by_how_much():
    class Tilted(HeldDraws):
        def forward(self, x, num_draws=None, seed=None):
            return super().forward(x, num_draws, seed) + 0.1

    post = linear()
    result = finding("outputs", Tilted(post.net, post.weights, **COMMON))
    assert result.value == pytest.approx(0.1, abs=1e-6)
    assert not result.passed


@pytest.mark.parametrize(("draws", "passed"), [(1, False), (19, False), (20, True)])
def test_random_predictions_need_enough_draws_at_a_look(draws, passed):
    result = finding("randomness", fresh(2.0, 30), PGD(eps=EPS, num_draws=draws))
    assert result.passed is passed
    assert result.value > 1e-4
    assert f"averages {draws} draws at each step, new ones" in result.reason


def test_random_layers_of_a_network_are_random_too():
    assert not finding("randomness", behind(Shaken())).passed


@pytest.mark.parametrize(("by", "share"), [(0.1, 0.0), (0.15, 1.0)])
def test_what_leaves_the_ball_is_counted_and_breaks_nothing(by, share):
    x, y = points(NEAR, FAR)
    one = bench(linear(), x, y, Moved(by=by))
    result = CHECKS["nothing_dropped"].run(one, 0.1)
    assert result.value == share
    assert result.passed is (share == 0)
    assert one.runs.audited.accuracy == (0.5 if share == 0 else 1.0)


def test_points_that_the_attack_repairs_are_counted():
    x, y = points(-NEAR, FAR)  # the first ten are wrong
    result = finding("nothing_dropped", linear(), Moved(by=-0.1), at=(x, y))
    assert result.value == 0.5
    assert "10 of them wrong before" in result.reason


# ---- 3, 15: gradients ---------------------------------------------------------------------------------------------------


def test_gradients_that_underflow_are_counted_in_both_precisions():
    """exp(-margin) is 0 in float32 beyond 104, in float64 beyond 745."""
    x, y = points(0.001, 0.05, 0.2, 0.4)  # margins 4, 200, 800, 1600 under a scale of 1000
    result = finding("zero_gradients", linear(1000.0), PGD(eps=EPS, objective="expected_loss"), at=(x, y))
    assert result.value == 0.75
    assert not result.passed
    assert "at 30 of 40 points (in float64 at 20 of them)" in result.reason
    assert f"median norm {1000 * 2:.2g}" in result.reason  # four slopes of 1000


def test_the_draws_own_margin_has_a_gradient_there():
    attack = PGD(eps=EPS, objective="margin_per_draw")
    assert finding("zero_gradients", linear(1000.0), attack).value == 0.0


@pytest.mark.parametrize("name", ["zero_gradients", "gradient_noise"])
def test_attacks_without_gradients_have_none_to_judge(name):
    result = finding(name, linear(), Random(eps=EPS))
    assert result.status == "not_applicable"
    assert math.isnan(result.value)


def test_gradients_that_are_mostly_noise_are_said_to_be():
    assert finding("gradient_noise", behind(Noisy()), PGD(eps=EPS, objective="margin")).value >= 0.9
    assert finding("gradient_noise", behind(nn.Identity()), PGD(eps=EPS, objective="margin")).value == 0.0


def test_a_gradient_within_its_monte_carlo_error_is_not_called_vanished():
    """Two draws that pull in opposite directions, as far as each other: the mean is zero, its error is not."""
    post = linear(num_draws=2)
    opposite = {
        name: tensor * torch.tensor([1.0, -1.0]).view(-1, *[1] * (tensor.ndim - 1)) for name, tensor in post.weights.items()
    }
    result = finding("gradient_noise", HeldDraws(NET, opposite, **COMMON))
    assert "within two Monte Carlo standard errors of zero at 20 of 20 points" in result.reason


# ---- 16: inference ------------------------------------------------------------------------------------------------------


def test_draws_that_are_one_draw_fail():
    result = finding(
        "inference", linear(num_draws=10, num_chains=2, sample_stats={"accepted": np.zeros((2, 5), dtype=bool)})
    )
    assert not result.passed
    assert "1 of 10 draws are distinct" in result.reason
    assert not finding("inference", from_modules([NET.eval()] * 3)).passed


@pytest.fixture(scope="module")
def moons():
    return data.load("half_moons", n_train=50, n_test=30, seed=0)


def test_chains_are_judged_by_their_functions(moons):
    model = models.BayesianNetwork(nets.mlp(2, (), 2), prior_scale=1.0)
    x, y = moons.x_test, moons.y_test
    good = HMC(num_samples=1500, warmup=200, num_chains=2).fit(model, moons, seed=0)
    result = finding("inference", good, at=(x, y))
    assert result.passed, result.reason
    assert result.value < 1.01
    assert not finding("inference", good[:20], at=(x, y)).passed


@pytest.mark.filterwarnings("ignore::bayesrob.errors.ConvergenceWarning")
def test_a_guide_is_judged_by_its_k_hat(moons):
    at = moons.x_test, moons.y_test
    post = SVI(epochs=50).fit(models.BayesianNetwork(nets.mlp(2, (3,), 2)), moons, seed=0)
    post.info.update(notes=[], khat={"value": 0.69, "draws": 1000})
    assert finding("inference", post, at=at).outcome == "passed"
    assert finding("inference", post.freeze(40), at=at).outcome == "passed"  # by what made it, not by R-hat
    post.info["khat"]["value"] = 0.71
    assert "may still be good" in finding("inference", post, at=at).reason
    assert finding("inference", post.freeze(40), at=at).outcome == "failed"
    post.info["khat"] = {"skipped": "khat_draws=0"}
    assert "khat_draws=0" in finding("inference", post, at=at).reason
    assert finding("inference", post, at=at).outcome == "not_applicable"  # a settled loss is no evidence
    post.info.update(notes=["The loss still falls."], khat={"value": 0.1, "draws": 1000})
    assert finding("inference", post, at=at).outcome == "failed"


def test_the_divergence_from_the_prior_must_count_once(moons):
    post = SVI(epochs=200, kl_weight=0.01).fit(models.BayesianNetwork(nets.mlp(2, (3,), 2)), moons, seed=0)
    result = finding("inference", post, at=(moons.x_test, moons.y_test))
    assert result.outcome == "failed"
    assert "counts 0.01 times" in result.reason
