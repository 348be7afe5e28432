"""Pyro's own inference runs on the model as it is."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import HMC, MCMC, NUTS, SVI, JitTrace_ELBO, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

from bayesrob import nets
from bayesrob.models import BayesianNetwork


@pytest.fixture(autouse=True)
def _own_pyro_state():
    with torch.random.fork_rng(devices=[]):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        yield
        pyro.clear_param_store()


def line():
    """Regression y = w x + b with a conjugate posterior."""
    model = BayesianNetwork(nets.mlp(1, (), 1), 1.0, "normal", noise_scale=0.5)
    x = torch.linspace(-1, 1, 20)[:, None]
    y = 0.8 * x - 0.3
    design = torch.cat([x, torch.ones_like(x)], 1)
    precision = torch.eye(2) + design.T @ design / 0.25
    covariance = precision.inverse()
    return model, x, y, (covariance @ design.T @ y / 0.25).flatten(), covariance


@pytest.mark.parametrize("kernel", [lambda model: HMC(model, step_size=0.1, num_steps=5), lambda model: NUTS(model)])
def test_mcmc_finds_the_conjugate_posterior(kernel):
    model, x, y, mean, covariance = line()
    chain = MCMC(kernel(model), num_samples=150, warmup_steps=50, disable_progbar=True)
    chain.run(x, y)
    samples = torch.cat([chain.get_samples()[name].reshape(150, -1) for name in ("1.weight", "1.bias")], 1)
    deviation = covariance.diagonal().sqrt()
    assert ((samples.mean(0) - mean).abs() < 0.6 * deviation).all()
    assert (samples.std(0) / deviation - 1).abs().max() < 0.4


@pytest.mark.parametrize("guide", [AutoDiagonalNormal, AutoNormal])
def test_svi_with_mini_batches_finds_the_conjugate_mean(guide):
    model, x, y, mean, _ = line()
    guide = guide(model)
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.985}), Trace_ELBO())
    order = torch.randperm(20)
    losses = [svi.step(x[part], y[part], 20) for _ in range(150) for part in order.split(10)]
    assert all(torch.tensor(losses).isfinite())
    median = guide.median()
    found = torch.cat([median["1.weight"].flatten(), median["1.bias"].flatten()])
    assert (found - mean).abs().max() < 0.1


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_losses_of_a_traced_model_are_those_of_the_model():
    x, y = torch.randn(10, 3), torch.randint(2, (10,))
    model = BayesianNetwork(nets.mlp(3, (4,), 2))
    losses = []
    for loss in (Trace_ELBO(), JitTrace_ELBO(ignore_jit_warnings=True)):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi = SVI(model, AutoDiagonalNormal(model, init_scale=0.1), pyro.optim.Adam({"lr": 0.0}), loss)
        svi.step(x, y)  # traces
        pyro.set_rng_seed(1)
        losses.append([svi.step(x, y) for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_classification_runs_too():
    model = BayesianNetwork(nets.mlp(2, (3,), 2), "fan_in")
    x, y = torch.randn(10, 2), torch.arange(10) % 2
    chain = MCMC(HMC(model, step_size=0.05, num_steps=3), num_samples=5, warmup_steps=2, disable_progbar=True)
    chain.run(x, y)
    samples = chain.get_samples()
    assert {name: tuple(tensor.shape) for name, tensor in samples.items()} == {
        name: (5, *parameter.shape) for name, parameter in model.net.named_parameters()
    }
    assert all(tensor.isfinite().all() for tensor in samples.values())
    assert model.log_joint(model.flatten(samples)[-1], x, y).isfinite()
