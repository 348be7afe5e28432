"""SVI's low-rank guide against exact posteriors with correlated weights."""

from __future__ import annotations

import pytest
import torch

import bayesrob
from bayesrob import nets
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import SVI
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import LowRankGaussianDraws
from tests.inference.correlated import elbo, log_evidence, make_correlated

ESTIMATORS = ["shared_draw", "local"]


def moments(exact, post):
    """Mean and covariance of the fitted weights."""
    loc, scale = (exact.model.flatten(part).double() for part in (post.loc, post.scale))
    factor = (
        exact.model.flatten(post.factor).double() if isinstance(post, LowRankGaussianDraws) else loc.new_zeros(1, len(loc))
    )
    return loc, scale.square().diag() + factor.T @ factor


def correlation(covariance):
    scale = covariance.diagonal().sqrt()
    return covariance / torch.outer(scale, scale)


# ---- exact posteriors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [{}, {"n": 200, "d": 5, "noise": 0.1, "seed": 1}])
def test_elbo_of_the_exact_posterior_is_the_evidence(case):
    """Two closed forms of the next tests agree."""
    exact = make_correlated(**case)
    assert elbo(exact, exact.mean, exact.covariance) == pytest.approx(log_evidence(exact), abs=1e-7)


def check_posterior(exact, estimator, rank, seed, *, variance, within, gap, epochs=None):
    """Means within 0.15 posterior deviations, variances and correlations within the tolerances given, and the bound."""
    post = SVI(epochs, guide="low_rank", rank=rank, estimator=estimator).fit(exact.model, exact.dataset, seed=seed)
    loc, covariance = moments(exact, post)
    sd = exact.covariance.diagonal().sqrt()
    assert ((loc - exact.mean).abs() / sd).max() < 0.15
    torch.testing.assert_close(covariance.diagonal() / sd**2, torch.ones_like(sd), rtol=0, atol=variance)
    torch.testing.assert_close(correlation(covariance), correlation(exact.covariance), rtol=0, atol=within)
    assert log_evidence(exact) - gap < elbo(exact, loc, covariance) <= log_evidence(exact)
    # The mean-field optimum in closed form: right means, variances 1 / precision_ii, no correlation. (That SVI reaches it
    # is tested next door.) It is far below.
    independent = (1 / exact.precision.diagonal()).diag()
    assert elbo(exact, loc, covariance) > elbo(exact, exact.mean, independent) + 5 * gap
    return loc, covariance


CASES = [
    ({}, 4),
    ({}, 2),
    ({"d": 2, "noise": 0.5, "shared": 0.95, "seed": 4}, 3),
    ({"n": 200, "d": 5, "noise": 0.1, "seed": 1}, 6),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("case", "rank"), CASES)
