from __future__ import annotations

import pytest
import torch

from bayesrob import nets
from bayesrob.errors import InputError, UnknownNameError
from tests.nets.helpers import random_inputs

FORMULAS = {
    "relu": lambda z: z.clamp(min=0),
    "leaky_relu": lambda z: torch.where(z > 0, z, 0.01 * z),
    "tanh": lambda z: (z.exp() - (-z).exp()) / (z.exp() + (-z).exp()),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
}


def test_without_hidden_layers_it_is_linear():
    net = nets.mlp(6, (), 3).double()
    x = random_inputs(5, 2, 3)
    weight, bias = net.parameters()
    torch.testing.assert_close(net(x), x.reshape(5, 6) @ weight.T + bias, rtol=1e-13, atol=1e-13)


def test_activations_are_the_ones_tested():
    assert nets.spec.ACTIVATIONS.keys() == FORMULAS.keys()


@pytest.mark.parametrize("activation", FORMULAS)
def test_hidden_layers_by_hand(activation):
    net = nets.mlp(3, (4, 5), 2, activation=activation).double()
    x = random_inputs(7, 3) - 0.5
    w1, b1, w2, b2, w3, b3 = net.parameters()
    h1 = FORMULAS[activation](x @ w1.T + b1)
    h2 = FORMULAS[activation](h1 @ w2.T + b2)
    torch.testing.assert_close(net(x), h2 @ w3.T + b3, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("make", [lambda s: nets.mlp(3, (4,), 2, seed=s), lambda s: nets.cnn((1, 16, 16), 2, 3, seed=s)])
def test_seed_fixes_the_weights_and_nothing_else(make):
    before = torch.get_rng_state()
    first = make(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, other = make(5), make(6)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(one, same) for one, same, _ in pairs)
    assert all(not torch.equal(one, different) for one, _, different in pairs)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, (3,), 2), "in_features is 0"),
        ((2, (3, -1), 2), "hidden is -1"),
        ((2, (3,), 0), "out_features is 0"),
        ((2.0, (3,), 2), "in_features is 2.0"),
        ((2, (True,), 2), "hidden is True"),
    ],
)
def test_sizes_must_be_positive_integers(arguments, named):
    with pytest.raises(InputError, match=named):
        nets.mlp(*arguments)


@pytest.mark.parametrize(("given", "meant"), [("leaky-relu", "leaky_relu"), ("tan", "tanh"), ("Sigmoid", "sigmoid")])
def test_unknown_activation_suggests_the_nearest(given, meant):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
        nets.mlp(2, (3,), 2, activation=given)
