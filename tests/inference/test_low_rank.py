"""SVI's low-rank guide against exact posteriors with correlated weights, and its objective against torch's and Pyro's."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions
from pyro.infer import Trace_ELBO

import bayesrob
from bayesrob import data, nets, rng
from bayesrob.errors import ConvergenceWarning, InputError, UnknownNameError
from bayesrob.inference import SVI
from bayesrob.inference.variational.guides import kl_divergence, low_rank_kl_divergence
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import LowRankGaussianDraws
from tests.inference.conftest import LinearGaussian, with_ones

ESTIMATORS = ["shared_draw", "local"]


def make_correlated(n=60, d=3, noise=0.3, seed=0, shared=0.9) -> LinearGaussian:
    """A linear model whose inputs share most of their variance, so that its weights are correlated in the posterior."""
    g = rng.generator(seed, "tests", "correlated")
    x = shared**0.5 * torch.randn(n, 1, generator=g) + (1 - shared) ** 0.5 * torch.randn(n, d, generator=g)
    y = x @ torch.randn(d, generator=g) + 0.5 + noise * torch.randn(n, generator=g)
    model = BayesianNetwork(nets.mlp(d, (), 1), likelihood="normal", noise_scale=noise)
    design = with_ones(x)
    precision = design.T @ design / noise**2 + torch.eye(d + 1, dtype=torch.float64)
    mean = torch.linalg.solve(precision, design.T @ y.double() / noise**2)
    return LinearGaussian(data.from_arrays(x, y, x[:5], y[:5]), model, noise, mean, precision)


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


def elbo(exact, loc, covariance):
    """E_q log p(y | w) - KL(q || N(0, 1)) of a normal q, in closed form; at the posterior, the log evidence."""
    design, y = with_ones(exact.dataset.x_train), exact.dataset.y_train[:, 0].double()
    squares = (y - design @ loc).square() + (design @ covariance * design).sum(1)
    log_likelihood = -0.5 * squares.sum() / exact.noise**2 - len(y) * math.log(exact.noise * math.sqrt(2 * math.pi))
    kl = 0.5 * (covariance.trace() + loc.square().sum() - len(loc) - covariance.logdet())
    return float(log_likelihood - kl)


def log_evidence(exact):
    """log N(y; 0, X X' + noise^2), which needs no posterior."""
    design, y = with_ones(exact.dataset.x_train), exact.dataset.y_train[:, 0].double()
    covariance = design @ design.T + exact.noise**2 * torch.eye(len(y), dtype=torch.float64)
    return float(torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y))


# ---- exact posteriors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [{}, {"n": 200, "d": 5, "noise": 0.1, "seed": 1}])
def test_elbo_of_the_exact_posterior_is_the_evidence(case):
    """Two closed forms of the next tests agree."""
    exact = make_correlated(**case)
    assert elbo(exact, exact.mean, exact.covariance) == pytest.approx(log_evidence(exact), abs=1e-7)


def check_posterior(exact, estimator, rank, seed, variance, within, gap, epochs=None):
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


# ---- the divergence -------------------------------------------------------------------------------------------------------


def random_parts(rank, size, seed=0, dtype=torch.float64):
    g = rng.generator(seed, "low-rank")
    loc, log_scale = (torch.randn(size, generator=g, dtype=torch.float64) for _ in range(2))
    factor = torch.randn(rank, size, generator=g, dtype=torch.float64)
    unit, prior_scales = (0.1 + torch.rand(size, generator=g, dtype=torch.float64) for _ in range(2))
    return [part.to(dtype) for part in (loc, log_scale, factor, unit, prior_scales)]


def torchs_divergence(loc, log_scale, factor, unit, prior_scales):
    normal = torch.distributions.MultivariateNormal
    f = factor * unit
    posterior = normal(loc, covariance_matrix=(2 * log_scale).exp().diag() + f.T @ f)
    return torch.distributions.kl_divergence(posterior, normal(0 * loc, covariance_matrix=prior_scales.square().diag()))


