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


@pytest.mark.parametrize("memory", [1, 9000, 2**28], ids=["one point at a time", "a few", "all at once"])
@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
@pytest.mark.parametrize("name", NETS)
def test_gradients_of_a_batch_are_those_of_its_rows(name, likelihood, memory):
    """Four weight vectors, one of them nowhere: it keeps its NaN to itself."""
    model, x, y = case(name, likelihood, "fan_in")
    theta = random_theta(model, 4)
    theta[1] = torch.nan
    joint = LogJoint(model, x, y, memory)
    values, gradients = joint.gradient(theta)
    assert values.shape == (4,)
    assert values.dtype == torch.float64
    assert not any(tensor.requires_grad for tensor in (values, gradients))
    for k in (0, 2, 3):
        value, gradient = joint.gradient(theta[k])
        assert float(values[k]) == pytest.approx(float(value), rel=1e-12)
        torch.testing.assert_close(gradients[k], gradient, rtol=1e-10, atol=1e-10)
        assert float(model.log_prior(theta)[k]) == pytest.approx(float(model.log_prior(theta[k])), rel=1e-13)
    assert values[1].isnan()
    assert gradients[1].isnan().all()


def test_log_likelihoods_of_a_batch_are_summed_in_float64():
    """Near -1e5 float32 numbers are 0.008 apart."""
    model, x, y = case("mlp", "categorical", 1.0)
    model, x, y = model.float(), x.repeat(10_000, 1), y.repeat(10_000)
    theta = random_theta(model, 2).float()
    values, _ = LogJoint(model, x, y).gradient(theta)
    exact, _ = LogJoint(model.double(), x, y).gradient(theta.double())
    assert (exact < -65_536).all()
    torch.testing.assert_close(values, exact, rtol=0, atol=3.9e-3)  # each point alone is rounded to float32


def test_chunks_follow_the_memory():
    model, x, y = case("mlp", "categorical", 1.0)
    each = 2 * 8 * (4 + 3)  # outputs of all products, and again for the backward pass, in float64
    sizes = {memory: [len(part) for part, _ in LogJoint(model, x, y, memory).chunks()] for memory in (1, 4 * each, 2**28)}
    assert sizes == {1: [1] * 11, 4 * each: [4, 4, 3], 2**28: [11]}
    joint = LogJoint(model, x, y, 6 * each)
    assert [len(part) for part, _ in joint.chunks(3)] == [2, 2, 2, 2, 2, 1]  # of three chains
    assert [len(part) for part, _ in joint.chunks(100)] == [1] * 11


def test_chains_without_batched_products_share_no_memory():
    """They meet the data one after the other."""
    model, x, y = case("lstm", "categorical", 1.0)
    joint = LogJoint(model, x, y, memory=2000)
    assert 1 < len(joint.chunks()) == len(joint.chunks(50)) < 11


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
