"""Square's own parts on images: its start, its squares, its pyramids, and what they reach on linear models."""

from __future__ import annotations

import pytest
import torch

from bayesrob.attacks import Square
from bayesrob.attacks.geometry import norms, project
from bayesrob.attacks.square import pyramids
from bayesrob.errors import InputError
from bayesrob.predictive import HeldDraws
from tests.attacks.helpers import linear

GENERATOR = torch.Generator().manual_seed(5)
SHAPE = (2, 6, 7)
FEATURES = 84
WEIGHT = torch.randn(1, 2, FEATURES, generator=GENERATOR, dtype=torch.float64)
X = torch.rand(10, *SHAPE, generator=GENERATOR, dtype=torch.float64)
Y = torch.zeros(10, dtype=torch.int64)
UPHILL = (WEIGHT[0, 1] - WEIGHT[0, 0]).view(SHAPE)


def out_of_reach(bounds=None) -> HeldDraws:
    return linear(WEIGHT, torch.tensor([[1000.0, 0.0]]), bounds=bounds)


def gained(found, norm, bounds, eps=0.3):
    """Shares of the largest margin that can be gained."""
    worst = project(X + 1e6 * UPHILL, X, eps, norm, bounds)
    return ((found - X) * UPHILL).flatten(1).sum(1) / ((worst - X) * UPHILL).flatten(1).sum(1)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize(("norm", "least"), [("l_inf", 0.95), ("l_2", 0.5)])
def test_images_converge(norm, least, bounds):
    """In l_inf to the worst corner; in l_2 not all the way, as the smallest bump of the paper is 3 x 3."""
    gains = [
        gained(Square(eps=0.3, norm=norm, queries=n)(out_of_reach(bounds), X, Y), norm, bounds) for n in (30, 300, 1200)
    ]
    assert gains[0].mean() < gains[1].mean() < gains[2].mean()
    assert (gains[2] > least).all()
    assert (gains[2] <= 1 + 1e-9).all()


def test_starts_from_vertical_stripes():
    delta = Square(eps=0.3, queries=1)(out_of_reach(), X, Y) - X
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.3), rtol=0, atol=1e-12)
    torch.testing.assert_close(delta, delta[:, :, :1].expand_as(delta), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(9,), (1, 6, 7), (3, 6, 7), (1, 1, 1), (3, 2, 9)])
@pytest.mark.parametrize("query", [0, 40, 900])
def test_every_query_changes_one_window(shape, query):
    attack = Square(queries=1000)
    x = torch.zeros(400, *shape)
    start = attack._start(x, GENERATOR)
    changed = attack._moved(start, query, GENERATOR) != start
    assert changed.flatten(1).any(1).all()
    assert changed.any(0).all()  # the last row and column too
    if query == 900:  # the smallest window: one place
        assert (changed.flatten(1).sum(1) <= (shape[0] if len(shape) == 3 else 1)).all()


@pytest.mark.parametrize(("query", "size"), [(0, 80), (2, 40), (10, 20), (30, 10), (70, 5), (150, 2), (300, 1)])
def test_windows_shrink_as_the_paper_says(query, size):
    """Of 100 components; at 10, 50, 200, ... of 10,000 queries, here of 1,000, the share 0.8 is halved.

    Half of the signs change, and all of them where none would.
    """
    attack, x = Square(queries=1000), torch.zeros(500, 100)
    changed = (attack._moved(torch.ones_like(x), query, GENERATOR) != 1).sum(1)
    assert changed.max() <= size
    assert changed.double().mean() == pytest.approx(size / 2 + size / 2**size, rel=0.1)


def test_pyramids():
    top, low = torch.tensor([[0.25, 1.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
    expected = torch.cat([top / top.norm(), -low / low.norm()]) / 2**0.5
    torch.testing.assert_close(pyramids(3), expected)
    for side in range(1, 12):
        torch.testing.assert_close(pyramids(side).norm(), torch.tensor(1.0))
        assert (pyramids(side)[: side // 2] > 0).all()
        assert (pyramids(side)[side // 2 :] < 0).all()


@pytest.mark.parametrize("queries", [1, 2, 30, 400])
def test_the_whole_radius_is_spent(queries):
    found = Square(eps=0.7, norm="l_2", queries=queries)(out_of_reach(), X, Y)
    torch.testing.assert_close(norms(found - X, "l_2"), torch.full((10,), 0.7, dtype=torch.float64), rtol=0, atol=1e-9)


def test_restarts_keep_the_best():
    one = Square(eps=0.3, queries=60).run(out_of_reach(), X, Y)
    three = Square(eps=0.3, queries=60, restarts=3).run(out_of_reach(), X, Y)
    assert (one.queries == 60).all()
    assert (three.queries == 180).all()
    gains = [gained(result.x, "l_inf", None) for result in (one, three)]
    assert (gains[1] >= gains[0]).all()
    assert (gains[1] > gains[0]).any()


def test_reaches_its_target():
    """Five classes: each point ends in the class asked for, and stops there."""
    weight = torch.randn(1, 5, FEATURES, generator=GENERATOR, dtype=torch.float64)
    post = linear(weight)
    y = post(X).argmax(1)
    target = (y + 2) % 5
    result = Square(eps=1.0, queries=500, target="given").run(post, X, target)
    assert torch.equal(post(result.x).argmax(1), target)
    assert (result.queries < 500).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queries": 0}, "queries is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"queries": 2.5}, "queries is 2.5"),
        ({"p_init": 0.0}, "p_init is 0"),
        ({"p_init": 1.5}, "p_init is 1.5"),
        ({"p_init": None}, "p_init is None"),
        ({"norm": "l_1"}, "l_1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        Square(**settings)
