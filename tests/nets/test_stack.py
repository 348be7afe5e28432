"""Closed forms against autograd, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bayesrob.nets import Stack, Workspace, cnn, draws_forward, feature_major, mlp, sequence

NETS = {
    "relu": lambda: mlp(5, (7, 4), 3, activation="relu"),
    "two classes": lambda: mlp(2, (8,), 2, activation="leaky_relu"),
    "tanh": lambda: mlp(6, (3,), 4, activation="tanh"),
    "no hidden layer": lambda: mlp(3, (), 2),
    "no bias": lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.Sigmoid(), nn.Linear(6, 2, bias=False)),
    "derivative by autograd": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.GELU(), nn.ELU(), nn.Linear(5, 3)),
    "activation first": lambda: nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(6, 3), nn.ReLU(inplace=True)),
    "in place first": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)),
    "activation twice": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Tanh(), nn.Identity(), nn.Linear(3, 2)),
    "negative slope": lambda: nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(-0.3), nn.Linear(3, 2)),
    "linear last, twice": lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Softplus()),
}
INPUTS = {"tanh": (1, 2, 3), "derivative by autograd": (2, 3), "activation first": (3, 2)}


def case(name, draws=3, points=6, seed=0, nets=NETS):
    net = nets[name]().double()
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Linear))
    shape = INPUTS.get(name, (first.in_features,))
    generator = torch.Generator().manual_seed(seed)
    lead = () if draws is None else (draws,)
    weights = {n: torch.randn(*lead, *p.shape, generator=generator).double() for n, p in net.named_parameters()}
    x = torch.randn(points, *shape, generator=generator).double()
    stack = Stack.of(net)
    assert stack is not None
    assert stack.takes(x)
    return net, stack, weights, x


def by_autograd(net, weights, x, slope, per_draw=False):
    """Outputs, and gradients of sum(slope * outputs) with respect to weights and inputs."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
    x = x.detach().clone().requires_grad_()
    single = slope.ndim == 2
    stacked = {name: leaf.unsqueeze(0) if single else leaf for name, leaf in leaves.items()}
    net = copy.deepcopy(net)
    for layer in net.modules():  # or one draw's activation would overwrite the next one's input
        if hasattr(layer, "inplace"):
            layer.inplace = False
    outputs = draws_forward(net, None, stacked, x, per_draw)
    outputs = outputs[0] if single else outputs
    *gradients, inputs = torch.autograd.grad((outputs * slope).sum(), [*leaves.values(), x])
    return outputs.detach(), dict(zip(leaves, gradients, strict=True)), inputs


@pytest.mark.parametrize("points", [1, 6])
@pytest.mark.parametrize("draws", [None, 1, 3])
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_are_those_of_autograd(name, draws, points):
    net, stack, weights, x = case(name, draws, points)
    workspace = Workspace()
    before = x.clone()
    raw, kept = stack.forward(stack.bind(weights), feature_major(x), workspace)
    outputs = raw.mT.clone()
    slope = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).double()
    expected, weight_gradients, input_gradient = by_autograd(net, weights, x, slope)
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    into = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
    inputs = torch.ones_like(feature_major(x))
    stack.backward(stack.bind(weights), kept, slope.mT.clone(), workspace, into=stack.bind(into), inputs=inputs)
    for key, gradient in into.items():
        torch.testing.assert_close(gradient, weight_gradients[key], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(inputs - 1, feature_major(input_gradient), rtol=1e-11, atol=1e-12)
    assert x.equal(before)


@pytest.mark.parametrize("name", NETS)
def test_weight_gradients_alone_and_accumulated(name):
    net, stack, weights, x = case(name)
    workspace = Workspace()
    slope = torch.randn(3, 6, stack.forward(stack.bind(weights), feature_major(x), workspace)[0].shape[1]).double()
    _, expected, _ = by_autograd(net, weights, x, slope)
    into = {name: torch.empty_like(tensor) for name, tensor in weights.items()}
    for part in (slice(0, 4), slice(4, 6)):  # the second chunk is smaller: memory is taken again
        _, kept = stack.forward(stack.bind(weights), feature_major(x)[:, part], workspace)
        stack.backward(
            stack.bind(weights), kept, slope[:, part].mT.clone(), workspace, into=stack.bind(into), accumulate=part.start > 0
        )
    for key, gradient in into.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_inputs_of_each_draws_own(name):
    net, stack, weights, _ = case(name)
    x = torch.stack([case(name, seed=seed)[3] for seed in (4, 5, 6)])
    workspace = Workspace()
    raw, kept = stack.forward(stack.bind(weights), feature_major(x, 1), workspace)
    slope = torch.randn(raw.mT.shape, generator=torch.Generator().manual_seed(1)).double()
    expected, _, input_gradient = by_autograd(net, weights, x, slope, per_draw=True)
    torch.testing.assert_close(raw.mT, expected, rtol=1e-12, atol=1e-12)
    inputs = torch.zeros_like(feature_major(x, 1))
    stack.backward(stack.bind(weights), kept, slope.mT.clone(), workspace, inputs=inputs)
    torch.testing.assert_close(inputs, feature_major(input_gradient, 1), rtol=1e-11, atol=1e-12)


def test_weights_that_are_slices_of_one_flat_vector():
    net, stack, weights, x = case("relu")
    flat = torch.cat([tensor.flatten(1) for tensor in weights.values()], 1)
    sizes = [tensor[0].numel() for tensor in weights.values()]
    views = {
        name: piece.view(tensor.shape) for (name, tensor), piece in zip(weights.items(), flat.split(sizes, 1), strict=True)
    }
    gradient = torch.empty_like(flat)
    into = {
        name: piece.view(tensor.shape)
        for (name, tensor), piece in zip(weights.items(), gradient.split(sizes, 1), strict=True)
    }
    workspace = Workspace()
    _, kept = stack.forward(stack.bind(views), feature_major(x), workspace)
    slope = torch.randn(3, 6, 3).double()
    stack.backward(stack.bind(views), kept, slope.mT.clone(), workspace, into=stack.bind(into))
    expected = by_autograd(net, weights, x, slope)[1]
    torch.testing.assert_close(gradient, torch.cat([expected[n].flatten(1) for n in weights], 1), rtol=1e-11, atol=1e-12)


def test_what_is_no_stack():
    assert Stack.of(cnn((1, 16, 16), 4, 10)) is None
    assert Stack.of(nn.Linear(2, 2)) is None
    assert Stack.of(nn.Sequential(nn.Tanh())) is None
    rows = nn.Sequential(nn.Linear(4, 3), nn.Flatten())  # acts on the last of several axes
    stack = Stack.of(rows)
    assert sequence(rows) is not None
    assert stack is not None
    assert not stack.takes(torch.zeros(5, 2, 4))
    assert stack.takes(torch.zeros(5, 4))


def test_feature_major_is_a_view_where_it_can_be():
    x = torch.arange(24.0).view(2, 3, 4)
    major = feature_major(x)
    assert major.shape == (12, 2)
    assert major[5].tolist() == [5.0, 17.0]
    laid_out = major.contiguous().view(3, 4, 2).movedim(-1, 0)
    assert laid_out.equal(x)
    assert feature_major(laid_out).data_ptr() == laid_out.data_ptr()
    assert feature_major(x[:0]).shape == (12, 0)
