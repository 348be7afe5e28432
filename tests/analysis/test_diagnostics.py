"""Chains that are good, shifted, stuck or alone must look so."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayesrob.analysis import chain_diagnostics
from bayesrob.analysis.diagnostics import MAX_RHAT, MIN_BFMI, MIN_ESS_PER_CHAIN


def chains(values) -> xr.DataArray:
    return xr.DataArray(values, dims=("chain", "draw", "point"))


def stats(num_chains=4, num_draws=500, **changes) -> xr.Dataset:
    shape = (num_chains, num_draws)
    arrays = {
        "accepted": np.ones(shape, bool),
        "diverging": np.zeros(shape, bool),
        "acceptance_rate": np.full(shape, 0.9),
        "step_size": np.full(shape, 0.1),
    }
    return xr.Dataset({name: (("chain", "draw"), values) for name, values in (arrays | changes).items()})


@pytest.fixture
def independent():
    return np.random.default_rng(0).standard_normal((4, 500, 6))


def test_independent_draws_pass(independent):
    summary = chain_diagnostics(chains(independent), stats())
    assert (summary.rhat < MAX_RHAT).all()
    np.testing.assert_allclose(summary.ess_bulk, 2000, rtol=0.2)
    assert summary.rhat_max == summary.rhat.max()
    assert summary.ess_bulk_min == summary.ess_bulk.min()
    assert summary.attrs == {"rhat_threshold": 1.01, "ess_threshold": 4.0 * MIN_ESS_PER_CHAIN}


def test_autocorrelated_draws_count_for_less():
    """An AR(1) chain of coefficient 0.8 is worth (1 - 0.8) / (1 + 0.8) of its draws."""
    rng = np.random.default_rng(1)
    values = np.empty((4, 2000, 1))
    values[:, 0] = rng.standard_normal((4, 1))
    for i in range(1, 2000):
        values[:, i] = 0.8 * values[:, i - 1] + 0.6 * rng.standard_normal((4, 1))
    summary = chain_diagnostics(chains(values), stats(num_draws=2000))
    assert float(summary.ess_bulk[0]) == pytest.approx(8000 / 9, rel=0.2)


def test_a_shifted_chain_fails_at_its_point_only(independent):
    independent[2, :, 3] += 3
    summary = chain_diagnostics(chains(independent), stats())
    assert summary.rhat[3] > 1.3
    assert summary.ess_bulk[3] < 20
    assert (summary.rhat.drop_isel(point=3) < MAX_RHAT).all()
    assert summary.rhat_max == summary.rhat[3]
    assert summary.ess_bulk_min == summary.ess_bulk[3]


def test_one_chain_is_compared_with_itself(independent):
    summary = chain_diagnostics(chains(independent[:1]), stats(1))
    assert 0.99 < summary.rhat_max < 1.05
    drifting = independent[:1] + np.linspace(0, 3, independent.shape[1])[:, None]
    assert chain_diagnostics(chains(drifting), None).rhat_max > 1.3
    np.testing.assert_allclose(summary.ess_bulk, 500, rtol=0.5)  # one chain knows its ESS less well


def test_three_draws_say_nothing(independent):
    summary = chain_diagnostics(chains(independent[:, :3]), stats(4, 3))
    assert np.isnan(summary.rhat).all()
    assert np.isnan(summary.ess_bulk).all()


@pytest.mark.parametrize("num_chains", [1, 4])
def test_chains_that_never_moved_are_undefined_not_perfect(num_chains):
    summary = chain_diagnostics(chains(np.full((num_chains, 50, 2), -0.7)), stats(num_chains, 50))
    assert np.isnan(summary.rhat).all()
    assert np.isnan(summary.ess_bulk).all()
    assert np.isnan(summary.ess_bulk_min)


def test_a_stuck_chain_among_good_ones_fails(independent):
    independent[1] = independent[1, 0]
    assert chain_diagnostics(chains(independent), stats()).rhat_max > 1.1


def test_distinct_draws_count_moves():
    """The first draw is one whether it moved or not; each later one that moved is another."""
    accepted = np.zeros((3, 500), bool)
    accepted[0, 0] = True
    accepted[1, [0, 7, 9]] = True
    accepted[2] = True
    summary = chain_diagnostics(chains(np.random.default_rng(0).normal(size=(3, 500, 1))), stats(3, accepted=accepted))
    assert summary.distinct_draws.values.tolist() == [1, 3, 500]


def test_sampler_statistics_are_summed_by_chain(independent):
    diverging = np.zeros((4, 500), bool)
    diverging[2, :5] = True
    rate = np.broadcast_to(np.array([[0.1], [0.2], [0.3], [0.4]]), (4, 500))
    summary = chain_diagnostics(chains(independent), stats(diverging=diverging, acceptance_rate=rate))
    assert summary.divergences.values.tolist() == [0, 0, 5, 0]
    np.testing.assert_allclose(summary.acceptance_rate, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(summary.step_size, 0.1)


def test_missing_statistics_are_left_out(independent):
    summary = chain_diagnostics(chains(independent), xr.Dataset())
    assert set(summary.data_vars) == {"rhat", "ess_bulk", "ess_tail", "constant", "rhat_max", "ess_bulk_min", "ess_tail_min"}


def test_points_keep_their_names(independent):
    values = chains(independent).assign_coords(point=[3, 1, 4, 15, 9, 2])
    assert chain_diagnostics(values, stats()).point.values.tolist() == [3, 1, 4, 15, 9, 2]


# ---- constant quantities -------------------------------------------------------------------------------------------------


def test_points_that_no_draw_changes_are_counted_and_left_out(independent):
    """A network so confident that its log probability is exactly zero says nothing about the chains, good or bad."""
    expected = chain_diagnostics(chains(independent[..., [0, 2, 3, 5]]), stats())
    independent[..., 1] = 0.0
    independent[..., 4] = -3.5
    summary = chain_diagnostics(chains(independent), stats())
    assert int(summary.constant) == 2
    assert np.isnan(summary.rhat[[1, 4]]).all()
    assert np.isnan(summary.ess_bulk[[1, 4]]).all()
    assert np.isnan(summary.ess_tail[[1, 4]]).all()
    for name in ("rhat_max", "ess_bulk_min", "ess_tail_min"):
        assert float(summary[name]) == float(expected[name])


def test_a_point_that_one_chain_alone_leaves_is_not_constant(independent):
    """Three chains stuck at one value and the fourth elsewhere: the worst there is."""
    independent[..., 1] = 0.0
    independent[3, :, 1] = 1.0
    summary = chain_diagnostics(chains(independent), stats())
    assert int(summary.constant) == 0
    assert not summary.rhat_max <= MAX_RHAT


def test_one_draw_that_differs_is_not_constant(independent):
    independent[..., 1] = 0.0
    independent[2, 77, 1] = 1e-12
    assert int(chain_diagnostics(chains(independent), stats()).constant) == 0


def test_everything_constant_passes_nothing():
    summary = chain_diagnostics(chains(np.zeros((4, 50, 3))), stats(4, 50))
    assert int(summary.constant) == 3
    assert not summary.rhat_max <= MAX_RHAT
    assert not summary.ess_bulk_min >= 1


# ---- energy --------------------------------------------------------------------------------------------------------------


def test_bfmi_is_the_energy_that_a_momentum_brings():
    """E (e_i - e_{i-1})^2 / Var e (Betancourt 2016): 2 of independent energies, 2 (1 - a) of an AR(1) chain's."""
    rng = np.random.default_rng(0)
    energy = rng.standard_normal((4, 4000))
    for i in range(1, 4000):
        energy[1, i] = 0.9 * energy[1, i - 1] + np.sqrt(1 - 0.81) * energy[1, i]
    energy[2] = 5 * energy[2] - 300
    values = chains(rng.standard_normal((4, 4000, 1)))
    summary = chain_diagnostics(values, stats(4, 4000, energy=energy))
    np.testing.assert_allclose(summary.bfmi, [2, 0.2, 2, 2], rtol=0.2)
    by_hand = [(np.diff(e) ** 2).mean() / e.var() for e in energy]
    np.testing.assert_allclose(summary.bfmi, by_hand, rtol=1e-2)
    assert (summary.bfmi[[0, 2, 3]] > MIN_BFMI).all()
    assert summary.bfmi[1] < MIN_BFMI
    assert summary.bfmi.dims == ("chain",)


