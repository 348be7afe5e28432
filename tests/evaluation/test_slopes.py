"""Derivatives along a perturbation against central differences, and the theorems through them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bayesrob import nets, rng
from bayesrob.analysis import bias_variance, perturbation_terms
from bayesrob.errors import InputError
from bayesrob.evaluation import slopes
from bayesrob.models import Normal
from bayesrob.predictive import Predictive, Preprocessed, from_modules
from tests.nets.helpers import random_inputs
from tests.predictive.helpers import SHAPES, data, gaussian, held, in_chunks_of, masked


class Cube(torch.autograd.Function):
    """x^3 / 3 with a backward pass alone."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3 / 3

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:
        return slope * ctx.saved_tensors[0] ** 2


class Custom(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        self.net = nets.mlp(6, (), 4, seed=seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(Cube.apply(x))


def modules(make, count: int = 2) -> Predictive:
    return from_modules([make(seed).eval() for seed in range(count)]).double()


CASES = {
    "mlp": lambda: held("mlp", 3),
    "cnn": lambda: held("cnn", 2),
    "lstm": lambda: held("lstm", 2),
    "our lstm": lambda: modules(lambda seed: nets.lstm((1, 4, 4), 5, 4, seed=seed)),
    "resnet": lambda: modules(lambda seed: nets.resnet18(4, 1, norm="group", seed=seed), 1),
    "custom": lambda: modules(Custom),
    "regression": lambda: held("mlp", 3, likelihood=Normal(0.5)),
    "dropout off": lambda: masked(p=0.0).freeze(2),
    "fresh": lambda: gaussian(num_draws=3),
}
INPUTS = {**SHAPES, "our lstm": (1, 4, 4), "resnet": (1, 8, 8)}


def beta(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=rng.generator(3, "tests", "beta"), dtype=x.dtype)


@pytest.mark.parametrize("name", CASES)
def test_equal_central_differences(name):
    post = CASES[name]()
    x = random_inputs(3, *INPUTS.get(name, (2, 3)), seed=5)
    along, step = beta(x), 1e-6
    found = slopes(post, x, None, along)
    values = found["predictions" if name == "regression" else "log_predictions"]
    upper, lower, here = (post.freeze(seed=0).logits(z) for z in (x + step * along, x - step * along, x))
    if name != "regression":
        upper, lower, here = (z.log_softmax(-1) for z in (upper, lower, here))
    np.testing.assert_allclose(values, here.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["slopes"], (upper - lower).numpy() / (2 * step), rtol=1e-6, atol=1e-8)
    assert found["slopes"].dims == ("model", "point", "output" if name == "regression" else "class")
    assert np.abs(found["slopes"]).max() > 1e-3


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_with_forward_mode_and_without(monkeypatch, name):
    post = held(name)
    x, y = data(name)
    expected = slopes(post, x, y, beta(x))
    monkeypatch.setattr(sys.modules[slopes.__module__], "_forward", lambda *_: None)
    in_chunks_of(monkeypatch, 3)
    np.testing.assert_allclose(
        slopes(post, x, y, beta(x), batch_size=2)["slopes"], expected["slopes"], rtol=1e-10, atol=1e-12
    )


def test_a_stand_in_s_where_there_is_one():
    """Rounding to eighths has no slope: its stand-in's is that of the predictive behind, at the rounded input."""
    post = held()
    x, _ = data()
    rounded = (8 * x).round() / 8
    found = slopes(Preprocessed(post, lambda z: (8 * z).round() / 8), x, None, beta(x))
    np.testing.assert_allclose(found["slopes"], slopes(post, rounded, None, beta(x))["slopes"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_several_predictives_are_one_set_of_models(name):
    """Of one draw each: as the draws of one predictive. Of several: each the logarithm of its averaged prediction."""
    post, (x, y) = held(name, 4), data(name)
    expected = slopes(post, x, y, beta(x))
    apart = slopes([post[t] for t in range(4)], x, y, beta(x))
    for variable in expected:
        np.testing.assert_allclose(apart[variable], expected[variable], rtol=1e-9, atol=1e-12)
    pairs = slopes([post[:2], post[2:]], x, y, beta(x))
    log_p = expected["log_predictions"].values.reshape(2, 2, len(x), -1)
    p = np.exp(log_p)
    np.testing.assert_allclose(pairs["log_predictions"], np.log(p.mean(1)), rtol=1e-9)
    weighted = (p * expected["slopes"].values.reshape(p.shape)).mean(1) / p.mean(1)
    np.testing.assert_allclose(pairs["slopes"], weighted, rtol=1e-8, atol=1e-10)


def test_regressions_are_averaged_too():
    posts = [held(likelihood=Normal(0.5), bounds=(0, 1)), held(num_draws=3, likelihood=Normal(0.5), bounds=(0, 1))]
    x, _ = data()
    found = slopes(posts, x, None, beta(x))
    for t, post in enumerate(posts):
        one = slopes(post, x, None, beta(x)).mean("model")
        np.testing.assert_allclose(found["predictions"][t], one["predictions"], rtol=1e-10)
        np.testing.assert_allclose(found["slopes"][t], one["slopes"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_first_order_leaves_a_remainder_of_second(loss):
    """The theorems end to end, tanh networks: the terms are the decomposition's derivative, what is left falls as eps^2."""
    post = held(likelihood=Normal(0.5) if loss == "mse" else None)
    x, y = data(likelihood=post.likelihood)
    along = beta(x)
    kind = "predictions" if loss == "mse" else "log_predictions"
    eps = 10.0 ** np.linspace(-4, -2, 5)
    here = slopes(post, x, y, along)
    terms = perturbation_terms(
        targets=here["targets"].values, slopes=here["slopes"], loss=loss, eps=eps.tolist(), **{kind: here[kind]}
    )

    def measured(s: float):
        there = slopes(post, x + s * along, y, along)
        return bias_variance(targets=y.numpy(), loss=loss, num_resamples=0, **{kind: there[kind]})

    for name in ("bias", "variance"):
        left = [np.abs(measured(s)[name] - terms[name].sel(eps=s)).mean() for s in eps]
        assert abs(np.polyfit(np.log(eps), np.log(left), 1)[0] - 2) < 0.05
    # Of the bias (squared error: its first order, without the square of c), and of the variance, autograd's derivatives.
    variance = (post.input_gradient(x, y, "variance") * along).flatten(1).sum(1)
    np.testing.assert_allclose(terms["c_prime"].mean("model"), variance, rtol=1e-8, atol=1e-12)
    bias = (post.input_gradient(x, y, "bias") * along).flatten(1).sum(1)
    if loss == "mse":
        error = here["predictions"].mean("model") - here["targets"]
        np.testing.assert_allclose((2 * error * terms["c"]).mean("output"), bias, rtol=1e-8, atol=1e-12)
    else:
        np.testing.assert_allclose(terms["c"], bias, rtol=1e-8, atol=1e-12)


def test_sure_networks_keep_their_slopes():
    """float32, gaps of hundreds: log pi of the likeliest class is 0 to rounding, its slope is not."""
    exact = held(num_draws=3)
    exact.weights["3.weight"] *= 25
    x, _ = data()
    truth = slopes(exact, x, None, beta(x))
    sure = truth["log_predictions"].max("class") > -1e-7
    assert sure.any()
    found = slopes(exact.float(), x.float(), None, beta(x).float())
    np.testing.assert_allclose(found["slopes"], truth["slopes"], rtol=1e-3, atol=1e-9)


def test_bad_input():
    post, (x, y) = held(), data()
    for perturbation in (x[:1], x[0], x.numpy(), x * torch.nan):
        with pytest.raises(InputError, match="The perturbation is"):
            slopes(post, x, y, perturbation)
    with pytest.raises(InputError, match="5 inputs but 4 labels"):
        slopes(post, x, y[:-1], x)
    with pytest.raises(InputError, match="one likelihood"):
        slopes([post, held(likelihood=Normal(0.5))], x, y, x)
    with pytest.raises(InputError, match="from_predictives"):
        from_modules([nets.mlp(6, (), 4).eval(), post])

    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(x.detach().numpy().reshape(len(x), -1)[:, :4])

    with pytest.raises(InputError, match="no derivative"):
        slopes(from_modules([Opaque().eval()]), x, None, x)
