"""Averaged gradients through the whole evaluation, against the draws' own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data, evaluate, nets, rng
from bayesrob.analysis import component_quantiles, gradient_statistics
from bayesrob.evaluation import evaluate_gradients, gradients
from bayesrob.predictive import HeldDraws, Predictive, from_modules

ARTEFACT = "double_softmax_per_draw"


def draws(predictive, dataset, tree, num_draws: int, seed: int, precision: str = "float64"):
    """Labels, and each draw's losses and gradients by objective, at the points that the tree names."""
    index = torch.tensor(tree["statistics"]["point"].values)
    dtype = getattr(torch, precision)
    held = predictive.freeze(num_draws, seed=seed)
    held = held[:].to(dtype) if isinstance(held, HeldDraws) else held.to(dtype)
    x, y = dataset.x_test[index].to(dtype), dataset.y_test[index]
    return {name: held.draw_gradients(x, y, name) for name in ("expected_loss", ARTEFACT)}


# ---- the numbers ---------------------------------------------------------------------------------------------------------


def test_every_average_is_the_draws_own(case, moons):
    """Means and norms written out with the draws' gradients and probabilities."""
    predictive, prefixes, _ = case
    tree = evaluate_gradients(predictive, moons, 12, prefixes, ["float64"], num_images=12, seed=4)
    found = draws(predictive, moons, tree, prefixes[-1], seed=4)
    losses, g = found["expected_loss"]
    for count in prefixes:
        p = (-losses[:count]).exp()[..., None]
        averages = {
            "expected_loss": (g[:count].mean(0), torch.ones_like(p)),
            "predictive_loss": ((p * g[:count]).sum(0) / p.sum(0), p),
            ARTEFACT: (found[ARTEFACT][1][:count].mean(0), torch.ones_like(p)),
        }
        for objective, (mean, weight) in averages.items():
            at = {"objective": objective, "num_draws": count, "precision": "float64"}
            ours = tree["statistics"].to_dataset().sel(at)
            single = found[ARTEFACT if objective == ARTEFACT else "expected_loss"][1][:count].norm(dim=-1)
            np.testing.assert_allclose(ours["norm"], mean.norm(dim=-1), rtol=1e-9)
            np.testing.assert_allclose(ours["norm_l_inf"], mean.abs().amax(-1), rtol=1e-9)
            expected = (weight[..., 0] * single).sum(0) / weight[..., 0].sum(0)
            np.testing.assert_allclose(ours["draw_norm"], expected, rtol=1e-9)
            np.testing.assert_allclose(tree["images"]["gradient"].sel(at), mean, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_statistic_is_that_of_the_draws_gradients(case, moons, precision):
    """Chains count as chains, also where the last prefix ends in the middle of a round."""
    predictive, prefixes, num_chains = case
    tree = evaluate_gradients(predictive, moons, 12, prefixes, [precision], seed=4)
    found = draws(predictive, moons, tree, prefixes[-1], 4, precision)
    losses, g = found["expected_loss"]
    expected = xr.concat(
        [
            gradient_statistics(g.numpy(), -losses.numpy(), prefixes, num_chains),
            gradient_statistics(found[ARTEFACT][1].numpy(), None, prefixes, num_chains).assign_coords(objective=[ARTEFACT]),
        ],
        "objective",
    )
    ours = tree["statistics"].to_dataset().sel(precision=precision)
    assert ours["objective"].values.tolist() == ["expected_loss", "predictive_loss", ARTEFACT]
    rtol = 1e-9 if precision == "float64" else 2e-4
    for name in set(expected.data_vars) - {"gradient"}:
        np.testing.assert_allclose(ours[name], expected[name], rtol=rtol, atol=1e-12, err_msg=name)
    images = tree["images"]["gradient"].sel(precision=precision)
    np.testing.assert_allclose(images, expected["gradient"].isel(point=slice(10)), rtol=rtol, atol=1e-7)
    quantiles = component_quantiles(expected["gradient"].astype(np.float64))
    np.testing.assert_allclose(tree["components"]["gradient"].sel(precision=precision), quantiles, rtol=rtol, atol=1e-7)


def test_chains_have_another_error_than_independent_draws(chains, moons):
    """By the same numbers: without their record they are a set of draws like any other."""
    settings = {"num_points": 10, "num_draws": [20], "precisions": ["float64"]}
    aware = evaluate_gradients(chains, moons, **settings)["statistics"]
    unaware = HeldDraws(chains.net, chains.weights, **chains._common())
    independent = evaluate_gradients(unaware, moons, **settings)["statistics"]
    np.testing.assert_allclose(aware["norm"], independent["norm"], rtol=1e-12)
    assert np.isclose(aware["standard_error"], independent["standard_error"], rtol=0.02).mean() < 0.5
    assert (aware.attrs["draws"], independent.attrs["draws"]) == ("3 chains, batch means", "independent")


def test_the_largest_prefix_is_the_input_gradient(chains, moons):
    tree = evaluate_gradients(chains, moons, 8, [24], ["float64"], seed=2)
    exact = chains[:].double()
    index = tree["statistics"]["point"].values.copy()
    for objective in ("expected_loss", "predictive_loss", ARTEFACT):
        expected = exact.input_gradient(moons.x_test[index].double(), moons.y_test[index], objective)
        ours = tree["images"]["gradient"].sel(objective=objective).squeeze()
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["chains", "fresh"])
def test_prefixes_are_of_the_same_draws(name, request, moons):
    """More and longer prefixes change none of the shorter ones; of fresh draws either."""
    predictive = request.getfixturevalue(name)
    short = evaluate_gradients(predictive, moons, 10, [2, 6], seed=4)
    long = evaluate_gradients(predictive, moons, 10, [2, 4, 6, 20], seed=4)
    for group in ("statistics", "components", "images"):
        xr.testing.assert_allclose(short[group].to_dataset(), long[group].to_dataset().sel(num_draws=[2, 6]), rtol=1e-5)


