"""What chains are judged by: the right numbers, of the right chain and draw."""

from __future__ import annotations

import warnings

import arviz as az
import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data, evaluate, load, nets, rng
from bayesrob.evaluation import chains as room
from bayesrob.predictive import HeldDraws, from_modules
from tests.nets.helpers import random_weights

GROUPS = {"sample_stats", "log_likelihood", "input_gradients", "posterior", "diagnostics"}
CHAINS, DRAWS = 3, 8


def record(num_chains: int = CHAINS, draws: int = DRAWS) -> dict[str, np.ndarray]:
    energy = np.random.default_rng(0).normal(size=(num_chains, draws))
    return {
        "energy": energy,
        "diverging": np.zeros((num_chains, draws), bool),
        "accepted": np.ones((num_chains, draws), bool),
    }


def images(components: int) -> data.Dataset:
    generator = rng.generator(0, "images")
    x, y = torch.rand(30, 1, 1, components, generator=generator), torch.arange(30) % 3
    return data.from_arrays(x, y, x, y, bounds=(0, 1))


def wide(components: int = 24, **common) -> HeldDraws:
    """Chains of a network on inputs of `components` pixels, with more weights than are kept."""
    net = nets.mlp(components, (9,), 3, activation="tanh")
    weights = random_weights(net, CHAINS * DRAWS, dtype=torch.float32)
    common = {"num_chains": CHAINS, "sample_stats": record(), "bounds": (0, 1), **common}
    return HeldDraws(net, weights, input_shape=(1, 1, components), out_features=3, **common)


@pytest.fixture(scope="module")
def post() -> HeldDraws:
    return wide()


@pytest.fixture(scope="module")
def tree(post) -> xr.DataTree:
    return evaluate(post, images(24), {}, num_points=25, seed=3)


def one(post: HeldDraws, chain: int, draw: int) -> HeldDraws:
    """The network of one draw, which lies at draw * chains + chain."""
    return post[draw * post.num_chains + chain]


@pytest.mark.parametrize(("chain", "draw"), [(0, 0), (1, 0), (0, 1), (2, 5), (2, 7)])
def test_gradients_are_each_draw_s_own_along_the_directions(post, tree, chain, draw):
    group = tree["input_gradients"].to_dataset()
    assert dict(group["gradient"].sizes) == {"chain": 3, "draw": 8, "point": 20, "direction": 10}
    np.testing.assert_array_equal(group["point"], tree["points"]["point"][:20])
    dataset = images(24)
    index = group["point"].values.copy()
    x, y = dataset.x_test[index], dataset.y_test[index]
    gradient = one(post, chain, draw).input_gradient(x, y).flatten(1).double().numpy()
    expected = np.einsum("pc,cd->pd", gradient, group["directions"].values)
    ours = group["gradient"].sel(chain=chain, draw=draw).transpose("point", "direction")
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_directions_are_unit_vectors_that_every_component_has_a_part_in(tree):
    directions = tree["input_gradients"]["directions"].values
    assert directions.shape == (24, 10)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, rtol=1e-12)
    assert (np.abs(directions).max(axis=1) > 0).all()
    # Random ones: no two alike.
    assert np.abs(directions.T @ directions - np.eye(10)).max() < 0.8


@pytest.mark.parametrize("components", [2, 10])
def test_small_inputs_have_their_axes(components):
    post = wide(components)
    dataset = images(components)
    group = evaluate(post, dataset, {}, num_points=4)["input_gradients"].to_dataset()
    np.testing.assert_array_equal(group["directions"], np.eye(components))
    index = group["point"].values.copy()
    gradients = post.draw_gradients(dataset.x_test[index], dataset.y_test[index])[1].flatten(2)
    expected = gradients.reshape(DRAWS, CHAINS, 4, components).transpose(0, 1)
    np.testing.assert_allclose(group["gradient"].transpose("chain", "draw", "point", "direction"), expected, rtol=1e-5)


def test_eleven_components_have_ten_directions():
    group = evaluate(wide(11), images(11), {}, num_points=4)["input_gradients"]
    assert group["directions"].shape == (11, 10)


def flat(post: HeldDraws) -> np.ndarray:
    """Weights `[draw, position]`, one parameter of the network after the other."""
    names = [name for name, _ in post.net.named_parameters()]
    return torch.cat([post.weights[name].flatten(1) for name in names], dim=1).numpy()


def test_weights_are_the_right_ones_by_chain_and_draw(post, tree):
    group = tree["posterior"].to_dataset()["weights"]
    where = group["weight"].values
    everything = flat(post)
    assert everything.shape[1] == 24 * 9 + 9 + 9 * 3 + 3
    assert len(set(where)) == 200
    assert (np.diff(where) > 0).all()
    assert where.max() < everything.shape[1]
    for chain in range(CHAINS):
        for draw in range(DRAWS):
            ours = group.sel(chain=chain, draw=draw).values
            np.testing.assert_array_equal(ours, everything[draw * CHAINS + chain, where])


def test_all_weights_of_a_small_network(chains, moons):
    group = evaluate(chains, moons, {}, num_points=2)["posterior"].to_dataset()["weights"]
    np.testing.assert_array_equal(group["weight"], np.arange(6 * 2 + 6 + 2 * 6 + 2))
    np.testing.assert_array_equal(group.sel(chain=2, draw=5), flat(chains)[5 * 3 + 2])


