"""The objective under the low-rank guide against torch's and Pyro's."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions
from pyro.infer import Trace_ELBO

from bayesrob import nets, rng
from bayesrob.inference import SVI
from bayesrob.inference.variational.guides import kl_divergence, low_rank_kl_divergence
from bayesrob.models import BayesianNetwork
from tests.inference.correlated import elbo, make_correlated

ESTIMATORS = ["shared_draw", "local"]


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
