"""Linear classifiers, whose worst case has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bayesrob import nets, rng
from bayesrob.attacks import FGSM, PGD
from bayesrob.attacks.geometry import NORMS, norms, project
from bayesrob.predictive import from_modules
from tests.attacks.helpers import linear

CLIMBABLE = ["expected_loss", "predictive_loss", "margin"]
EPS = 0.3
GENERATOR = torch.Generator().manual_seed(3)
WEIGHT = torch.randn(1, 2, 5, generator=GENERATOR, dtype=torch.float64)
X = torch.rand(12, 5, generator=GENERATOR, dtype=torch.float64)
Y = torch.arange(12) % 2
UPHILL = torch.stack([WEIGHT[0, 1 - y] - WEIGHT[0, y] for y in Y.tolist()])
"""The direction in which each point's wrong class gains on its true one."""


def pgd(norm: str, **settings) -> PGD:
    return PGD(**{"eps": EPS, "norm": norm, "steps": 40, "step_size": 0.1, **settings})


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("objective", CLIMBABLE)
@pytest.mark.parametrize("method", [FGSM, PGD])
def test_worst_case_of_the_cube_is_a_corner(method, objective, bounds):
    post = linear(WEIGHT, bounds=bounds)
    worst = X + EPS * UPHILL.sign()
    worst = worst if bounds is None else worst.clamp(*bounds)
    attack = FGSM(eps=EPS, objective=objective) if method is FGSM else pgd("l_inf", objective=objective)
    found = attack(post, X, Y)
    torch.testing.assert_close(found, worst, rtol=0, atol=1e-12)
    torch.testing.assert_close(post.objective_value(found, Y), post.objective_value(worst, Y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", CLIMBABLE)
def test_one_step_reaches_the_worst_case_of_the_ball(objective):
    worst = X + EPS * UPHILL / UPHILL.norm(dim=1, keepdim=True)
    found = FGSM(eps=EPS, norm="l_2", objective=objective)(linear(WEIGHT), X, Y)
    torch.testing.assert_close(found, worst, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", CLIMBABLE)
def test_many_steps_reach_the_worst_case_of_the_ball(objective):
    worst = X + EPS * UPHILL / UPHILL.norm(dim=1, keepdim=True)
    found = pgd("l_2", objective=objective, step_size=0.5)(linear(WEIGHT), X, Y)
    torch.testing.assert_close(found, worst, rtol=0, atol=1e-6)


def test_worst_case_of_ball_and_box_is_the_solvers():
    bounds = (0.0, 1.0)
    found = pgd("l_2", steps=200)(linear(WEIGHT, bounds=bounds), X, Y)
    assert (norms(found - X, "l_2") <= EPS + 1e-9).all()
    assert ((found >= 0) & (found <= 1)).all()
    clipped = 0
    for z, x, direction in zip(found.numpy(), X.numpy(), UPHILL.numpy(), strict=True):
        best = minimize(
            lambda p, direction=direction: -direction @ p,
            x,
            jac=lambda p, direction=direction: -direction,
            bounds=[bounds] * 5,
            constraints={
                "type": "ineq",
                "fun": lambda p, x=x: EPS**2 - ((p - x) ** 2).sum(),
                "jac": lambda p, x=x: -2 * (p - x),
            },
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        clipped += int(((best.x < 1e-9) | (best.x > 1 - 1e-9)).any())
        assert direction @ z == pytest.approx(-best.fun, abs=1e-6)
        np.testing.assert_allclose(z, best.x, rtol=0, atol=1e-4)
    assert clipped > 3  # the box matters here


def test_one_clipped_step_is_not_enough_with_ball_and_box():
    post = linear(WEIGHT, bounds=(0.0, 1.0))
    one = post.objective_value(FGSM(eps=EPS, norm="l_2")(post, X, Y), Y)
    many = post.objective_value(pgd("l_2", steps=200)(post, X, Y), Y)
    assert (many >= one - 1e-9).all()
    assert (many > one + 1e-3).any()


DRAWS = torch.randn(6, 2, 5, generator=GENERATOR, dtype=torch.float64)


def test_many_draws_follow_their_own_average():
    """For two classes d loss_d / d x = p_d(wrong) * (w_wrong - w_true), and d p_d(wrong) / d x has p_d(true) besides.

    Lengths do not matter here: the predictive loss and the margin point the same way.
    """
    post = linear(DRAWS)
    uphill = torch.stack([DRAWS[:, 1 - y] - DRAWS[:, y] for y in Y.tolist()])
    wrong = torch.sigmoid(torch.einsum("ndf,nf->nd", uphill, X))
    right = 1 - wrong
    average = {
        "expected_loss": (wrong[..., None] * uphill).mean(1),
        "predictive_loss": ((wrong * right)[..., None] * uphill).mean(1),
        "margin": ((wrong * right)[..., None] * uphill).mean(1),
    }
    for objective, direction in average.items():
        found = FGSM(eps=EPS, objective=objective)(post, X, Y)
        torch.testing.assert_close(found, X + EPS * direction.sign(), rtol=0, atol=1e-12)
        found = FGSM(eps=EPS, norm="l_2", objective=objective)(post, X, Y)
        torch.testing.assert_close(found, X + EPS * direction / direction.norm(dim=1, keepdim=True), rtol=0, atol=1e-12)
    assert not torch.equal(average["expected_loss"].sign(), average["predictive_loss"].sign())


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_many_draws_reach_the_worst_corner(bounds):
    """The expected loss is convex in x, so its worst case is one of the 32 corners of the cube."""
    post = linear(DRAWS, bounds=bounds)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 5)
    corners = X[None] + EPS * signs[:, None]
    corners = corners if bounds is None else corners.clamp(*bounds)
    worst = torch.stack([post.objective_value(corner, Y) for corner in corners]).amax(0)
    found = post.objective_value(pgd("l_inf", restarts=8)(post, X, Y), Y)
    torch.testing.assert_close(found, worst, rtol=1e-9, atol=1e-9)


def test_margin_chooses_the_strongest_wrong_class():
    """Three classes with equal biases: near the true class, the margin climbs to the nearest other one only."""
    weight = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [0.0, 1.0]]])
    post = linear(weight)
    x, y = torch.tensor([[0.0, 0.2], [0.2, 0.0]]).double(), torch.tensor([0, 0])
    found = FGSM(eps=0.1, norm="l_2", objective="margin")(post, x, y)
    torch.testing.assert_close(found, x + 0.1 * torch.eye(2).double().flip(0), rtol=0, atol=1e-12)