def test_fresh_draws_are_the_seed_s(fresh, moons):
    settings = {"num_points": None, "num_draws": [3, 7]}
    first = evaluate_gradients(fresh, moons, **settings, seed=1)
    fresh(moons.x_test[:2])  # the predictive's own generator does not matter, nor is it touched
    before = fresh._generator.get_state()
    state = torch.get_rng_state()
    xr.testing.assert_identical(evaluate_gradients(fresh, moons, **settings, seed=1), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(fresh._generator.get_state(), before)
    other = evaluate_gradients(fresh, moons, **settings, seed=2)
    assert not np.isclose(other["statistics"]["norm"], first["statistics"]["norm"]).any()


@pytest.mark.parametrize("precisions", [["float32", "float64"], ["float64", "float32"], ["float64"]])
def test_the_predictive_is_left_as_it_was(case, moons, precisions):
    predictive, prefixes, _ = case
    before = predictive.logits(moons.x_test, seed=0)
    found = evaluate_gradients(predictive, moons, 5, prefixes, precisions)
    assert found["statistics"]["precision"].values.tolist() == precisions
    after = predictive.logits(moons.x_test, seed=0)
    assert after.dtype == torch.float32
    assert torch.equal(after, before)


@pytest.mark.parametrize("name", ["chains", "fresh"])
@pytest.mark.parametrize(("memory", "cache"), [(1, 1), (3 * 20 * 2 * 4, 1), (2**28, 2 * 20 * 2 * 8)])
def test_batches_do_not_matter(name, request, monkeypatch, moons, memory, cache):
    predictive = request.getfixturevalue(name)
    whole = evaluate_gradients(predictive, moons, 11, [4, 20], num_images=7, seed=4)
    monkeypatch.setattr(gradients, "MEMORY_BYTES", memory)
    monkeypatch.setattr(gradients, "CACHE_BYTES", cache)
    sizes = []
    alone = Predictive.draw_gradients
    monkeypatch.setattr(Predictive, "draw_gradients", lambda self, x, *rest: sizes.append(len(x)) or alone(self, x, *rest))
    parts = evaluate_gradients(predictive, moons, 11, [4, 20], num_images=7, seed=4)
    assert max(sizes) == {1: 1, 480: 3, 2**28: 11}[memory]
    for group in ("statistics", "components", "images"):
        ours, expected = parts[group].to_dataset(), whole[group].to_dataset()
        assert list(ours.coords) == list(expected.coords)
        exact = {"precision": "float64"}
        if group == "statistics":
            # Whether an interval just reaches zero may hang on the last bit.
            ours, expected = ours.drop_vars("unsure_fraction"), expected.drop_vars("unsure_fraction")
        xr.testing.assert_allclose(ours.sel(exact), expected.sel(exact), rtol=1e-9)
        xr.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-6)


# ---- points --------------------------------------------------------------------------------------------------------------


def test_points_are_those_of_evaluate(chains, moons):
    ours = evaluate_gradients(chains, moons, 20, [2], seed=6)
    points = ours["statistics"]["point"].values
    np.testing.assert_array_equal(points, evaluate(chains, moons, {}, num_points=20, seed=6)["points"]["point"])
    assert not np.array_equal(points, evaluate_gradients(chains, moons, 20, [2], seed=7)["statistics"]["point"])
    images = ours["images"]
    np.testing.assert_array_equal(images["point"], points[:10])
    np.testing.assert_array_equal(images["input"], moons.x_test[points[:10].copy()])
    np.testing.assert_array_equal(images["label"], moons.y_test[points[:10].copy()])


def test_fewer_points_are_some_of_them(chains, moons):
    many, few = (evaluate_gradients(chains, moons, n, [24], seed=6)["statistics"].to_dataset() for n in (30, 10))
    assert few.sizes["point"] == 10
    assert set(few["point"].values) < set(many["point"].values)
    xr.testing.assert_allclose(few, many.sel(point=few["point"]), rtol=1e-5)


@pytest.mark.parametrize("num_points", [None, 90, 500])
def test_all_points(chains, moons, num_points):
    tree = evaluate_gradients(chains, moons, num_points, [2], ["float32"])
    np.testing.assert_array_equal(tree["statistics"]["point"], np.arange(90))
    assert json.loads(tree.attrs["evaluation"])["num_points"] == 90


def test_images_keep_their_shape():
    generator = rng.generator(0, "images")
    x, y = torch.rand(7, 2, 4, 3, generator=generator), torch.arange(7) % 3
    images = data.from_arrays(x, y, x, y, bounds=(0, 1))
    post = from_modules([nets.mlp(24, (4,), 3, seed=seed).eval() for seed in range(5)], bounds=(0, 1))
    tree = evaluate_gradients(post, images, None, [1, 5], ["float64"], num_images=4)
    np.testing.assert_array_equal(tree["images"]["input"], x[:4])
    expected = post.double().input_gradient(x[:4].double(), y[:4]).flatten(1)
    ours = tree["images"]["gradient"].sel(objective="expected_loss", num_draws=5).squeeze("precision")
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-14)
