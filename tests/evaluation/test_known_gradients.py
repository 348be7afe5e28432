"""Averaged gradients of posteriors that are known, and in either precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

from bayesrob import data, nets, rng
from bayesrob.evaluation import evaluate_gradients
from bayesrob.models import Normal
from bayesrob.predictive import GaussianDraws
from tests.evaluation.linear_draws import linear

# ---- precision -----------------------------------------------------------------------------------------------------------


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
        assert (nothing["norm"].sel(objective="double_softmax_per_draw") < 1e-14).all()
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
