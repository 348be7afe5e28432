"""The groups that ArviZ reads, draw by draw."""

from __future__ import annotations

import json

import arviz as az
import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import nets, to_datatree
from bayesrob.data import from_arrays
from bayesrob.evaluation.datatree import by_chain, log_likelihood
from bayesrob.inference import HMC
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import from_modules


def test_weights_come_out_of_their_interleaving(chains, moons):
    posterior = to_datatree(chains, moons)["posterior"]
    for name, weights in chains.weights.items():
        for chain in range(3):
            for draw in range(8):
                np.testing.assert_array_equal(posterior[name].sel(chain=chain, draw=draw), weights[draw * 3 + chain])


def test_posterior_of_a_shorter_run_is_a_prefix(chains, moons):
    whole, half = to_datatree(chains, moons), to_datatree(chains[:12], moons)
    for group in ("posterior", "sample_stats", "log_likelihood"):
        # Batched products of other sizes may round differently.
        xr.testing.assert_allclose(half[group].to_dataset(), whole[group].to_dataset().isel(draw=slice(4)), rtol=1e-5)


def test_stats_belong_to_the_draws_beside_them(chains, moons, model):
    """The sampler's log joint is that of the weights with the same chain and draw."""
    tree = to_datatree(chains, moons)
    for chain, draw in [(0, 0), (1, 7), (2, 3)]:
        one = {name: torch.as_tensor(v.sel(chain=chain, draw=draw).values) for name, v in tree["posterior"].items()}
        log_joint = model.log_joint(model.flatten(one), moons.x_train, moons.y_train)
        assert float(tree["sample_stats"]["lp"].sel(chain=chain, draw=draw)) == pytest.approx(float(log_joint), rel=1e-5)


def test_log_likelihood_by_hand(chains, moons):
    found = to_datatree(chains, moons, num_points=9)["log_likelihood"]["obs"]
    assert found.dims == ("chain", "draw", "point")
    for chain in range(3):
        for draw in range(8):
            logits = chains[draw * 3 + chain].logits(moons.x_train[:9])[0]
            expected = torch.distributions.Categorical(logits=logits).log_prob(moons.y_train[:9])
            np.testing.assert_allclose(found.sel(chain=chain, draw=draw), expected, rtol=1e-4, atol=1e-6)


def test_regression():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 3, generator=g), torch.randn(12, 2, generator=g)
    dataset = from_arrays(x, y, x, y)
    model = BayesianNetwork(nets.mlp(3, (), 2), likelihood="normal", noise_scale=0.7)
    post = HMC(num_samples=4, warmup=0, step_size=0.02, num_steps=3, num_chains=2).fit(model, dataset)
    tree = to_datatree(post, dataset)
    assert tree["observed_data"]["obs"].dims == ("point", "output")
    np.testing.assert_array_equal(tree["observed_data"]["obs"], y)
    expected = torch.distributions.Normal(post[3].logits(x)[0], 0.7).log_prob(y).sum(-1)  # draw 1 of chain 1
    np.testing.assert_allclose(tree["log_likelihood"]["obs"].sel(chain=1, draw=1), expected, rtol=1e-5)


def test_batches_of_points_change_nothing(chains, moons):
    whole, parts = (log_likelihood(chains, moons.x_train, moons.y_train, batch_size=n) for n in (1000, 7))
    xr.testing.assert_allclose(whole, parts, rtol=1e-4)


def test_by_chain(chains):
    numbered = torch.arange(24.0)[:, None]
    assert by_chain(chains, numbered)[..., 0].tolist() == [[3 * draw + chain for draw in range(8)] for chain in range(3)]


def test_observed_data_are_the_training_labels(chains, moons):
    tree = to_datatree(chains, moons, num_points=11)
    np.testing.assert_array_equal(tree["observed_data"]["obs"], moons.y_train[:11])
    assert tree["log_likelihood"].sizes["point"] == 11


def test_fresh_draws_become_one_chain_from_the_seed(fresh, moons):
    tree = to_datatree(fresh, moons, seed=5)
    held = fresh.freeze(seed=5)
    assert tree["posterior"].sizes["chain"] == 1
    for name, weights in held.weights.items():
        np.testing.assert_array_equal(tree["posterior"][name][0], weights)
    xr.testing.assert_identical(tree, to_datatree(fresh, moons, seed=5))
    assert not np.array_equal(tree["log_likelihood"]["obs"], to_datatree(fresh, moons, seed=6)["log_likelihood"]["obs"])


def test_groups(chains, fresh, moons):
    assert set(to_datatree(chains, moons).children) == {"posterior", "sample_stats", "log_likelihood", "observed_data"}
    assert "posterior" not in to_datatree(chains, moons, weights=False)
    assert "sample_stats" not in to_datatree(fresh, moons)
    wrapped = from_modules([torch.nn.Sequential(nets.mlp(2, (3,), 2), torch.nn.LayerNorm(2)).eval()])
    assert set(to_datatree(wrapped, moons).children) == {"log_likelihood", "observed_data"}


def test_attributes_say_who_made_it(chains, moons):
    attrs = to_datatree(chains, moons).attrs
    assert attrs["inference_library"] == "bayesrob"
    assert json.loads(attrs["predictive"])["kind"] == "held"


def test_arviz_summarises_it(chains, moons):
    summary = az.summary(to_datatree(chains, moons), var_names=["3.bias"], round_to="none")
    assert summary["mean"].astype(float).to_numpy() == pytest.approx(chains.weights["3.bias"].mean(0).numpy(), rel=1e-5)


def test_arviz_leaves_one_out_as_the_exact_posterior_does():
    """A linear-Gaussian model: log p(y_n | the others) in closed form."""
    g = torch.Generator().manual_seed(3)
    x, noise = torch.linspace(-1, 1, 25)[:, None], 0.5
    y = x - 0.3 + noise * torch.randn(25, 1, generator=g)
    model = BayesianNetwork(nets.mlp(1, (), 1), likelihood="normal", noise_scale=noise)
    dataset = from_arrays(x, y, x, y)
    post = HMC(num_samples=1000, warmup=20, step_size=0.06, num_steps=3, num_chains=2, step_jitter=0.3).fit(model, dataset)
    design = torch.cat([x, torch.ones(25, 1)], 1).double()
    exact = 0.0
    for n in range(25):
        others = [i for i in range(25) if i != n]
        precision = design[others].T @ design[others] / noise**2 + torch.eye(2)
        mean = torch.linalg.solve(precision, design[others].T @ y[others, 0].double() / noise**2)
        variance = noise**2 + design[n] @ torch.linalg.solve(precision, design[n])
        exact += float(torch.distributions.Normal(design[n] @ mean, variance.sqrt()).log_prob(y[n, 0].double()))
    loo = az.loo(to_datatree(post, dataset))
    assert loo.n_data_points == 25
    assert loo.elpd == pytest.approx(exact, abs=0.2)


def test_netcdf_and_back(predictive, moons, tmp_path):
    tree = to_datatree(predictive, moons, num_points=5)
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), tree)
