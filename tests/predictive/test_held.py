from __future__ import annotations

import numpy as np
import pytest
import torch

from bayesrob.errors import InputError
from bayesrob.predictive import HeldDraws
from tests.predictive.helpers import SHAPES, data, draw_outputs, held, network


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_a_loop_over_draws(name):
    post = held(name)
    x, _ = data(name)
    torch.testing.assert_close(post.logits(x), torch.stack(draw_outputs(post, x)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(3),
        slice(2, 5),
        slice(1, None, 3),
        slice(None, -2),
        slice(-3, None),
        slice(2, 100),
        slice(None, None, -1),
        slice(5, 1, -2),
        slice(None, None, 2),
    ],
)
def test_slices_pick_draws_as_of_a_list(index):
    post = held()
    x, _ = data()
    expected = torch.stack([post.logits(x)[d] for d in range(7)[index]])
    assert torch.equal(post[index].logits(x), expected)


@pytest.mark.parametrize("index", [0, 3, 6, -1, -7])
def test_an_index_picks_one_draw(index):
    post = held()
    x, _ = data()
    assert post[index].num_draws == 1
    torch.testing.assert_close(post[index].logits(x)[0], post.logits(x)[index], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("index", [7, -8, 100])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=f"Draw {index} of 7"):
        held()[index]


@pytest.mark.parametrize("index", [slice(0, 0), slice(7, None), slice(3, 1), slice(1, 3, -1)])
def test_an_empty_slice(index):
    with pytest.raises(InputError, match="empty"):
        held()[index]


def test_iteration_ends():
    assert len(list(held())) == 7


def test_freeze_keeps_the_first():
    post = held()
    x, _ = data()
    assert torch.equal(post.freeze(3, seed=9).logits(x), post.logits(x)[:3])
    assert torch.equal(post.freeze().logits(x), post.logits(x))


def test_seed_means_nothing_to_held_draws():
    post = held()
    x, _ = data()
    assert torch.equal(post.logits(x, seed=1), post.logits(x, seed=2))


def test_chains_are_interleaved_and_their_record_is_cut_along():
    """Six draws of two chains: the first four are two of each."""
    stats = {"energy": np.arange(6.0).reshape(2, 3)}
    post = held(num_draws=6, num_chains=2, sample_stats=stats)
    first = post[:4]
    assert first.num_chains == 2
    assert first.sample_stats["energy"].tolist() == [[0.0, 1.0], [3.0, 4.0]]
    for part in (post[:3], post[2:], post[::2], post[0], post[::-1]):
        assert part.num_chains == 1
        assert part.sample_stats == {}


@pytest.mark.parametrize(
    "weights",
    [
        lambda w: {name: tensor[: 2 + (name == "1.bias")] for name, tensor in w.items()},
        lambda w: {name: tensor[:0] for name, tensor in w.items()},
        lambda w: {},
    ],
)
def test_every_parameter_needs_the_same_number_of_draws(weights):
    with pytest.raises(InputError, match="same number"):
        HeldDraws(network(), weights(held().weights))


def test_weights_are_detached():
    net = network()
    post = HeldDraws(net, {name: parameter[None] for name, parameter in net.named_parameters()})
    assert not any(tensor.requires_grad for tensor in post.weights.values())
