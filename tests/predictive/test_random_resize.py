"""Random resizing and padding against torch's own resizing, draw by draw."""

from __future__ import annotations

import collections

import pytest
import torch
from torch import nn

import bayesrob
from bayesrob import nets, rng
from bayesrob.attacks import PGD
from bayesrob.errors import CheckpointError, InputError, UnknownNameError
from bayesrob.predictive import OBJECTIVES, GaussianDraws, HeldDraws, RandomResizePad
from bayesrob.predictive.random_resize import HeldResizePad
from tests.nets.helpers import random_inputs, random_weights

SIDE, CLASSES = 16, 4
SHAPE = (2, SIDE, SIDE)


def net() -> nn.Module:
    return nets.mlp(2 * SIDE**2, (5,), CLASSES, activation="tanh")


def held(num_draws: int = 1, dtype: torch.dtype = torch.float64) -> HeldDraws:
    weights = random_weights(net(), num_draws, dtype=dtype)
    return HeldDraws(net(), weights, input_shape=SHAPE, out_features=CLASSES, bounds=(0, 1)).to(dtype)


def gaussian() -> GaussianDraws:
    loc = {name: tensor[0] for name, tensor in random_weights(net(), 1, dtype=torch.float64).items()}
    scale = {name: torch.full_like(tensor, 0.1) for name, tensor in loc.items()}
    return GaussianDraws(net(), loc, scale, num_draws=7, input_shape=SHAPE, out_features=CLASSES, bounds=(0, 1)).double()


def images(number: int = 3, side: int = SIDE) -> torch.Tensor:
    return random_inputs(number, 2, side, side, seed=5, dtype=torch.float64).sigmoid()


def by_torch(x: torch.Tensor, side: int, row: int, column: int, mode: str = "bilinear") -> torch.Tensor:
    resized = nn.functional.interpolate(x, size=(side, side), mode=mode)
    return nn.functional.pad(resized, (column, SIDE - side - column, row, SIDE - side - row))


def transformations(seed: int, number: int, smallest: int, size: int = SIDE) -> list[list[int]]:
    """As documented: side, row, column, uniform, one draw after the other."""
    generator, found = rng.generator(seed, "transformations"), []
    for _ in range(number):
        side = int(torch.randint(smallest, size, (), generator=generator))
        found.append([side, *torch.randint(size - side + 1, (2,), generator=generator).tolist()])
    return found


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("side", [SIDE, 11, 23])
def test_each_draw_is_the_network_at_torchs_resized_padded_image(mode, side):
    post, x = held(3), images(side=side)
    random = RandomResizePad(post, smallest=9, input_shape=(2, side, side), mode=mode)
    logits = random.logits(x, num_draws=8, seed=4)
    for i, (r, row, column) in enumerate(transformations(4, 8, 9)):
        expected = post.logits(by_torch(x, r, row, column, mode))[i % 3]
        torch.testing.assert_close(logits[i], expected, rtol=1e-10, atol=1e-12)


