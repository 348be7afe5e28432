"""Averaged gradients against loops, and against posteriors whose averaged gradient is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from bayesrob.analysis import component_quantiles, gradient_statistics, mean_cosine
from bayesrob.errors import InputError


def draws(num_draws=60, points=4, components=5, seed=0):
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((num_draws, points, components)) + rng.standard_normal((points, components))
    return gradients, rng.uniform(-8, 0, (num_draws, points))


def by_hand(gradients, log_p, count, num_chains):
    """Every statistic of one point, written out as loops over draws, components and batches."""
    weights = [1.0] * count if log_p is None else [math.exp(value) for value in log_p[:count]]
    total = sum(weights)
    components = gradients.shape[1]
    mean = [sum(weights[d] * gradients[d, c] for d in range(count)) / total for c in range(components)]
    norms = [math.sqrt(sum(g**2 for g in gradients[d])) for d in range(count)]
    each = count // (num_chains or 1)
    length = math.isqrt(each)
    if num_chains is None or count < 2 * num_chains or (num_chains < 4 and length < 2):
        batches = [[d] for d in range(count)]
    elif num_chains >= 4:
        batches = [list(range(chain, count, num_chains)) for chain in range(num_chains)]
    else:
        batches = []
        for chain in range(num_chains):
            mine = list(range(chain, count, num_chains))
            blocks = each // length
            cuts = [i * length for i in range(blocks)] + [len(mine)]
            batches += [mine[a:b] for a, b in itertools.pairwise(cuts)]
    variances = []
    for c in range(components):
        sums = [sum(weights[d] / total * (gradients[d, c] - mean[c]) for d in batch) for batch in batches]
        k = len(batches)
        variances.append(sum(s**2 for s in sums) * k / (k - 1) if k > 1 else math.nan)
    error = math.sqrt(sum(variances))
    norm = math.sqrt(sum(m**2 for m in mean))
    return {
        "norm": norm,
        "norm_l_inf": max(abs(m) for m in mean),
        "standard_error": error,
        "debiased_norm": math.nan if math.isnan(error) else math.sqrt(max(0.0, norm**2 - error**2)),
        "draw_norm": sum(w * n for w, n in zip(weights, norms, strict=True)) / total,
        "effective_draws": total**2 / sum(w**2 for w in weights),
        "zero_fraction": sum(m == 0 for m in mean) / components,
        "unsure_fraction": math.nan
        if math.isnan(error)
        else sum(abs(m) <= scipy.stats.t(k - 1).ppf(0.975) * math.sqrt(v) for m, v in zip(mean, variances, strict=True))
        / components,
    }, mean


@pytest.mark.parametrize("num_chains", [None, 1, 3, 4])
def test_every_statistic_is_the_loop_s(num_chains):
    gradients, log_p = draws()
    prefixes = (1, 2, 10, 37, 60)
    statistics = gradient_statistics(gradients, log_p, prefixes, num_chains)
    for objective, weights in (("expected_loss", None), ("predictive_loss", log_p)):
        for count in prefixes:
            for point in range(4):
                w = None if weights is None else weights[:, point]
                expected, mean = by_hand(gradients[:, point], w, count, num_chains)
                at = statistics.sel(objective=objective, num_draws=count).isel(point=point)
                np.testing.assert_allclose(at["gradient"], mean, rtol=1e-12, atol=1e-14)
                for name, value in expected.items():
                    np.testing.assert_allclose(at[name], value, rtol=1e-9, err_msg=f"{name} {objective} {count}")


def test_mirrored_draws_cancel_and_the_error_says_so():
    """Pairs g, -g: the average is zero to rounding, far inside its standard error; nothing is left without that."""
    half = np.random.default_rng(1).standard_normal((250, 3, 20))
    gradients = np.stack([half, -half], axis=1).reshape(500, 3, 20)
    statistics = gradient_statistics(gradients, np.zeros((500, 3)), (10, 100, 500))
    assert (statistics["norm"] < 1e-14).all()
    expected = np.sqrt(20 / statistics["num_draws"]).broadcast_like(statistics["norm"]).transpose(*statistics["norm"].dims)
    np.testing.assert_allclose(statistics["standard_error"], expected, rtol=0.35)
    assert (statistics["debiased_norm"] == 0).all()
    assert (statistics["unsure_fraction"] == 1).all()


def test_what_does_not_cancel_converges_as_one_over_the_root():
    """g_d = mu + noise: norm^2 tends to |mu|^2 + tr(Sigma)/D, the error to sqrt(tr(Sigma)/D), the debiased norm to |mu|."""
    rng = np.random.default_rng(2)
    mu, points, components = 0.3, 400, 16
    gradients = mu + 2 * rng.standard_normal((500, points, components))
    statistics = gradient_statistics(gradients, num_draws=(10, 50, 100, 250, 500)).sel(objective="expected_loss")
    trace, squared = 4 * components, mu**2 * components
    expected = trace / statistics["num_draws"]
    np.testing.assert_allclose((statistics["standard_error"] ** 2).mean("point"), expected, rtol=0.02)
    np.testing.assert_allclose((statistics["norm"] ** 2).mean("point"), squared + expected, rtol=0.04)
    slope = np.polyfit(np.log(statistics["num_draws"]), np.log(statistics["standard_error"].mean("point")), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.01)
    error = np.abs(np.linalg.norm(statistics["gradient"] - mu, axis=-1)).mean(-1)
    assert np.polyfit(np.log(statistics["num_draws"]), np.log(error), 1)[0] == pytest.approx(-0.5, abs=0.02)
    assert float(statistics["debiased_norm"].isel(num_draws=-1).mean()) == pytest.approx(math.sqrt(squared), rel=0.02)


@pytest.mark.parametrize("num_chains", [None, 1, 4])
def test_intervals_cover_a_true_zero_as_often_as_they_say(num_chains):
    gradients = np.random.default_rng(3).standard_normal((200, 500, 4))
    statistics = gradient_statistics(gradients, num_draws=[200], num_chains=num_chains)
    assert float(statistics["unsure_fraction"].mean()) == pytest.approx(0.95, abs=0.012)


def test_batch_means_see_correlated_chains():
    """AR(1) chains of coefficient 0.9: the mean's variance is (1 + 0.9) / (1 - 0.9) = 19 times that of independent draws."""
    rng = np.random.default_rng(4)
    chains, length, points = 4, 1000, 50
    values = np.empty((length, chains, points, 2))
    values[0] = rng.standard_normal((chains, points, 2))
    for i in range(1, length):
        values[i] = 0.9 * values[i - 1] + math.sqrt(1 - 0.81) * rng.standard_normal((chains, points, 2))
    flat = values.reshape(-1, points, 2)
    true = math.sqrt(2 * 19 / flat.shape[0])
    aware = gradient_statistics(flat, num_draws=[4000], num_chains=chains)["standard_error"].mean()
    fooled = gradient_statistics(flat, num_draws=[4000])["standard_error"].mean()
    assert float(aware) == pytest.approx(true, rel=0.25)
    assert float(fooled) < 0.3 * true


