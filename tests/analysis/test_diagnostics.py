"""Chains that are good, shifted, stuck or alone must look so."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayesrob.analysis import chain_diagnostics
from bayesrob.analysis.diagnostics import MAX_RHAT, MIN_ESS_PER_CHAIN


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
    found = chain_diagnostics(chains(independent), stats())
    assert (found.rhat < MAX_RHAT).all()
    np.testing.assert_allclose(found.ess_bulk, 2000, rtol=0.2)
    assert found.rhat_max == found.rhat.max()
    assert found.ess_bulk_min == found.ess_bulk.min()
    assert found.attrs == {"rhat_threshold": 1.01, "ess_threshold": 4.0 * MIN_ESS_PER_CHAIN}


def test_autocorrelated_draws_count_for_less():
    """An AR(1) chain of coefficient 0.8 is worth (1 - 0.8) / (1 + 0.8) of its draws."""
    rng = np.random.default_rng(1)
    values = np.empty((4, 2000, 1))
    values[:, 0] = rng.standard_normal((4, 1))
    for i in range(1, 2000):
        values[:, i] = 0.8 * values[:, i - 1] + 0.6 * rng.standard_normal((4, 1))
    found = chain_diagnostics(chains(values), stats(num_draws=2000))
    assert float(found.ess_bulk[0]) == pytest.approx(8000 / 9, rel=0.2)


def test_a_shifted_chain_fails_at_its_point_only(independent):
    independent[2, :, 3] += 3
    found = chain_diagnostics(chains(independent), stats())
    assert found.rhat[3] > 1.3
    assert found.ess_bulk[3] < 20
    assert (found.rhat.drop_isel(point=3) < MAX_RHAT).all()
    assert found.rhat_max == found.rhat[3]
    assert found.ess_bulk_min == found.ess_bulk[3]


def test_one_chain_has_an_ess_but_no_rhat(independent):
    found = chain_diagnostics(chains(independent[:1]), stats(1))
    assert np.isnan(found.rhat).all()
    assert np.isnan(found.rhat_max)
    np.testing.assert_allclose(found.ess_bulk, 500, rtol=0.5)  # one chain knows its ESS less well


def test_three_draws_say_nothing(independent):
    found = chain_diagnostics(chains(independent[:, :3]), stats(4, 3))
    assert np.isnan(found.rhat).all()
    assert np.isnan(found.ess_bulk).all()


@pytest.mark.parametrize("num_chains", [1, 4])
def test_chains_that_never_moved_are_undefined_not_perfect(num_chains):
    found = chain_diagnostics(chains(np.full((num_chains, 50, 2), -0.7)), stats(num_chains, 50))
    assert np.isnan(found.rhat).all()
    assert np.isnan(found.ess_bulk).all()
    assert np.isnan(found.ess_bulk_min)


def test_a_stuck_chain_among_good_ones_fails(independent):
    independent[1] = independent[1, 0]
    assert chain_diagnostics(chains(independent), stats()).rhat_max > 1.1


def test_distinct_draws_count_moves():
    """The first draw is one whether it moved or not; each later one that moved is another."""
    accepted = np.zeros((3, 500), bool)
    accepted[0, 0] = True
    accepted[1, [0, 7, 9]] = True
    accepted[2] = True
    found = chain_diagnostics(chains(np.random.default_rng(0).normal(size=(3, 500, 1))), stats(3, accepted=accepted))
    assert found.distinct_draws.values.tolist() == [1, 3, 500]


def test_sampler_statistics_are_summed_by_chain(independent):
    diverging = np.zeros((4, 500), bool)
    diverging[2, :5] = True
    rate = np.broadcast_to(np.array([[0.1], [0.2], [0.3], [0.4]]), (4, 500))
    found = chain_diagnostics(chains(independent), stats(diverging=diverging, acceptance_rate=rate))
    assert found.divergences.values.tolist() == [0, 0, 5, 0]
    np.testing.assert_allclose(found.acceptance_rate, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(found.step_size, 0.1)


def test_missing_statistics_are_left_out(independent):
    found = chain_diagnostics(chains(independent), xr.Dataset())
    assert set(found.data_vars) == {"rhat", "ess_bulk", "ess_tail", "constant", "rhat_max", "ess_bulk_min", "ess_tail_min"}


def test_points_keep_their_names(independent):
    values = chains(independent).assign_coords(point=[3, 1, 4, 15, 9, 2])
    assert chain_diagnostics(values, stats()).point.values.tolist() == [3, 1, 4, 15, 9, 2]
