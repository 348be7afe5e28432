"""RandomSearch on a line, where the chance of every sample is known."""

from __future__ import annotations

import pytest
import torch

from bayesrob.attacks import RandomSearch
from bayesrob.errors import InputError
from tests.attacks.helpers import linear

POST = linear(torch.tensor([[[0.0], [1.0]]]))
"""The second class wins where x > 0."""
X = torch.full((4000, 1), -0.2).double()
Y = torch.zeros(4000, dtype=torch.int64)


@pytest.mark.parametrize("samples", [1, 3, 6])
def test_of_uniform_points_the_known_share_succeeds(samples):
    """A uniform point of [-0.5, 0.5] around -0.2 is right of zero with probability 0.3."""
    found = RandomSearch(eps=0.5, norm="l_2", samples=samples, at_once=2)(POST, X, Y)
    share = float((found > 0).double().mean())
    assert share == pytest.approx(1 - 0.7**samples, abs=4 * 0.5 / 4000**0.5)


def test_queries_until_success_are_geometric():
    result = RandomSearch(eps=0.5, norm="l_2", samples=200, at_once=1).run(POST, X, Y)
    assert (result.x > 0).all()
    assert float(result.queries.double().mean()) == pytest.approx(1 / 0.3, abs=4 * (0.7**0.5 / 0.3) / 4000**0.5)


def test_every_second_point_of_the_cube_is_a_corner():
    """The first is uniform (0.3), the second a corner (0.5)."""
    first = RandomSearch(eps=0.5, samples=1)(POST, X, Y)
    both = RandomSearch(eps=0.5, samples=2, at_once=1).run(POST, X, Y)
    assert float((first > 0).double().mean()) == pytest.approx(0.3, abs=0.03)
    assert float((both.x > 0).double().mean()) == pytest.approx(1 - 0.7 * 0.5, abs=0.03)
    late = both.queries == 2
    won = late & (both.x[:, 0] > 0)
    torch.testing.assert_close(both.x[won], torch.full_like(both.x[won], 0.3))
    lost = both.x[late & ~won]  # the nearer of the two: the uniform one
    assert (lost > -0.7).all()


@pytest.mark.parametrize("at_once", [1, 7, 40])
def test_asks_at_most_one_batch_too_many(at_once):
    one = RandomSearch(eps=0.5, norm="l_2", samples=40, at_once=at_once).run(POST, X, Y)
    assert ((one.queries % at_once == 0) | (one.queries == 40)).all()
    assert int(one.queries.max()) <= 40
    assert (one.queries[one.x[:, 0] <= 0] == 40).all()


@pytest.mark.parametrize(("settings", "message"), [({"samples": 0}, "samples is 0"), ({"at_once": 0}, "at_once is 0")])
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        RandomSearch(**settings)