def test_recovers_more_correlated_posteriors(case, rank, estimator, seed):
    check_posterior(make_correlated(**case), estimator, rank, seed, variance=0.3, within=0.2, gap=0.12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_recovers_a_correlated_posterior_where_mean_field_cannot(estimator):
    exact = make_correlated()
    exact_correlation = correlation(exact.covariance)
    largest = float((exact_correlation - torch.eye(4)).abs().max())
    assert largest > 0.5
    _, covariance = check_posterior(exact, estimator, 4, 0, variance=0.25, within=0.12, gap=0.05, epochs=3000)
    assert float((correlation(covariance) - torch.eye(4)).abs().max()) > largest - 0.12


def test_mean_field_loses_the_correlations_and_shrinks_the_variances():
    exact = make_correlated()
    loc, covariance = moments(exact, SVI().fit(exact.model, exact.dataset))
    assert ((loc - exact.mean).abs() / exact.covariance.diagonal().sqrt()).max() < 0.1
    assert torch.equal(covariance, covariance.diagonal().diag())
    torch.testing.assert_close(covariance.diagonal(), 1 / exact.precision.diagonal(), rtol=0.2, atol=0)
    # Of weights whose inputs are correlated, no more than half the variance is left.
    assert (covariance.diagonal() / exact.covariance.diagonal())[:3].max() < 0.6
    assert log_evidence(exact) - elbo(exact, loc, covariance) > 1


# ---- the run --------------------------------------------------------------------------------------------------------


def quick(**settings):
    return SVI(**{"epochs": 3, "batch_size": 30, "num_draws": 5, "guide": "low_rank", "rank": 3, **settings})


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_same_seed_same_bits(classifier, moons, estimator, tmp_path):
    """Also in another default precision, and after saving: the contract's tests of methods fit the mean-field guide."""
    torch.manual_seed(1)
    state = torch.get_rng_state()
    post = quick(estimator=estimator).fit(classifier, moons, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    expected = post.freeze(seed=0).logits(moons.x_test)
    torch.set_default_dtype(torch.float64)
    try:
        again = quick(estimator=estimator).fit(classifier, moons, seed=4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(again.freeze(seed=0).logits(moons.x_test), expected)
    other = quick(estimator=estimator).fit(classifier, moons, seed=5)
    assert not torch.equal(other.freeze(seed=0).logits(moons.x_test), expected)
    loaded = bayesrob.load(post.save(tmp_path / "post"))
    assert loaded.info["settings"]["guide"] == "low_rank"
    assert torch.equal(loaded.freeze(seed=0).logits(moons.x_test), expected)
    assert torch.equal(loaded(moons.x_test), again(moons.x_test))  # their own generators have not moved yet


def test_predictive_is_the_guide(classifier, moons):
    post = quick().fit(classifier, moons)
    assert isinstance(post, LowRankGaussianDraws)
    assert (post.num_draws, post.rank) == (5, 3)
    assert post.info["estimator"] == "local"


def test_networks_that_are_no_stack_of_linear_layers(moons):
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    post = quick().fit(BayesianNetwork(net), moons)
    assert post.info["estimator"] == "shared_draw"
    with pytest.raises(InputError, match="not a stack of linear layers"):
        quick(estimator="local").fit(BayesianNetwork(net), moons)


def test_double_precision(classifier, moons):
    post = quick().fit(classifier.double(), moons)
    assert all(tensor.dtype == torch.float64 for tensor in (*post.loc.values(), *post.scale.values(), *post.factor.values()))


@pytest.mark.slow
def test_bound_of_a_network_is_above_the_mean_fields(moons):
    """Half moons, by some 5 of 110 nats: the last quarter of the losses, whose draws' errors are well below one."""
    model = BayesianNetwork(nets.mlp(2, (32, 32), 2, activation="leaky_relu"))
    losses = [torch.tensor(SVI(guide=guide).fit(model, moons).info["losses"]) for guide in ("mean_field", "low_rank")]
    mean_field, low_rank = (100 * float(values[-50:].mean()) for values in losses)
    assert low_rank < mean_field - 1


def test_a_loss_that_blows_up_keeps_finite_weights_and_warns():
    exact = make_correlated()
    with pytest.warns(ConvergenceWarning, match="became NaN or infinite"):
        post = SVI(lr=1e6, epochs=20, guide="low_rank").fit(exact.model, exact.dataset)
    assert all(tensor.isfinite().all() for tensor in (*post.loc.values(), *post.scale.values(), *post.factor.values()))


@pytest.mark.parametrize("rank", [0, -1, True])
def test_bad_rank(rank):
    with pytest.raises(InputError, match=rf"rank is {rank}.*directions.*Give a whole number >= 1"):
        SVI(guide="low_rank", rank=rank)


@pytest.mark.parametrize(
    ("name", "value", "message"), [("guide", "lowrank", "Did you mean 'low_rank'"), ("rank", 2.5, "rank is")]
)
def test_bad_settings_past_the_tests_own_check_of_types(name, value, message):
    settings = SVI()
    object.__setattr__(settings, name, value)
    with pytest.raises(UnknownNameError if name == "guide" else InputError, match=message):
        settings.__post_init__()
