"""Each check against a case made by hand, whose answer is known.

The model is linear in four features: class 1 where their sum exceeds 2. A point's distance to that boundary is, in l_inf,
what its sum lacks divided by four, so it is known which of them a ball of radius 0.1 reaches.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bayesrob import data, models, nets
from bayesrob.attacks import PGD, Attack, Random, Transfer
from bayesrob.auditing import CHECKS, Finding, Level
from bayesrob.auditing.bench import Bench
from bayesrob.auditing.kept import Kept
from bayesrob.auditing.levels import REFERENCE
from bayesrob.auditing.registry import thresholds_for
from bayesrob.errors import SuspiciousOutputs
from bayesrob.inference import HMC, SVI
from bayesrob.predictive import GaussianDraws, HeldDraws, Predictive, from_modules

EPS = 0.1
NEAR, FAR = 0.05, 0.2
TINY = Level(
    steps=10, queries=200, samples=200, images=None, radii=(0.5, 2.0), draws=(1, 5, 20), repeats=3, errors=20, fresh=False
)
COMMON: dict[str, Any] = {"bounds": (0.0, 1.0), "input_shape": (4,), "out_features": 2}
NET = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


def points(*distances: float) -> tuple[Tensor, Tensor]:
    """Points of class 0 at these distances, ten of each."""
    x = torch.tensor(distances, dtype=torch.float32).repeat_interleave(10)
    return (0.5 - x)[:, None].expand(-1, 4).clone(), torch.zeros(len(x), dtype=torch.long)


def linear(scale: float = 10.0, num_draws: int = 1, **more: Any) -> HeldDraws:
    """Logits are -+ scale * (sum of x - 2) / 2, for every draw."""
    weight = scale / 2 * torch.tensor([[-1.0] * 4, [1.0] * 4])
    weights = {"1.weight": weight.expand(num_draws, 2, 4).clone(), "1.bias": scale * torch.tensor([[1.0, -1.0]] * num_draws)}
    return HeldDraws(NET, weights, **more, **COMMON)


def fresh(scale: float, num_draws: int) -> GaussianDraws:
    """The linear model with a threshold that every draw moves by a normal amount of standard deviation 1.4 * scale / 10."""
    loc = {name: tensor[0] for name, tensor in linear().weights.items()}
    scales = {"1.weight": torch.full((2, 4), 1e-6), "1.bias": torch.full((2,), scale)}
    return GaussianDraws(NET, loc, scales, num_draws=num_draws, **COMMON)


class Behind(nn.Module):
    """The linear model behind another step."""

    def __init__(self, step: nn.Module):
        super().__init__()
        self.step, self.net = step, nn.Linear(4, 2)
        with torch.no_grad():
            for parameter, tensor in zip(self.net.parameters(), linear().weights.values(), strict=True):
                parameter.copy_(tensor[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.step(x))


def behind(step: nn.Module) -> Predictive:
    return from_modules([Behind(step).eval()], bounds=(0.0, 1.0), num_classes=2)


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (1000 * x).round() / 1000


class Noisy(nn.Module):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, slope):
            return slope + 1000 * torch.randn_like(slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.Function.apply(x)


class Shaken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)


@dataclasses.dataclass(frozen=True)
class Moved(Attack):
    """Adds `by` to every component, whatever the radius."""

    by: float = 0.0
    eps: float = EPS
    norm: str = "l_inf"

    def perturb(self, victim, x, generator):
        return x + self.by


@dataclasses.dataclass(frozen=True)
class OnlyNear(Moved):
    """Finds what is there in small balls, and nothing in large ones."""

    def perturb(self, victim, x, generator):
        return (x + self.eps).clamp(0, 1) if self.eps < 0.15 else x


def bench(post: Predictive, x: Tensor, y: Tensor, attack: Attack | None = None, **level: Any) -> Bench:
    return Bench(post, x, y, EPS, "l_inf", 0, dataclasses.replace(TINY, **level), Kept(None, ""), attack)


def found(name: str, post: Predictive, attack: Attack | None = None, at: Any = (NEAR, FAR), **level: Any) -> Finding:
    x, y = at if isinstance(at[0], Tensor) else points(*at)
    return CHECKS[name].run(bench(post, x, y, attack, **level), thresholds_for({}, len(x))[name])


def test_the_model_is_what_the_tests_say():
    x, y = points(NEAR, FAR)
    assert bool((linear()(x).argmax(1) == y).all())
    assert bench(linear(), x, y).audited.accuracy == 0.5


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_nothing_fails_where_nothing_is_wrong(name):
    finding = found(name, linear())
    assert finding.passed, finding.reason


# ---- 1, 2, 13: outputs, randomness, counts ------------------------------------------------------------------------------


def test_outputs_that_are_probabilities_fail_and_are_warned_about():
    post = behind(nn.Identity())
    probabilities = from_modules([Softmaxed(post.net)], num_classes=2)
    with pytest.warns(SuspiciousOutputs, match="1 of 1 draws"):
        finding = found("outputs", probabilities)
    assert not finding.passed
    assert "Softmax is applied twice" in finding.reason


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
    finding = found("outputs", Tilted(post.net, post.weights, **COMMON))
    assert finding.value == pytest.approx(0.1, abs=1e-6)
    assert not finding.passed


@pytest.mark.parametrize(("draws", "passed"), [(1, False), (19, False), (20, True)])
def test_random_predictions_need_enough_draws_at_a_look(draws, passed):
    finding = found("randomness", fresh(2.0, 30), PGD(eps=EPS, num_draws=draws))
    assert finding.passed is passed
    assert finding.value > 1e-4
    assert f"averages {draws} draws a look, new ones" in finding.reason


def test_random_layers_of_a_network_are_random_too():
    assert not found("randomness", behind(Shaken())).passed


@pytest.mark.parametrize(("by", "share"), [(0.1, 0.0), (0.15, 1.0)])
def test_what_leaves_the_ball_is_counted_and_breaks_nothing(by, share):
    x, y = points(NEAR, FAR)
    one = bench(linear(), x, y, Moved(by=by))
    finding = CHECKS["nothing_dropped"].run(one, 0.1)
    assert finding.value == share
    assert finding.passed is (share == 0)
    assert one.audited.accuracy == (0.5 if share == 0 else 1.0)


def test_points_that_the_attack_repairs_are_counted():
    x, y = points(-NEAR, FAR)  # the first ten are wrong
    finding = found("nothing_dropped", linear(), Moved(by=-0.1), at=(x, y))
    assert finding.value == 0.5
    assert "10 of them wrong before" in finding.reason


# ---- 3, 15: gradients ---------------------------------------------------------------------------------------------------


def test_gradients_that_underflow_are_counted_in_both_precisions():
    """exp(-margin) is 0 in float32 beyond 104, in float64 beyond 745."""
    x, y = points(0.001, 0.05, 0.2, 0.4)  # margins 4, 200, 800, 1600 under a scale of 1000
    finding = found("zero_gradients", linear(1000.0), PGD(eps=EPS, objective="expected_loss"), at=(x, y))
    assert finding.value == 0.75
    assert not finding.passed
    assert "at 30 of 40 points (in float64 at 20 of them)" in finding.reason
    assert f"median norm {1000 * 2:.2g}" in finding.reason  # four slopes of 1000


def test_the_draws_own_margin_has_a_gradient_there():
    attack = PGD(eps=EPS, objective="margin_per_draw")
    assert found("zero_gradients", linear(1000.0), attack).value == 0.0


@pytest.mark.parametrize("name", ["zero_gradients", "gradient_noise"])
def test_attacks_without_gradients_have_none_to_judge(name):
    finding = found(name, linear(), Random(eps=EPS))
    assert finding.status == "not_applicable"
    assert finding.passed
    assert math.isnan(finding.value)


def test_gradients_that_are_mostly_noise_are_said_to_be():
    assert found("gradient_noise", behind(Noisy()), PGD(eps=EPS, objective="margin")).value >= 0.9
    assert found("gradient_noise", behind(nn.Identity()), PGD(eps=EPS, objective="margin")).value == 0.0


def test_a_gradient_within_its_monte_carlo_error_is_not_called_vanished():
    """Two draws that pull in opposite directions, as far as each other: the mean is zero, its error is not."""
    post = linear(num_draws=2)
    opposite = {
        name: tensor * torch.tensor([1.0, -1.0]).view(-1, *[1] * (tensor.ndim - 1)) for name, tensor in post.weights.items()
    }
    finding = found("gradient_noise", HeldDraws(NET, opposite, **COMMON))
    assert "within two Monte Carlo standard errors of zero at 20 of 20 points" in finding.reason


# ---- 4, 5, 9: strength --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["objectives", "single_step"])
def test_an_attack_that_does_nothing_is_beaten_by_half_of_the_points(name):
    finding = found(name, linear(), Moved())
    assert finding.value == 0.5
    assert not finding.passed


def test_beside_a_transfer_one_step_is_tried_on_every_reference_objective(monkeypatch):
    """It climbs nothing of this predictive that a step could be compared with."""
    asked = []
    run = Bench.run
    monkeypatch.setattr(Bench, "run", lambda bench, name, attack: asked.append(name) or run(bench, name, attack))
    finding = found("single_step", linear(), Transfer(surrogate=linear(), attack=Random(eps=1e-6)))
    assert finding.value == 0.5
    assert [name for name in asked if name.startswith("single step")] == [f"single step {name}" for name in REFERENCE]


def test_doubled_steps_reach_what_the_attack_did_not():
    attack = PGD(eps=EPS, steps=3, step_size=0.02, random_start=False, objective="margin")  # goes 0.06
    finding = found("convergence", linear(), attack, at=(0.05, 0.08))
    assert finding.value == 0.5
    assert not finding.passed
    assert "Doubled steps and restarts leave 0.000, the attack 0.500." in finding.reason


def test_a_step_larger_than_the_ball_fails_though_it_finds_everything():
    finding = found("convergence", linear(), PGD(eps=EPS, step_size=2.0, objective="margin"))
    assert finding.value == 0.0
    assert not finding.passed
    assert "step of 2 is larger than the radius 0.1" in finding.reason


def test_the_change_of_the_loss_is_reported():
    attack = PGD(eps=EPS, steps=3, step_size=0.02, random_start=False, objective="margin")
    finding = found("convergence", linear(), attack, at=(0.2,))
    # Log odds 10 * 4 * (0.14 and then 0.1), from where the attacks ended.
    assert "mean margin goes from -5.6 to -4" in finding.reason


def test_an_attack_without_steps_has_none_to_double():
    assert found("convergence", linear(), Random(eps=EPS)).status == "not_applicable"


# ---- 6, 7, 14: without gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradient_free", "random_search", "transfer"])
def test_masked_gradients_are_seen_through(name):
    """Rounding to a thousandth hides every gradient and changes no class here. Few random starts go as far as 0.085."""
    finding = found(name, behind(Rounded()), PGD(eps=EPS, objective="margin", random_start=False), at=(0.085, FAR))
    assert finding.value == pytest.approx(0.5, abs=0.11)
    assert not finding.passed


def test_survivors_not_looked_at_are_taken_to_be_like_those_that_were():
    finding = found("random_search", behind(Rounded()), PGD(eps=EPS, random_start=False), at=(0.085,), images=5)
    assert "5 were tried" in finding.reason
    assert finding.value >= 0.8


def test_where_nothing_survives_nothing_is_asked():
    finding = found("gradient_free", linear(), at=(NEAR,))
    assert finding.status == "not_applicable"


# ---- 8: radius ----------------------------------------------------------------------------------------------------------


def test_accuracy_that_rises_with_eps_fails_by_how_much():
    finding = found("accuracy_falls", linear(), OnlyNear())
    assert finding.value == 1.0  # an unbounded attack leaves all
    finding = found("accuracy_falls", linear(), at=(0.07, 0.15))
    assert finding.value <= 0.0
    assert "1.000 at 0, 1.000 at 0.05, 0.500 at 0.1, 0.000 at 0.2, 0.000 at 0.5, 0.000 at 1" in finding.reason


# ---- 10, 11, 12: draws --------------------------------------------------------------------------------------------------


def test_an_attack_that_fails_on_one_draw_fails():
    finding = found("frozen_draw", linear(num_draws=2), Moved())
    assert finding.value == 0.5
    assert not finding.passed
    assert found("frozen_draw", linear(num_draws=2)).value == 0.0


@pytest.mark.parametrize(("attack", "passed"), [(PGD(eps=EPS, num_draws=3), False), (PGD(eps=EPS), True)])
def test_held_draws_must_all_be_seen(attack, passed):
    assert found("attack_draws", linear(num_draws=4), attack).passed is passed


def test_an_attack_on_another_model_sees_no_draw():
    finding = found("attack_draws", linear(num_draws=4), Transfer(surrogate=linear(), attack=PGD(eps=EPS)))
    assert not finding.passed
    assert "never looks" in finding.reason


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
    and only the check that asks what the attack looks at can fail.
    """
    slopes = torch.tensor([[2.0, 2.0, -1.0, -1.0], *[[-1.0, -1.0, 2.0, 2.0]] * 2]) * torch.tensor(
        [[3000.0], [300.0], [300.0]]
    )
    weight = torch.stack([-slopes, slopes], 1) / 2
    post = HeldDraws(NET, {"1.weight": weight, "1.bias": -0.5 * weight.sum(-1)}, **COMMON)
    mean = HeldDraws(NET, {name: tensor.mean(0, keepdim=True) for name, tensor in post.weights.items()}, **COMMON)
    attack = OnMeanLogits() if hidden else Transfer(surrogate=mean, attack=PGD(eps=EPS, objective="margin"))
    one = bench(post, *points(NEAR), attack)
    assert one.audited.accuracy == 1.0
    asked = ("objectives", "accuracy_falls", "transfer", "attack_draws")
    failed = {name for name in asked if not CHECKS[name].run(one, 0.2).passed}
    assert {"objectives", "accuracy_falls", "transfer"} <= failed
    assert CHECKS["objectives"].run(one, 0.2).value == 1.0
    assert ("attack_draws" in failed) is not hidden


