"""Attacks on bias and variance: closed forms, autograd of the decomposition, and that no random direction does better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bayesrob import nets, rng
from bayesrob.analysis import bias_variance
from bayesrob.attacks import BV, PGD, BiasAttack, VarianceAttack
from bayesrob.errors import InputError, ModelWarning, UnknownNameError
from bayesrob.models import Normal
from bayesrob.predictive import HeldDraws, Predictive, from_predictives
from tests.attacks.helpers import linear
from tests.nets.helpers import random_inputs, random_weights
from tests.predictive.helpers import data, defined_gradient, gaussian, held

EPS = 1e-3
LIKELIHOODS = [None, Normal(0.5)]


def squared(post: Predictive, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """`bias_variance`'s own values, of classes or of a regression."""
    if post.likelihood.name == "normal":
        return bias_variance(post.logits(x).numpy(), y.numpy(), num_resamples=0)
    log_p = post.logits(x).log_softmax(-1).numpy()
    return bias_variance(log_predictions=log_p, targets=y.numpy(), loss="cross_entropy", num_resamples=0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    ("attack", "objective"), [(BiasAttack, "bias"), (VarianceAttack, "variance"), (BV, "predictive_loss")]
)
def test_one_unsigned_step_along_the_gradient(attack, objective, likelihood):
    post = held(likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    gradient = defined_gradient(objective, post, x, y)
    torch.testing.assert_close(attack(eps=0.7)(post, x, y), x + 0.7 * gradient, rtol=1e-9, atol=1e-12)
    gradient = post.input_gradient(x, y, objective)
    assert torch.equal(attack(eps=0.7)(post, x, y), x + 0.7 * gradient)
    moved = attack(mse=0.01)(post, x, y) - x
    assert float(moved.square().mean()) == pytest.approx(0.01)
    cosine = torch.nn.functional.cosine_similarity(moved.flatten(), gradient.flatten(), dim=0)
    assert float(cosine) == pytest.approx(1)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_closed_forms_of_linear_models(likelihood):
    generator = rng.generator(0, "tests", "linear")
    weight = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    post, x = linear(weight), random_inputs(6, 5)
    f, mean_weight = torch.einsum("tcf,nf->tnc", weight, x), weight.mean(0)
    if likelihood is None:
        y = torch.arange(6) % 3
        star = f.mean(0).softmax(-1)
        bias = (star - nn.functional.one_hot(y, 3)) @ mean_weight
        variance = torch.einsum("tcf,tnc->nf", weight, f.softmax(-1) - star) / 4
    else:
        post.likelihood = likelihood
        y = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        bias = 2 * (f.mean(0) - y) @ mean_weight / 3
        variance = 2 * torch.einsum("tnc,tcf->nf", f - f.mean(0), weight - mean_weight) / 4 / 3
    torch.testing.assert_close(BiasAttack(eps=0.1)(post, x, y), x + 0.1 * bias, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(VarianceAttack(eps=0.1)(post, x, y), x + 0.1 * variance, rtol=1e-10, atol=1e-12)
    paper = bias if likelihood is None else -mean_weight.mean(0).expand_as(x)
    torch.testing.assert_close(BiasAttack(eps=0.1, direction="paper")(post, x, y), x + 0.1 * paper, rtol=1e-10, atol=1e-12)


def test_the_paper_s_direction_has_no_sign():
    """-grad f_bar raises the bias where f_bar is too small and lowers it elsewhere; the exact one raises it everywhere."""
    net = nets.mlp(6, (5,), 1, activation="tanh")
    weights = random_weights(net, 5)
    post = HeldDraws(net, weights, input_shape=(2, 3), likelihood=Normal(0.5)).double()
    x = random_inputs(40, 2, 3)
    y = post(x) + torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    before = squared(post, x, y)["bias"]
    exact, paper = (
        squared(post, BiasAttack(EPS, direction=name)(post, x, y), y)["bias"] - before for name in ("exact", "paper")
    )
    assert (exact > 0).all()
    too_small = (post(x) < y)[:, 0].numpy()
    assert (paper[too_small] > 0).all()
    assert (paper[~too_small] < 0).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(("attack", "term"), [(BiasAttack(mse=EPS**2, mse_per="point"), "bias"),
                                              (VarianceAttack(mse=EPS**2, mse_per="point"), "variance")])  # fmt: skip
def test_no_random_direction_of_equal_norm_does_better(attack, term, likelihood):
    post = held(likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    found = attack(post, x, y)
    ours = squared(post, found, y)[term].values
    assert (ours > squared(post, x, y)[term].values).all()
    for n in range(len(x)):
        other = torch.randn(10_000, 2, 3, generator=rng.generator(n, "tests", "directions"), dtype=torch.float64)
        other *= (found[n] - x[n]).norm() / other.flatten(1).norm(dim=1)[:, None, None]
        there = squared(post, x[n] + other, y[n : n + 1].expand(10_000, *y.shape[1:]))[term]
        assert float(there.max()) < ours[n]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_one_model_s_own_direction(likelihood):
    """By autograd through f_t and f_bar; the mean over models is the direction of all."""
    post = held(num_draws=3, likelihood=likelihood)
    x, y = data(likelihood=likelihood)
    steps = []
    for t in range(3):
        leaf = x.clone().requires_grad_()
        outputs = post.logits(leaf)
        if likelihood is None:
            own, star = outputs[t].log_softmax(-1), outputs.log_softmax(-1).mean(0).log_softmax(-1)
            spread = (star.exp() * (star - own)).sum(-1)
        else:
            spread = (outputs[t] - outputs.mean(0)).square().mean(-1)
        (gradient,) = torch.autograd.grad(spread.sum(), leaf)
        run = VarianceAttack(eps=0.5, model=t).run(post, x, y)
        torch.testing.assert_close(run.x, x + 0.5 * gradient, rtol=1e-9, atol=1e-12)
        assert (run.queries == 1).all()
        assert (run.gradients == 2).all()
        steps.append(run.x - x)
    mean = torch.stack(steps).mean(0)
    torch.testing.assert_close(x + mean, VarianceAttack(eps=0.5)(post, x, y), rtol=1e-9, atol=1e-12)


def test_models_trained_apart_are_a_set():
    post = held("cnn", 4)
    x, y = data("cnn")
    together = from_predictives([post[:2], post[2:]])
    pairs = torch.stack([post[:2](x), post[2:](x)]).log_softmax(-1).numpy()
    before = bias_variance(log_predictions=pairs, targets=y.numpy(), loss="cross_entropy", num_resamples=0)
    for attack, term in ((BiasAttack(mse=EPS**2), "bias"), (VarianceAttack(mse=EPS**2), "variance")):
        z = attack(together, x, y)
        assert (squared(together, z, y)[term] > before[term]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
def test_equal_models_have_no_variance_and_it_is_said(name, count, dtype):
    post = held(name, 1, dtype=dtype)
    post.weights = {key: tensor.expand(count, *tensor.shape[1:]).clone() for key, tensor in post.weights.items()}
    x, y = data(name, dtype=dtype)
    for settings in ({"eps": 1e3}, {"mse": 10.0}, {"model": 1}, {"mse": 10.0, "mse_per": "point"}):
        with pytest.warns(ModelWarning, match="VarianceAttack leaves 5 of 5 points where they are"):
            assert torch.equal(VarianceAttack(**settings)(post, x, y), x)


@pytest.mark.parametrize("objective", ["bias", "variance"])
def test_every_gradient_attack_can_climb_them(objective):
    post = held(bounds=(0, 1))
    x, y = data()
    z = PGD(eps=0.1, steps=10, objective=objective)(post, x, y)
    assert (squared(post, z, y)[objective] > squared(post, x, y)[objective]).all()


def test_sure_models_that_agree_still_have_a_variance():
    """float32, logits in the hundreds: the variance is tiny, rounded to zero if taken as a logarithm of a sum."""
    exact, spread = held(num_draws=4), random_weights(held().net, 4, seed=3)
    exact.weights = {name: tensor[:1] * (1 + 0.06 * spread[name]) for name, tensor in exact.weights.items()}
    exact.weights["3.weight"] *= 20
    x, y = data()
    truth, value = exact.input_gradient(x, y, "variance"), exact.objective_value(x, y, "variance")
    assert (value < 1e-6).any()
    exact.float()
    torch.testing.assert_close(exact.objective_value(x.float(), y, "variance").double(), value, rtol=1e-2, atol=0)
    ours = exact.input_gradient(x.float(), y, "variance").double()
    ours, truth = (nn.functional.normalize(g.flatten(1), eps=1e-300) for g in (ours, truth))
    assert ((ours * truth).sum(1) > 0.999).all()


def test_bad_input():
    post, (x, y) = held(), data()
    with pytest.raises(InputError, match="One model has no variance"):
        VarianceAttack()(post[0], x, y)
    with pytest.raises(InputError, match="One model has no variance"):
        VarianceAttack(num_draws=1)(gaussian(), x, y)
    for model in (7, -1, True, "0", 0.5):
        with pytest.raises(InputError, match="model is"):
            VarianceAttack(model=model)(post, x, y)
    with pytest.raises(UnknownNameError, match="direction"):
        BiasAttack(direction="exactly")