def test_fresh_weights_behind_are_drawn_from_the_same_seed():
    post, x = gaussian(), images()
    logits = RandomResizePad(post, smallest=9).logits(x, num_draws=5, seed=4)
    frozen = post.freeze(5, seed=4)
    for i, place in enumerate(transformations(4, 5, 9)):
        expected = frozen.logits(by_torch(x, *place))[i]
        torch.testing.assert_close(logits[i], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss", "margin"])
def test_gradients_are_those_of_torch(objective):
    post, x, y = held(2), images(), torch.tensor([0, 3, 1])
    random = RandomResizePad(post, smallest=9)
    places = transformations(4, 6, 9)
    leaf = x.clone().requires_grad_()
    logits = [post.logits(by_torch(leaf, *place))[i % 2] for i, place in enumerate(places)]
    value = OBJECTIVES[objective].value(torch.stack(logits), y, post.likelihood)
    (expected,) = torch.autograd.grad(value.sum(), leaf)
    found = random.input_gradient(x, y, objective, num_draws=6, seed=4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    (again,) = torch.autograd.grad(random.objective_value(leaf, y, objective, 6, 4).sum(), leaf)  # by autograd through it
    torch.testing.assert_close(again, expected, rtol=1e-9, atol=1e-12)
    if objective == "expected_loss":
        _, each = random.draw_gradients(x, y, num_draws=6, seed=4)
        torch.testing.assert_close(each.mean(0), expected, rtol=1e-9, atol=1e-12)
        with_error, error = random.input_gradient(x, y, num_draws=6, seed=4, standard_error=True)
        torch.testing.assert_close(with_error, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(error, each.std(0) / 6**0.5, rtol=1e-9, atol=1e-12)


def test_an_image_of_ones_is_a_square_of_ones():
    random = RandomResizePad(held(), smallest=9)
    ones = torch.ones(1, 2, SIDE, SIDE, dtype=torch.float64)
    for f, (side, row, column) in zip(random.functions(1, 20, 4), transformations(4, 20, 9), strict=True):
        expected = torch.zeros_like(ones)
        expected[..., row : row + side, column : column + side] = 1
        torch.testing.assert_close(f.placed(ones), expected, rtol=1e-12, atol=1e-12)


def test_sides_and_places_are_uniform():
    random = RandomResizePad(held(), smallest=13)
    counts = collections.Counter(map(tuple, random.sample(20_000, rng.generator(0)).tolist()))
    patterns = {side: (SIDE - side + 1) ** 2 for side in (13, 14, 15)}
    assert set(counts) == {(side, i, j) for side in patterns for i in range(SIDE - side + 1) for j in range(SIDE - side + 1)}
    chi_square = 0.0
    for (side, _, _), count in counts.items():
        expected = 20_000 / 3 / patterns[side]
        chi_square += (count - expected) ** 2 / expected
    freedom = sum(patterns.values()) - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(("side", "smallest"), [(28, 25), (32, 29), (331, 299)])
def test_sides_are_in_the_papers_proportion(side, smallest):
    network = nets.mlp(side**2, (), 2)
    post = HeldDraws(network, {name: p[None] for name, p in network.named_parameters()}, input_shape=(1, side, side))
    random = RandomResizePad(post)
    assert (random.smallest, random.size, random.num_draws) == (smallest, side, 30)


def test_seeds_and_prefixes():
    random, x = RandomResizePad(gaussian(), smallest=9), images()
    assert torch.equal(random.logits(x, seed=1), random.logits(x, seed=1))
    assert not torch.equal(random.logits(x, seed=1), random.logits(x, seed=2))
    assert torch.equal(random.logits(x, 3, seed=1), random.logits(x, 8, seed=1)[:3])
    assert torch.equal(random[:3].logits(x, seed=1), random.logits(x, 3, seed=1))
    first = random.logits(x, 3)
    assert not torch.equal(random.logits(x, 3), first)  # its own generator moves on
    assert torch.equal(RandomResizePad(gaussian(), smallest=9).logits(x, 3), first)


@pytest.mark.parametrize("behind", [lambda: held(1), lambda: held(3), gaussian], ids=["one", "three", "fresh"])
def test_frozen_draws_are_those_of_the_seed(behind):
    random, x = RandomResizePad(behind(), smallest=9, bounds=(-1, 2)), images()
    frozen = random.freeze(5, seed=6)
    expected = random.logits(x, 5, seed=6)
    assert torch.equal(frozen.logits(x), expected)
    assert torch.equal(frozen.logits(x, seed=1), expected)  # held
    assert torch.equal(frozen[:2].logits(x), expected[:2])
    assert torch.equal(frozen[3].logits(x), expected[3:4])
    assert torch.equal(frozen[-1].logits(x), expected[4:])
    assert torch.equal(frozen[1:4:2].logits(x), expected[1:4:2])
    assert torch.equal(frozen.freeze(2).logits(x), expected[:2])
    assert (frozen.num_draws, frozen.bounds, frozen.input_shape) == (5, (-1, 2), SHAPE)
    assert frozen.info["frozen"] == {"num_draws": 5, "seed": 6}
    with pytest.raises(InputError, match="Only 5 are held"):
        frozen.logits(x, 6)


@pytest.mark.parametrize("behind", [lambda: held(3), gaussian], ids=["held", "fresh"])
@pytest.mark.parametrize("frozen", [False, True])
def test_round_trip_on_disk(tmp_path, behind, frozen):
    random = RandomResizePad(behind(), smallest=9, num_draws=6, seed=8, mode="nearest", bounds=(-1, 2))
    random = random.freeze(4, seed=3) if frozen else random
    again = bayesrob.load(random.save(tmp_path / "post"))
    x = images()
    assert type(again) is (HeldResizePad if frozen else RandomResizePad)
    assert isinstance(again, RandomResizePad)
    assert torch.equal(again.logits(x, seed=2), random.logits(x, seed=2))
    assert torch.equal(again.logits(x), random.logits(x))
    assert (again.bounds, again.input_shape, again.num_draws) == (random.bounds, SHAPE, random.num_draws)
    assert again.post.bounds == (0, 1)
    with pytest.raises(CheckpointError):
        bayesrob.load(tmp_path / "post", net=nets.mlp(2 * SIDE**2, (6,), CLASSES, activation="tanh"))


def test_it_moves_with_its_draws():
    random, x = RandomResizePad(held(dtype=torch.float32), smallest=9), images()
    single, double = random.logits(x.float(), seed=0), random.double().logits(x, seed=0)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double, single.double(), rtol=1e-4, atol=1e-5)


def test_it_is_a_predictive():
    random, x = RandomResizePad(held(2), smallest=9), images()
    torch.testing.assert_close(random(x, seed=1).exp().sum(-1), torch.ones(3).double())
    assert random(x[:0]).shape == (0, CLASSES)
    assert not any(p.requires_grad for p in random.parameters())
    state = torch.get_rng_state()
    y = torch.tensor([0, 3, 1])
    moved = PGD(eps=0.1, steps=3, num_draws=4)(random, x, y, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert float((moved - x).abs().max()) <= 0.1 + 1e-12
    before, after = (random.objective_value(z, y, num_draws=200, seed=9) for z in (x, moved))
    assert (after > before).all()
    with pytest.raises(InputError, match="They have no order"):
        random[1]
    with pytest.raises(InputError, match="is empty"):
        random.freeze(3)[3:]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"smallest": SIDE}, InputError, f"smallest is {SIDE}.*up to below size, {SIDE}"),
        ({"smallest": 0}, InputError, "smallest is 0"),
        ({"num_draws": 0}, InputError, "num_draws is 0"),
        ({"mode": "cubic"}, UnknownNameError, "mode"),
        ({"input_shape": (2, 16, 15)}, InputError, r"input_shape is \(2, 16, 15\)"),
        ({"input_shape": (16,)}, InputError, "Square images"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        RandomResizePad(held(), **settings)


def test_what_stands_behind_must_see_square_images():
    with pytest.raises(InputError, match="got a Sequential"):
        RandomResizePad(net())
    flat = HeldDraws(net(), random_weights(net(), 1, dtype=torch.float32))
    with pytest.raises(InputError, match="The predictive's input_shape is None"):
        RandomResizePad(flat)
    assert RandomResizePad(flat, size=SIDE, input_shape=SHAPE).logits(images().float(), 2).shape == (2, 3, CLASSES)
