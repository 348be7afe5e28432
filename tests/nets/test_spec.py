from __future__ import annotations

import json

import pytest
import torch

from bayesrob import nets
from bayesrob.errors import InputError, UnknownNameError
from tests.nets.helpers import Recurrent, random_inputs

EXAMPLES = {
    "mlp": (lambda: nets.mlp(6, (5, 4), 3, activation="tanh", seed=4), (6,)),
    "cnn": (lambda: nets.cnn((1, 16, 17), 3, 4, activation="sigmoid", seed=4), (1, 16, 17)),
    "lstm": (lambda: nets.lstm((2, 3, 4), 5, 3, reads="rows", seed=4), (2, 3, 4)),
    "resnet18": (lambda: nets.resnet18(3, in_channels=2, width=12, seed=4), (2, 8, 8)),
    "resnet34": (lambda: nets.resnet34(3, in_channels=2, stem="imagenet", norm="group", seed=4), (2, 32, 32)),
    "resnet50": (lambda: nets.resnet50(3, in_channels=2, norm="group", seed=4), (2, 8, 8)),
    "mobilenet_v2": (lambda: nets.mobilenet_v2(3, in_channels=2, norm="group", width_mult=0.25, seed=4), (2, 8, 8)),
    "normalised": (lambda: nets.normalised(nets.cnn((2, 16, 16), 3, 4, seed=4), (0.1, 0.2), (0.5, 0.7)), (2, 16, 16)),
}


def test_every_architecture_has_an_example():
    assert nets.ARCHITECTURES.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_network_is_built_again_from_its_description(name):
    make, shape = EXAMPLES[name]
    net = make().eval()
    again = nets.build(json.loads(json.dumps(nets.spec_of(net)))).eval()  # as a file would keep it
    again.load_state_dict(net.state_dict())
    x = random_inputs(3, *shape, dtype=torch.float32)
    assert torch.equal(again(x), net(x))
    assert nets.spec_of(again) == nets.spec_of(net)


def test_a_network_of_the_users_own_has_no_description():
    assert nets.spec_of(Recurrent()) is None


def test_unknown_architecture_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'mlp'"):
        nets.build({"architecture": "mlpp"})
    with pytest.raises(UnknownNameError, match="Unknown architecture None"):
        nets.build({})


@pytest.mark.parametrize("change", [{"depth": 3}, {"hidden": 3}])
def test_a_description_that_does_not_fit(change):
    with pytest.raises(InputError, match="cannot be built"):
        nets.build({"architecture": "mlp", "in_features": 2, "hidden": [3], "out_features": 2, **change})


def test_initialise_draws_a_copy_anew_from_the_seed():
    net = nets.mlp(3, (4,), 2)
    old = [parameter.clone() for parameter in net.parameters()]
    before = torch.get_rng_state()
    first, again = nets.initialise(net, 7, "chain", 0), nets.initialise(net, 7, "chain", 0)
    other = nets.initialise(net, 7, "chain", 1)
    assert torch.equal(torch.get_rng_state(), before)
    for was, mine, one, same, different in zip(
        old, net.parameters(), first.parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(was, mine)
        assert torch.equal(one, same)
        assert not torch.equal(one, was)
        assert not torch.equal(one, different)


def test_initialise_reaches_recurrent_layers():
    net = Recurrent()
    fresh = nets.initialise(net, 0)
    pairs = zip(net.parameters(), fresh.parameters(), strict=True)
    assert all(not torch.equal(one, other) for one, other in pairs)
