from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bayesrob import nets
from bayesrob.nets.spec import ACTIVATIONS
from tests.nets.helpers import Recurrent, loop, random_inputs, random_weights

SHARED = nn.Tanh()
TIED = nn.Linear(3, 3)


def pruned() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    prune.random_unstructured(net[0], "weight", amount=0.5)
    return net


CASES = {
    **{f"mlp {name}": (nets.mlp(6, (5, 4), 3, activation=name), (2, 3)) for name in ACTIVATIONS},
    "mlp linear": (nets.mlp(6, (), 3), (2, 3)),
    "cnn": (nets.cnn((2, 16, 17), 3, 4), (2, 16, 17)),
    "lstm": (Recurrent(), (5, 3)),
    "nested, no bias": (nn.Sequential(nn.Sequential(nn.Linear(3, 4, bias=False), nn.GELU()), nn.Linear(4, 2)), (3,)),
    "activation first": (nn.Sequential(nn.SiLU(), nn.Flatten(), nn.ELU(), nn.Linear(6, 2), nn.Softplus()), (2, 3)),
    "linear before flatten": (nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Flatten(), nn.Linear(20, 2)), (5, 3)),
    "slope": (nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.3), nn.Linear(4, 2), nn.Identity()), (3,)),
    "one activation in two places": (nn.Sequential(nn.Linear(3, 4), SHARED, nn.Linear(4, 4), SHARED), (3,)),
    "one linear layer in two places": (nn.Sequential(TIED, nn.ReLU(), TIED), (3,)),
    "pruned": (pruned(), (3,)),
    "partial flatten": (nn.Sequential(nn.Flatten(1, 2), nn.Linear(3, 2), nn.Flatten(), nn.Linear(40, 2)), (4, 5, 3)),
}
BATCHED = {name for name in CASES if name.startswith("mlp")}
BATCHED |= {"nested, no bias", "activation first", "linear before flatten", "slope", "one activation in two places"}


@pytest.mark.parametrize("per_draw", [False, True], ids=["shared inputs", "own inputs"])
@pytest.mark.parametrize("name", CASES)
def test_draws_forward_is_a_loop_over_draws(name, per_draw):
    net, shape = CASES[name]
    net = net.double().eval()
    weights = random_weights(net, 3)
    x = random_inputs(*((3,) if per_draw else ()), 4, *shape)
    with torch.no_grad():
        ours = nets.draws_forward(net, nets.sequence(net), weights, x, per_draw)
        torch.testing.assert_close(ours, loop(net, weights, x, per_draw), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_forward_is_functional_call(name):
    net, shape = CASES[name]
    net = net.double().eval()
    weights = random_weights(net, 1)
    x = random_inputs(4, *shape)
    with torch.no_grad():
        ours = nets.forward(net, nets.sequence(net), {key: tensor[0] for key, tensor in weights.items()}, x)
        torch.testing.assert_close(ours, loop(net, weights, x)[0], rtol=1e-12, atol=1e-13)


def test_which_networks_are_batched():
    assert {name for name, (net, _) in CASES.items() if nets.sequence(net) is not None} == BATCHED


def test_a_subclass_is_not_taken_for_its_parent():
    """It may compute something else."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    assert nets.sequence(nn.Sequential(Doubled(3, 2))) is None
    assert nets.sequence(Residual(nn.Linear(3, 3))) is None
    assert nets.sequence(nn.Sequential(Residual(nn.Linear(3, 3)))) is None
    assert nets.sequence(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))) is None


def test_gradients_of_weights_and_inputs():
    net = nets.mlp(6, (5,), 3, activation="tanh").double()
    weights = {name: tensor.requires_grad_() for name, tensor in random_weights(net, 4).items()}
    x = random_inputs(2, 6).requires_grad_()
    wanted = [x, *weights.values()]
    ours = torch.autograd.grad(nets.draws_forward(net, nets.sequence(net), weights, x).square().sum(), wanted)
    expected = torch.autograd.grad(loop(net, weights, x).square().sum(), wanted)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_have_their_channels_last(channels):
    """In memory alone: kernels and what comes out of them, also of one channel, where torch calls any order contiguous."""
    net = nets.cnn((channels, 16, 17), 3, 4).eval()
    weights = {name: tensor[0] for name, tensor in random_weights(net, 1).items()}
    x, seen = random_inputs(4, channels, 16, 17).float(), []
    weights = {name: tensor.float() for name, tensor in weights.items()}
    net[1].register_forward_hook(lambda *arguments: seen.append(arguments[2].stride()))
    with torch.no_grad():
        ours = nets.forward(net, None, weights, x)
        torch.testing.assert_close(ours, loop(net, {name: tensor[None] for name, tensor in weights.items()}, x)[0])
    assert seen[0][1] == 1
    assert seen[1][1] > 1
    trained = nets.in_fast_layout(net)
    assert trained is net
    assert [parameter.stride(1) for parameter in net.parameters() if parameter.ndim == 4] == [1, 1]
    exact = nets.in_fast_layout(nets.cnn((channels, 16, 17), 3, 4).double())  # which oneDNN does not take
    assert all(parameter.is_contiguous() for parameter in exact.parameters())
    assert [parameter.stride(1) for parameter in exact.parameters() if parameter.ndim == 4] == [25, 25]
