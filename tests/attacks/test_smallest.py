"""Smallest perturbations of linear classifiers, which have a closed form: DeepFool, FAB, CarliniWagner, SmallestFGSM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from bayesrob.attacks import FAB, CarliniWagner, Confident, DeepFool, SmallestFGSM
from bayesrob.attacks.geometry import norms
from bayesrob.attacks.projections import DUAL
from bayesrob.errors import InputError
from bayesrob.predictive import HeldDraws
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(11)
X = torch.randn(30, 7, generator=GENERATOR, dtype=torch.float64)
SLOW = pytest.mark.slow

MODELS = {
    classes: torch.randn(1, classes, 7, generator=GENERATOR, dtype=torch.float64) for classes in (2, 3, 6)
}  # of one draw: differences of log probabilities are those of the logits
BIAS = {classes: torch.randn(1, classes, generator=GENERATOR, dtype=torch.float64) for classes in MODELS}


def model(classes: int) -> tuple[HeldDraws, Tensor]:
    post = linear(MODELS[classes], BIAS[classes])
    return post, post(X).argmax(1)


def closed_form(classes: int, y: Tensor, norm: str, towards: Tensor | None = None) -> Tensor:
    """min over other classes of (f_y - f_k) / ||w_y - w_k||_q, `[batch]`; towards a class, its own region's plane."""
    logits = X @ MODELS[classes][0].T + BIAS[classes]
    pick = torch.arange(len(X))
    gaps = logits[pick, y][:, None] - logits
    slopes = MODELS[classes][0][y][:, None] - MODELS[classes][0]
    distances = gaps / norms(slopes.flatten(0, 1), DUAL[norm]).view(gaps.shape)
    distances[pick, y] = torch.inf
    return distances.amin(1)


@pytest.mark.parametrize("norm", ["l_2", "l_inf", "l_1"])
@pytest.mark.parametrize("classes", MODELS)
def test_deepfool_finds_the_closed_form(classes, norm):
    post, y = model(classes)
    truth = closed_form(classes, y, norm)
    exact = DeepFool(norm=norm, overshoot=0.0)(post, X, y)
    torch.testing.assert_close(norms(exact - X, norm), truth, rtol=1e-3, atol=0)
    usual = DeepFool(norm=norm)(post, X, y)
    assert (post(usual).argmax(1) != y).all()
    distance = norms(usual - X, norm)
    assert (distance <= 1.021 * truth).all()
    assert (distance > truth).all()


@pytest.mark.parametrize("norm", ["l_2", "l_inf", "l_1"])
@pytest.mark.parametrize("by_class", [0, 5])
@pytest.mark.parametrize("classes", MODELS)
def test_fab_finds_the_closed_form(classes, by_class, norm):
    post, y = model(classes)
    found = FAB(norm=norm, classes=by_class, steps=40)(post, X, y)
    assert (post(found).argmax(1) != y).all()
    torch.testing.assert_close(norms(found - X, norm), closed_form(classes, y, norm), rtol=1e-3, atol=0)


@pytest.mark.parametrize("classes", [pytest.param(2, marks=SLOW), 3, pytest.param(6, marks=SLOW)])  # half a minute each
def test_carlini_wagner_finds_the_closed_form(classes):
    post, y = model(classes)
    found = CarliniWagner(lr=0.05, steps=250)(post, X, y)
    assert (post(found).argmax(1) != y).all()
    ratio = norms(found - X, "l_2") / closed_form(classes, y, "l_2")
    assert (ratio > 1).all()
    # Of many classes the one that the first steps lead to need not be the nearest: with six, it is not for one point.
    assert (ratio > 1.02).sum() <= (classes == 6)


