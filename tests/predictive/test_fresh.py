from __future__ import annotations

import copy

import pytest
import torch

from bayesrob.errors import InputError
from bayesrob.predictive import GaussianDraws, LowRankGaussianDraws
from tests.nets.helpers import random_weights
from tests.predictive.helpers import SHAPES, data, gaussian, in_chunks_of


def low_rank(name="mlp", num_draws=7, **common):
    """Means and deviations of `gaussian`, and a factor of rank 3."""
    post = gaussian(name, num_draws, **common)
    factor = {key: 0.5 * tensor.to(post.loc[key]) for key, tensor in random_weights(post.net, 3, seed=9).items()}
    common = {**post._common(), "num_draws": num_draws, "seed": post.seed}
    return LowRankGaussianDraws(post.net, post.loc, post.scale, factor, **common)


BOTH = {"mean_field": gaussian, "low_rank": low_rank}
both = pytest.mark.parametrize("make", BOTH.values(), ids=BOTH)


def test_weights_have_their_mean_and_deviation():
    post = gaussian()
    post.scale = {name: 0.1 + torch.rand_like(tensor) for name, tensor in post.scale.items()}
    draws = post.freeze(20_000).weights
    for name, tensor in draws.items():
        z = (tensor - post.loc[name]) / post.scale[name]
        assert (z.mean(0).abs() < 5 / 20_000**0.5).all()
        assert ((z.std(0) - 1).abs() < 5 / 40_000**0.5).all()
        assert ((z**4).mean(0) - 3).abs().max() < 0.5


def test_weights_are_independent():
    draws = gaussian().freeze(20_000).weights
    flat = torch.cat([tensor.flatten(1) for tensor in draws.values()], 1)
    correlation = torch.corrcoef(flat.T)
    assert (correlation - torch.eye(len(correlation))).abs().max() < 6 / 20_000**0.5


@both
def test_covariance_of_the_draws(make):
    """diag(scale^2), for the low rank + F F', each entry within 5 Monte Carlo errors; draws are normal."""
    post = make()
    g = torch.Generator().manual_seed(0)
    post.scale = {name: 0.1 + torch.rand(tensor.shape, generator=g).to(tensor) for name, tensor in post.scale.items()}
    count = 20_000
    flat = torch.cat([tensor.flatten(1) for tensor in post.freeze(count).weights.values()], 1)
    loc, scale = (torch.cat([tensor.flatten() for tensor in part.values()]) for part in (post.loc, post.scale))
    expected = scale.square().diag()
    if isinstance(post, LowRankGaussianDraws):
        factor = torch.cat([tensor.flatten(1) for tensor in post.factor.values()], 1)
        expected += factor.T @ factor
        assert (expected - expected.diagonal().diag()).abs().max() > 0.4
    variance = expected.diagonal()
    error = ((torch.outer(variance, variance) + expected.square()) / count).sqrt()  # of a normal's sample covariance
    assert ((flat.mean(0) - loc).abs() < 5 * (variance / count).sqrt()).all()
    assert ((flat.T.cov() - expected).abs() < 5 * error).all()
    assert (((flat - loc) / variance.sqrt()) ** 4).mean() == pytest.approx(3, abs=0.1)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
@pytest.mark.parametrize("name", SHAPES)
def test_draws_of_a_seed_do_not_depend_on_chunks(monkeypatch, make, name, dtype, chunk):
    """Bit for bit: they are made one after the other."""
    post = make(name, dtype=dtype)
    frozen = post.freeze(7, seed=3)
    in_chunks_of(monkeypatch, chunk)
    pieces = [f.weights for f in post.functions(chunk, 7, 3)]
    for key, tensor in frozen.weights.items():
        assert torch.equal(torch.cat([piece[key] for piece in pieces]), tensor)
    x, _ = data(name, dtype=dtype)
    assert torch.equal(post.logits(x, seed=3), frozen.logits(x))


def test_own_generator_advances_and_other_seeds_differ():
    post = gaussian()
    x, _ = data()
    logits = [post.logits(x), post.logits(x), post.logits(x, seed=0), post.logits(x, seed=1)]
    assert all(not torch.allclose(logits[i], logits[j]) for i in range(4) for j in range(i))


