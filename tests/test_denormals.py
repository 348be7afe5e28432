"""At the weights of confident networks no product is given a denormal number, and nothing that matters has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bayesrob as br
from bayesrob import inference
from bayesrob.attacks import APGD, FGSM, MIFGSM, PGD, CarliniWagner, DeepFool
from bayesrob.data import Dataset
from bayesrob.inference.training import MiniBatchMethod
from bayesrob.models import BayesianNetwork, Categorical, LogJoint
from bayesrob.predictive import OBJECTIVES, HeldDraws
from tests.denormals import counted

CLASSES = 10


def stack(activation: type[nn.Module], width: int = 32, features: int = 64, classes: int = CLASSES) -> nn.Sequential:
    layers = (nn.Linear(features, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, classes))
    return nn.Sequential(nn.Flatten(), *layers)


NETS: dict[str, tuple[Callable[[], nn.Module], float, tuple[int, ...]]] = {
    "relu": (lambda: stack(nn.ReLU), 1.0, (64,)),
    "wide": (lambda: stack(nn.ReLU, 130, 144), 0.5, (144,)),  # too large for `nets.Joined`
    "tanh": (lambda: stack(nn.Tanh), 5.0, (64,)),
    "sigmoid": (lambda: stack(nn.Sigmoid), 20.0, (64,)),
    "gelu": (lambda: stack(nn.GELU), 1.0, (64,)),
    "silu": (lambda: stack(nn.SiLU), 3.0, (64,)),
    "softplus": (lambda: stack(nn.Softplus), 3.0, (64,)),
    "two classes": (lambda: stack(nn.LeakyReLU, 32, 2, 2), 1.0, (2,)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(72, CLASSES)
        ),
        0.8,
        (1, 10, 10),
    ),
}  # fmt: skip
"""Networks, the scale at which normally distributed weights make them sure of themselves, and the shape of their inputs."""


def confident(name: str, dtype: torch.dtype = torch.float32, factor: float = 1.0) -> tuple[HeldDraws, Tensor, Tensor]:
    """Six draws near one another, points, and the labels that the first one gives them; `factor`: of all weights."""
    make, scale, shape = NETS[name]
    scale *= factor
    generator = torch.Generator().manual_seed(0)
    net = make().requires_grad_(False)
    weights = {}
    for parameter_name, parameter in net.named_parameters():
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        weights[parameter_name] = torch.stack([parameter * (1 + 0.02 * i) for i in range(6)]).to(dtype)
    x = torch.rand(100, *shape, generator=generator).to(dtype)
    out = 2 if name == "two classes" else CLASSES
    post = HeldDraws(net.to(dtype), weights, input_shape=shape, out_features=out, bounds=(0.0, 1.0))
    return post, x, post.logits(x, 1)[0].argmax(1)


@pytest.fixture(params=NETS)
def case(request: pytest.FixtureRequest) -> tuple[HeldDraws, Tensor, Tensor]:
    return confident(request.param)


@pytest.mark.parametrize("name", ["relu", "wide", "gelu", "cnn"])
def test_these_networks_would_have_denormal_residuals(name: str) -> None:
    post, x, _ = confident(name)
    probabilities = post.logits(x).softmax(-1)
    assert ((probabilities > 0) & (probabilities < torch.finfo(torch.float32).tiny)).float().mean() > 0.02


def test_input_gradients_and_predictions(case: tuple[HeldDraws, Tensor, Tensor]) -> None:
    post, x, y = case
    with counted() as found:
        for objective in OBJECTIVES:
            post.input_gradient(x, y, objective, 1)
            post.gradient_and_prediction(x, y, objective, scaled=True)
        post.draw_gradients(x, y)
        post.input_gradient(x, y, standard_error=True)
    assert found.products > 0
    assert found.numbers == 0


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(eps=0.05, objective="predictive_loss"),
        PGD(eps=0.05, steps=3),
        PGD(eps=0.05, steps=3, objective="margin", stop_when_broken=True),
        PGD(eps=0.5, steps=3, norm="l_2", precision="bf16"),
        APGD(eps=0.05, steps=3),
        MIFGSM(eps=0.05, steps=3),
        DeepFool(steps=3),
        CarliniWagner(steps=3, searches=1),
    ],
    ids=lambda attack: f"{type(attack).__name__} {getattr(attack, 'precision', '')}",
)
@pytest.mark.parametrize("name", ["relu", "cnn"])
def test_attacks(name: str, attack: Any) -> None:
    post, x, y = confident(name)
    with counted() as found:
        attack(post, x, y)
    assert found.products > 0
    assert found.numbers == 0


def test_gradients_of_hmc_and_nuts(case: tuple[HeldDraws, Tensor, Tensor]) -> None:
    post, x, y = case
    bnn = BayesianNetwork(post.net, prior_scale=1.0)
    thetas = bnn.flatten(post.weights)
    joint = LogJoint(bnn, x, y)
    with counted() as found:
        for theta in (thetas[0], thetas[:2]):
            joint.gradient(theta)
            joint.gradient(theta, value=False)
    assert found.products > 0
    assert found.numbers == 0


SGD = inference.SGD(epochs=1, batch_size=50)
METHODS: dict[str, MiniBatchMethod] = {
    "SGD": SGD,
    "SVI": inference.SVI(epochs=1, batch_size=50),
    "SVI, one draw": inference.SVI(epochs=1, batch_size=50, estimator="shared_draw"),
    "SDR": inference.SDR(epochs=1, batch_size=50),
    "dropout": inference.MCDropout(epochs=1, batch_size=50),
    "TRADES": inference.TRADES(eps=0.05, steps=2, base=SGD),
    "PGD training": inference.AdversarialTraining(attack=PGD(eps=0.05, steps=2), base=SGD),
    "mixed training": inference.AdversarialTraining(attack=PGD(eps=0.05, steps=2), base=SGD, clean_weight=0.5),
}


@pytest.mark.parametrize("name", ["relu", "wide", "cnn"])
@pytest.mark.parametrize("method", METHODS)
def test_steps_of_training(name: str, method: str) -> None:
    post, x, y = confident(name)
    bnn = BayesianNetwork(post.net, prior_scale=1.0)
    data = Dataset("teacher", x, y, x, y, num_classes=CLASSES, bounds=(0.0, 1.0))
    learner = METHODS[method].learner(bnn, Categorical(), data, 0)
    theta = bnn.flatten({one: held[0] for one, held in post.weights.items()})
    places = [one for one in learner.parameters if one.shape == theta.shape][:1]  # of flat ones the means
    with torch.no_grad():
        values = [theta] if places else list(bnn.unflatten(theta).values())
        for parameter, value in zip(places or learner.parameters, values, strict=True):
            parameter.copy_(value)
    with counted() as found:
        for batch in learner.split(x, y, [50, 50]):
            loss = learner.loss(batch)
            if loss.requires_grad:
                loss.backward()
    assert found.products > 0
    assert found.numbers == 0


# ---- nothing that matters has changed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 6])
@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss", "confident_error", "bias"])
@pytest.mark.parametrize("name", ["relu", "two classes"])
def test_a_direction_is_right_however_small_the_gradient(name: str, objective: str, chunks: int) -> None:
    """Against float64, which holds gradients of 1e-80; the smallest of float32 are of 1e-45."""
    post, x, y = confident(name, factor=1.5)
    exact = confident(name, torch.float64, factor=1.5)[0].input_gradient(x.double(), y, objective)
    post.memory = 1 if chunks == 6 else post.memory
    ours = post.input_gradient(x, y, objective, scaled=True).double()
    smallest = exact.norm(dim=1).min()
    assert smallest > 1 if objective == "confident_error" else smallest < 1e-80
    ours, exact = (one / one.abs().amax(1, keepdim=True) for one in (ours, exact))
    assert (torch.nn.functional.cosine_similarity(ours, exact) > 1 - 1e-7).all()


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_values_are_those_of_float64_rounded_also_where_they_are_denormal_or_zero(objective: str) -> None:
    """Float32's own underflow is what is left: a component is zero only if its true value is, or lies below 1.4e-45."""
    post, x, y = confident("relu", factor=1.5)
    exact = confident("relu", torch.float64, factor=1.5)[0].input_gradient(x.double(), y, objective)
    ours = post.input_gradient(x, y, objective)
    tiny = torch.finfo(torch.float32).tiny
    denormal = (exact.abs() > 1e-43) & (exact.abs() < tiny)
    assert denormal.sum() > 20
    error = (ours.double() - exact).abs()
    assert (error <= 1e-3 * exact.abs() + 1e-44)[denormal].all()
    assert (ours[exact.abs() < 5e-46] == 0).all()
    assert (ours[exact.abs() > 1e-43] != 0).all()


