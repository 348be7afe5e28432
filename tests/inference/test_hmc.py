"""HMC and NUTS against posteriors that are known, their chains, their precision and what they refuse."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
import torch
from torch import nn

from bayesrob import data, nets, rng
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.inference import HMC, NUTS
from bayesrob.models import BayesianNetwork
from tests.inference.helpers import by_chain, check_moments, correlation, theta

# ---- known posteriors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler",
    [
        HMC(num_samples=1000, warmup=100, step_size=0.05, num_steps=4, num_chains=4),
        HMC(num_samples=1000, warmup=200, step_size=None, num_steps=3, num_chains=4, adapt_mass=True, step_jitter=0.3),
        HMC(num_samples=1000, warmup=200, step_size=None, num_steps=3, step_jitter=0.3, start="prior"),
        NUTS(num_samples=500, warmup=200),
        pytest.param(NUTS(num_samples=1500, warmup=200, adapt_mass=True, start="prior"), marks=pytest.mark.slow),
        NUTS(num_samples=500, warmup=100, step_size=0.05, max_tree_depth=4),
    ],
    ids=[
        "fixed step",
        "adapted step and mass",
        "adapted step from the prior",
        "NUTS",
        "NUTS adapted mass",
        "NUTS fixed step",
    ],
)
def test_linear_gaussian_posterior_is_exact(linear_gaussian, sampler):
    exact = linear_gaussian(n=30, d=2, noise=0.5)
    post = sampler.fit(exact.model, exact.dataset, seed=1)
    draws = by_chain(post, theta(post, exact.model))
    check_moments(draws, exact.mean.numpy(), exact.covariance.diagonal().numpy())
    np.testing.assert_allclose(np.corrcoef(draws.reshape(-1, 3).T), correlation(exact.covariance.numpy()), atol=0.06)
    x = exact.dataset.x_test
    mean, variance = exact.predictive(x)
    functions = post.logits(x)[..., 0]
    check_moments(by_chain(post, functions), mean.numpy(), variance.numpy())
    torch.testing.assert_close(post(x)[:, 0], functions.mean(0))


def test_adapted_mass_masters_unequal_scales(linear_gaussian):
    """Standard deviations 90 to 1 apart: unit mass at ten steps cannot cross the wide direction, learnt mass can.

    With jitter: learnt mass makes all periods 2 pi, and ten adapted steps would end near where they began.
    """
    exact = linear_gaussian(n=40, d=2, noise=0.5, x_scale=torch.tensor([10.0, 0.1]))
    sampler = HMC(num_samples=1600, warmup=300, num_steps=10, num_chains=2, adapt_mass=True, step_jitter=0.5)
    post = sampler.fit(exact.model, exact.dataset, seed=0)
    scale = exact.covariance.diagonal().sqrt()
    assert scale.max() / scale.min() > 50
    check_moments(by_chain(post, theta(post, exact.model)), exact.mean.numpy(), (scale**2).numpy(), rtol=0.2)


@pytest.mark.parametrize(
    "sampler",
    [
        HMC(num_samples=1000, warmup=50, step_size=0.5, num_steps=4, num_chains=4, step_jitter=0.2),
        NUTS(num_samples=500, warmup=200, num_chains=4),
    ],
    ids=["HMC", "NUTS"],
)
def test_logistic_regression_is_exact(sampler):
    """Two classes see only differences of the outputs: their posterior by quadrature on a grid."""
    x_train = torch.tensor([[-2.0], [-1.0], [-0.5], [0.0], [0.3], [1.0], [2.0], [2.5]])
    y_train = torch.tensor([0, 0, 1, 0, 1, 1, 0, 1])
    x_test = torch.tensor([[-3.0], [0.0], [0.7], [4.0]])
    dataset = data.from_arrays(x_train, y_train, x_test, torch.tensor([0, 0, 1, 1]))
    model = BayesianNetwork(nets.mlp(1, (), 2), prior_scale=1.5)
    post = sampler.fit(model, dataset, seed=0)

    axis = np.linspace(-12, 12, 801)
    slope, intercept = np.meshgrid(axis, axis, indexing="ij")
    log_density = -0.5 * (slope**2 + intercept**2) / (2 * 1.5**2)  # a difference of two N(0, 1.5^2) weights
    for point, label in zip(x_train[:, 0].tolist(), y_train.tolist(), strict=True):
        log_density -= np.logaddexp(0, (1 - 2 * label) * (slope * point + intercept))
    density = np.exp(log_density - log_density.max())
    density /= density.sum()

    def expected(values):
        return float((density * values).sum())

    weight, bias = post.weights["1.weight"], post.weights["1.bias"]
    draws = by_chain(post, torch.stack([weight[:, 1, 0] - weight[:, 0, 0], bias[:, 1] - bias[:, 0]], dim=1))
    mean = np.array([expected(slope), expected(intercept)])
    check_moments(draws, mean, np.array([expected(slope**2), expected(intercept**2)]) - mean**2)

    per_draw = by_chain(post, post.logits(x_test).softmax(-1)[..., 1])
    exact = np.array([expected(1 / (1 + np.exp(-slope * p - intercept))) for p in x_test[:, 0].tolist()])
    error = np.array([az.mcse(per_draw[..., i], method="mean") for i in range(4)])
    assert (np.abs(per_draw.mean((0, 1)) - exact) < 3 * error).all()
    np.testing.assert_allclose(post(x_test).exp()[:, 1].numpy(), per_draw.mean((0, 1)), atol=1e-6)


def test_without_likelihood_to_speak_of_the_prior_is_sampled(linear_gaussian):
    exact = linear_gaussian(n=2, d=1, noise=1e4, prior_scale=2.0)
    post = HMC(num_samples=600, warmup=50, step_size=0.8, num_steps=3, num_chains=4).fit(exact.model, exact.dataset)
    check_moments(by_chain(post, theta(post, exact.model)), np.zeros(2), np.full(2, 4.0))


@pytest.mark.parametrize("target", [0.65, 0.8, 0.9])
def test_adaptation_reaches_its_target(linear_gaussian, target):
    exact = linear_gaussian(n=200, d=20)
    sampler = HMC(num_samples=150, warmup=250, num_steps=5, num_chains=2, target_accept=target, step_jitter=0.3)
    post = sampler.fit(exact.model, exact.dataset, seed=0)
    assert post.sample_stats["acceptance_rate"].mean() == pytest.approx(target, abs=0.1)


# ---- chains -------------------------------------------------------------------------------------------------------------


def test_a_chain_does_not_depend_on_how_many_run(classifier, moons):
    settings = {"num_samples": 4, "warmup": 60, "num_steps": 1, "target_accept": 0.9, "adapt_mass": True}
    two = HMC(**settings, num_chains=2).fit(classifier, moons, seed=3)
    three = HMC(**settings, num_chains=3).fit(classifier, moons, seed=3)
    for name, weights in two.weights.items():
        assert np.array_equal(by_chain(two, weights), by_chain(three, three.weights[name])[:2])
    for name, values in two.sample_stats.items():
        assert np.array_equal(values, three.sample_stats[name][:2])


def test_chains_differ(classifier, moons):
    post = HMC(num_samples=3, warmup=0, step_size=0.01, num_steps=2, num_chains=3).fit(classifier, moons)
    chains = by_chain(post, theta(post, classifier))
    assert not np.array_equal(chains[0], chains[1])
    assert not np.array_equal(chains[1], chains[2])


@pytest.mark.parametrize("start", ["init", "prior"])
def test_first_draws_are_those_of_a_shorter_run(classifier, moons, start):
    settings = {"warmup": 6, "num_steps": 2, "num_chains": 2, "start": start, "step_jitter": 0.2}
    long, short = (HMC(num_samples=n, **settings).fit(classifier, moons, seed=3) for n in (9, 4))
    for name, weights in short.weights.items():
        assert torch.equal(weights, long.weights[name][:8])
        assert torch.equal(weights, long[:8].weights[name])
    for name, values in short.sample_stats.items():
        assert np.array_equal(values, long[:8].sample_stats[name])


def test_start_at_a_draw_of_the_prior():
    """One tiny step from the start: 2,002 weights with the prior's standard deviation."""
    dataset = data.from_arrays(torch.randn(4, 1000), torch.tensor([0, 1, 0, 1]), torch.randn(2, 1000), torch.tensor([0, 1]))
    model = BayesianNetwork(nets.mlp(1000, (), 2), prior_scale=3.0)
    sampler = HMC(num_samples=1, warmup=0, step_size=1e-6, num_steps=1, num_chains=2, start="prior")
    drawn = theta(sampler.fit(model, dataset), model)
    assert float(drawn.std()) == pytest.approx(3.0, rel=0.05)
    assert abs(float(drawn.mean())) < 4 * 3 / 4004**0.5