@pytest.mark.parametrize(("rank", "size"), [(1, 5), (3, 20), (5, 5), (12, 4)])
def test_divergence_and_its_gradient_are_torchs(rank, size):
    parts = random_parts(rank, size)
    for part in parts[:3]:
        part.requires_grad_()
    ours, theirs = low_rank_kl_divergence(*parts), torchs_divergence(*parts)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)
    gradients = (torch.autograd.grad(value, parts[:3]) for value in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_log_determinant_is_torchs():
    """What the divergence adds to the independent part and the trace, by the determinant of the whole covariance."""
    loc, log_scale, factor, unit, prior_scales = random_parts(3, 20)
    f = factor * unit
    extra = low_rank_kl_divergence(*random_parts(3, 20)) - kl_divergence(loc, log_scale, prior_scales)
    log_determinant = (f / prior_scales).square().sum() - 2 * extra + 2 * log_scale.sum()
    expected = ((2 * log_scale).exp().diag() + f.T @ f).logdet()
    torch.testing.assert_close(log_determinant, expected, rtol=1e-11, atol=0)
    theirs = distributions.LowRankMultivariateNormal(loc, f.T, (2 * log_scale).exp())
    torch.testing.assert_close(log_determinant, 2 * theirs.entropy() - 20 * (1 + math.log(2 * math.pi)), rtol=1e-11, atol=0)


def test_divergence_in_float32_is_summed_in_float64():
    parts = random_parts(10, 50_000, dtype=torch.float32)
    ours, exact = low_rank_kl_divergence(*parts), low_rank_kl_divergence(*(part.double() for part in parts))
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=0)


def test_without_a_factor_it_is_the_mean_field_divergence():
    loc, log_scale, factor, unit, prior_scales = random_parts(2, 9)
    torch.testing.assert_close(
        low_rank_kl_divergence(loc, log_scale, 0 * factor, unit, prior_scales), kl_divergence(loc, log_scale, prior_scales)
    )


def test_divergence_of_what_has_blown_up_is_not_finite_and_no_error():
    parts = random_parts(2, 9)
    parts[2] = parts[2] * math.inf
    assert not low_rank_kl_divergence(*parts).isfinite()


# ---- the objective --------------------------------------------------------------------------------------------------------


def untrained(sampler, model, dataset):
    """The loss of points and the guide of a fit that takes no step."""
    learner = sampler.learner(model, model.likelihood, dataset, seed=0)
    return lambda x, y: learner.loss(next(iter(learner.split(x, y, [len(x)])))), learner._guide


