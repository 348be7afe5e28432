"""Gradients in bfloat16: asked for by name, close to the full ones, and without a trace afterwards."""

from __future__ import annotations

import pytest
import torch

from bayesrob import nets
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.predictive import OBJECTIVES, GaussianDraws, HeldDraws, from_modules
from tests.nets.helpers import random_inputs, random_weights


def predictives():
    net = nets.mlp(12, (16, 16), 3, activation="leaky_relu")
    weights = {n: 0.5 * t for n, t in random_weights(net, 7, dtype=torch.float32).items()}
    first = {n: t[0] for n, t in weights.items()}
    conv = nets.cnn((1, 16, 16), 3, 3)
    return {
        "held": HeldDraws(net, weights),
        "fresh": GaussianDraws(net, first, {n: 0.1 * t.abs() for n, t in first.items()}, num_draws=7),
        "convolutional": HeldDraws(conv, random_weights(conv, 3, dtype=torch.float32)),
        "modules": from_modules([nets.cnn((1, 16, 16), 3, 3, seed=seed).eval() for seed in (0, 1)]),
    }


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["held", "fresh", "convolutional", "modules"])
def test_rounded_gradients_point_where_the_full_ones_do(name, objective):
    post = predictives()[name]
    x = random_inputs(9, *((12,) if name in ("held", "fresh") else (1, 16, 16)), dtype=torch.float32)
    y = torch.arange(9) % 3
    full = post.input_gradient(x, y, objective, seed=3).flatten(1)
    rounded = post.input_gradient(x, y, objective, seed=3, precision="bf16").flatten(1)
    assert rounded.dtype == torch.float32
    lengths = full.norm(dim=1)
    error = (rounded - full).norm(dim=1)[lengths > 0] / lengths[lengths > 0]
    # 8 bits, over a few layers. Of three classes the DLR of a point whose true one comes last is 1 everywhere: no gradient.
    assert error.median() < 0.15
    assert (error < 0.5).all()  # a unit on the kink of its activation may switch
    assert error.max() > 1e-4  # and it is really rounded
    assert post.input_gradient(x, y, objective, seed=3).flatten(1).equal(full)


def test_bfloat16_by_hand():
    """One linear layer, one draw: the score's product with the rounded weights, rounded."""
    net = nets.mlp(5, (), 3)
    weights = random_weights(net, 1, dtype=torch.float32)
    post = HeldDraws(net, weights)
    x, y = random_inputs(4, 5, dtype=torch.float32), torch.tensor([0, 1, 2, 0])
    low = {n: t[0].bfloat16() for n, t in weights.items()}
    outputs = (low["1.weight"] @ x.T.bfloat16() + low["1.bias"][:, None]).float().T
    slope = outputs.softmax(-1) - torch.nn.functional.one_hot(y, 3)
    expected = (low["1.weight"].T @ slope.T.bfloat16()).T.float()
    torch.testing.assert_close(post.input_gradient(x, y, precision="bf16"), expected, rtol=2e-2, atol=2e-2)


def test_moved_draws_are_rounded_anew():
    post = predictives()["held"]
    x, y = random_inputs(2, 12, dtype=torch.float32), torch.tensor([0, 1])
    before = post.input_gradient(x, y, precision="bf16")
    for tensor in post.weights.values():
        tensor.mul_(2)
    post = post.to(torch.float64).to(torch.float32)
    assert not post.input_gradient(x, y, precision="bf16").equal(before)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_and_prediction_are_those_of_separate_calls(objective):
    post = predictives()["held"].double()
    x, y = random_inputs(6, 12), torch.arange(6) % 3
    gradient, log_predictive, loss = post.gradient_and_prediction(x, y, objective)
    torch.testing.assert_close(loss, post.objective_value(x, y, objective))
    torch.testing.assert_close(gradient, post.input_gradient(x, y, objective), rtol=0, atol=0)
    torch.testing.assert_close(log_predictive, post(x), rtol=1e-12, atol=1e-12)


def test_unknown_precision_and_tf32_without_a_card():
    post = predictives()["held"]
    x, y = random_inputs(2, 12, dtype=torch.float32), torch.tensor([0, 1])
    with pytest.raises(UnknownNameError, match="bf16"):
        post.input_gradient(x, y, precision="bf17")
    with pytest.raises(InputError, match=r"tf32.*NVIDIA"):
        post.input_gradient(x, y, precision="tf32")
