from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bayesrob.attacks import PGD
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import Normal
from bayesrob.predictive import OBJECTIVES, HeldDraws, Predictive
from tests.predictive.helpers import (
    SHAPES,
    data,
    defined,
    defined_gradient,
    draw_gradients,
    draw_outputs,
    gaussian,
    held,
    in_chunks_of,
)

CLASSIFICATION = [(name, objective) for name in SHAPES for objective in OBJECTIVES]
REGRESSION = ["expected_loss", "predictive_loss", "bias", "variance"]
CHUNKS = [1, 3, 7]


def in_two_classes() -> HeldDraws:
    post = held()
    *_, weight, bias = post.weights
    weights = {**post.weights, weight: post.weights[weight][:, :2], bias: post.weights[bias][:, :2]}
    net = copy.deepcopy(post.net)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    last.weight, last.bias = nn.Parameter(last.weight[:2]), nn.Parameter(last.bias[:2])
    return HeldDraws(net, weights, input_shape=post.input_shape, out_features=2)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("name", "objective"), CLASSIFICATION)
def test_classification_gradient_is_that_of_the_definition(monkeypatch, name, objective, chunk):
    post = held(name)
    x, y = data(name)
    in_chunks_of(monkeypatch, chunk)
    ours = post.input_gradient(x, y, objective)
    torch.testing.assert_close(ours, defined_gradient(objective, post, x, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_of_two_classes_is_that_of_the_definition(objective):
    """Two have a closed form of their own; the objectives about the draws' mean once mixed it up with that of more."""
    post = in_two_classes()
    x, y = data()
    ours = post.input_gradient(x, y % 2, objective)
    torch.testing.assert_close(ours, defined_gradient(objective, post, x, y % 2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("objective", REGRESSION)
def test_regression_gradient_is_that_of_the_definition(monkeypatch, objective, chunk):
    post = held(likelihood=Normal(0.7))
    x, y = data(likelihood=post.likelihood)
    in_chunks_of(monkeypatch, chunk)
    ours = post.input_gradient(x, y, objective)
    torch.testing.assert_close(ours, defined_gradient(objective, post, x, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "objective"), [*((None, name) for name in OBJECTIVES), *((Normal(0.7), name) for name in REGRESSION)]
)
def test_value_is_the_definition(likelihood, objective):
    post = held(likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    expected = defined(objective, draw_outputs(post, x), y, post.likelihood)
    torch.testing.assert_close(post.objective_value(x, y, objective), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "objective"), [*((None, name) for name in OBJECTIVES), *((Normal(0.7), name) for name in REGRESSION)]
)
def test_gradient_agrees_with_finite_differences(likelihood, objective):
    post = held(likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    ours = post.input_gradient(x, y, objective)
    step = 1e-5
    for i in range(2):
        for j in range(3):
            change = torch.zeros_like(x)
            change[:, i, j] = step
            upper, lower = (post.objective_value(z, y, objective) for z in (x + change, x - change))
            torch.testing.assert_close((upper - lower) / (2 * step), ours[:, i, j], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fresh_draws_have_the_gradient_of_the_same_draws_held(monkeypatch, objective, chunk):
    post = gaussian()
    x, y = data()
    in_chunks_of(monkeypatch, chunk)
    ours = post.input_gradient(x, y, objective, num_draws=5, seed=3)
    expected = defined_gradient(objective, post.freeze(5, seed=3), x, y)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_num_draws_takes_the_first():
    post = held()
    x, y = data()
    expected = defined_gradient("expected_loss", post[:2], x, y)
    torch.testing.assert_close(post.input_gradient(x, y, num_draws=2), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_point_has_its_own_gradient(objective):
    """Whatever else is in the batch: no 1/batch, no mixing."""
    post = held()
    x, y = data()
    together = post.input_gradient(x, y, objective)
    alone = torch.cat([post.input_gradient(x[n : n + 1], y[n : n + 1], objective) for n in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_differ_but_agree_on_one_draw(objective):
    post = held()
    x, y = data()
    expected = post.input_gradient(x, y)
    ours = post.input_gradient(x, y, objective)
    assert (objective == "expected_loss") == torch.allclose(ours, expected, rtol=1e-3)
    if objective == "predictive_loss":
        torch.testing.assert_close(post[0].input_gradient(x, y, objective), post[0].input_gradient(x, y))


def test_gradient_of_a_confident_network_in_float32():
    """Every draw is sure and right (gap 60): the gradient is tiny, but it has its direction."""
    exact = held(num_draws=3)
    exact.weights["3.weight"] *= 40
    x, _ = data()
    y = exact(x).argmax(-1)
    truth = exact.input_gradient(x, y)
    exact.float()
    ours = exact.input_gradient(x.float(), y).double()
    cosine = torch.nn.functional.cosine_similarity(ours.flatten(1), truth.flatten(1))
    assert (cosine > 0.999).all()


@pytest.mark.parametrize("objective", ["predictive_loss", "margin"])
def test_log_space_holds_where_probabilities_underflow(objective):
    """All draws are certain and wrong: p of the true class is exactly zero in float32, its logarithm is not."""
    exact = held(num_draws=3)
    exact.weights["3.weight"] *= 1500
    x, _ = data()
    y = exact(x).argmin(-1)
    assert (exact(x).gather(1, y[:, None]) < -104).all()
    truth = exact.input_gradient(x, y, objective)
    exact.float()
    torch.testing.assert_close(exact.input_gradient(x.float(), y, objective).double(), truth, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("objective", ["expected_loss", "double_softmax_per_draw"])
@pytest.mark.parametrize("name", SHAPES)
def test_standard_error_of_a_mean(monkeypatch, name, objective, chunk):
    post = held(name)
    x, y = data(name)
    in_chunks_of(monkeypatch, chunk)
    mean, error = post.input_gradient(x, y, objective, standard_error=True)
    draws = draw_gradients(objective, post, x, y)
    torch.testing.assert_close(mean, draws.mean(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(error, draws.std(0, correction=1) / 7**0.5, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("likelihood", [None, Normal(0.7)])
def test_standard_error_of_the_predictive_loss(monkeypatch, likelihood, chunk):
    """The delta method for a ratio of means, by brute force."""
    post = held(likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    in_chunks_of(monkeypatch, chunk)
    mean, error = post.input_gradient(x, y, "predictive_loss", standard_error=True)
    gradients = draw_gradients("expected_loss", post, x, y)
    weights = torch.stack([(-defined("expected_loss", [f], y, post.likelihood)).exp() for f in draw_outputs(post, x)])
    for n in range(len(x)):
        p, g = weights[:, n, None, None], gradients[:, n]
        ratio = (p * g).sum(0) / p.sum(0)
        residual = p * (g - ratio)  # its mean is zero; its standard error, over the mean weight, is the ratio's
        expected = residual.std(0, correction=1) / 7**0.5 / p.mean(0)
        torch.testing.assert_close(mean[n], ratio, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(error[n], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_standard_error_is_the_spread_of_replications(objective):
    post = gaussian(num_draws=60)
    x, y = data()
    runs = [post.input_gradient(x, y, objective, seed=seed, standard_error=True) for seed in range(400)]
    gradients, errors = (torch.stack(parts) for parts in zip(*runs, strict=True))
    claimed = errors.square().mean(0).sqrt()
    spread = gradients.std(0)
    assert (claimed / spread - 1).abs().mean() < 0.05
    assert (claimed / spread - 1).abs().max() < 0.15


def test_one_draw_has_no_standard_error():
    post = held(num_draws=1)
    x, y = data()
    mean, error = post.input_gradient(x, y, standard_error=True)
    torch.testing.assert_close(mean, defined_gradient("expected_loss", post, x, y), rtol=1e-10, atol=1e-13)
    assert error.isnan().all()


def test_equal_draws_have_no_spread():
    post = held(num_draws=1)
    post.weights = {name: tensor.expand(4, *tensor.shape[1:]) for name, tensor in post.weights.items()}
    x, y = data()
    _, error = post.input_gradient(x, y, standard_error=True)
    assert error.abs().max() < 1e-7


@pytest.mark.parametrize("objective", ["margin", "double_softmax"])
def test_no_standard_error_of_what_is_not_an_average(objective):
    with pytest.raises(InputError, match="expected_loss"):
        held().input_gradient(*data(), objective, standard_error=True)


@pytest.mark.parametrize("method", [Predictive.input_gradient, Predictive.objective_value])
def test_unknown_objective_suggests_the_nearest(method):
    with pytest.raises(UnknownNameError, match="Did you mean 'predictive_loss'"):
        method(held(), *data(), "predictiveloss")


@pytest.mark.parametrize("objective", ["margin", "double_softmax", "double_softmax_per_draw"])
@pytest.mark.parametrize("method", [Predictive.input_gradient, Predictive.objective_value])
def test_regression_has_no_classes(method, objective):
    post = held(likelihood=Normal(0.7))
    with pytest.raises(InputError, match="needs classes"):
        method(post, *data(likelihood=post.likelihood), objective)


@pytest.mark.parametrize("standard_error", [False, True])
def test_empty_batch(standard_error):
    post = held()
    x, y = data()
    found = post.input_gradient(x[:0], y[:0], standard_error=standard_error)
    for tensor in found if standard_error else [found]:
        assert tensor.shape == (0, 2, 3)
    torch.testing.assert_close(post.input_gradient(x, y), defined_gradient("expected_loss", post, x, y))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_inputs_and_grad_mode_are_left_alone(objective):
    post = held()
    x, y = data()
    x.requires_grad_()
    before = x.detach().clone()
    with torch.no_grad():
        gradient = post.input_gradient(x, y, objective)
        assert not torch.is_grad_enabled()
    assert torch.equal(x, before)
    assert x.requires_grad
    assert x.grad is None
    assert not gradient.requires_grad
    torch.testing.assert_close(gradient, defined_gradient(objective, post, before, y), rtol=1e-9, atol=1e-12)


def test_memory_bounds_the_draws_at_once_and_nothing_else(monkeypatch):
    post = held().double()
    x, y = data()
    sizes: list[int] = []
    functions = type(post).functions

    def spy(self, size, *arguments):
        sizes.append(size)
        return functions(self, size, *arguments)

    monkeypatch.setattr(type(post), "functions", spy)
    expected = post.input_gradient(x, y)
    post.memory = 1
    torch.testing.assert_close(post.input_gradient(x, y), expected)
    values = x.element_size() * len(x) * 2 * post._outputs_per_example
    post.memory = 2 * values
    attack = PGD(eps=0.1, norm="l_2", steps=3, random_start=False)
    torch.testing.assert_close(attack(post, x, y), attack(held().double(), x, y))
    assert sizes[0] == post.num_draws
    assert sizes[1] == 1
    assert max(sizes[2:5]) <= 2
