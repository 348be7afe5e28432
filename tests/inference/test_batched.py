"""Chains in batches: the same chains as in turn, up to the rounding of batched products, at the cost of one."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from bayesrob import data, nets, rng
from bayesrob.errors import ConvergenceWarning, UnknownNameError
from bayesrob.inference import HMC, NUTS
from bayesrob.inference.chains import ChainSampler
from bayesrob.inference.chains import sampler as chain_sampler
from bayesrob.models import BayesianNetwork, LogJoint
from tests.inference.helpers import by_chain, check_moments, theta

ADAPTED = {"num_samples": 6, "warmup": 10, "num_chains": 4}  # short: rounding grows by a factor with every transition
SAMPLERS = {
    "HMC": HMC(**ADAPTED, num_steps=4),
    "HMC fixed step from the prior": HMC(**ADAPTED, step_size=0.03, num_steps=6, step_jitter=0.3, start="prior"),
    "HMC adapted mass": HMC(**ADAPTED | {"warmup": 40}, num_steps=3, adapt_mass=True),
    "HMC one step": HMC(**ADAPTED, num_steps=1),  # as long as those that find a reasonable step size
    "HMC in chunks": HMC(**ADAPTED, num_steps=4, memory=20_000),
    "NUTS": NUTS(num_samples=2, warmup=6, num_chains=4, max_tree_depth=7),
    "NUTS adapted mass": NUTS(
        num_samples=2, warmup=8, num_chains=4, step_size=0.8, max_tree_depth=6, adapt_mass=True, start="prior"
    ),
}


def both(sampler, model, dataset, seed=0):
    return [dataclasses.replace(sampler, chains=how).fit(model, dataset, seed=seed) for how in ("in_turn", "batched")]


def check_same(turn, batched, chain=slice(None), atol=1e-8):
    for name, weights in turn.weights.items():
        expected = by_chain(turn, weights)[chain]
        assert expected.dtype == np.float64
        np.testing.assert_allclose(by_chain(batched, batched.weights[name])[chain], expected, rtol=0, atol=atol)
    assert turn.sample_stats.keys() == batched.sample_stats.keys()
    for name, values in turn.sample_stats.items():
        np.testing.assert_allclose(batched.sample_stats[name][chain], values[chain], rtol=1e-8, atol=atol)


@pytest.mark.parametrize("name", SAMPLERS)
def test_batched_chains_are_those_in_turn(name, classifier, moons):
    sampler = SAMPLERS[name]
    turn, batched = both(sampler, classifier.double(), moons)
    check_same(turn, batched)
    assert (turn.info["chains"], batched.info["chains"]) == ("in_turn", "batched")
    assert batched.sample_stats["accepted"].any()
    if name != "NUTS adapted mass":
        assert len(np.unique(batched.sample_stats["step_size"][:, 0])) == 4  # every chain has its own
    if isinstance(sampler, NUTS):
        assert len(np.unique(batched.sample_stats["n_steps"].sum(1))) > 1  # so they were not in step
    assert (batched.info["chunks"] > turn.info["chunks"]) == (name == "HMC in chunks")


@pytest.mark.parametrize("sampler", [SAMPLERS["HMC"], SAMPLERS["NUTS"]], ids=["HMC", "NUTS"])
def test_batched_regression_is_that_in_turn(linear_gaussian, sampler):
    exact = linear_gaussian()
    model = BayesianNetwork(nets.mlp(2, (3,), 1), "fan_in", "normal", 0.5).double()
    check_same(*both(dataclasses.replace(sampler, num_samples=2, warmup=6), model, exact.dataset, seed=1))


@pytest.mark.parametrize(
    "sampler",
    [HMC(num_samples=3, warmup=5, num_steps=3, num_chains=3), NUTS(num_samples=3, warmup=5, max_tree_depth=3, num_chains=3)],
    ids=["HMC", "NUTS"],
)
def test_networks_without_batched_products_are_sampled_alike(sampler):
    images = torch.rand(12, 1, 16, 16, generator=rng.generator(0, "images"))
    dataset = data.from_arrays(images, torch.arange(12) % 3, images, torch.arange(12) % 3)
    turn, batched = both(sampler, BayesianNetwork(nets.cnn((1, 16, 16), 2, 3), "fan_in").double(), dataset)
    check_same(turn, batched)
    assert batched.info["chains"] == "batched"


@pytest.mark.parametrize(
    "sampler",
    [
        HMC(num_samples=100, warmup=60, step_size=0.05, num_steps=4, num_chains=40, chains="batched"),
        HMC(num_samples=150, warmup=100, num_steps=3, num_chains=20, adapt_mass=True, chains="batched"),
        NUTS(num_samples=100, warmup=50, num_chains=20, chains="batched"),
    ],
    ids=["HMC", "HMC adapted mass", "NUTS"],
)
def test_linear_gaussian_posterior_is_exact(linear_gaussian, sampler):
    exact = linear_gaussian(n=30, d=2, noise=0.5)
    post = sampler.fit(exact.model, exact.dataset, seed=1)
    check_moments(by_chain(post, theta(post, exact.model)), exact.mean.numpy(), exact.covariance.diagonal().numpy())
    x = exact.dataset.x_test
    mean, variance = exact.predictive(x)
    check_moments(by_chain(post, post.logits(x)[..., 0]), mean.numpy(), variance.numpy())


@pytest.mark.parametrize("place", [float("nan"), 1e200], ids=["NaN", "infinitely unlikely"])
@pytest.mark.parametrize(
    "sampler",
    [
        HMC(num_samples=5, warmup=10, num_steps=3, num_chains=4),
        NUTS(num_samples=5, warmup=10, max_tree_depth=4, num_chains=4),
    ],
    ids=["HMC", "NUTS"],
)
def test_a_chain_that_goes_nowhere_disturbs_no_other(classifier, moons, monkeypatch, sampler, place):
    model = classifier.double()
    undisturbed = sampler.fit(model, moons)
    start = ChainSampler._start

    def lost(self, bnn, generator, seed, chain):
        there = start(self, bnn, generator, seed, chain)
        return torch.full_like(there, place) if chain == 1 else there

    monkeypatch.setattr(ChainSampler, "_start", lost)
    with pytest.warns(ConvergenceWarning) as warned:
        post = dataclasses.replace(sampler, chains="batched").fit(model, moons)
    assert any("chains [2] accepted fewer than 10%" in str(warning.message) for warning in warned)
    assert post.sample_stats["diverging"][1].all()
    assert (post.sample_stats["n_steps"][1] == (3 if isinstance(sampler, HMC) else 1)).all()
    check_same(undisturbed, post, chain=[0, 2, 3])


# ---- what it costs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def gradients(monkeypatch):
    """The number of chains in every gradient, in order."""
    shapes, gradient = [], LogJoint.gradient

    def counted(self, theta, value=True):
        shapes.append(1 if theta.ndim == 1 else len(theta))
        return gradient(self, theta, value)

    monkeypatch.setattr(LogJoint, "gradient", counted)
    return shapes


def test_a_step_of_all_chains_is_one_gradient(classifier, moons, gradients):
    HMC(num_samples=3, warmup=2, step_size=0.01, num_steps=4, num_chains=7, chains="batched").fit(classifier, moons)
    assert gradients == [7] * (1 + 5 * 4)  # one for the start


def test_chains_do_not_wait_for_longer_trees(linear_gaussian, gradients):
    """The longest chain has a gradient for each of its steps, and all others ride along until they end."""
    exact = linear_gaussian(n=10, d=4)
    sampler = NUTS(num_samples=12, warmup=0, step_size=0.05, num_chains=5, chains="batched", start="prior")
    steps = sampler.fit(exact.model, exact.dataset).sample_stats["n_steps"]
    assert steps.max(0).sum() > steps.sum(1).max()  # waiting at every transition would cost this much
    lengths = steps.sum(1)
    assert gradients == [5] + [int((lengths > i).sum()) for i in range(lengths.max())]


def test_one_chain_is_in_turn_to_the_last_bit(classifier, moons):
    turn, batched = both(HMC(num_samples=5, warmup=10, num_steps=3, num_chains=1), classifier, moons)
    for name, weights in turn.weights.items():
        assert torch.equal(batched.weights[name], weights)


def test_progress_advances_with_every_transition_of_any_chain(classifier, moons, monkeypatch):
    notes = []

    @contextlib.contextmanager
    def bar(description, total):
        assert total == 3 * (4 + 2)
        yield lambda steps, note: notes.append((steps, note.split(" acc")[0]))

    monkeypatch.setattr(chain_sampler.progress, "bar", bar)
    HMC(num_samples=4, warmup=2, step_size=0.01, num_steps=2, num_chains=3, chains="batched").fit(classifier, moons)
    assert notes == [(1, f"chain {k}") for _ in range(6) for k in (1, 2, 3)]


# ---- the choice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [HMC, NUTS])
def test_default_is_in_turn_on_a_cpu_and_batched_elsewhere(classifier, moons, sampler):
    settings = sampler(num_samples=1, warmup=0, step_size=0.1, num_chains=2)
    info = settings.fit(classifier, moons).info
    assert info["chains"] == "in_turn"
    assert info["settings"]["chains"] is None
    assert [settings._batches(torch.device(name)) for name in ("cpu", "cuda", "cuda:1")] == [False, True, True]
    chosen = dataclasses.replace(settings, chains="in_turn")
    assert not chosen._batches(torch.device("cuda"))


def test_an_unknown_choice_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'batched'"):
        HMC(chains="batch")