def test_fresh_draws_are_tried_beyond_the_attacks_own():
    finding = found("attack_draws", fresh(0.01, 5))
    assert finding.passed
    for number in (1, 5, 20):
        assert f" with {number}" in finding.reason


def test_a_figure_that_depends_on_the_scoring_draws_fails():
    """One draw of a threshold so uncertain that it decides the class of every point alike."""
    assert not found("rescored", fresh(50.0, 1)).passed
    finding = found("rescored", fresh(0.01, 5))
    assert finding.value == 0.0
    assert "Of its 10 successes 1.000 [" in finding.reason


# ---- 16: inference ------------------------------------------------------------------------------------------------------


def test_draws_that_are_one_draw_fail():
    finding = found("inference", linear(num_draws=10, num_chains=2, sample_stats={"accepted": np.zeros((2, 5), dtype=bool)}))
    assert not finding.passed
    assert "1 of 10 draws are distinct" in finding.reason
    assert not found("inference", from_modules([NET.eval()] * 3)).passed


@pytest.fixture(scope="module")
def moons():
    return data.load("half_moons", n_train=50, n_test=30, seed=0)


def test_chains_are_judged_by_their_functions(moons):
    model = models.BayesianNetwork(nets.mlp(2, (), 2), prior_scale=1.0)
    x, y = moons.x_test, moons.y_test
    good = HMC(num_samples=1500, warmup=200, num_chains=2).fit(model, moons, seed=0)
    finding = found("inference", good, at=(x, y))
    assert finding.passed, finding.reason
    assert finding.value < 1.01
    assert not found("inference", good[:20], at=(x, y)).passed


@pytest.mark.parametrize(("weight", "passed"), [(1.0, True), (0.01, False)])
@pytest.mark.filterwarnings("ignore::bayesrob.errors.ConvergenceWarning")
def test_the_divergence_from_the_prior_must_count_once(weight, passed, moons):
    model = models.BayesianNetwork(nets.mlp(2, (3,), 2))
    post = SVI(epochs=200, kl_weight=weight).fit(model, moons, seed=0)
    post.info["notes"] = []
    finding = found("inference", post, at=(moons.x_test, moons.y_test))
    assert finding.passed is passed
    assert f"counts {weight:g} times" in finding.reason
    post.info["notes"] = ["The loss still falls."]
    assert not found("inference", post, at=(moons.x_test, moons.y_test)).passed
