"""Biases as weights of a constant input against autograd, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob.nets import Joined, Stack, feature_major, mlp
from tests.nets.test_stack import NETS, by_autograd, case

TAKEN = ["relu", "two classes", "tanh", "no hidden layer", "activation last"]
NETS = {**NETS, "activation last": lambda: nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 3), nn.Sigmoid())}


def flat(weights, lead):
    return torch.cat([tensor.flatten(lead) for tensor in weights.values()], -1)


def joined_case(name, draws, points):
    net, stack, weights, x = case(name, draws, points, nets=NETS)
    lead = 0 if draws is None else 1
    theta = flat(weights, lead)
    numbers = torch.arange(theta.shape[-1])
    shapes = [tensor.shape[lead:] for tensor in weights.values()]
    pieces = numbers.split([shape.numel() for shape in shapes])
    places = {key: piece.view(shape) for key, piece, shape in zip(weights, pieces, shapes, strict=True)}
    joined = Joined(stack, places, theta)
    joined.load(theta)
    return joined, net, weights, x, lead


@pytest.mark.parametrize("points", [1, 6, 17])
@pytest.mark.parametrize("draws", [None, 1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_outputs_and_gradients_are_those_of_autograd(name, draws, points):
    joined, net, weights, x, lead = joined_case(name, draws, points)
    for _ in range(2):  # its memory is used again
        outputs = joined.forward(joined.inputs(feature_major(x))).mT.clone()
        slope = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).double()
        expected, gradients, _ = by_autograd(net, weights, x, slope)
        torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
        joined.backward(slope.mT.clone(), accumulate=False)
        torch.testing.assert_close(joined.gradient(), flat(gradients, lead), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("draws", [None, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_gradients_of_chunks_of_several_sizes_add_up(name, draws):
    joined, net, weights, x, lead = joined_case(name, draws, 11)
    inputs = joined.inputs(feature_major(x))
    slope = torch.randn(joined.forward(inputs).mT.shape, generator=torch.Generator().manual_seed(1)).double()
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        joined.forward(inputs[:, part])
        joined.backward(slope[..., part, :].mT.clone(), accumulate=part.start > 0)
    torch.testing.assert_close(joined.gradient(), flat(by_autograd(net, weights, x, slope)[1], lead), rtol=1e-11, atol=1e-12)


def test_only_small_stacks_with_biases_and_activations_in_place_are_taken():
    assert [name for name in NETS if Joined.takes(Stack.of(NETS[name]()))] == TAKEN
    assert Joined.takes(Stack.of(mlp(128, (128,), 2)))
    assert not Joined.takes(Stack.of(mlp(128, (129,), 2)))