def test_the_same_fit_seed_gives_the_same_sequence():
    x, _ = data()
    sequences = [[post.logits(x) for _ in range(3)] for post in (gaussian(seed=5), gaussian(seed=5), gaussian(seed=6))]
    assert all(torch.equal(one, other) for one, other in zip(*sequences[:2], strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(sequences[0], sequences[2], strict=True))


def test_a_seed_does_not_disturb_the_own_generator():
    one, other = gaussian(), gaussian()
    x, _ = data()
    one.logits(x, seed=8)
    one.freeze(3)
    assert torch.equal(one.logits(x), other.logits(x))


def test_number_of_draws():
    post = gaussian()
    x, _ = data()
    assert len(post.logits(x)) == 7
    assert len(post.logits(x, num_draws=30)) == 30
    assert len(post[:30].logits(x)) == 30
    assert post[:].num_draws == 7
    assert torch.equal(post.logits(x, num_draws=30, seed=1)[:7], post.logits(x, seed=1))


def test_a_part_has_its_own_generator():
    post = gaussian()
    x, _ = data()
    expected = [gaussian().logits(x), gaussian()[:3].logits(x)]
    part = post[:3]
    assert torch.equal(part.logits(x), expected[1])
    assert torch.equal(post.logits(x), expected[0])


@pytest.mark.parametrize("index", [0, -1, slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(0, 0), slice(-2)])
def test_fresh_draws_have_no_order(index):
    with pytest.raises(InputError, match=r"no order|num_draws is"):
        gaussian()[index]


def test_a_deep_copy_continues_the_same_sequence():
    post = gaussian()
    x, _ = data()
    post.logits(x)
    other = copy.deepcopy(post)
    assert torch.equal(other.logits(x), post.logits(x))


def test_frozen_draws_say_where_they_come_from():
    frozen = gaussian(info={"method": "SVI"}).freeze(3, seed=4)
    assert frozen.info == {"method": "SVI", "frozen": {"num_draws": 3, "seed": 4}}


def test_zero_deviation_is_one_network():
    post = gaussian()
    post.scale = {name: torch.zeros_like(tensor) for name, tensor in post.scale.items()}
    x, _ = data()
    net = post.net
    net.load_state_dict(post.loc)
    torch.testing.assert_close(post.logits(x), net(x).expand(7, -1, -1), rtol=1e-12, atol=1e-13)


def test_zero_factor_has_the_independent_part_only():
    post = low_rank()
    post.factor = {name: torch.zeros_like(tensor) for name, tensor in post.factor.items()}
    same = GaussianDraws(post.net, post.loc, post.scale, **post._common())
    first, other = post.freeze(1, seed=2).weights, same.freeze(1, seed=2).weights
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_a_part_of_low_rank_draws_is_converted_alone():
    post = low_rank(dtype=torch.float32)
    part = post[:3].double()
    assert (part.rank, part.num_draws, post.num_draws) == (3, 3, 7)
    assert all(tensor.dtype == torch.float64 for tensor in part.factor.values())
    assert all(tensor.dtype == torch.float32 for tensor in post.factor.values())
    weights, exact = post.freeze(3).weights, part.freeze(3).weights
    for name, tensor in weights.items():  # the same noise in both
        torch.testing.assert_close(tensor.double(), exact[name], rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize("part", ["loc", "scale", "factor"])
def test_parts_that_do_not_fit_the_network(make, part):
    post = make()
    parts = {name: dict(getattr(post, name)) for name in post.parts}
    if part not in parts:
        return
    first = next(iter(parts[part]))
    for wrong in (parts[part][first][..., :-1], parts[part][first][:0], parts[part][first][None]):
        with pytest.raises(InputError, match=rf"{part} of shapes.*The network has parameters"):
            type(post)(post.net, **{**parts, part: {**parts[part], first: wrong}})
    del parts[part][first]
    with pytest.raises(InputError, match=rf"{part} of shapes"):
        type(post)(post.net, **parts)
