"""APGD and AutoAttack on models whose worst case is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bayesrob import nets
from bayesrob.attacks import APGD, FAB, FGSM, PGD, AutoAttack, Square
from bayesrob.attacks.apgd import TargetedDLR, checkpoints
from bayesrob.attacks.geometry import norms
from bayesrob.errors import InputError
from bayesrob.predictive import HeldDraws
from bayesrob.predictive.kinds import value_and_slope
from bayesrob.predictive.objectives import DLR, Margin
from tests.attacks.helpers import fresh, held, linear

GENERATOR = torch.Generator().manual_seed(3)
WEIGHT = torch.randn(1, 2, 5, generator=GENERATOR, dtype=torch.float64)
X = torch.rand(12, 5, generator=GENERATOR, dtype=torch.float64)
Y = torch.arange(12) % 2
UPHILL = torch.stack([WEIGHT[0, 1 - y] - WEIGHT[0, y] for y in Y.tolist()])
MANY = torch.randn(1, 6, 5, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss", "margin", "dlr"])
def test_reaches_the_worst_corner(objective, bounds):
    """Of right points the worst is a corner; a run keeps the highest of the adversarial ones, so of the others too."""
    post = linear(WEIGHT, bounds=bounds)
    worst = X + 0.3 * UPHILL.sign()
    worst = worst if bounds is None else worst.clamp(*bounds)
    found = APGD(eps=0.3, objective=objective)(post, X, Y)
    torch.testing.assert_close(found, worst, rtol=0, atol=1e-9)


def test_reaches_the_edge_of_the_ball():
    found = APGD(eps=0.3, norm="l_2", objective="margin")(linear(WEIGHT), X, Y)
    worst = X + 0.3 * UPHILL / UPHILL.norm(dim=1, keepdim=True)
    torch.testing.assert_close(((found - worst) * UPHILL).sum(1), torch.zeros(12).double(), rtol=0, atol=1e-6)


def test_checkpoints_are_the_published_ones():
    """p_1 = 0.22, p_2 = 0.22 + max(0.22 - 0.03, 0.06) = 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of 100 steps."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1]


def test_the_step_halves_until_an_inner_maximum_is_found():
    """The margin is -|x - 0.3|: at the first step of 2 eps every iterate jumps over the top, by more than eps / 2."""
    net = nets.mlp(1, (2,), 2, activation="relu")
    weights = {
        "1.weight": torch.tensor([[[1.0], [-1.0]]]),
        "1.bias": torch.tensor([[-0.3, 0.3]]),
        "3.weight": torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]),
        "3.bias": torch.zeros(1, 2),
    }
    post = HeldDraws(net, {name: value.double() for name, value in weights.items()}).double()
    x, y = torch.tensor([[0.0], [0.7]]).double(), torch.tensor([0, 0])
    margins = post.objective_value(x, y, "margin")
    torch.testing.assert_close(margins, -(x[:, 0] - 0.3).abs())
    distance = [(APGD(eps=1.0, objective="margin", steps=k)(post, x, y) - 0.3).abs().max() for k in (3, 100)]
    assert distance[1] < 0.01  # 2 eps / 2^8 after the eight checkpoints
    assert distance[1] < distance[0]


def test_dlr_is_the_margin_over_the_third_gap():
    log_p = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]).double().log()
    y = torch.tensor([0, 0])
    expected = torch.stack(
        [
            (log_p[0, 1] - log_p[0, 0]) / (log_p[0, 0] - log_p[0, 2]),
            (log_p[1, 3] - log_p[1, 0]) / (log_p[1, 3] - log_p[1, 1]),
        ]
    )
    torch.testing.assert_close(DLR().loss(log_p, y), expected)
    torch.testing.assert_close(DLR().loss(3 * log_p - 7, y), expected)  # neither scale nor shift of the logits matters
    torch.testing.assert_close(DLR().loss(log_p[:, :2], y), Margin().loss(log_p[:, :2], y))  # no third class
    towards = torch.tensor([2, 1])
    scale = log_p.sort(descending=True).values @ torch.tensor([1.0, 0.0, -0.5, -0.5]).double()
    difference = torch.stack([log_p[0, 2] - log_p[0, 0], log_p[1, 1] - log_p[1, 0]])
    torch.testing.assert_close(TargetedDLR(towards).loss(log_p, y), difference / scale)
    assert value_and_slope(lambda v: DLR().loss(v, y), log_p)[1].isfinite().all()