def test_gradients_of_draws_are_those_of_float64_rounded() -> None:
    post, x, y = confident("relu", factor=1.5)
    losses, ours = post.draw_gradients(x, y)
    exact_losses, exact = confident("relu", torch.float64, factor=1.5)[0].draw_gradients(x.double(), y)
    small = exact.abs().flatten(2).amax(2) < torch.finfo(torch.float32).tiny
    assert 0.1 < small.float().mean() < 1
    assert ((ours.double() - exact).abs() <= 1e-3 * exact.abs().amax(2, keepdim=True) + 1e-44).all()
    torch.testing.assert_close(losses.double(), exact_losses, rtol=1e-3, atol=1e-44)


@pytest.mark.parametrize("name", ["relu", "two classes", "cnn"])
def test_the_log_joint_and_its_gradient_are_those_of_autograd(name: str) -> None:
    post, x, y = confident(name, torch.float64)
    bnn = BayesianNetwork(post.net, prior_scale=1.0)
    theta = bnn.flatten(post.weights)[0]
    single = BayesianNetwork(confident(name)[0].net, prior_scale=1.0)
    wrong = (y + 1) % post.logits(x[:1]).shape[-1]  # labels that the network is sure are wrong must pull in full
    for labels in (y, wrong):
        leaf = theta.clone().requires_grad_()
        value = bnn.log_joint(leaf, x, labels)
        (expected,) = torch.autograd.grad(value, leaf)
        found, gradient = LogJoint(bnn, x, labels).gradient(theta)
        torch.testing.assert_close(found + bnn.log_prior(theta), value.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        rounded = LogJoint(single, x.float(), labels).gradient(theta.float(), value=False)[1]
        assert (rounded.double() - expected).norm() < 1e-4 * expected.norm()


def test_an_attack_by_signs_moves_points_of_which_float32_knew_no_gradient() -> None:
    post, x, y = confident("relu", factor=1.5)
    lost = (post.input_gradient(x, y) == 0).flatten(1).all(1)
    assert 0 < lost.sum() < len(x)
    assert ((FGSM(eps=0.05)(post, x, y) - x).abs().flatten(1).amax(1)[lost] > 0.04).all()


def test_an_error_of_a_scaled_gradient_is_refused() -> None:
    post, x, y = confident("relu")
    with pytest.raises(br.errors.InputError, match="scaled"):
        post.input_gradient(x, y, standard_error=True, scaled=True)  # pyright: ignore[reportCallIssue, reportArgumentType]