def test_bfmi_of_one_chain_and_of_one_draw():
    energy = np.random.default_rng(0).standard_normal((1, 100))
    summary = chain_diagnostics(chains(energy[..., None]), stats(1, 100, energy=energy))
    np.testing.assert_allclose(summary.bfmi, [(np.diff(energy[0]) ** 2).mean() / energy[0].var()], rtol=2e-2)
    one = chain_diagnostics(chains(energy[:, :1, None]), stats(1, 1, energy=energy[:, :1]))
    assert "bfmi" not in one


# ---- gradients and weights -----------------------------------------------------------------------------------------------


def test_gradients_and_weights_are_judged_beside_each_by_its_own_name(independent):
    """A shifted weight shows in the weights' R-hat and in no other; so too a gradient's."""
    rng = np.random.default_rng(7)
    gradients = xr.DataArray(rng.standard_normal((4, 500, 3, 2)), dims=("chain", "draw", "point", "direction"))
    weights = xr.DataArray(rng.standard_normal((4, 500, 5)), dims=("chain", "draw", "weight"))
    weights[1, :, 2] += 4
    gradients[3, :, 1, 0] += 2
    gradients[..., 2, 1] = 0.0
    alone = chain_diagnostics(chains(independent[..., :3]), stats())
    summary = chain_diagnostics(chains(independent[..., :3]), stats(), gradients, weights)
    xr.testing.assert_identical(summary[list(alone.data_vars)], alone)
    assert summary.gradient_rhat.dims == ("gradient_point", "direction")
    assert summary.weight_rhat.dims == ("weight",)
    assert float(summary.gradient_rhat_max) == float(summary.gradient_rhat[1, 0]) > 1.2
    assert float(summary.weight_rhat_max) == float(summary.weight_rhat[2]) > 1.5
    assert float(summary.gradient_ess_bulk_min) == float(summary.gradient_ess_bulk[1, 0]) < 50
    assert float(summary.weight_ess_bulk_min) == float(summary.weight_ess_bulk[2]) < 50
    assert (int(summary.constant), int(summary.gradient_constant), int(summary.weight_constant)) == (0, 1, 0)
    assert np.isnan(summary.gradient_rhat[2, 1])
    good = [
        summary.gradient_rhat[0],
        summary.gradient_rhat[1, 1:],
        summary.gradient_rhat[2, :1],
        summary.weight_rhat[[0, 1, 3, 4]],
    ]
    assert all((values < 1.02).all() for values in good)


@pytest.mark.parametrize(("name", "axis"), [("gradient_", "direction"), ("weight_", "weight")])
def test_gradients_and_weights_are_optional(independent, name, axis):
    values = xr.DataArray(independent[..., None] if axis == "direction" else independent)
    values = values.rename(
        dict(
            zip(
                values.dims,
                ("chain", "draw", "point", axis) if axis == "direction" else ("chain", "draw", axis),
                strict=True,
            )
        )
    )
    key = "input_gradients" if axis == "direction" else "weights"
    summary = chain_diagnostics(chains(independent), stats(), **{key: values})
    other = "weight_" if name == "gradient_" else "gradient_"
    assert f"{name}rhat_max" in summary
    assert f"{other}rhat_max" not in summary
    np.testing.assert_array_equal(summary[f"{name}rhat"].values.ravel(), summary["rhat"].values)
    np.testing.assert_array_equal(summary[f"{name}ess_bulk"].values.ravel(), summary["ess_bulk"].values)
