"""Attacks that see predictions only, on linear models whose worst case is known."""

from __future__ import annotations

import pytest
import torch

from bayesrob.attacks import NES, Boundary, RandomSearch, Square
from bayesrob.attacks.geometry import norms, project
from bayesrob.predictive import Predictive
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(21)
WEIGHT = torch.randn(1, 2, 8, generator=GENERATOR, dtype=torch.float64)
X = torch.rand(10, 8, generator=GENERATOR, dtype=torch.float64)
BIAS = -(X @ WEIGHT[0].T).mean(0, keepdim=True)
OUT_OF_REACH = torch.tensor([[40.0, 0.0]]).double()


def setting(bounds):
    """A model whose first class is far ahead, so that nothing succeeds and all queries are spent, and its worst points."""
    post = linear(WEIGHT, OUT_OF_REACH, bounds=bounds)
    y = torch.zeros(10, dtype=torch.int64)
    return post, y, (WEIGHT[0, 1] - WEIGHT[0, 0]).expand(10, 8)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("norm", ["l_inf", "l_2"])
def test_square_converges_to_the_worst_case(norm, bounds):
    post, y, uphill = setting(bounds)
    worst = project(X + 1e6 * uphill, X, 0.3, norm, bounds)
    most = ((worst - X) * uphill).sum(1)
    gaps = []
    for queries in (20, 200, 2000):
        found = Square(eps=0.3, norm=norm, queries=queries)(post, X, y)
        gaps.append(float((1 - ((found - X) * uphill).sum(1) / most).max()))
    assert gaps[0] > gaps[1] > gaps[2] or gaps[1] < 1e-9
    assert gaps[2] < (0.01 if norm == "l_inf" else 0.15)
    assert gaps[2] > -1e-9


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_nes_reaches_the_worst_corner(bounds):
    post, y, uphill = setting(bounds)
    worst = project(X + 1e6 * uphill, X, 0.3, "l_inf", bounds)
    gains = []
    for samples in (10, 2000):
        found = NES(eps=0.3, steps=60, samples=samples)(post, X, y)
        gains.append(((found - X) * uphill).sum(1) / ((worst - X) * uphill).sum(1))
    assert (gains[1] > 0.99).all()  # signs of the smallest components are the last to be sure
    assert gains[0].mean() < gains[1].mean()


@pytest.mark.parametrize("norm", ["l_inf", "l_2"])
def test_random_search_gets_nearer_and_never_beyond(norm):
    post, y, uphill = setting(None)
    worst = project(X + 1e6 * uphill, X, 0.3, norm, None)
    most = ((worst - X) * uphill).sum(1)
    gains = []
    for samples in (10, 100, 3000):
        found = RandomSearch(eps=0.3, norm=norm, samples=samples)(post, X, y)
        gains.append(((found - X) * uphill).sum(1) / most)
    assert (gains[-1] <= 1 + 1e-9).all()
    assert gains[0].mean() < gains[1].mean() < gains[2].mean()
    if norm == "l_inf":  # 1,500 random corners of 256: the worst is among them
        assert (gains[-1] > 1 - 1e-6).all()


def test_boundary_converges_to_the_nearest_point():
    post = linear(WEIGHT, BIAS)
    y = post(X).argmax(1)
    uphill = WEIGHT[0, 1] - WEIGHT[0, 0]
    truth = ((X @ uphill) + BIAS[0, 1] - BIAS[0, 0]).abs() / uphill.norm()
    ratios = []
    for steps in (20, 300, 3000):
        found = Boundary(steps=steps)(post, X, y)
        assert (post(found).argmax(1) != y).all()
        ratios.append(norms(found - X, "l_2") / truth)
    assert (ratios[-1] >= 1).all()
    assert ratios[0].median() > ratios[1].median() > ratios[2].median()
    assert ratios[-1].max() < 1.02


@pytest.mark.parametrize(
    "attack", [Square(eps=0.3, queries=50), NES(eps=0.3, steps=5), RandomSearch(eps=0.3, samples=50)], ids=lambda a: a.paper
)
def test_what_has_succeeded_asks_no_more(monkeypatch, attack):
    post = linear(WEIGHT, BIAS)
    y = post(X).argmax(1)
    whole = attack.run(post, X, y)
    fell = post(whole.x).argmax(1) != y
    assert fell.any()
    assert whole.queries[fell].double().mean() < whole.queries[~fell].double().mean() if (~fell).any() else True
    seen = []
    original = Predictive.forward

    def count(self, x, *args):
        seen.append(len(x))
        return original(self, x, *args)

    monkeypatch.setattr(Predictive, "forward", count)
    again = attack.run(post, X, y)
    assert sum(seen) == int(again.queries.sum())
    assert torch.equal(again.x, whole.x)