def closed_form(post, y):
    logits = X @ MANY[0].T
    pick = torch.arange(len(X))
    gaps = logits[pick, y][:, None] - logits
    slopes = (MANY[0][y][:, None] - MANY[0]).abs().sum(-1)
    return torch.where(slopes > 0, gaps / slopes, torch.inf).amin(1)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(
    "make",
    [
        lambda eps: APGD(eps=eps, objective="dlr", classes=9),
        pytest.param(lambda eps: AutoAttack(eps=eps), marks=pytest.mark.slow),
        lambda eps: AutoAttack(eps=eps, attacks=(FGSM(eps=eps), FAB())),
    ],
    ids=["targeted", "standard", "custom"],
)
def test_breaks_exactly_what_can_be_broken(make, eps):
    """Six linear classes: the nearest boundary in l_inf is within eps, or it is not."""
    post = linear(MANY)
    y = post(X).argmax(1)
    truth = closed_form(post, y) < eps
    found = make(eps)(post, X, y)
    assert (norms(found - X, "l_inf") <= eps + 1e-9).all()
    assert torch.equal(post(found).argmax(1) != y, truth)


def test_autoattack_gives_each_attack_what_is_left():
    """The cost of each point is that of the attacks that it met; broken ones are judged once more after each."""
    post = linear(MANY)
    y = post(X).argmax(1)
    attacks = (FGSM(eps=0.05, objective="margin"), PGD(eps=0.05, steps=7, objective="margin"))
    result = AutoAttack(eps=0.05, attacks=attacks).run(post, X, y)
    fell = post(attacks[0](post, X, y)).argmax(1) != y
    assert fell.any()
    assert not fell.all()
    assert torch.equal(result.gradients, torch.where(fell, 1, 8))
    assert torch.equal(result.queries, torch.where(fell, 2, 4))


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_autoattack_is_no_weaker_than_its_members(version):
    """Here with a fifth of their steps."""
    post = held(bounds=(0, 1))
    x, y = torch.rand(40, 2, 3, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 4
    published = AutoAttack(eps=0.05, version=version).members()
    assert [type(member) for member in published] == ([APGD, APGD, FAB, Square] if version == "standard" else [APGD, APGD])
    shorter = {Square: {"queries": 1000}}
    members = tuple(dataclasses.replace(member, **shorter.get(type(member), {"steps": 20})) for member in published)
    robust = post(AutoAttack(eps=0.05, attacks=members)(post, x, y)).argmax(1) == y
    for member in members:
        found = member(post, x, y)
        inside = norms(found - x, "l_inf") <= 0.05 * (1 + 1e-6) + 1e-7
        assert not (robust & inside & (post(found).argmax(1) != y)).any()


def test_rand_draws_anew_at_each_step(monkeypatch):
    seeds = []
    post = fresh()
    original = type(post).gradient_and_prediction

    def record(self, *arguments, **settings):
        seeds.append(arguments[4])
        return original(self, *arguments, **settings)

    monkeypatch.setattr(type(post), "gradient_and_prediction", record)
    AutoAttack(version="rand", attacks=(APGD(steps=10),))(post, torch.rand(4, 2, 3), torch.arange(4))
    assert len(set(seeds)) == len(seeds) == 11


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: APGD(classes=9), "targeted DLR tries several"),
        (lambda: APGD(classes=9, objective="dlr", target="random"), "targeted DLR tries several"),
        (lambda: APGD(steps=0), "steps is 0"),
        (lambda: AutoAttack(version="plus"), "version"),  # pyright: ignore[reportArgumentType]
        (lambda: AutoAttack(attacks=()), "one after the other"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()
