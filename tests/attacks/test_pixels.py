"""JSMA and the single-pixel attack, against searches over all pairs and all pixels."""

from __future__ import annotations

import itertools

import pytest
import torch

from bayesrob.attacks import JSMA, SinglePixel
from bayesrob.attacks.geometry import norms
from bayesrob.attacks.jsma import best_pairs
from bayesrob.errors import InputError
from tests.attacks.helpers import held, linear

GENERATOR = torch.Generator().manual_seed(2)


def test_the_best_pair_is_that_of_a_search_over_all():
    a, b = torch.randn(2, 30, 9, generator=GENERATOR, dtype=torch.float64).unbind()
    free = torch.rand(30, 9, generator=GENERATOR) > 0.3
    a[0], b[1] = -1.0, 1.0  # no pair helps
    first, second, found = best_pairs(a, b, free)
    assert not found[:2].any()
    for i in range(2, 30):
        scores = {
            (p, q): -float((a[i, p] + a[i, q]) * (b[i, p] + b[i, q]))
            for p, q in itertools.combinations(range(9), 2)
            if free[i, p] and free[i, q] and a[i, p] + a[i, q] > 0 and b[i, p] + b[i, q] < 0
        }
        assert bool(found[i]) == bool(scores)
        if scores:
            assert max(scores, key=lambda pair: scores[pair]) == (int(first[i]), int(second[i]))


@pytest.mark.parametrize("theta", [1.0, -1.0])
def test_jsma_takes_the_components_in_the_order_of_their_weight(theta):
    """Two classes: a = (1 - p) w and b = -p' w ..., so the pair is that of the two largest weights, then the next two."""
    weight = torch.zeros(1, 2, 8)
    steps = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.6, 0.4])
    weight[0, 1] = steps if theta > 0 else -steps
    x = torch.full((1, 8), 0.0 if theta > 0 else 1.0).double()
    # The class changes once 0.9 + 0.8 + 0.7 has been gained: with the second pair.
    offset = float((x[0] * weight[0, 1]).sum()) + 2.3
    post = linear(weight, torch.tensor([[offset, 0.0]]), bounds=(0.0, 1.0))
    found = JSMA(theta=theta, gamma=1.0).run(post, x, torch.tensor([0]))
    assert torch.nonzero(found.x[0] != x[0])[:, 0].tolist() == [1, 3, 5, 6]
    assert int(post(found.x).argmax()) == 1
    assert found.gradients.tolist() == [4]
    assert JSMA(theta=theta, gamma=0.25)(post, x, torch.tensor([0])).ne(x).sum() == 2  # one pair is all that it may


def test_jsma_reaches_a_target():
    post = held(bounds=(0, 1))
    x = torch.rand(20, 2, 3, generator=GENERATOR)
    y = post(x).argmax(1)
    aim = post(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    found = JSMA(gamma=1.0)(post, x, y)
    hit = post(found).argmax(1) == aim
    assert hit.any()
    assert (post(found).gather(1, aim[:, None]) >= post(x).gather(1, aim[:, None]))[hit].all()


@pytest.mark.parametrize("channels", [1, 3])
def test_one_pixel_is_found_exactly_where_there_is_one(channels):
    """All pixels are tried: it succeeds where a search over places and values says that it can, with one pixel."""
    weight = torch.randn(1, 2, channels * 12, generator=GENERATOR)
    x = torch.rand(40, channels, 3, 4, generator=GENERATOR, dtype=torch.float64)
    bias = -(x.flatten(1) @ weight[0].double().T).mean(0, keepdim=True)
    bias[0, 0] += 1.5  # some are far from the boundary, more than a pixel away
    post = linear(weight, bias, bounds=(0.0, 1.0))
    y = post(x).argmax(1)
    possible = torch.zeros(40, dtype=torch.bool)
    for place, value in itertools.product(range(12), (0.0, 1.0)):
        z = x.flatten(2).clone()
        z[:, :, place] = value
        possible |= post(z.view_as(x)).argmax(1) != y
    result = SinglePixel(at_once=1).run(post, x, y)
    assert torch.equal(post(result.x).argmax(1) != y, possible)
    assert possible.any()
    assert not possible.all()
    changed = (result.x != x).flatten(2).any(1).sum(1)
    assert (changed <= 1).all()
    assert torch.equal(changed == 1, possible)
    assert (norms(result.x - x, "l_0") <= channels).all()
    assert (result.queries[~possible] == 1 + 2 * 12).all()
    assert (SinglePixel(tries=3).run(post, x, y).queries <= 7).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JSMA(target=None), "JSMA without a target"),
        (lambda: JSMA(theta=0.0), "theta"),
        (lambda: JSMA(gamma=1.5), "gamma"),
        (lambda: SinglePixel(tries=0), "tries is 0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()
