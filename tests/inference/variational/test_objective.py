"""The mean-field objective: its parts against torch's, its gradient against autograd's and Pyro's."""

from __future__ import annotations

import math

import pytest
import torch
from pyro import distributions, sample
from pyro.infer import TraceMeanField_ELBO

from bayesrob import nets, rng
from bayesrob.inference import SVI
from bayesrob.inference.variational.elbo import LocalReparameterisation, SharedDraw, WithGradient
from bayesrob.inference.variational.guides import MeanField, kl_divergence
from bayesrob.models import BayesianNetwork


def test_kl_divergence_is_torchs():
    g = rng.generator(0, "kl")
    loc, log_scale = torch.randn(40, generator=g).double(), torch.randn(40, generator=g).double()
    prior_scales = torch.rand(40, generator=g).double() + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(loc, log_scale.exp()), normal(0 * loc, prior_scales)).sum()
    torch.testing.assert_close(kl_divergence(loc, log_scale, prior_scales), expected, rtol=1e-12, atol=0)


def test_kl_divergence_of_the_prior_is_zero():
    scales = torch.tensor([0.1, 1.0, 7.0]).double()
    assert abs(float(kl_divergence(torch.zeros(3).double(), scales.log(), scales))) < 1e-15


def local_outputs(net, loc, scale, x, normal):
    """Each point's outputs by its own draw of the activations; `loc` and `scale` are flat."""
    model = BayesianNetwork(net)
    estimator = LocalReparameterisation(model, nets.Stack.of(net), normal)
    data = estimator.data(x, torch.zeros(len(x), dtype=torch.int64))
    return estimator.outputs(loc, scale, data)[0]


def test_local_outputs_of_one_layer_have_the_right_moments():
    """N(h loc' + b, h^2 scale^2' + b_scale^2) in closed form, by 200,000 draws."""
    net = nets.mlp(2, (), 2)
    loc = {"1.weight": torch.tensor([[1.0, -2.0], [0.5, 0.0]]), "1.bias": torch.tensor([0.3, -0.3])}
    scale = {"1.weight": torch.tensor([[0.2, 0.1], [0.4, 0.3]]), "1.bias": torch.tensor([0.5, 0.1])}
    x = torch.tensor([[1.0, 3.0], [-2.0, 0.5]])
    g = rng.generator(0, "local")
    draws = 200_000
    flat = (torch.cat([part["1.weight"].flatten(), part["1.bias"]]) for part in (loc, scale))
    many = local_outputs(net, *flat, x.repeat(draws, 1), lambda shape: torch.randn(shape, generator=g))
    many = many.reshape(draws, 2, 2)
    mean = x @ loc["1.weight"].T + loc["1.bias"]
    variance = x**2 @ (scale["1.weight"] ** 2).T + scale["1.bias"] ** 2
    assert ((many.mean(0) - mean).abs() < 4 * (variance / draws).sqrt()).all()
    torch.testing.assert_close(many.var(0), variance, rtol=4 * (2 / draws) ** 0.5, atol=0)
    # Points and units are independent: every off-diagonal correlation vanishes.
    correlation = torch.corrcoef(many.reshape(draws, 4).T)
    assert (correlation - torch.eye(4)).abs().max() < 4 / draws**0.5


