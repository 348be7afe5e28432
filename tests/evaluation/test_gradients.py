"""Averaged gradients through the whole evaluation: against the draws' own, and against posteriors that are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from bayesrob import data, evaluate, nets, rng
from bayesrob.analysis import component_quantiles, gradient_statistics
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.evaluation import Results, evaluate_gradients, gradients
from bayesrob.models import Normal
from bayesrob.predictive import GaussianDraws, HeldDraws, Predictive, from_modules

ARTEFACT = "double_softmax_per_draw"
SIZES = {"chains": [1, 4, 12, 20], "fresh": [1, 4, 20], "modules": [1, 3]}


@pytest.fixture(params=SIZES)
def case(request) -> tuple[Predictive, list[int], int | None]:
    """A predictive, prefixes (the last of the three chains' is no multiple of three), and its number of chains."""
    if request.param == "modules":
        torch.manual_seed(0)
        wide, deep = nets.mlp(2, (5,), 2, activation="tanh", seed=0), nets.mlp(2, (3, 3), 2, activation="tanh", seed=1)
        modules = [net.eval() for net in (wide, deep, nets.mlp(2, (4,), 2, seed=2))]
        return from_modules(modules, bounds=(0, 1)), SIZES["modules"], None
    return request.getfixturevalue(request.param), SIZES[request.param], 3 if request.param == "chains" else None


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


# ---- precision -----------------------------------------------------------------------------------------------------------


def linear(weight: Tensor, **common) -> HeldDraws:
    """Draws of linear logits (0, w.x) from w `[draw, component]`, or of a linear regression."""
    count, components = weight.shape
    out = 1 if "likelihood" in common else 2
    net = nets.mlp(components, (), out)
    full = torch.zeros(count, out, components, dtype=weight.dtype)
    full[:, -1] = weight
    named = {"weight": full, "bias": torch.zeros(count, out, dtype=weight.dtype)}
    weights = {name: named[name.rpartition(".")[2]] for name, _ in net.named_parameters()}
    return HeldDraws(net, weights, out_features=out, input_shape=(components,), **common)


def test_what_float32_rounds_away_float64_shows():
    """Logits (0, 200) and the label 1: the gradient is e^-200 w, which float32 cannot hold. Logits (0, 20): both can."""
    x, y = torch.tensor([[1.0, 1.0], [0.1, 0.1]]), torch.tensor([1, 1])
    tree = evaluate_gradients(linear(torch.full((3, 2), 100.0)), data.from_arrays(x, y, x, y), None, [3])
    found = tree["statistics"].to_dataset().sel(num_draws=3)
    for objective in ("expected_loss", "predictive_loss"):
        at = found.sel(objective=objective)
        np.testing.assert_array_equal(at["zero_fraction"].sel(precision="float32"), [1, 0])
        np.testing.assert_array_equal(at["zero_fraction"].sel(precision="float64"), [0, 0])
        expected = [100 * math.sqrt(2) * math.exp(-size) for size in (200, 20)]
        # The dataset's inputs are float32: 20 is off by 1e-7, its exponential by 1e-6.
        np.testing.assert_allclose(at["norm"].sel(precision="float64"), expected, rtol=1e-5)
        assert float(at["norm"].sel(precision="float32").isel(point=0)) == 0


def test_both_precisions_are_of_the_same_draws(fresh, moons):
    found = evaluate_gradients(fresh, moons, 20, [5, 20])["statistics"].to_dataset()
    assert found["precision"].values.tolist() == ["float32", "float64"]
    single, double = found.sel(precision="float32"), found.sel(precision="float64")
    np.testing.assert_allclose(single["norm"], double["norm"], rtol=1e-4)
    assert (single["norm"] != double["norm"]).any()


def test_a_precision_is_taken_once(chains, moons):
    found = evaluate_gradients(chains, moons, 2, [2], ["float64", "float64"])["statistics"]
    assert found["precision"].values.tolist() == ["float64"]


# ---- posteriors that are known -------------------------------------------------------------------------------------------


def along_a_line(components: int = 12, points: int = 9) -> data.Dataset:
    """Data on the first axis: what they do not vary along, the likelihood does not see."""
    x = torch.zeros(points, components)
    x[:, 0] = torch.linspace(-2, 2, points)
    y = (x[:, 0] > 0).long()
    return data.from_arrays(x, y, x, y)


@pytest.mark.parametrize("slope", [0.0, 0.75])
def test_mirrored_draws_cancel_off_the_data_and_only_there(slope):
    """Carbone et al.'s theorem in small: logits (0, w.x), draws w = (a, v) and (a, -v), data on the first axis.

    All draws agree at the data, with p = sigmoid(a x_1), and the loss gradients are (p - y) w. Off the data they are
    exactly opposite and average to nothing; along the data (p - y) a is left. With a = 0 the averaged gradient vanishes,
    though no draw's gradient does, and the error says that nothing has been found.
    """
    dataset = along_a_line()
    v = torch.randn(50, 12, generator=rng.generator(0, "mirrored"))
    v[:, 0] = slope
    mirrored = torch.stack([v, -v], dim=1).reshape(100, 12)
    mirrored[:, 0] = slope
    tree = evaluate_gradients(linear(mirrored), dataset, None, [2, 10, 100])
    p = torch.sigmoid(slope * dataset.x_test[:, 0].double())
    residual = (p - dataset.y_test).numpy()
    expected = np.zeros((9, 12))
    expected[:, 0] = residual * slope
    for objective in ("expected_loss", "predictive_loss"):
        for precision, tolerance in (("float32", 1e-7), ("float64", 1e-15)):
            at = tree["images"]["gradient"].sel(objective=objective, precision=precision)
            np.testing.assert_allclose(
                at,
                np.broadcast_to(expected[:, None], at.transpose("point", ...).shape).transpose(
                    [at.transpose("point", ...).dims.index(dim) for dim in at.dims]
                ),
                atol=tolerance,
            )
        found = tree["statistics"].to_dataset().sel(objective=objective, precision="float64")
        np.testing.assert_allclose(
            found["norm"].transpose("point", ...), np.abs(residual * slope)[:, None].repeat(3, 1), atol=1e-14
        )
        for count in (2, 10, 100):
            lengths = mirrored[:count].double().norm(dim=1).numpy()
            at = found.sel(num_draws=count)
            np.testing.assert_allclose(at["draw_norm"], np.abs(residual) * lengths.mean(), rtol=1e-6)
            off = (mirrored[:count, 1:].double() ** 2).sum().item()
            error = np.abs(residual) * math.sqrt(off / (count * (count - 1)))
            np.testing.assert_allclose(at["standard_error"], error, rtol=1e-6)
    nothing = tree["statistics"].to_dataset().sel(precision="float64")
    if slope == 0:
        assert (nothing["debiased_norm"] == 0).all()
        assert (nothing["standard_error"] > 0.1 * nothing["draw_norm"]).all()
        # Components that every draw has at exactly zero are not known to differ from it either.
        assert (nothing["unsure_fraction"] == 1).all()
        assert (nothing["norm"].sel(objective=ARTEFACT) < 1e-14).all()
    else:
        np.testing.assert_allclose(nothing["unsure_fraction"], 11 / 12)


def gaussian_regression(components: int, seed: int):
    """y ~ N(w.x, noise^2) with w ~ N(mu, s^2 I): both averaged gradients are known in closed form."""
    generator = rng.generator(seed, "regression")
    mu, s, noise = torch.randn(components, generator=generator) / 4, 0.2, 1.5
    x = torch.randn(6, components, generator=generator) / 3
    y = x @ mu[:, None] + torch.randn(6, 1, generator=generator)
    net = nets.mlp(components, (), 1)
    values = {"weight": mu[None], "bias": torch.zeros(1)}
    scales = {"weight": torch.full((1, components), s), "bias": torch.zeros(1)}
    loc, scale = ({name: parts[name.rpartition(".")[2]] for name, _ in net.named_parameters()} for parts in (values, scales))
    post = GaussianDraws(net, loc, scale, likelihood=Normal(noise), out_features=1)
    x64, y64, mu64 = x.double(), y.double(), mu.double()
    # Expected loss: E (w.x - y) w / noise^2.
    residual = x64 @ mu64[:, None] - y64
    expected = (residual * mu64 + s**2 * x64) / noise**2
    # Predictive: -log N(y; mu.x, noise^2 + s^2 |x|^2), whose gradient autograd knows.
    x64.requires_grad_()
    predictive = torch.distributions.Normal(x64 @ mu64, (noise**2 + s**2 * (x64**2).sum(1)).sqrt())
    (pooled,) = torch.autograd.grad(-predictive.log_prob(y64[:, 0]).sum(), x64)
    return post, data.from_arrays(x, y, x, y), {"expected_loss": expected.detach(), "predictive_loss": pooled}


def test_what_does_not_cancel_converges_to_its_known_value():
    """The error falls as one over the root of the draws, is what the standard error says, and leaves the known norm."""
    counts = [30, 100, 300, 1000, 3000]
    post, dataset, limits = gaussian_regression(components=100, seed=1)
    tree = evaluate_gradients(post, dataset, None, counts, ["float64"], seed=1)
    found = tree["statistics"].to_dataset().squeeze("precision")
    assert found["objective"].values.tolist() == ["expected_loss", "predictive_loss"]
    for objective, limit in limits.items():
        ours = tree["images"]["gradient"].squeeze("precision").sel(objective=objective)
        difference = ours.transpose("num_draws", "point", "component").values - limit.numpy()
        error = np.sqrt((difference**2).sum((1, 2)))
        slope = np.polyfit(np.log(counts), np.log(error), 1)[0]
        assert slope == pytest.approx(-0.5, abs=0.06)
        at = found.sel(objective=objective).transpose("num_draws", "point", ...)
        claimed = np.sqrt((at["standard_error"].values ** 2).sum(1))
        np.testing.assert_allclose(error, claimed, rtol=0.2)
        norm = limit.norm(dim=1).numpy()
        last = at.isel(num_draws=-1)
        assert (np.abs(last["debiased_norm"] - norm) < 3 * last["standard_error"]).all()
        assert (last["debiased_norm"] > 3 * last["standard_error"]).all()
    gap = (limits["expected_loss"] - limits["predictive_loss"]).norm(dim=1).numpy()
    assert (gap > 5 * found["standard_error"].isel(num_draws=-1).max("objective").values).any()  # the two are told apart


def test_few_draws_do_not_pass_for_a_vanishing_gradient():
    """Over many sets of five draws: norm^2 is too large by the squared error, and debiased it is right on average."""
    post, dataset, limits = gaussian_regression(components=10, seed=2)
    runs = [evaluate_gradients(post, dataset, None, [5], ["float64"], seed=seed)["statistics"] for seed in range(60)]
    found = xr.concat([run.to_dataset() for run in runs], "run").squeeze().sel(objective="expected_loss")
    squared = (limits["expected_loss"] ** 2).sum(1).numpy()
    excess = found["norm"] ** 2 - found["standard_error"] ** 2
    spread = excess.std("run", ddof=1) / math.sqrt(60)
    assert (np.abs(excess.mean("run") - squared) < 4 * spread).all()
    assert ((found["norm"] ** 2).mean("run") - squared > 4 * spread).any()


# ---- files, records, bad input -------------------------------------------------------------------------------------------


def test_netcdf_and_back(case, moons, tmp_path):
    predictive, prefixes, _ = case
    tree = evaluate_gradients(predictive, moons, 6, prefixes, seed=4)
    Results(tmp_path, "s", "t", {}).tree("gradients", tree, "caption")
    with xr.open_datatree(tmp_path / "gradients.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), tree)


def test_attributes_say_what_was_done(chains, moons):
    tree = evaluate_gradients(chains, moons, 5, [2, 4], ["float64"], seed=8)
    settings = json.loads(tree.attrs["evaluation"])
    assert (settings["num_points"], settings["num_draws"], settings["seed"]) == (5, [2, 4], 8)
    assert settings["precisions"] == ["float64"]
    assert json.loads(tree.attrs["predictive"])["method"] == "HMC"
    assert tree["statistics"].attrs["draws"] == "3 chains, batch means"


@pytest.fixture
def no_work(monkeypatch):
    """Fails if a gradient is taken or a draw made."""

    def never(*_, **__):
        pytest.fail("work began before the arguments were checked")

    for kind in (Predictive, HeldDraws, GaussianDraws):
        monkeypatch.setattr(kind, "draw_gradients", never)
    for kind in (HeldDraws, GaussianDraws):
        monkeypatch.setattr(kind, "freeze", never)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_draws": []}, "num_draws"),
        ({"num_draws": [25]}, "25.*24 draws"),
        ({"num_draws": [10, 5]}, "num_draws"),
        ({"num_draws": [5, 5]}, "num_draws"),
        ({"num_draws": [0, 5]}, "num_draws"),
        ({"num_draws": [-1, 5]}, "num_draws"),
        ({"num_draws": [2.5, 5]}, "num_draws"),
        ({"num_images": -1}, "num_images is -1"),
        ({"num_points": 0}, "num_points is 0"),
        ({"num_points": -3}, "num_points is -3"),
        ({"num_points": 2.5}, "num_points is 2.5"),
        ({"precisions": []}, "precisions"),
        ({"seed": "0"}, "not an integer"),
    ],
)
def test_bad_settings_before_any_work(chains, moons, no_work, settings, message):
    with pytest.raises(InputError, match=message):
        evaluate_gradients(chains, moons, **{"num_points": 5, "num_draws": [2, 4], **settings})


