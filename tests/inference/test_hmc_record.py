"""What HMC records of its chains: statistics that agree with the draws, and divergences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bayesrob.errors import ConvergenceWarning
from bayesrob.inference import HMC
from tests.inference.helpers import by_chain, theta


@pytest.fixture(scope="module")
def recorded(linear_gaussian):
    exact = linear_gaussian()
    post = HMC(num_samples=50, warmup=20, step_size=0.09, num_steps=3, num_chains=2, step_jitter=0.2)
    return exact, post.fit(exact.model, exact.dataset, seed=0)


def test_stats_have_one_entry_for_each_draw(recorded):
    _, post = recorded
    assert {values.shape for values in post.sample_stats.values()} == {(2, 50)}
    assert {"acceptance_rate", "accepted", "diverging", "energy", "energy_error", "lp", "step_size", "n_steps"} == set(
        post.sample_stats
    )
    assert post.num_draws == 100
    assert (post.sample_stats["n_steps"] == 3).all()


def test_lp_is_the_log_joint_of_the_stored_draw(recorded):
    exact, post = recorded
    x, y = exact.dataset.x_train, exact.dataset.y_train
    log_joints = torch.stack([exact.model.log_joint(draw, x, y) for draw in theta(post, exact.model)])
    np.testing.assert_allclose(post.sample_stats["lp"], by_chain(post, log_joints), rtol=1e-5)


def test_acceptance_follows_from_the_energy_error(recorded):
    _, post = recorded
    stats = post.sample_stats
    np.testing.assert_allclose(stats["acceptance_rate"], np.exp(np.minimum(0, -stats["energy_error"])), rtol=1e-12)
    assert 0 < stats["acceptance_rate"].mean() < 1
    assert not stats["diverging"].any()


def test_a_draw_repeats_exactly_where_the_proposal_was_refused(recorded):
    exact, post = recorded
    chains = by_chain(post, theta(post, exact.model))
    moved = (chains[:, 1:] != chains[:, :-1]).any(-1)
    assert np.array_equal(moved, post.sample_stats["accepted"][:, 1:])
    assert moved.any()
    assert not moved.all()


def test_kinetic_energy_is_chi_squared(recorded):
    """energy = -log joint + p' p / 2. In equilibrium p is again standard normal, in 3 dimensions, at the end."""
    exact, _ = recorded
    post = HMC(num_samples=1000, warmup=50, step_size=0.04, num_steps=4, num_chains=2).fit(exact.model, exact.dataset)
    kinetic = post.sample_stats["energy"] + post.sample_stats["lp"]
    assert (kinetic >= 0).all()
    assert 2 * kinetic.mean() == pytest.approx(3.0, abs=4 * (6 / 2000) ** 0.5)


def test_jitter_spreads_the_step_within_its_bounds(recorded):
    _, post = recorded
    steps = post.sample_stats["step_size"]
    assert steps.min() >= 0.09 * 0.8
    assert steps.max() <= 0.09 * 1.2
    assert steps.max() - steps.min() > 0.3 * 0.09


def test_a_given_step_is_used_as_it_is(classifier, moons):
    fixed = HMC(num_samples=5, warmup=5, step_size=0.013, num_steps=2, num_chains=1).fit(classifier, moons)
    assert (fixed.sample_stats["step_size"] == 0.013).all()


def test_an_adapted_step_is_fixed_after_the_warmup_but_for_its_jitter(classifier, moons):
    settings = {"num_samples": 20, "warmup": 5, "step_size": 0.013, "num_steps": 2, "num_chains": 1, "adapt_step_size": True}
    (step,) = np.unique(HMC(**settings, step_jitter=0.0).fit(classifier, moons).sample_stats["step_size"])
    assert step != 0.013
    jittered = HMC(**settings).fit(classifier, moons).sample_stats["step_size"]
    assert len(np.unique(jittered)) == 20
    assert jittered.max() / jittered.min() < 1.3 / 0.7


@pytest.mark.parametrize("step_size", [50.0, 1e30])
def test_divergences_are_recorded_and_warned_about(linear_gaussian, step_size):
    exact = linear_gaussian()
    sampler = HMC(num_samples=5, warmup=2, step_size=step_size, num_steps=3, num_chains=2)
    with pytest.warns(ConvergenceWarning) as warned:
        post = sampler.fit(exact.model, exact.dataset)
    assert post.sample_stats["diverging"].all()
    assert not post.sample_stats["accepted"].any()
    assert (post.sample_stats["acceptance_rate"] == 0).all()
    assert theta(post, exact.model).isfinite().all()
    notes = post.info["notes"]
    assert [str(w.message) for w in warned] == notes
    assert "10 of 10 trajectories diverged" in notes[0]
    assert "chains [1, 2] accepted fewer than 10%" in notes[1]