def test_local_outputs_of_a_deep_network_agree_with_weight_draws():
    """Each point's outputs have the distribution that draws of the weights give them."""
    net = nets.mlp(2, (3,), 1, activation="tanh")
    model = BayesianNetwork(net)
    g = rng.generator(0, "deep")
    loc, scale = torch.randn(model.num_weights, generator=g), torch.rand(model.num_weights, generator=g)
    x = torch.tensor([[0.5, -1.0]])
    draws = 40_000
    inputs = x.repeat(draws, 1)
    local = local_outputs(net, loc, scale, inputs, lambda shape: torch.randn(shape, generator=g))[:, 0].clone()
    weights = model.unflatten(loc + scale * torch.randn(draws, model.num_weights, generator=g))
    shared = nets.draws_forward(net, None, weights, x)[:, 0, 0]
    assert abs(local.mean() - shared.mean()) < 4 * (local.var() / draws + shared.var() / draws).sqrt()
    assert float(local.var() / shared.var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("activation", ["leaky_relu", "tanh"])
def test_local_gradients_are_those_of_autograd(activation):
    """The same formulas written once more, plainly, under the same noise."""
    net = nets.mlp((6), (5, 4), 3, activation=activation).double()
    model, g = BayesianNetwork(net), rng.generator(0, "local")
    loc, log_scale = (torch.randn(model.num_weights, generator=g).double().requires_grad_() for _ in range(2))
    x, y = torch.randn(7, 2, 3, generator=g).double(), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    noises = [torch.randn(k, 7, generator=g).double() for k in (5, 4, 3)]
    left = iter(noises)
    estimator = LocalReparameterisation(model, nets.Stack.of(net), lambda shape: next(left).clone())
    value, by_loc, by_log_scale = estimator.value_and_gradients(loc.detach(), log_scale.detach().exp(), estimator.data(x, y))
    means, scales, h = model.unflatten(loc), model.unflatten(log_scale.exp()), x.flatten(1)
    for layer, noise in zip((1, 3, 5), noises, strict=True):
        (w, b), (sw, sb) = ((part[f"{layer}.weight"], part[f"{layer}.bias"]) for part in (means, scales))
        h = h @ w.T + b + (h**2 @ (sw**2).T + sb**2).sqrt() * noise.T
        h = net[layer + 1](h) if layer < 5 else h
    expected = torch.nn.functional.cross_entropy(h, y)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0, check_dtype=False)
    for ours, theirs in zip((by_loc, by_log_scale), torch.autograd.grad(expected, [loc, log_scale]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("net", [nets.mlp(4, (3,), 2), nets.cnn((1, 16, 16), 2, 2, activation="tanh")])
def test_shared_gradients_are_those_of_autograd(net):
    model, g = BayesianNetwork(net.double()), rng.generator(0, "shared")
    shape = (4,) if isinstance(net[0], torch.nn.Flatten) else (1, 16, 16)
    loc, log_scale = (torch.randn(model.num_weights, generator=g).double().mul(0.3).requires_grad_() for _ in range(2))
    x, y = torch.randn(5, *shape, generator=g).double(), torch.tensor([0, 1, 1, 0, 1])
    noise = torch.randn(model.num_weights, generator=g).double()
    estimator = SharedDraw(model, x, lambda _: noise)
    value, by_loc, by_log_scale = estimator.value_and_gradients(loc.detach(), log_scale.detach().exp(), estimator.data(x, y))
    expected = -model.likelihood.log_prob(model.outputs(loc + log_scale.exp() * noise, x), y).mean()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0, check_dtype=False)
    for ours, theirs in zip((by_loc, by_log_scale), torch.autograd.grad(expected, [loc, log_scale]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_local_gradients_without_variance_are_finite():
    """All-zero inputs to a layer without bias: the square root of zero variance must not give NaN."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    estimator = LocalReparameterisation(BayesianNetwork(net), nets.Stack.of(net), torch.ones)
    data = estimator.data(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    value, *gradients = estimator.value_and_gradients(torch.ones(4), torch.zeros(4), data)
    assert float(value) == pytest.approx(math.log(2))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
@pytest.mark.parametrize("local", [True, False])
def test_descent_leaves_the_gradients_of_the_loss(local, kl_weight):
    """And twice the loss in one graph has twice its gradients: the estimators' memory is used again by every call."""
    net = nets.mlp(6, (5, 4), 3, activation="tanh").double()
    model, g = BayesianNetwork(net, prior_scale=0.7), rng.generator(0, "descent")
    loc, log_scale = (torch.randn(model.num_weights, generator=g).double() for _ in range(2))
    guide = MeanField(model, loc, log_scale, kl_weight)

    def noise(shape):
        return torch.ones(shape, dtype=torch.float64)

    made = LocalReparameterisation(model, nets.Stack.of(net), noise, guide.loc) if local else SharedDraw(model, loc, noise)
    batches = [(torch.randn(n, 6, generator=g).double(), torch.arange(n) % 3) for n in (7, 5)]
    total = sum(guide.loss(made, made.data(x, y), 100) for x, y in batches)
    expected = torch.autograd.grad(total, guide.parameters)
    values, gradients = [], []
    for batch in made.split(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]), [7, 5]):
        values.append(guide.descent(made, batch, 100))
        gradients.append([parameter.grad.clone() for parameter in guide.parameters])
    assert not values[0].requires_grad
    torch.testing.assert_close(sum(values), total.detach(), rtol=1e-12, atol=0)
    for ours, theirs in zip(map(sum, zip(*gradients, strict=True)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def untrained(sampler, model, dataset):
    """The loss of points and the parameters of a fit that takes no step."""
    learner = sampler.learner(model, model.likelihood, dataset, seed=0)
    parameters = learner.parameters

    def loss(x, y):
        """For autograd: training itself only asks what gradients are left behind."""
        batch = next(iter(learner.split(x, y, [len(x)])))
        return WithGradient.apply(lambda *_: (learner.loss(batch), *(p.grad.clone() for p in parameters)), *parameters)

    return loss, parameters


@pytest.mark.parametrize("estimator", ["shared_draw", "local"])
def test_gradient_is_that_of_pyros_mean_field_elbo(moons, estimator):
    """In expectation, on a mini-batch of 10 of 100 points: every component within 4.5 Monte Carlo errors."""
    model = BayesianNetwork(nets.mlp(2, (3,), 2, activation="tanh"), prior_scale=0.7)
    loss, (loc, log_scale) = untrained(SVI(estimator=estimator), model, moons)
    g = rng.generator(0, "elbo")
    with torch.no_grad():
        loc.copy_(torch.randn(loc.shape, generator=g))
        log_scale.copy_(0.5 * torch.randn(loc.shape, generator=g) - 1)
    x, y = moons.x_train[:10], moons.y_train[:10]

    def guide(x, y, num_data):
        for name, (mean, scale) in sites().items():
            sample(name, distributions.Normal(mean, scale).to_event(mean.dim()))

    def sites():
        scales = model.unflatten(log_scale.exp())
        return {name: (mean, scales[name]) for name, mean in model.unflatten(loc).items()}

    elbo = TraceMeanField_ELBO()
    ours, theirs = [], []
    with rng.global_seed(0, "pyro"):
        for _ in range(400):
            ours.append(torch.cat(torch.autograd.grad(100 * loss(x, y), [loc, log_scale])))
            value = elbo.differentiable_loss(model, guide, x, y, num_data=100)
            theirs.append(torch.cat(torch.autograd.grad(value, [loc, log_scale])))
    ours, theirs = torch.stack(ours), torch.stack(theirs)
    error = (ours.var(0) / 400 + theirs.var(0) / 400).sqrt()  # mirrored draws only make ours smaller
    gap = (ours.mean(0) - theirs.mean(0)).abs()
    assert (gap < 4.5 * error).all()
    # A forgotten N / B would show: the likelihood's part of the gradient is many errors long.
    assert (theirs.mean(0).abs() > 20 * error).any()


def test_objective_value_is_minus_the_elbo_over_n(linear_gaussian):
    """Linear-Gaussian: E_q log p(y | w) in closed form."""
    exact = linear_gaussian()
    loss, (loc, log_scale) = untrained(SVI(estimator="shared_draw"), exact.model, exact.dataset)
    with torch.no_grad():
        loc.copy_(torch.tensor([0.3, -0.4, 0.9]))
        log_scale.copy_(torch.tensor([-2.0, -1.0, -1.5]))
    x, y = exact.dataset.x_train, exact.dataset.y_train
    values = torch.stack([loss(x, y).detach() for _ in range(4000)])
    design = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    mean, variance = loc.detach().double(), (2 * log_scale.detach().double()).exp()
    squares = (y[:, 0] - design @ mean).square() + design.square() @ variance
    log_likelihood = (-0.5 * squares / exact.noise**2 - math.log(exact.noise * math.sqrt(2 * math.pi))).sum()
    expected = -(log_likelihood - kl_divergence(mean, log_scale.detach().double(), torch.ones(3))) / len(x)
    assert abs(float(values.mean() - expected)) < 4 * float(values.std()) / 4000**0.5
    assert float(values.std()) / 4000**0.5 < 0.02 * abs(float(expected))


def test_successive_shared_draws_are_mirror_images(linear_gaussian):
    """For a linear model the gradient of a draw and its mirror average to that at the mean: no noise in the means."""
    exact = linear_gaussian()
    loss, (loc, _) = untrained(SVI(estimator="shared_draw"), exact.model, exact.dataset)
    x, y = exact.dataset.x_train, exact.dataset.y_train
    pair = [torch.autograd.grad(loss(x, y), loc)[0].double() for _ in range(2)]
    at_mean = -(exact.precision @ (exact.mean - loc.detach().double())) / len(x)
    assert (pair[0] - pair[1]).norm() > 0.1
    torch.testing.assert_close((pair[0] + pair[1]) / 2, at_mean, rtol=1e-4, atol=1e-4)


def test_start_is_narrow_and_scaled_by_fan_in(moons):
    model = BayesianNetwork(nets.mlp(2, (5,), 2))
    _, (_, log_scale) = untrained(SVI(initial_scale=0.2), model, moons)
    start = model.unflatten(log_scale.detach().exp())
    for name, expected in {"1.weight": 2**-0.5, "1.bias": 1, "3.weight": 5**-0.5, "3.bias": 1}.items():
        torch.testing.assert_close(start[name], torch.full_like(start[name], 0.2 * expected))