def test_start_at_the_networks_own_initialisation():
    """torch draws Linear(1000, 2) uniformly within 1 / sqrt(1000)."""
    dataset = data.from_arrays(torch.randn(4, 1000), torch.tensor([0, 1, 0, 1]), torch.randn(2, 1000), torch.tensor([0, 1]))
    model = BayesianNetwork(nets.mlp(1000, (), 2))
    drawn = theta(HMC(num_samples=1, warmup=0, step_size=1e-6, num_steps=1, num_chains=2).fit(model, dataset), model)
    assert float(drawn.abs().max()) == pytest.approx(1000**-0.5, rel=0.01)
    assert float(drawn.std()) == pytest.approx((3 * 1000) ** -0.5, rel=0.05)


# ---- precision ----------------------------------------------------------------------------------------------------------


def test_chunks_of_data_change_nothing(classifier, moons):
    model = classifier.double()
    settings = {"num_samples": 10, "warmup": 0, "step_size": 0.05, "num_steps": 5, "num_chains": 1}
    whole = HMC(**settings).fit(model, moons)
    chunked = HMC(**settings, memory=2000).fit(model, moons)
    assert whole.info["chunks"] == 1
    assert chunked.info["chunks"] > 3
    assert chunked.sample_stats["accepted"].any()
    for name, weights in whole.weights.items():
        assert weights.dtype == torch.float64
        torch.testing.assert_close(chunked.weights[name], weights, rtol=0, atol=1e-8)
    np.testing.assert_allclose(chunked.sample_stats["lp"], whole.sample_stats["lp"], rtol=1e-10)


