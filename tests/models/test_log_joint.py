from __future__ import annotations

import pytest
import torch

from bayesrob.models import LogJoint
from tests.models.helpers import NETS, case, random_theta


@pytest.mark.parametrize("memory", [1, 3000, 2**28], ids=["one point at a time", "a few", "all at once"])
@pytest.mark.parametrize("prior_scale", [1.0, "fan_in"])
@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
@pytest.mark.parametrize("name", NETS)
def test_value_and_gradient_are_those_of_log_joint(name, likelihood, prior_scale, memory):
    model, x, y = case(name, likelihood, prior_scale)
    theta = random_theta(model).requires_grad_()
    value = model.log_joint(theta, x, y)
    (gradient,) = torch.autograd.grad(value, theta)
    joint = LogJoint(model, x, y, memory)
    data, ours = joint.gradient(theta)
    theta, value = theta.detach(), value.detach()
    torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-10)
    assert float(joint.value(theta)) == pytest.approx(float(value), rel=1e-12)
    assert float(data + model.log_prior(theta)) == pytest.approx(float(value), rel=1e-12)
    assert not any(tensor.requires_grad for tensor in (data, ours, joint.value(theta.requires_grad_())))


def test_chunks_follow_the_memory():
    model, x, y = case("mlp", "categorical", 1.0)
    each = 2 * 8 * (4 + 4 + 3)  # values of all layers, and again for the backward pass, in float64
    sizes = {memory: [len(part) for part, _ in LogJoint(model, x, y, memory).chunks] for memory in (1, 4 * each, 2**28)}
    assert sizes == {1: [1] * 11, 4 * each: [4, 4, 3], 2**28: [11]}


def test_theta_is_left_alone_and_gradients_work_under_no_grad():
    model, x, y = case("mlp", "categorical", 1.0)
    theta = random_theta(model)
    before = theta.clone()
    joint = LogJoint(model, x, y)
    with torch.no_grad():
        _, gradient = joint.gradient(theta)
        assert not torch.is_grad_enabled()
    assert torch.equal(theta, before)
    assert not theta.requires_grad
    assert torch.equal(gradient, joint.gradient(theta)[1])


def test_data_are_converted_to_the_models_precision():
    model, x, y = case("mlp", "normal", 1.0)
    theta = random_theta(model)
    converted = LogJoint(model, x.float(), y.float()).value(theta)
    assert float(converted) == pytest.approx(float(LogJoint(model, x, y).value(theta)), rel=1e-5)