def test_weights_of_a_loaded_posterior_are_the_same_ones(post, tree, tmp_path):
    """Positions mean the same weights whatever order a file keeps them in."""
    again = evaluate(load(post.save(tmp_path / "post")), images(24), {}, num_points=25, seed=3)
    for group in ("posterior", "input_gradients", "log_likelihood", "sample_stats"):
        xr.testing.assert_allclose(again[group].to_dataset(), tree[group].to_dataset(), rtol=1e-5)


def test_the_order_of_the_dictionary_does_not_matter(post, tree):
    weights = dict(reversed(post.weights.items()))
    turned = HeldDraws(post.net, weights, CHAINS, post.sample_stats, **post._common())
    again = evaluate(turned, images(24), {}, num_points=25, seed=3)
    xr.testing.assert_identical(again["posterior"].to_dataset(), tree["posterior"].to_dataset())


def test_log_likelihoods_are_by_chain_and_draw(post, tree):
    group = tree["log_likelihood"].to_dataset()["obs"]
    dataset = images(24)
    index = group["point"].values.copy()
    np.testing.assert_array_equal(index, tree["points"]["point"])
    x, y = dataset.x_test[index], dataset.y_test[index]
    for chain, draw in ((0, 0), (1, 0), (0, 1), (2, 7)):
        expected = one(post, chain, draw)(x)[torch.arange(len(y)), y]
        np.testing.assert_allclose(group.sel(chain=chain, draw=draw), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("prefix", "group", "name"),
    [("", "log_likelihood", "obs"), ("gradient_", "input_gradients", "gradient"), ("weight_", "posterior", "weights")],
)
def test_diagnostics_are_arviz_s_of_these_arrays(tree, prefix, group, name):
    values = tree[group].to_dataset()[name]
    found = tree["diagnostics"].to_dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rhat, bulk = az.rhat(values), az.ess(values, method="bulk")
    for ours, theirs in ((found[f"{prefix}rhat"], rhat), (found[f"{prefix}ess_bulk"], bulk)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert float(found[f"{prefix}rhat_max"]) == float(rhat.max())
    assert float(found[f"{prefix}ess_bulk_min"]) == float(bulk.min())
    assert int(found[f"{prefix}constant"]) == 0


def test_energy_is_judged_too(post, tree):
    np.testing.assert_allclose(tree["diagnostics"]["bfmi"], az.bfmi(post.sample_stats["energy"]), rtol=1e-12)


def test_the_seed_picks_weights_and_directions(post, tree):
    other = evaluate(post, images(24), {}, num_points=25, seed=4)
    assert not np.array_equal(other["posterior"]["weight"], tree["posterior"]["weight"])
    assert not np.isclose(other["input_gradients"]["directions"], tree["input_gradients"]["directions"]).any()
    again = evaluate(post, images(24), {}, num_points=5, seed=3)
    xr.testing.assert_identical(again["posterior"].to_dataset(), tree["posterior"].to_dataset())
    xr.testing.assert_identical(again["input_gradients"]["directions"], tree["input_gradients"]["directions"])


def test_a_window_of_chains_is_chains_too(post, tree):
    """Draws 2 to 6 of every chain, their diagnostics computed anew."""
    window = evaluate(post[2 * CHAINS : 7 * CHAINS], images(24), {}, num_points=25, seed=3)
    for group, name in (("log_likelihood", "obs"), ("input_gradients", "gradient"), ("posterior", "weights")):
        ours, whole = window[group].to_dataset()[name], tree[group].to_dataset()[name].isel(draw=slice(2, 7))
        np.testing.assert_allclose(ours.transpose(*whole.dims), whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(window["sample_stats"]["energy"], post.sample_stats["energy"][:, 2:7])


def test_what_is_no_chain_has_none_of_this(fresh, moons):
    for other in (fresh, fresh.freeze(6)):
        assert GROUPS.isdisjoint(evaluate(other, moons, {}, num_points=2).children)
    modules = from_modules([nets.mlp(2, (3,), 2, seed=i).eval() for i in range(2)], bounds=(0, 1))
    assert GROUPS.isdisjoint(evaluate(modules, moons, {}, num_points=2).children)


def test_chains_without_a_record_are_chains(tree):
    found = evaluate(wide(sample_stats={}), images(24), {}, num_points=25, seed=3)
    assert GROUPS - {"sample_stats"} <= found.children.keys()
    assert "sample_stats" not in found.children
    np.testing.assert_array_equal(found["diagnostics"]["rhat"], tree["diagnostics"]["rhat"])
    assert "no record of divergences" in found["checks"].attrs["posterior_reason"]


def test_chains_in_float64(tree):
    exact = evaluate(wide().double(), images(24), {}, num_points=25, seed=3)
    ours, expected = (t["input_gradients"].to_dataset()["gradient"] for t in (exact, tree))
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)
    assert ours.dtype == np.float64


def test_the_sizes_are_those_of_the_docstring():
    assert (room.GRADIENT_POINTS, room.DIRECTIONS, room.WEIGHTS) == (20, 10, 200)
    assert "first 20 points" in (room.chain_groups.__doc__ or "")
    assert "200 weights" in (room.chain_groups.__doc__ or "")
