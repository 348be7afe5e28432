"""JSMA against searches over all pairs, and on linear classifiers whose order of components is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from bayesrob.attacks import JSMA, jsma
from bayesrob.attacks.geometry import norms
from bayesrob.attacks.jsma import best_pairs
from bayesrob.errors import BayesrobError, InputError
from tests.attacks.helpers import held, linear

GENERATOR = torch.Generator().manual_seed(8)
BOX = (0.0, 1.0)


def product(alpha: Tensor, beta: Tensor, p: int, q: int) -> float:
    rise, fall = float(alpha[p] + alpha[q]), float(beta[p] + beta[q])
    return -rise * fall if rise > 0 and fall < 0 else 0.0


def searched(alpha: Tensor, beta: Tensor, free: Tensor) -> tuple[tuple[int, int] | None, float]:
    """The best pair of a loop over all of them, None if no pair helps."""
    places = torch.nonzero(free)[:, 0].tolist()
    best = max(itertools.combinations(places, 2), key=lambda pair: product(alpha, beta, *pair), default=None)
    value = 0.0 if best is None else product(alpha, beta, *best)
    return (best if value > 0 else None), value


# ---- the pair ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [1.0, 0.5, 0.0, -0.5, -0.99])
@pytest.mark.parametrize("at_once", [1, 100, 2**24])
def test_the_pair_is_that_of_a_search_over_all(monkeypatch, correlation, at_once):
    """Also where alpha and -beta are opposed, so that every component is one of the few, and where few are free."""
    monkeypatch.setattr(jsma, "PAIRS", at_once)
    alpha, noise = torch.randn(2, 60, 12, generator=GENERATOR, dtype=torch.float64).unbind()
    beta = -(correlation * alpha + (1 - correlation**2) ** 0.5 * noise) * torch.logspace(-30, 3, 60).double()[:, None]
    free = torch.rand(60, 12, generator=GENERATOR) < torch.linspace(0, 1, 60)[:, None]
    first, second, found = best_pairs(alpha, beta, free)
    expected = [searched(alpha[i], beta[i], free[i])[0] for i in range(60)]
    assert [(int(p), int(q)) if f else None for p, q, f in zip(first, second, found, strict=True)] == expected
    assert 0 < found.sum() < 60


def test_equal_components_do_not_hide_the_best_product():
    alpha, beta = torch.randint(-2, 3, (2, 300, 7), generator=GENERATOR).double().unbind()
    free = torch.ones(300, 7, dtype=torch.bool)
    first, second, found = best_pairs(alpha, beta, free)
    for i in range(300):
        value = searched(alpha[i], beta[i], free[i])[1]
        assert (product(alpha[i], beta[i], int(first[i]), int(second[i])) if found[i] else 0.0) == value
        assert not found[i] or first[i] < second[i]


def test_nothing_free_gives_no_pair():
    slopes = torch.ones(3, 5)
    assert not best_pairs(slopes, -slopes, torch.zeros(3, 5, dtype=torch.bool))[2].any()
    assert not best_pairs(slopes, -slopes, torch.arange(5).expand(3, -1) == 2)[2].any()


# ---- linear classifiers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("theta", [0.3, -0.3])
def test_the_first_step_is_that_of_the_log_predictive(theta, draws):
    """One draw: d log p_c = w_c - sum_k p_k w_k. Several: p_c is their mean, and so is its gradient."""
    weight = torch.randn(draws, 4, 10, generator=GENERATOR, dtype=torch.float64)
    post = linear(weight, bounds=BOX)
    x = 0.35 + 0.3 * torch.rand(30, 10, generator=GENERATOR, dtype=torch.float64)
    log_p = post(x)
    y = log_p.argmax(1)
    aim = log_p.scatter(1, y[:, None], -torch.inf).argmax(1)
    each = torch.einsum("dcf,nf->dnc", weight, x).softmax(-1)
    slopes = torch.einsum("dnc,dcf->dncf", each, weight) - torch.einsum("dnc,dnk,dkf->dncf", each, each, weight)
    slopes = slopes.mean(0) / each.mean(0)[..., None] * (1 if theta > 0 else -1)
    alpha = slopes[torch.arange(30), aim]
    beta = slopes.sum(1) - alpha
    found = JSMA(theta=theta, gamma=0.2)(post, x, y)
    for i in range(30):
        pair, _ = searched(alpha[i], beta[i], torch.ones(10, dtype=torch.bool))
        expected = x[i].clone()
        if pair is not None:
            expected[list(pair)] += theta
        torch.testing.assert_close(found[i], expected, rtol=0, atol=0)


@pytest.mark.parametrize("theta", [1.0, -1.0])
def test_two_classes_take_the_largest_weights_first_and_no_more_than_needed(theta):
    """alpha and beta are both proportional to w: the pairs are the two largest w, the next two, ...; from a corner."""
    weight = torch.rand(1, 1, 20, generator=GENERATOR, dtype=torch.float64)
    x = torch.full((6, 20), 0.0 if theta > 0 else 1.0).double()
    sign = 1 if theta > 0 else -1
    both = torch.cat([torch.zeros_like(weight), sign * weight], 1)
    total = weight[0, 0].sort(descending=True).values.cumsum(0)
    for pairs in range(1, 10):  # the class changes with this pair, and not with half of it
        gap = float(total[2 * pairs - 2] + total[2 * pairs - 1]) / 2
        start = float((sign * weight[0, 0] * x[0]).sum())
        post = linear(both, torch.tensor([[gap + start, 0.0]]), bounds=BOX)
        found = JSMA(theta=theta, gamma=1.0).run(post, x, torch.zeros(6).long())
        expected = torch.zeros(20, dtype=torch.bool)
        expected[weight[0, 0].topk(2 * pairs).indices] = True
        assert torch.equal(found.x != x, expected.expand(6, -1))
        assert (found.x == 1 if theta > 0 else found.x == 0)[:, expected].all()
        assert (post(found.x).argmax(1) == 1).all()
        assert (found.gradients == 2 * pairs).all()
        assert (found.queries == 2 + pairs).all()  # which target, whether it is there already, and after each step
        fewer = JSMA(theta=theta, gamma=(2 * pairs - 1) / 20)(post, x, torch.zeros(6).long())
        assert ((fewer != x).sum(1) == 2 * pairs - 2).all()


def test_a_small_step_comes_back_until_the_bound_is_reached():
    """The two largest weights go all the way, in steps of 0.3, before the next two; the last step is cut short."""
    weight = torch.tensor([[[0.0] * 6, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]])
    x, y = torch.full((1, 6), 0.25).double(), torch.tensor([0])
    for gap, expected, rounds in [
        (3.4, [0.55, 0.55, 0.25, 0.25, 0.25, 0.25], 1),
        (6.7, [0.85, 0.85, 0.25, 0.25, 0.25, 0.25], 2),
        (8.3, [1.0, 1.0, 0.25, 0.25, 0.25, 0.25], 3),
        (10.0, [1.0, 1.0, 0.55, 0.55, 0.25, 0.25], 4),
    ]:
        post = linear(weight, torch.tensor([[5.25 + gap - 0.2, 0.0]]), bounds=BOX)
        found = JSMA(theta=0.3, gamma=1.0).run(post, x, y)
        torch.testing.assert_close(found.x, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-12)
        assert found.gradients.tolist() == [2 * rounds]


def test_without_bounds_each_component_moves_once():
    weight = torch.tensor([[[0.0] * 4, [4.0, 3.0, 2.0, 1.0]]])
    post = linear(weight, torch.tensor([[100.0, 0.0]]))
    found = JSMA(theta=7.0, gamma=1.0).run(post, torch.zeros(1, 4).double(), torch.tensor([0]))
    assert found.x.tolist() == [[7.0] * 4]
    assert found.gradients.tolist() == [4]


def test_what_only_hurts_the_target_is_left_alone():
    weight = torch.tensor([[[0.0] * 5, [-1.0] * 5, [0.0] * 5]])
    post = linear(weight, torch.tensor([[3.0, 2.0, 0.0]]), bounds=BOX)
    x = torch.zeros(2, 5).double()
    found = JSMA(gamma=1.0).run(post, x, torch.tensor([0, 1]), seed=1)
    assert torch.equal(found.x, x)
    assert found.gradients.tolist() == [2, 0]  # the second is wrong already, and the target is what it seems to be
    assert found.queries.tolist() == [2, 2]


def test_the_share_that_may_change_is_a_bound():
    post = held(bounds=BOX)
    x = torch.rand(50, 2, 3, generator=GENERATOR)
    y = post(x).argmax(1)
    for gamma, most in [(0.1, 0), (0.34, 2), (0.5, 2), (0.67, 4), (1.0, 6)]:
        found = JSMA(theta=0.4, gamma=gamma).run(post, x, y)
        changed = norms(found.x - x, "l_0")
        assert changed.max() == most if gamma < 1 else changed.max() > 2
        assert found.x.min() >= 0
        assert found.x.max() <= 1
        assert (found.gradients == 0).all() == (most == 0)


@pytest.mark.parametrize("target", ["least_likely", "random", 2, "given"])
def test_reaches_the_target_that_it_is_given(target):
    weight = 10 * torch.eye(4, dtype=torch.float64).repeat_interleave(3, 1)[None]
    post = linear(weight, bounds=BOX)
    x = 0.1 * torch.rand(16, 12, generator=GENERATOR, dtype=torch.float64) + 0.2 * torch.eye(4).repeat(4, 3).double()
    y = post(x).argmax(1)
    aim = (y + 1) % 4
    found = post(JSMA(gamma=1.0, target=target)(post, x, aim if target == "given" else y)).argmax(1)
    if target == "given":
        assert torch.equal(found, aim)
    elif target == 2:
        assert (found == 2).all()
    elif target == "least_likely":
        assert torch.equal(found, (-post(x)).argmax(1))
    else:
        assert (found != y).all()


def test_gradients_that_are_not_numbers_are_no_robustness():
    weight = torch.ones(1, 2, 4)
    weight[0, 1, 2] = torch.inf
    with pytest.raises(BayesrobError, match="NaN"):
        JSMA(gamma=1.0)(linear(weight, bounds=BOX), torch.full((1, 4), 0.5).double(), torch.tensor([0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": None}, "JSMA without a target"),
        ({"theta": 0.0}, "theta is 0"),
        ({"theta": float("nan")}, "theta is nan"),
        ({"theta": "1"}, "theta is '1'"),
        ({"gamma": 0.0}, "gamma is 0"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"norm": "l_2"}, "l_0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        JSMA(**settings)