@pytest.mark.parametrize(
    "attack",
    [FAB(norm="l_2"), DeepFool(), pytest.param(CarliniWagner(lr=0.05, steps=250), marks=SLOW)],
    ids=lambda a: type(a).__name__,
)
def test_in_a_box_it_is_the_solvers(attack):
    """Nearest point of the half space beyond the boundary inside [0, 1]^7; DeepFool clips and is only near."""
    x = X.sigmoid()
    weight = MODELS[2]
    bias = -(x @ weight[0].T).median(0).values[None]
    post = linear(weight, bias, bounds=(0.0, 1.0))
    y = post(x).argmax(1)
    found = attack(post, x, y)
    broken = post(found).argmax(1) != y
    uphill = weight[0][1 - y] - weight[0][y]
    gap = (weight[0][y] * x).sum(1) + bias[0][y] - (weight[0][1 - y] * x).sum(1) - bias[0][1 - y]
    ratios = []
    for i in range(len(x)):
        u, start = uphill[i].numpy(), x[i].numpy()
        if np.maximum(u * (1 - start), -u * start).sum() < gap[i]:
            assert not broken[i]  # nothing in the box is beyond the boundary
            continue
        best = minimize(
            lambda p, start=start: ((p - start) ** 2).sum(),
            start,
            jac=lambda p, start=start: 2 * (p - start),
            bounds=[(0, 1)] * 7,
            constraints={
                "type": "ineq",
                "fun": lambda p, u=u, i=i, start=start: u @ (p - start) - float(gap[i]),
                "jac": lambda p, u=u: u,
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        ratios.append(float((found[i] - x[i]).norm()) / np.sqrt(best.fun))
        assert broken[i] or isinstance(attack, DeepFool)
    assert len(ratios) > 15
    if isinstance(attack, DeepFool):
        assert np.median(ratios) < 1.1
    else:
        assert max(ratios) < (1.001 if isinstance(attack, FAB) else 1.02)
        assert min(ratios) > 1 - 1e-6


@pytest.mark.parametrize("norm", ["l_2", "l_inf"])
def test_the_smallest_fgsm_is_the_next_on_the_grid(norm):
    post, y = model(2)
    found = SmallestFGSM(norm=norm, max_eps=4.0, grid=2000)(post, X, y)
    truth = closed_form(2, y, norm)
    inside = truth < 4.0
    steps = norms(found - X, norm)[inside] / 0.002
    torch.testing.assert_close(steps, torch.floor(truth[inside] / 0.002) + 1, rtol=0, atol=1e-6)
    assert torch.equal(found[~inside], X[~inside])


def test_the_smallest_fgsm_tries_one_after_the_other():
    """The same as asking about one eps after the other; more are asked at once, which costs a few queries."""
    post, y = model(6)
    one, many = (SmallestFGSM(max_eps=3.0, grid=60, at_once=k).run(post, X, y) for k in (1, 7))
    assert torch.equal(one.x, many.x)
    assert (one.gradients == 1).all()
    assert ((many.queries - one.queries >= 0) & (many.queries - one.queries < 7)).all()
    step = norms(one.x - X, "l_inf") / 0.05
    broken = step > 0
    torch.testing.assert_close(one.queries[broken].double(), 1 + step[broken], rtol=0, atol=1e-6)
    assert (one.queries[~broken] == 61).all()


@pytest.mark.parametrize(
    "attack",
    [
        DeepFool(target="given"),
        FAB(norm="l_2", target="given"),
        pytest.param(CarliniWagner(target="given", lr=0.05, steps=250), marks=SLOW),
    ],
    ids=lambda a: type(a).__name__,
)
def test_towards_a_class_the_region_is_reached(attack):
    """The nearest point where the target leads, by a solver; DeepFool takes one boundary after another: not the nearest."""
    post, y = model(3)
    aim = (y + 1) % 3
    found = attack(post, X, aim)
    assert (post(found).argmax(1) == aim).all()
    weight, bias = MODELS[3][0].numpy(), BIAS[3][0].numpy()
    for i in range(0, len(X), 3):
        t, start = int(aim[i]), X[i].numpy()
        best = minimize(
            lambda p, start=start: ((p - start) ** 2).sum(),
            found[i].numpy(),
            jac=lambda p, start=start: 2 * (p - start),
            constraints=[
                {
                    "type": "ineq",
                    "fun": lambda p, t=t, k=k: (weight[t] - weight[k]) @ p + bias[t] - bias[k],
                    "jac": lambda p, t=t, k=k: weight[t] - weight[k],
                }
                for k in range(3)
                if k != t
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        ratio = float((found[i] - X[i]).norm()) / np.sqrt(best.fun)
        assert 1 - 1e-6 < ratio < (1.02 if isinstance(attack, CarliniWagner) else 1.35)


@pytest.mark.parametrize("lead", [0.5, pytest.param(3.0, marks=SLOW)])
def test_confidence_is_a_lead_in_log_probability(lead):
    """Of two classes: the plane on which the other leads by so much is so much further away."""
    post, y = model(2)
    found = CarliniWagner(confidence=lead, lr=0.05, steps=250)(post, X, y)
    assert (post.objective_value(found, y, "margin") >= lead).all()
    length = (MODELS[2][0, 0] - MODELS[2][0, 1]).norm()
    truth = closed_form(2, y, "l_2") + lead / length
    assert (norms(found - X, "l_2") <= 1.02 * truth).all()


def test_a_confident_success_is_a_further_one():
    """p >= 0.9 of two classes is a lead of log 9."""
    post, y = model(2)
    found = SmallestFGSM(norm="l_2", criterion=Confident(0.9), max_eps=8.0, grid=4000)(post, X, y)
    assert (post(found).exp().amax(1) >= 0.9).all()
    truth = closed_form(2, y, "l_2") + float(np.log(9)) / (MODELS[2][0, 0] - MODELS[2][0, 1]).norm()
    torch.testing.assert_close(norms(found - X, "l_2") / 0.002, torch.floor(truth / 0.002) + 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepFool(overshoot=-0.1), "overshoot"),
        (lambda: DeepFool(classes=1), "classes is 1"),
        (lambda: DeepFool(steps=0), "steps is 0"),
        (lambda: FAB(steps=0), "steps is 0"),
        (lambda: FAB(classes=9, target="random"), "several classes are tried"),
        (lambda: CarliniWagner(confidence=-1.0), "confidence"),
        (lambda: CarliniWagner(lr=0.0), "lr is"),
        (lambda: CarliniWagner(norm="l_inf"), "l_inf"),  # pyright: ignore[reportArgumentType]
        (lambda: SmallestFGSM(grid=0), "grid is 0"),
        (lambda: SmallestFGSM(max_eps=-1.0), "max_eps"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()