def test_float32_proposes_what_float64_does(moons):
    """Noise is drawn in float32 for both, so that a trajectory differs by rounding alone."""
    model = BayesianNetwork(nets.mlp(2, (4,), 2, activation="tanh"))
    settings = HMC(num_samples=3, warmup=0, step_size=0.02, num_steps=4, num_chains=2, start="prior")
    single, double = settings.fit(model, moons), settings.fit(model.double(), moons)
    assert theta(single, model).dtype == torch.float32
    torch.testing.assert_close(theta(single, model).double(), theta(double, model), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(single.sample_stats["energy"], double.sample_stats["energy"], rtol=1e-5)


def test_energies_of_many_points_keep_their_digits():
    """Log joints near -1e5, where float32 numbers are 0.008 apart, are right to a tenth of that."""
    g = rng.generator(0, "many")
    x = torch.randn(50_000, 2, generator=g)
    dataset = data.from_arrays(x, (x.sum(1) > 0).long(), x[:5], torch.tensor([0, 1, 0, 1, 0]))
    model = BayesianNetwork(nets.mlp(2, (), 2))
    post = HMC(num_samples=6, warmup=0, step_size=1e-5, num_steps=1, num_chains=1, start="prior").fit(model, dataset, seed=2)
    lp = post.sample_stats["lp"][0]
    draws = theta(post, model).double()
    exact = [float(model.double().log_joint(draw, x.double(), dataset.y_train)) for draw in draws]
    assert np.abs(lp).min() > 65_536
    np.testing.assert_allclose(lp, exact, rtol=0, atol=8e-4)


# ---- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": 2.5}, "num_samples is 2.5"),
        ({"num_samples": True}, "num_samples is True"),
        ({"warmup": -1}, "warmup is -1"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"num_chains": 0}, "num_chains is 0"),
        ({"memory": 0}, "memory is 0"),
        ({"step_size": -0.1}, "step_size is -0.1"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"step_size": float("nan")}, "step_size is nan"),
        ({"target_accept": 1.0}, "target_accept is 1.0"),
        ({"target_accept": 0.0}, "target_accept is 0.0"),
        ({"step_jitter": 1.0}, "step_jitter is 1.0"),
        ({"step_jitter": -0.1}, "step_jitter is -0.1"),
        ({"warmup": 0}, "Adaptation without warmup"),
        ({"warmup": 0, "step_size": 0.1, "adapt_step_size": True}, "Adaptation without warmup"),
        ({"warmup": 0, "step_size": 0.1, "adapt_mass": True}, "Adaptation without warmup"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        HMC(**settings)


def test_unknown_start_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'prior'"):
        HMC(start="priors")


def test_a_plain_network_has_no_prior(moons):
    with pytest.raises(InputError, match=r"HMC got a plain Sequential.*models.BayesianNetwork"):
        HMC().fit(nets.mlp(2, (4,), 2), moons)


def test_fixed_step_needs_no_warmup(classifier, moons):
    post = HMC(num_samples=2, warmup=0, step_size=0.01, num_steps=1, num_chains=1).fit(classifier, moons)
    assert post.num_draws == 2


def test_a_network_of_the_users_own_is_sampled_alike(moons):
    """The same function without a fast path gives the same chain."""

    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    net = nets.mlp(2, (4,), 2, activation="tanh")
    settings = HMC(num_samples=5, warmup=0, step_size=0.05, num_steps=3, num_chains=2)
    fast = settings.fit(BayesianNetwork(net).double(), moons)
    slow = settings.fit(BayesianNetwork(Wrapped(net)).double(), moons)
    for name, weights in fast.weights.items():
        torch.testing.assert_close(slow.weights[f"inner.{name}"], weights, rtol=0, atol=1e-10)
