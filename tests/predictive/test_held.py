from __future__ import annotations

import pickle

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
    post.memory = 10**6
    expected = torch.stack([post.logits(x)[d] for d in range(7)[index]])
    assert torch.equal(post[index].logits(x), expected)
    assert post[index].memory == 10**6


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
    assert post[2:].sample_stats["energy"].tolist() == [[1.0, 2.0], [4.0, 5.0]]
    for part in (post[:3], post[1:], post[::2], post[0], post[::-1]):
        assert part.num_chains == 1
        assert part.sample_stats == {}


def chained(num_chains: int = 3, draws: int = 5) -> HeldDraws:
    """Chains whose record says which chain and which draw it is."""
    chain, draw = np.indices((num_chains, draws))
    return held(
        num_draws=num_chains * draws,
        num_chains=num_chains,
        sample_stats={"lp": 100.0 * chain + draw, "accepted": draw % 2 == 0},
    )


@pytest.mark.parametrize(
    ("index", "draws"),
    [
        (slice(None), range(5)),
        (slice(3, None), range(1, 5)),
        (slice(6, 12), range(2, 4)),
        (slice(0, 3), range(1)),
        (slice(12, 15), range(4, 5)),
        (slice(-6, None), range(3, 5)),
        (slice(3, -3), range(1, 4)),
        (slice(9, 100), range(3, 5)),
    ],
)
def test_a_window_of_whole_rounds_is_chains_still(index, draws):
    """Draw d of chain c lies at 3 d + c: windows that begin and end between rounds keep the record of theirs."""
    post = chained()
    window = post[index]
    x, _ = data()
    assert window.num_chains == 3
    assert window.num_draws == 3 * len(draws)
    assert window.sample_stats["lp"].tolist() == [[100.0 * chain + draw for draw in draws] for chain in range(3)]
    assert window.sample_stats["accepted"].dtype == bool
    outputs = window.logits(x)
    whole = post.logits(x)
    for chain in range(3):
        for i, draw in enumerate(draws):
            torch.testing.assert_close(outputs[3 * i + chain], whole[3 * draw + chain], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "index",
    [slice(1, 4), slice(2, None), slice(0, 4), slice(3, 8), slice(-4, None), slice(0, 15, 3), slice(12, None, -1), 0, 3, -1],
)
def test_a_window_that_cuts_a_round_is_no_chains(index):
    part = chained()[index]
    assert part.num_chains == 1
    assert part.sample_stats == {}


def test_windows_of_windows():
    window = chained()[3:][3:9]
    assert window.num_chains == 3
    assert window.sample_stats["lp"].tolist() == [[2, 3], [102, 103], [202, 203]]
    assert window[1:].num_chains == 1


def test_a_window_leaves_the_whole_as_it_was():
    post = chained()
    before = post.sample_stats["lp"].copy()
    window = post[3:9]
    window.double()
    assert post.num_draws == 15
    assert post.num_chains == 3
    np.testing.assert_array_equal(post.sample_stats["lp"], before)


def test_one_chain_s_window_keeps_its_record():
    window = chained(num_chains=1, draws=7)[2:5]
    assert window.num_chains == 1
    assert window.sample_stats["lp"].tolist() == [[2, 3, 4]]


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


@pytest.mark.parametrize("memory", [1, 2**30])
@pytest.mark.parametrize("change", ["in place", "one replaced", "another precision"])
def test_gradients_are_those_of_the_weights_as_they_are_now(memory, change):
    """Parts of the draws are kept from one look to the next."""
    post = held(dtype=torch.float32)
    post.memory = memory
    x, y = data(dtype=torch.float32)
    before = post.input_gradient(x, y)
    if change == "in place":
        for weight in post.weights.values():
            weight.mul_(0.5)
    elif change == "one replaced":
        name = next(iter(post.weights))
        post.weights[name] = 0.5 * post.weights[name]
    else:
        post, x = post.double(), x.double()
    anew = HeldDraws(post.net, {name: weight.clone() for name, weight in post.weights.items()}, **post._common())
    anew.memory = memory
    assert torch.equal(post.input_gradient(x, y), anew.input_gradient(x, y))
    assert not torch.equal(post.input_gradient(x, y), before)


def test_what_is_kept_between_looks_is_not_copied_along():
    post = held()
    x, y = data()
    size = len(pickle.dumps(post))
    post.memory = 1
    expected = post.input_gradient(x, y)
    packed = pickle.dumps(post)
    assert abs(len(packed) - size) < 100
    assert torch.equal(pickle.loads(packed).input_gradient(x, y), expected)