def test_accuracy_falls_exactly_where_the_margin_is_within_reach():
    post = linear(WEIGHT)
    y = post(X).argmax(-1)
    uphill = torch.stack([WEIGHT[0, 1 - label] - WEIGHT[0, label] for label in y.tolist()])
    gap = -torch.einsum("nf,nf->n", uphill, X)
    reach = {"l_inf": EPS * uphill.abs().sum(1), "l_2": EPS * uphill.norm(dim=1)}
    for norm, most in reach.items():
        fooled = post(pgd(norm)(post, X, y)).argmax(-1) != y
        assert torch.equal(fooled, most > gap)
        assert 0 < fooled.sum() < len(y)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)], ids=["unbounded", "bounded"])
def test_pgd_s_defaults_reach_the_worst_case_in_784_dimensions(norm, bounds):
    """Default steps and random start: the margin gained is the largest there is, to 0.1%."""
    generator = rng.generator(0, "tests", "784")
    net = nets.mlp(784, (), 2)
    x, y = torch.rand(32, 784, generator=generator), torch.randint(2, (32,), generator=generator)
    post = from_modules([net.eval()], bounds=bounds)
    weight = net[1].weight.detach()
    uphill = torch.where((y == 0)[:, None], weight[1] - weight[0], weight[0] - weight[1])
    eps = 0.1 if norm == "l_inf" else 2.0
    worst = project(x + 1e6 * uphill, x, eps, norm, bounds)  # a linear loss is largest where its direction leaves the set
    gain = [((z - x) * uphill).sum(1) for z in (PGD(eps=eps, norm=norm)(post, x, y), worst)]
    assert (gain[0] >= 0.999 * gain[1]).all()
