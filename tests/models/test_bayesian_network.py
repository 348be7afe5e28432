from __future__ import annotations

import math

import pyro
import pytest
import torch
from torch import nn

from bayesrob import nets
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import BayesianNetwork
from tests.models.helpers import NETS, Scaled, case, pyro_log_joint, random_theta
from tests.nets.helpers import random_inputs


@pytest.mark.parametrize("num_data", [None, 11, 170])
@pytest.mark.parametrize("prior_scale", [1.0, 0.1, "fan_in"])
@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
@pytest.mark.parametrize("name", NETS)
def test_log_joint_is_pyros(name, likelihood, prior_scale, num_data):
    model, x, y = case(name, likelihood, prior_scale)
    theta = random_theta(model)
    expected = pyro_log_joint(model, theta, x, y, num_data)
    assert float(model.log_joint(theta, x, y, num_data)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("likelihood", "noise_scale"), [("categorical", None), ("normal", 0.3)])
def test_log_joint_from_the_formulas(likelihood, noise_scale):
    model = BayesianNetwork(nets.mlp(3, (), 2), 0.7, likelihood, noise_scale).double()
    x = random_inputs(5, 3)
    y = random_inputs(5, 2) if likelihood == "normal" else torch.tensor([0, 1, 1, 0, 1])
    theta = random_theta(model)
    outputs = x @ theta[:6].reshape(2, 3).T + theta[6:]
    prior = sum(-0.5 * (w / 0.7) ** 2 - math.log(0.7 * math.sqrt(2 * math.pi)) for w in theta.tolist())
    if likelihood == "normal":
        density = -0.5 * ((y - outputs) / 0.3) ** 2 - math.log(0.3 * math.sqrt(2 * math.pi))
        data = float(density.sum())
    else:
        data = sum(float(outputs[n].exp()[y[n]].log() - outputs[n].exp().sum().log()) for n in range(5))
    assert float(model.log_prior(theta)) == pytest.approx(prior, rel=1e-12)
    assert float(model.log_joint(theta, x, y)) == pytest.approx(prior + data, rel=1e-12)
    assert float(model.log_joint(theta, x, y, num_data=50)) == pytest.approx(prior + 10 * data, rel=1e-12)


