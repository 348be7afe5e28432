"""Each draw's own loss and gradient, against autograd run on one network after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import Normal
from bayesrob.predictive import HeldDraws, Predictive, from_modules
from tests.nets.helpers import Recurrent, random_inputs
from tests.predictive.helpers import CLASSES, SHAPES, data, gaussian, held, in_chunks_of

OBJECTIVES = ["expected_loss", "double_softmax_per_draw"]
CHUNKS = [1, 3, 7]


def loop(networks, x: Tensor, y: Tensor, objective: str = "expected_loss", noise: float | None = None):
    """Losses `[draw, batch]` and gradients `[draw, batch, *shape]`: one network, one point, one backward pass at a time."""
    losses, gradients = [], []
    for f in networks:
        for n in range(len(x)):
            point = x[n : n + 1].clone().requires_grad_()
            outputs = f(point)
            if objective == "double_softmax_per_draw":
                outputs = outputs.exp() / outputs.exp().sum(-1, keepdim=True)
            if noise is None:
                loss = nn.functional.cross_entropy(outputs, y[n : n + 1])
            else:
                loss = -torch.distributions.Normal(outputs, noise).log_prob(y[n : n + 1]).sum()
            losses.append(loss.detach())
            gradients.append(torch.autograd.grad(loss, point)[0][0])
    count = len(networks)
    return torch.stack(losses).reshape(count, len(x)), torch.stack(gradients).reshape(count, *x.shape)


def networks(post: HeldDraws):
    draws = [{name: tensor[d] for name, tensor in post.weights.items()} for d in range(post.num_draws)]
    return [lambda x, draw=draw: functional_call(post.net, draw, (x,)) for draw in draws]


def check(found, expected, rtol: float = 1e-9) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", SHAPES)
def test_held_draws(monkeypatch, name, objective, chunk):
    post = held(name)
    x, y = data(name)
    expected = loop(networks(post), x, y, objective)
    in_chunks_of(monkeypatch, chunk)
    check(post.draw_gradients(x, y, objective), expected)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fresh_draws_are_those_that_the_seed_freezes(monkeypatch, objective, chunk):
    post = gaussian()
    x, y = data()
    expected = loop(networks(post.freeze(5, seed=3)), x, y, objective)
    in_chunks_of(monkeypatch, chunk)
    check(post.draw_gradients(x, y, objective, num_draws=5, seed=3), expected)


def test_fresh_draws_without_a_seed_are_new_ones():
    post = gaussian()
    first, second = (post.draw_gradients(*data())[1] for _ in range(2))
    assert not torch.isclose(first, second).any()
    assert len(first) == post.num_draws


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(48, CLASSES)
    )


def unlike(index: int) -> nn.Module:
    """A network of another width each time: nothing that one product could run."""
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 3 + index), nn.Tanh(), nn.Linear(3 + index, CLASSES))


def with_statistics(net: nn.Module) -> nn.Module:
    """Batch statistics that are not those of a new layer."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.double().eval()


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["alike", "unlike", "batch norm", "recurrent"])
def test_modules_of_the_users(monkeypatch, kind, objective, chunk):
    torch.manual_seed(0)
    make = {
        "alike": lambda i: unlike(0),
        "unlike": unlike,
        "batch norm": lambda i: convolution(),
        "recurrent": lambda i: Recurrent(3, 4, CLASSES),
    }[kind]
    shape = {"batch norm": (1, 16, 16), "recurrent": (4, 3)}.get(kind, (2, 3))
    modules = [with_statistics(make(i)) for i in range(4)]
    x = random_inputs(5, *shape, seed=5)
    y = data()[1]
    expected = loop(modules, x, y, objective)
    in_chunks_of(monkeypatch, chunk)
    check(from_modules(modules).draw_gradients(x, y, objective), expected)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_regression(monkeypatch, chunk):
    post = held(likelihood=Normal(0.7))
    x, y = data(likelihood=post.likelihood)
    expected = loop(networks(post), x, y, noise=0.7)
    in_chunks_of(monkeypatch, chunk)
    check(post.draw_gradients(x, y), expected)