def randomise(guide):
    g = rng.generator(0, "elbo")
    with torch.no_grad():
        guide.loc.copy_(torch.randn(guide.loc.shape, generator=g))
        guide.log_scale.copy_(0.5 * torch.randn(guide.loc.shape, generator=g) - 1.5)
        guide.factor.copy_(torch.randn(guide.factor.shape, generator=g) * 0.3 / guide.unit)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_is_that_of_pyros_elbo(moons, estimator):
    """In expectation, on a mini-batch of 10 of 100 points: every component within 4.5 Monte Carlo errors."""
    model = BayesianNetwork(nets.mlp(2, (3,), 2, activation="tanh"), prior_scale=0.7)
    loss, guide = untrained(SVI(estimator=estimator, guide="low_rank", rank=2), model, moons)
    randomise(guide)
    x, y = moons.x_train[:10], moons.y_train[:10]

    def pyros(x, y, num_data):
        """What AutoLowRankMultivariateNormal is: one auxiliary normal site, split over the model's sites."""
        factor = (guide.factor * guide.unit).T
        q = distributions.LowRankMultivariateNormal(guide.loc, factor, (2 * guide.log_scale).exp())
        flat = pyro.sample("flat", q, infer={"is_auxiliary": True})
        for name, weights in model.unflatten(flat).items():
            pyro.sample(name, distributions.Delta(weights, event_dim=weights.dim()))

    theirs_elbo = Trace_ELBO()
    draws = 400
    ours, theirs = [], []
    with rng.global_seed(0, "pyro"):
        for _ in range(draws):
            gradients = torch.autograd.grad(100 * loss(x, y), guide.parameters)
            ours.append(torch.cat([gradient.flatten() for gradient in gradients]))
            gradients = torch.autograd.grad(
                theirs_elbo.differentiable_loss(model, pyros, x, y, num_data=100), guide.parameters
            )
            theirs.append(torch.cat([gradient.flatten() for gradient in gradients]))
    ours, theirs = torch.stack(ours).double(), torch.stack(theirs).double()
    error = (ours.var(0) / draws + theirs.var(0) / draws).sqrt()  # mirrored draws only make ours smaller
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * error).all()
    # The factor's own part is among what the errors can tell from zero.
    significant = theirs.mean(0).abs() / error
    assert significant.max() > 15
    assert significant[-guide.factor.numel() :].max() > 6


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_objective_value_is_minus_the_elbo_over_n(estimator):
    exact = make_correlated()
    loss, guide = untrained(SVI(estimator=estimator, guide="low_rank", rank=2), exact.model, exact.dataset)
    with torch.no_grad():
        guide.loc.copy_(torch.tensor([0.3, -0.4, 0.9, 0.2]))
        guide.log_scale.copy_(torch.tensor([-2.0, -1.0, -1.5, -2.0]))
        guide.factor.copy_(torch.tensor([[0.2, 0.1, -0.3, 0.1], [-0.2, 0.4, 0.1, 0.0]]) / guide.unit)
    covariance = (2 * guide.log_scale.detach().double()).exp().diag()
    covariance += (guide.factor * guide.unit).detach().double().T @ (guide.factor * guide.unit).detach().double()
    expected = -elbo(exact, guide.loc.detach().double(), covariance) / 60
    values = torch.stack([loss(exact.dataset.x_train, exact.dataset.y_train).detach() for _ in range(1200)])
    pairs = values.reshape(-1, 2).mean(1)  # a draw and its mirror image are no two draws
    error = float(pairs.std()) / len(pairs) ** 0.5
    assert abs(float(values.mean()) - expected) < 4 * error
    assert error < 0.04 * abs(expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_successive_draws_are_mirror_images(estimator):
    """For a linear model the gradient of a draw and its mirror average to that at the mean: no noise in the means."""
    exact = make_correlated()
    loss, guide = untrained(SVI(estimator=estimator, guide="low_rank", rank=2), exact.model, exact.dataset)
    with torch.no_grad():
        guide.factor.copy_(torch.ones(2, 4) / guide.unit)
        if estimator == "local":
            guide.log_scale.fill_(-12.0)  # each point's own noise is not mirrored
    x, y = exact.dataset.x_train, exact.dataset.y_train
    pair = [torch.autograd.grad(loss(x, y), guide.loc)[0].double() for _ in range(2)]
    at_mean = -(exact.precision @ (exact.mean - guide.loc.detach().double())) / len(x)
    assert (pair[0] - pair[1]).norm() > 0.1
    torch.testing.assert_close((pair[0] + pair[1]) / 2, at_mean, rtol=1e-3, atol=1e-3)


def test_factor_starts_small_seeded_and_not_at_zero(moons):
    """Half as long a row, in expectation, as the weight's own deviation."""
    model = BayesianNetwork(nets.mlp(2, (300,), 2))
    starts = []
    for _ in range(2):
        _, guide = untrained(SVI(guide="low_rank", rank=5, initial_scale=0.2), model, moons)
        starts.append((guide.factor * guide.unit).detach())
        unit = model.unflatten(guide.unit)["3.weight"]
        torch.testing.assert_close(unit, torch.full((2, 300), 0.3 * 300**-0.5))
    assert torch.equal(*starts)
    relative = starts[0] / guide.log_scale.detach().exp()
    assert float(relative.square().sum(0).mean().sqrt()) == pytest.approx(0.5, rel=0.05)
    assert (relative != 0).all()


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
