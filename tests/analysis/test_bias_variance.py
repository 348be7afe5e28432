"""Decompositions: identities, known truths, and what is refused."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from bayesrob.analysis import bias_variance
from bayesrob.errors import InputError

SEEDS = st.integers(0, 10**6)


def random_logs(seed: int, models: int, points: int, classes: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return log_softmax(scale * random.normal(size=(models, points, classes)), -1), random.integers(classes, size=points)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(2, 6), st.integers(1, 5), st.integers(2, 7), st.floats(0.1, 300))
def test_cross_entropy_splits_exactly(seed, models, points, classes, scale):
    logs, y = random_logs(seed, models, points, classes, scale)
    split = bias_variance(log_predictions=logs, targets=y, loss="cross_entropy", num_resamples=0)
    mean = logs.mean(0)
    star = mean - logsumexp(mean, -1, keepdims=True)
    divergences = (np.exp(star) * (star - logs)).sum(-1).mean(0)  # mean_t KL(pi_star || pi_t)
    own = -np.take_along_axis(logs, y[None, :, None], 2)[..., 0].mean(0)
    size = np.abs(logs).max()
    np.testing.assert_allclose(split["bias"], -star[np.arange(points), y], atol=1e-12 * size)
    np.testing.assert_allclose(split["variance"], divergences, atol=1e-12 * size)
    np.testing.assert_allclose(split["variance"], -logsumexp(mean, -1), atol=1e-12 * size)
    np.testing.assert_allclose(split["bias"] + split["variance"], own, rtol=1e-12)
    np.testing.assert_allclose(split["loss"], own, rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(2, 6), st.integers(1, 5), st.floats(0, 4), st.sampled_from(["plugin", "unbiased"]), st.booleans())
def test_squared_error_splits_exactly(seed, models, points, noise, estimator, several):
    random = np.random.default_rng(seed)
    shape = (points, 3) if several else (points,)
    f, y = random.normal(size=(models, *shape)), random.normal(size=shape)
    split = bias_variance(f, y, estimator=estimator, noise_variance=noise, num_resamples=0)
    risk = ((f - y) ** 2).reshape(models, points, -1).mean((0, 2)) + noise
    np.testing.assert_allclose(split["bias"] + split["variance"] + split["noise"], risk, atol=1e-12)
    np.testing.assert_allclose(split["loss"], risk, atol=1e-12)
    spread = f.var(0, ddof=estimator == "unbiased").reshape(points, -1).mean(1)
    np.testing.assert_allclose(split["variance"], spread, atol=1e-12)


@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_the_unbiased_estimator_is_and_the_plugin_is_not(estimator):
    """Models f_t ~ N(f + 0.3, 0.8^2), five of them, 2,000 times: bias^2 = 0.09, variance = 0.64."""
    random, models = np.random.default_rng(0), 5
    f = random.normal(0.3, 0.8, size=(models, 2000))  # each point is one repetition
    split = bias_variance(f, np.zeros(2000), estimator=estimator, num_resamples=0)
    for name, truth, wrong in (("bias", 0.09, 0.64 / models), ("variance", 0.64, -0.64 / models)):
        values = split[name].values
        error = values.std(ddof=1) / math.sqrt(len(values))
        expected = truth if estimator == "unbiased" else truth + wrong
        assert abs(values.mean() - expected) < 3 * error
        assert estimator == "unbiased" or abs(values.mean() - truth) > 3 * error


def test_noise_is_added_to_the_loss_alone():
    f = np.array([[1.0, 2.0], [3.0, 2.0]])
    split = bias_variance(f, np.array([1.0, 1.0]), noise_variance=0.25, num_resamples=20)
    assert split["mean_bias"] == 1.0
    assert split["mean_variance"] == 0.5
    assert split["noise"] == 0.25
    assert split["mean_loss"] == 1.75
    np.testing.assert_array_equal(split["loss"], [2.25, 1.25])
    without = bias_variance(f, np.array([1.0, 1.0]), num_resamples=20)
    np.testing.assert_allclose(split["mean_loss_interval"], without["mean_loss_interval"] + 0.25)


def test_probabilities_and_their_logs_say_the_same():
    logs, y = random_logs(1, 4, 6, 3, 1.0)
    one = bias_variance(np.exp(logs), y, "cross_entropy")
    xr.testing.assert_allclose(one, bias_variance(log_predictions=logs, targets=y, loss="cross_entropy"), rtol=1e-6)


def test_far_below_what_probabilities_can_hold():
    logs = np.array([[[0.0, -2000.0]], [[0.0, -3000.0]]])
    split = bias_variance(log_predictions=logs, targets=np.array([1]), loss="cross_entropy", num_resamples=0)
    assert split["mean_bias"] == 2500.0
    assert split["mean_variance"] == 0.0


def test_exact_zeros_are_counted_never_clipped():
    p = np.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.0, 1.0], [0.25, 0.75]]])
    split = bias_variance(p, np.array([1, 1, 0]), "cross_entropy")
    assert split["infinite_losses"] == 2  # points 0 and 1 under the first model
    assert split["undefined"] == 1  # point 1: the models agree on no class
    np.testing.assert_array_equal(split["loss"][:2], [np.inf, np.inf])
    np.testing.assert_array_equal(split["bias"][:2], [np.inf, np.nan])
    np.testing.assert_allclose(split["variance"], [math.log(2) / 2, np.inf, -math.log(0.125**0.5 + 0.375**0.5)])
    assert split["mean_loss"] == np.inf
    assert np.isnan(split["mean_loss_interval"]).all()


def test_any_dims_in_any_order():
    logs, y = random_logs(2, 3, 4, 5, 1.0)
    other, _ = random_logs(3, 3, 4, 5, 1.0)
    array = xr.DataArray(
        np.stack([logs, other]), dims=("eps", "draw", "point", "class"), coords={"eps": [0.0, 0.1], "point": [7, 8, 9, 10]}
    )
    split = bias_variance(
        log_predictions=array.transpose("class", "point", "eps", "draw"), targets=y, loss="cross_entropy", axis="draw"
    )
    assert split.attrs["axis"] == "draw"
    assert split["mean_bias_interval"].dims == ("eps", "bound")
    np.testing.assert_array_equal(split["point"], [7, 8, 9, 10])
    for eps, values in ((0.0, logs), (0.1, other)):
        alone = bias_variance(log_predictions=values, targets=y, loss="cross_entropy")
        for name in ("bias", "variance", "loss", "mean_bias", "mean_bias_interval"):
            np.testing.assert_array_equal(split[name].sel(eps=eps), alone[name])


def test_points_in_parts_are_as_in_one(monkeypatch):
    logs, y = random_logs(4, 3, 50, 5, 2.0)
    whole = bias_variance(log_predictions=logs, targets=y, loss="cross_entropy")
    monkeypatch.setattr(sys.modules["bayesrob.analysis.bias_variance"], "CHUNK", 7000)  # seven points at a time
    xr.testing.assert_allclose(bias_variance(log_predictions=logs, targets=y, loss="cross_entropy"), whole, rtol=1e-5)


def test_resamples_by_brute_force():
    """Each resample's bias and variance are those of its models at its points."""
    random = np.random.default_rng(5)
    f, y = random.normal(size=(4, 6)), random.normal(size=6)
    split = bias_variance(f, y, num_resamples=500, seed=3)
    again = np.random.default_rng([3, 4, 6])
    models = again.multinomial(4, np.full(4, 1 / 4), size=500)
    points = again.multinomial(6, np.full(6, 1 / 6), size=500)
    draws = []
    for m, p in zip(models, points, strict=True):
        chosen = f[np.repeat(np.arange(4), m)][:, np.repeat(np.arange(6), p)]
        draws.append(chosen.var(0).mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    value = f.var(0).mean()
    np.testing.assert_allclose(split["mean_variance_interval"], [2 * value - high, 2 * value - low])
    assert not np.array_equal(
        split["mean_variance_interval"], bias_variance(f, y, num_resamples=500)["mean_variance_interval"]
    )


@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_intervals_cover(estimator):
    """Twenty models a_t + b_t x at 40 points: 95% intervals hold the expected variance, at least 85% of 200 times (the
    bootstrap of twenty is somewhat short), and those of a plug-in, which is too small by a twentieth, aim at it too."""
    random, hit = np.random.default_rng(6), 0
    for i in range(200):
        x = random.uniform(-1, 1, size=40)
        a, b = random.normal(size=(2, 20, 1))
        split = bias_variance(a + b * x, np.zeros(40), estimator=estimator, seed=i)
        low, high = split["mean_variance_interval"].values
        hit += low <= 1 + 1 / 3 <= high
    assert 170 <= hit <= 200


@pytest.mark.parametrize(
    ("p", "y", "settings", "message"),
    [
        (np.full((1, 2, 2), 0.5), [0, 1], {}, "1 models"),
        (np.full((2, 2, 2), 0.6), [0, 1], {}, r"sum to 1 only within 0\.2"),
        (np.array([[[1.5, -0.5]]] * 2), [0], {}, "negative"),
        (np.array([[[np.nan, 0.5]]] * 2), [0], {}, "NaN"),
        (np.full((2, 2, 2), 0.5), [0, 2], {}, "from 0 to 2"),
        (np.full((2, 2, 2), 0.5), [0.0, 1.0], {}, "needs a class"),
        (np.full((2, 2), 0.5), [0, 1], {}, "no dim of classes"),
        (np.full((2, 2, 2), 0.5), [0, 1], {"estimator": "unbiased"}, "no unbiased estimator"),
        (np.full((2, 2, 2), 0.5), [0, 1], {"noise_variance": 1.0}, "no noise_variance"),
        (np.full((2, 2, 2), 0.5), [0, 1], {"num_resamples": -1}, "num_resamples"),
        (np.full((2, 2, 2), 0.5), [0, 1], {"level": 1.0}, "level"),
        (np.full(2, 0.5), [0, 1], {}, "shape"),
        (np.full((2, 2), 0.5), [[0.0], [1.0]], {"loss": "mse"}, "The targets are"),
        (np.full((2, 2), 0.5), [0.0, np.inf], {"loss": "mse"}, "The targets are"),
        (np.full((2, 2), 0.5), [0.0, 1.0], {"loss": "mse", "noise_variance": -1.0}, "noise_variance is"),
        (np.full((2, 2), 0.5), [0.0, 1.0], {"loss": "hinge"}, "Unknown loss"),
    ],
)
def test_refused(p, y, settings, message):
    with pytest.raises(InputError, match=message):
        bias_variance(p, np.array(y), **{"loss": "cross_entropy", **settings})


def test_refuses_both_or_neither_and_unknown_dims():
    p = np.full((2, 2, 2), 0.5)
    with pytest.raises(InputError, match="needed exactly once"):
        bias_variance(p, np.array([0, 1]), "cross_entropy", log_predictions=np.log(p))
    with pytest.raises(InputError, match="needed exactly once"):
        bias_variance(targets=np.array([0, 1]))
    with pytest.raises(InputError, match="not model"):
        bias_variance(xr.DataArray(p, dims=("seed", "point", "class")), np.array([0, 1]), "cross_entropy")
