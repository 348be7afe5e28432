"""The single-pixel attack against a search over all pixels and both values."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from bayesrob.attacks import SinglePixel
from bayesrob.attacks.single_pixel import planes
from bayesrob.errors import InputError
from bayesrob.predictive import HeldDraws
from tests.attacks.helpers import linear

BOX = (-1.0, 2.0)
"""Of which 0.5 is the middle."""
SHAPES = [(1, 3, 4), (3, 3, 4), (12,), (3, 4)]


def problem(shape: tuple[int, ...], classes: int = 2) -> tuple[HeldDraws, Tensor, Tensor]:
    """Linear classifiers of which some points are one pixel from the boundary and some are not."""
    size, generator = torch.Size(shape).numel(), torch.Generator().manual_seed(2)
    weight = torch.randn(2, classes, size, generator=generator, dtype=torch.float64)
    x = 3 * torch.rand(60, *shape, generator=generator, dtype=torch.float64) - 1
    x[::7].flatten(1)[:, 0] = 0.5
    x[::3] = x[::3].round().clamp(*BOX)  # some are at the bounds already
    bias = -torch.einsum("dcf,f->dc", weight, x.flatten(1).mean(0))
    bias[:, 0] += 3.0
    post = linear(weight, bias, bounds=BOX)
    return post, x, post(x).argmax(1)


def changes(x: Tensor, values: str) -> list[Tensor]:
    """All that may be done to a batch, whether or not it changes anything."""
    if values == "sign":
        new = [torch.where(x > 0.5, 2.0, torch.where(x < 0.5, -1.0, x))]
    else:
        new = [torch.full_like(x, value) for value in BOX]
    found = []
    for to, place in itertools.product(new, range(planes(x).shape[2])):
        z = planes(x).clone()
        z[:, :, place] = planes(to)[:, :, place]
        found.append(z.view_as(x))
    return found


@pytest.mark.parametrize("values", ["both", "sign"])
@pytest.mark.parametrize("shape", SHAPES)
def test_succeeds_exactly_where_one_pixel_is_enough(shape, values):
    post, x, y = problem(shape)
    reached = torch.stack([(post(z).argmax(1) != y) for z in changes(x, values)])
    alters = torch.stack([(z != x).flatten(1).any(1) for z in changes(x, values)])
    possible = reached.any(0)
    assert 0.1 < possible.double().mean() < 0.95
    found = SinglePixel(values=values, at_once=1).run(post, x, y)
    fooled = post(found.x).argmax(1) != y
    assert torch.equal(fooled, possible)
    changed = (planes(found.x) != planes(x)).any(1).sum(1)
    assert torch.equal(changed, possible.long())
    assert torch.equal(found.x[~possible], x[~possible])
    # The clean input, and then everything that changes something.
    assert torch.equal(found.queries[~possible], 1 + alters.sum(0)[~possible])
    assert (found.queries[possible] <= 1 + alters.sum(0)[possible]).all()
    assert (alters.sum(0) < len(alters)).any()
    assert (found.gradients == 0).all()


@pytest.mark.parametrize("values", ["both", "sign"])
def test_the_first_that_fools_is_kept_however_many_are_asked_about_at_once(values):
    post, x, y = problem((3, 3, 4))
    one, some, all_ = (SinglePixel(values=values, at_once=count).run(post, x, y, seed=3) for count in (1, 5, 1000))
    assert torch.equal(one.x, some.x)
    assert torch.equal(one.x, all_.x)
    assert (one.queries <= some.queries).all()
    assert (some.queries <= one.queries + 4).all()
    fooled = post(one.x).argmax(1) != y
    tries = one.queries - 1
    assert len(tries[fooled].unique()) > 3  # in random order
    for most in (1, 3):  # fewer tries are the first of more
        few = SinglePixel(values=values, at_once=2, tries=most).run(post, x, y, seed=3)
        within = fooled & (tries <= most)
        assert torch.equal(few.x[within], one.x[within])
        assert torch.equal(few.x[~within], x[~within])
        assert (few.queries <= 1 + most).all()


def test_each_channel_goes_to_the_bound_on_its_side():
    x = torch.tensor([0.4, 0.6, 0.5]).double().view(1, 3, 1, 1)
    weight = torch.zeros(1, 2, 3)
    weight[0, 1] = torch.tensor([-1.0, 1.0, 0.0])
    post = linear(weight, torch.tensor([[1.0, 0.0]]), bounds=BOX)
    found = SinglePixel(values="sign")(post, x, torch.tensor([0]))
    assert found.flatten().tolist() == [-1.0, 2.0, 0.5]


def test_with_a_target_nothing_else_counts():
    post, x, y = problem((1, 3, 4), classes=4)
    aim = (y + 1) % 4
    possible = torch.stack([post(z).argmax(1) == aim for z in changes(x, "both")]).any(0)
    assert 0 < possible.sum() < len(x)
    found = SinglePixel(target="given")(post, x, aim)
    assert torch.equal(post(found).argmax(1) == aim, possible)
    assert torch.equal(found[~possible], x[~possible])


def test_what_is_wrong_already_is_left_alone():
    post, x, y = problem((1, 3, 4))
    found = SinglePixel().run(post, x, 1 - y)
    assert torch.equal(found.x, x)
    assert (found.queries == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tries": 0}, "tries is 0"),
        ({"at_once": 0}, "at_once is 0"),
        ({"values": "signs"}, "Did you mean 'sign'"),
        ({"norm": "l_2"}, "l_0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        SinglePixel(**settings)