def test_float32_draws_are_float64_ones_rounded():
    exact = held()
    x, y = data()
    losses, gradients = exact.draw_gradients(x, y)
    found = exact.float().draw_gradients(x.float(), y)
    assert {tensor.dtype for tensor in found} == {torch.float32}
    torch.testing.assert_close(found[0].double(), losses, rtol=1e-5, atol=1e-6)
    error = (found[1].double() - gradients).flatten(2).norm(dim=-1)
    assert (error < 1e-4 * gradients.flatten(2).norm(dim=-1)).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", SHAPES)
def test_their_mean_is_the_input_gradient(name, objective):
    post = held(name)
    x, y = data(name)
    losses, gradients = post.draw_gradients(x, y, objective)
    torch.testing.assert_close(gradients.mean(0), post.input_gradient(x, y, objective), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(losses.mean(0), post.objective_value(x, y, objective), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("likelihood", [None, Normal(0.7)])
@pytest.mark.parametrize("make", [held, gaussian])
def test_weighted_by_probability_they_are_the_predictive_loss_s(make, likelihood):
    """d(-log mean_d p_d) = sum_d p_d g_d / sum_d p_d."""
    post = make(likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    losses, gradients = post.draw_gradients(x, y, seed=3)
    p = (-losses).exp()[..., None, None]
    expected = post.input_gradient(x, y, "predictive_loss", seed=3)
    torch.testing.assert_close((p * gradients).sum(0) / p.sum(0), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(-(-losses).exp().mean(0).log(), post.objective_value(x, y, "predictive_loss", seed=3))


def test_num_draws_takes_the_first():
    post = held()
    x, y = data()
    for few, all_of_them in zip(post.draw_gradients(x, y, num_draws=3), post.draw_gradients(x, y), strict=True):
        torch.testing.assert_close(few, all_of_them[:3], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("objective", ["predictive_loss", "margin", "double_softmax"])
@pytest.mark.parametrize("make", [held, gaussian])
def test_what_is_no_mean_over_draws_is_refused(make, objective):
    with pytest.raises(InputError, match="not a mean over draws"):
        make().draw_gradients(*data(), objective)


def test_double_softmax_of_a_regression_is_refused():
    post = held(likelihood=Normal(0.7))
    with pytest.raises(InputError, match="needs classes"):
        post.draw_gradients(*data(likelihood=post.likelihood), "double_softmax_per_draw")


def test_bad_input_is_refused():
    post = held()
    x, y = data()
    with pytest.raises(UnknownNameError, match="Did you mean 'expected_loss'"):
        post.draw_gradients(x, y, "expectedloss")
    with pytest.raises(InputError, match="5 inputs but 4 labels"):
        post.draw_gradients(x, y[:4])
    with pytest.raises(InputError, match="trained on"):
        post.draw_gradients(x[:, :1], y)
    with pytest.raises(InputError, match="NaN"):
        post.draw_gradients(x.clone().index_fill_(0, torch.tensor([2]), torch.nan), y)
    with pytest.raises(InputError, match="Only 7 are held"):
        post.draw_gradients(x, y, num_draws=8)


def test_no_points():
    x, y = data()
    losses, gradients = held().draw_gradients(x[:0], y[:0])
    assert losses.shape == (7, 0)
    assert gradients.shape == (7, 0, 2, 3)


def test_inputs_and_grad_mode_are_left_alone():
    post: Predictive = held()
    x, y = data()
    expected = loop(networks(post), x, y)
    before = x.clone()
    x.requires_grad_()
    with torch.no_grad():
        found = post.draw_gradients(x, y)
        assert not torch.is_grad_enabled()
    assert torch.equal(x, before)
    assert x.grad is None
    assert not any(tensor.requires_grad for tensor in found)
    check(found, expected)