@pytest.mark.parametrize("prior_scale", [0.7, "fan_in"])
def test_log_prior_of_float32_weights_is_taken_in_float64(prior_scale):
    """A million weights, under scales as float32 holds them: sums of float32 squares are right to seven digits at best."""
    model = BayesianNetwork(nets.mlp(1000, (1000,), 2), prior_scale)
    theta = random_theta(model, 3).float()
    expected = torch.distributions.Normal(0.0, model.prior_scales.double()).log_prob(theta.double()).sum(-1)
    torch.testing.assert_close(model.log_prior(theta), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(model.log_prior(theta[0]), expected[0], rtol=1e-12, atol=0)


def test_a_mini_batch_estimates_the_whole_without_bias():
    model, x, y = case("mlp", "categorical", 1.0)
    theta = random_theta(model)
    batches = [model.log_joint(theta, x[i : i + 1], y[i : i + 1], num_data=11) for i in range(11)]
    assert float(torch.stack(batches).mean()) == pytest.approx(float(model.log_joint(theta, x, y)), rel=1e-12)


def test_prior_scales_of_fan_in():
    scales = BayesianNetwork(nets.cnn((3, 16, 16), 4, 2), "fan_in").double()
    scales = {name: set(tensor.flatten().tolist()) for name, tensor in scales.unflatten(scales.prior_scales).items()}
    assert scales == {
        "0.weight": {75**-0.5},
        "0.bias": {1.0},
        "3.weight": {800**-0.5},
        "3.bias": {1.0},
        "7.weight": {4**-0.5},
        "7.bias": {1.0},
    }


def test_wide_linear_layers_do_not_saturate_under_fan_in():
    """With inputs of mean square one, outputs of the prior have variance fan_in * (1 / fan_in) + 1."""
    model = BayesianNetwork(nets.mlp(500, (), 400), "fan_in")
    theta = model.prior_scales * torch.randn(model.num_weights, generator=torch.Generator().manual_seed(0))
    outputs = model.outputs(theta, torch.ones(1, 500))
    assert float(outputs.var()) == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("scale", [0.1, 1 / 3])
def test_a_double_model_has_its_scale_in_double(scale):
    assert set(BayesianNetwork(nets.mlp(3, (), 2), scale).double().prior_scales.tolist()) == {scale}


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
@pytest.mark.parametrize("make", [*(make for make, _ in NETS.values()), Scaled])
def test_flatten_and_unflatten_are_inverse(make, lead):
    model = BayesianNetwork(make()).double()
    theta = random_theta(model, *lead)
    weights = model.unflatten(theta)
    expected = {name: (*lead, *parameter.shape) for name, parameter in model.net.named_parameters()}
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected
    assert torch.equal(model.flatten(weights), theta)


def test_flat_order_is_that_of_named_parameters():
    model, x, _ = case("cnn", "categorical", 1.0)
    theta = nn.utils.parameters_to_vector(model.net.parameters())
    assert model.num_weights == len(theta)
    assert torch.equal(model.outputs(theta, x), model.net(x))


def test_sites_are_the_parameters():
    model, x, y = case("mlp", "normal", "fan_in")
    trace = pyro.poutine.trace(model).get_trace(x, y)
    sampled = [name for name in trace.stochastic_nodes if name != "data"]
    assert sampled == [name for name, _ in model.net.named_parameters()]
    assert trace.nodes["obs"]["is_observed"]
    assert torch.equal(trace.nodes["obs"]["value"], y)


def test_without_labels_it_samples_from_the_prior_predictive():
    model = BayesianNetwork(nets.mlp(1, (), 1), 2.0, "normal", 0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        samples = torch.stack([model(torch.tensor([[3.0]]))[0, 0] for _ in range(3000)])
    # y = w x + b + noise with variance 4 * 9 + 4 + 0.25.
    assert float(samples.var()) == pytest.approx(40.25, rel=0.15)
    assert float(samples.mean()) == pytest.approx(0, abs=5 * (40.25 / 3000) ** 0.5)


def test_the_network_is_a_frozen_copy():
    net = nets.mlp(2, (3,), 2)
    model = BayesianNetwork(net)
    with torch.no_grad():
        next(net.parameters()).add_(1)
    assert not torch.equal(next(net.parameters()), next(model.net.parameters()))
    assert not model.net.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior_scale": 0.0}, "prior_scale is 0.0"),
        ({"prior_scale": -1}, "prior_scale is -1"),
        ({"prior_scale": float("nan")}, "prior_scale is nan"),
        ({"prior_scale": float("inf")}, "prior_scale is inf"),
        ({"prior_scale": None}, "prior_scale is None"),
        ({"likelihood": "normal", "noise_scale": 0.0}, "noise_scale is 0.0"),
        ({"likelihood": "normal", "noise_scale": float("nan")}, "noise_scale is nan"),
        ({"noise_scale": 0.1}, "noise_scale=0.1 with likelihood='categorical'"),
    ],
)
def test_bad_scales(arguments, message):
    with pytest.raises(InputError, match=message):
        BayesianNetwork(nets.mlp(2, (), 2), **arguments)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ({"prior_scale": "fanin"}, "fan_in"),
        ({"likelihood": "gaussian normal"}, "normal"),
        ({"likelihood": "category"}, "categorical"),
    ],
)
def test_unknown_names_suggest_the_nearest(arguments, meant):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}"):
        BayesianNetwork(nets.mlp(2, (), 2), **arguments)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "batch normalisation"),
        (nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2)), "batch normalisation"),
        (nn.ReLU(), "no parameters"),
        ("mlp", "net is a str"),
        (nets.mlp, "net is a function"),
    ],
)
def test_bad_networks(net, message):
    with pytest.raises(InputError, match=message):
        BayesianNetwork(net)


@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
def test_labels_of_another_shape_never_broadcast(likelihood):
    model = BayesianNetwork(nets.mlp(2, (3,), 1 if likelihood == "normal" else 2), likelihood=likelihood)
    x, theta = torch.randn(4, 2), torch.randn(model.num_weights)
    bad = (
        [torch.randn(4), torch.randn(1, 1)]
        if likelihood == "normal"
        else [torch.zeros(1).long(), torch.eye(4)[:, :2].long()]
    )
    for y in bad:
        with pytest.raises(InputError, match="Labels have shape"):
            model.log_joint(theta, x, y)
        with pytest.raises(InputError, match="Labels have shape"):
            model(x, y)


def test_a_whole_smaller_than_its_part_is_refused():
    model = BayesianNetwork(nets.mlp(2, (3,), 2))
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    with pytest.raises(InputError, match="num_data"):
        model(x, y, num_data=3)
    with pytest.raises(InputError, match="num_data"):
        model.log_joint(torch.randn(model.num_weights), x, y, num_data=3)