def test_prefixes_that_nobody_asked_for_are_the_paper_s_that_can_be_had(chains, fresh, moons):
    held = evaluate_gradients(chains, moons, 2, precisions="float32")["statistics"]
    assert held["num_draws"].values.tolist() == [1, 10]
    assert held["precision"].values.tolist() == ["float32"]
    drawn = evaluate_gradients(fresh, moons, 2, precisions=["float32"])["statistics"]
    assert drawn["num_draws"].values.tolist() == [1, 10, 50, 100, 250, 500]


def test_unknown_precision_before_any_work(chains, moons, no_work):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'float64'"):
        evaluate_gradients(chains, moons, 5, [2], ["float46"])


def test_data_that_do_not_fit_before_any_work(chains, moons, no_work):
    wide = data.from_arrays(moons.x_train, moons.y_train, moons.x_test * 3, moons.y_test)
    with pytest.raises(InputError, match=r"bounds are \[0, 1\]"):
        evaluate_gradients(chains, wide, 90, [2])
    more = data.from_arrays(moons.x_train, moons.y_train, moons.x_test, moons.y_test + 1, bounds=(0, 1))
    with pytest.raises(InputError, match="2 classes"):
        evaluate_gradients(chains, more, 90, [2])
    images = torch.rand(4, 1, 5, 5)
    other = data.from_arrays(images, torch.tensor([0, 1, 0, 1]), images, torch.tensor([0, 1, 0, 1]), bounds=(0, 1))
    with pytest.raises(InputError, match="trained on"):
        evaluate_gradients(chains, other, 4, [2])


def test_not_a_predictive_not_a_dataset(chains, moons):
    with pytest.raises(InputError, match="Sequential"):
        evaluate_gradients(nets.mlp(2, (), 2), moons, 5, [2])
    with pytest.raises(InputError, match="tuple"):
        evaluate_gradients(chains, (moons.x_test, moons.y_test), 5, [2])