def test_chains_that_have_not_met_do_not_pass_for_a_gradient():
    """Each chain sits at its own place, around zero: the average is noise of four draws, and nothing is left without it."""
    rng = np.random.default_rng(5)
    places = rng.standard_normal((1, 4, 300, 50))
    gradients = (places + 0.01 * rng.standard_normal((100, 4, 300, 50))).reshape(400, 300, 50)
    statistics = gradient_statistics(gradients, num_draws=[400], num_chains=4).squeeze()
    assert float((statistics["norm"] ** 2).mean()) == pytest.approx(50 / 4, rel=0.05)
    assert float((statistics["standard_error"] ** 2).mean()) == pytest.approx(50 / 4, rel=0.05)
    assert float((gradient_statistics(gradients, num_draws=[400])["standard_error"] ** 2).mean()) < 0.2


@pytest.mark.parametrize(("num_chains", "count"), [(None, 60), (1, 60), (4, 40), (4, 42)])
def test_cosines_are_those_of_the_batches_averages(num_chains, count):
    gradients, log_p = draws()
    statistics = gradient_statistics(gradients, log_p, [count], num_chains)["cosine"].squeeze("num_draws")
    total = 10 if num_chains in (None, 1) else num_chains
    batch = [d * 10 // count if num_chains == 1 else d % total for d in range(count)]
    for objective, weight in (("expected_loss", np.ones_like(log_p)), ("predictive_loss", np.exp(log_p))):
        for point in range(4):
            means = np.zeros((total, 5))
            for d in range(count):
                means[batch[d]] += weight[d, point] * gradients[d, point]
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            expected = means @ means.T
            np.fill_diagonal(expected, math.nan)
            np.testing.assert_allclose(statistics.sel(objective=objective).isel(point=point), expected, rtol=1e-9)


def test_the_mean_cosine_is_the_squared_length_of_the_expected_direction():
    """Heavy-tailed noise around zero: its interval holds zero. Around mu: with many draws it tends to one."""
    rng = np.random.default_rng(6)
    sure = 1 + 0.1 * rng.standard_normal((100, 50, 8))
    for scale in (1.0, 1e-200):  # squares underflow there
        value, low, high = mean_cosine(gradient_statistics(scale * sure, num_draws=[100])["cosine"].squeeze())
        assert 0.99 < low < value < high < 1.01


def test_intervals_of_the_mean_cosine_are_over_draws_not_over_points():
    """Noise that all points share (one direction, random sign and size) has no expected direction: about 5% may say so."""
    rng = np.random.default_rng(7)
    excluded = 0
    for _ in range(300):
        shared = rng.standard_normal((100, 1, 1)) * rng.standard_normal((1, 20, 6))
        statistics = gradient_statistics(shared + 0.01 * rng.standard_normal((100, 20, 6)), num_draws=[100])
        _, low, _ = mean_cosine(statistics["cosine"].squeeze())
        excluded += low > 0
    assert excluded <= 0.06 * 300


def test_squares_that_underflow_are_no_zeros():
    gradients = np.random.default_rng(8).standard_normal((50, 3, 4))
    plain = gradient_statistics(gradients, num_draws=[50])
    tiny = gradient_statistics(1e-200 * gradients, num_draws=[50])
    for name in ("norm", "standard_error", "draw_norm", "norm_l_inf"):
        np.testing.assert_allclose(tiny[name], 1e-200 * plain[name], rtol=1e-12)
    np.testing.assert_array_equal(tiny["unsure_fraction"], plain["unsure_fraction"])


def test_dims_go_by_their_names():
    gradients, log_p = draws()
    plain = gradient_statistics(gradients, log_p, [60], num_chains=4)
    chains = xr.DataArray(gradients.reshape(15, 4, 4, 5), dims=("draw", "chain", "point", "c"))
    turned = gradient_statistics(
        chains.transpose("point", "c", "chain", "draw"),
        xr.DataArray(log_p, dims=("draw", "point")).transpose("point", "draw"),
        [60],
    )
    xr.testing.assert_identical(plain, turned)


def test_whole_numbers_are_numbers():
    assert float(gradient_statistics(np.array([[[1]], [[2]]]), num_draws=[2])["gradient"].squeeze()) == 1.5


def test_a_draw_that_gives_the_label_no_probability_has_no_part_in_the_predictive_loss():
    gradients = np.array([[[1.0]], [[-5.0]]])
    statistics = gradient_statistics(gradients, [[-0.1], [-800.0]], [2]).sel(objective="predictive_loss")
    assert float(statistics["gradient"].squeeze()) == 1.0
    assert float(statistics["draw_norm"].squeeze()) == 1.0


def test_float32_underflow_counts_as_zero_and_float64_does_not():
    gradients = np.full((2, 1, 3), 1e-60)
    assert float(gradient_statistics(gradients, num_draws=[2])["zero_fraction"].squeeze()) == 0
    statistics = gradient_statistics(gradients.astype(np.float32), num_draws=[2])
    assert float(statistics["zero_fraction"].squeeze()) == 1
    assert statistics["gradient"].dtype == np.float32


def test_component_quantiles_pool_points_and_components():
    gradients, _ = draws()
    statistics = gradient_statistics(gradients, num_draws=[1, 60])
    quantiles = component_quantiles(statistics["gradient"], (0.0, 0.5, 1.0))
    everything = gradients.mean(0).ravel()
    expected = [everything.min(), np.median(everything), everything.max()]
    np.testing.assert_allclose(quantiles.sel(objective="expected_loss", num_draws=60), expected, rtol=1e-12)


def test_arrays_and_data_arrays_and_images_alike():
    gradients, log_p = draws(components=6)
    plain = gradient_statistics(gradients, log_p, [60])
    labelled = gradient_statistics(
        xr.DataArray(gradients.reshape(60, 4, 1, 2, 3)), xr.DataArray(log_p, dims=("draw", "point")), [60]
    )
    xr.testing.assert_identical(plain, labelled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_draws": [0]}, "num_draws"),
        ({"num_draws": [61]}, "num_draws"),
        ({"num_draws": [10, 5]}, "num_draws"),
        ({"num_draws": []}, "num_draws"),
        ({"num_draws": (1.5, 2)}, "num_draws"),
        ({"num_draws": 5}, "num_draws"),
        ({"num_draws": ("a",)}, "num_draws"),
        ({"num_draws": [5], "num_chains": 0}, "num_chains"),
        ({"num_draws": [5], "num_chains": 2.0}, "num_chains"),
        ({"num_draws": [5], "log_likelihood": np.zeros((60, 3))}, "The log likelihood has shape"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        gradient_statistics(draws()[0], **arguments)


def test_by_default_the_paper_s_numbers_of_draws_that_there_are():
    assert gradient_statistics(draws()[0])["num_draws"].values.tolist() == [1, 10, 50]


def test_nan_is_refused():
    gradients, _ = draws()
    gradients[3, 1, 2] = math.nan
    with pytest.raises(InputError, match="not finite"):
        gradient_statistics(gradients, num_draws=[5])
