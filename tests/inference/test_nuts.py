"""NUTS: its trajectories state by state. Its posteriors are tested beside HMC's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bayesrob import rng
from bayesrob.errors import ConvergenceWarning, InputError
from bayesrob.inference import NUTS
from bayesrob.inference.chains import Phase, Trajectory, leapfrog, leapfrog_each
from bayesrob.inference.chains.leapfrog import kinetic, point
from bayesrob.models import LogJoint


@pytest.fixture
def target(linear_gaussian) -> LogJoint:
    exact = linear_gaussian(n=20, d=3)
    exact.model.double()
    return LogJoint(exact.model, exact.dataset.x_train, exact.dataset.y_train)


def start(target: LogJoint):
    generator = rng.generator(3, "tests", "nuts")
    theta, momentum = (torch.randn(4, generator=generator).double() for _ in range(2))
    inverse_mass = torch.tensor([1.0, 0.5, 2.0, 1.5]).double()
    state = point(target, theta)
    return state, momentum, inverse_mass, float(-state.log_joint + kinetic(momentum, inverse_mass))


class OneDoubling(Trajectory):
    """A trajectory that ends with its first complete doubling, which it keeps as `doubling`."""

    def _double(self, new, generator):
        self.doubling = new
        return True


def doubling(target, direction: int, depth: int, step: float, generator: torch.Generator) -> OneDoubling:
    """The states of one doubling of 2^depth states from the start."""
    state, momentum, inverse_mass, energy = start(target)
    walk = OneDoubling.begin(Phase(state, momentum, energy), inverse_mass, step, 10, generator)
    walk.forward, walk.depth = direction > 0, depth
    over = False
    while not over:
        (end,) = leapfrog_each(target, [walk.end], [inverse_mass], [walk.signed_step])
        over = walk.receive(end, generator)
    assert not walk.turned
    return walk


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_doubling_is_the_plain_trajectory(target, direction, depth):
    state, momentum, inverse_mass, energy = start(target)
    step = 0.002  # too short to turn
    walk = doubling(target, direction, depth, step, rng.generator(0))
    tree = walk.doubling
    states = []
    for _ in range(2**depth):
        state, momentum = leapfrog(target, state, momentum, inverse_mass, direction * step)
        states.append((state, momentum))
    weights = torch.stack([energy + s.log_joint - kinetic(p, inverse_mass) for s, p in states])
    assert walk.steps == tree.size == 2**depth
    assert tree.log_weight == pytest.approx(float(weights.logsumexp(0)), abs=1e-10)
    torch.testing.assert_close(tree.momentum_sum, torch.stack([p for _, p in states]).sum(0))
    near, far = (tree.first, tree.last) if direction > 0 else (tree.last, tree.first)
    torch.testing.assert_close(near.point.theta, states[0][0].theta)
    torch.testing.assert_close(far.point.theta, states[-1][0].theta)
    assert any(torch.equal(tree.drawn.point.theta, s.theta) for s, _ in states)
    assert walk.acceptance == pytest.approx(float(weights.exp().clamp(max=1).sum()))
    assert walk.max_error == pytest.approx(float(-weights[weights.abs().argmax()]), abs=1e-10)


def test_states_of_a_doubling_are_drawn_by_their_weight(target):
    """2,000 doublings of four states with a coarse step, whose weights differ."""
    state, momentum, inverse_mass, _ = start(target)
    step = 0.04
    states, end = [], (state, momentum)
    for _ in range(4):
        end = leapfrog(target, *end, inverse_mass, step)
        states.append(end)
    weights = torch.stack([s.log_joint - kinetic(p, inverse_mass) for s, p in states]).softmax(0).numpy()
    assert weights.max() > 1.2 * weights.min()
    counts, generator = np.zeros(4), rng.generator(0)
    for _ in range(2000):
        drawn = doubling(target, 1, 2, step, generator).doubling.drawn.point.theta
        counts[[torch.allclose(drawn, s.theta) for s, _ in states].index(True)] += 1
    error = np.sqrt(weights * (1 - weights) / 2000)
    assert (np.abs(counts / 2000 - weights) < 4 * error).all()


@pytest.mark.parametrize("step", [0.03, 0.06])
@pytest.mark.parametrize("unit_mass", [True, False])
def test_turns_are_those_of_all_momentum_sums(target, step, unit_mass):
    """Two neighbouring stretches at every place and length of a trajectory: six plain products each, none reused."""
    state, momentum, inverse_mass, energy = start(target)
    if unit_mass:
        inverse_mass = torch.ones_like(inverse_mass)
        energy = float(-state.log_joint + kinetic(momentum, inverse_mass))
    walk = Trajectory.begin(Phase(state, momentum, energy), inverse_mass, step, 10, rng.generator(0))
    leaves, momenta = [], []
    for _ in range(32):
        state, momentum = leapfrog(target, state, momentum, inverse_mass, step)
        leaves.append(walk.leaf(Phase(state, momentum, float(kinetic(momentum, inverse_mass) - state.log_joint)), 0.0))
        momenta.append(momentum)

    def turns(first, stop):
        along = inverse_mass * torch.stack(momenta[first:stop]).sum(0)
        return float(along @ momenta[first]) <= 0 or float(along @ momenta[stop - 1]) <= 0

    found, trees, size = [], leaves, 1
    while len(trees) > 1:
        joined = []
        for i, (before, after) in enumerate(zip(trees[::2], trees[1::2], strict=True)):
            joined.append(walk.join(before, after, chosen=after))
            a, middle, b = 2 * i * size, (2 * i + 1) * size, (2 * i + 2) * size
            assert walk.turned == (turns(a, b) or turns(a, middle + 1) or turns(middle - 1, b))
            found.append(walk.turned)
            p, v = torch.stack(momenta[a:b]).sum(0), inverse_mass * momenta[a]
            assert joined[-1].along_first == pytest.approx(float(p @ v), abs=1e-9)
            assert joined[-1].along_last == pytest.approx(float(p @ (inverse_mass * momenta[b - 1])), abs=1e-9)
        trees, size = joined, 2 * size
    assert any(found)
    assert not all(found)


def test_a_trajectory_turns_after_about_half_a_period(linear_gaussian):
    """Prior only: N(0, 1) in 21 dimensions has period 2 pi, so about 31 steps of 0.1, as a power of two, turn."""
    exact = linear_gaussian(n=2, d=20, noise=1e4)
    post = NUTS(num_samples=100, warmup=10, step_size=0.1, num_chains=1).fit(exact.model, exact.dataset)
    lengths = post.sample_stats["n_steps"] * 0.1
    assert np.pi / 2 < np.median(lengths) < 2 * np.pi
    assert (post.sample_stats["n_steps"] < 2 ** post.sample_stats["tree_depth"]).all()


def test_largest_energy_error_bounds_that_of_the_drawn_state(classifier, moons):
    stats = NUTS(num_samples=40, warmup=20, num_chains=2, max_tree_depth=5).fit(classifier, moons).sample_stats
    assert {"energy", "energy_error", "max_energy_error", "tree_depth", "reached_max_treedepth", "n_steps"} <= set(stats)
    largest, drawn = stats["max_energy_error"], stats["energy_error"]
    assert (np.abs(drawn) <= np.abs(largest)).all()
    assert (np.abs(drawn) < np.abs(largest)).any()
    assert (largest < 0).any()  # it has a sign
    assert (largest > 0).any()


def test_trajectories_that_are_cut_are_recorded(classifier, moons):
    post = NUTS(num_samples=5, warmup=2, step_size=1e-4, max_tree_depth=2, num_chains=1).fit(classifier, moons)
    assert post.sample_stats["reached_max_treedepth"].all()
    assert (post.sample_stats["n_steps"] == 3).all()


def test_divergences_end_a_trajectory_and_are_noted(linear_gaussian):
    exact = linear_gaussian()
    with pytest.warns(ConvergenceWarning) as warned:
        post = NUTS(num_samples=5, warmup=2, step_size=50.0, num_chains=1).fit(exact.model, exact.dataset)
    assert any("5 of 5 trajectories diverged" in str(warning.message) for warning in warned)
    assert post.sample_stats["diverging"].all()
    assert not post.sample_stats["accepted"].any()
    assert (post.sample_stats["acceptance_rate"] == 0).all()
    assert (post.sample_stats["max_energy_error"] > 1000).all()


@pytest.mark.parametrize("depth", [0, 2.5, True])
def test_a_tree_depth_that_is_none_is_refused(depth):
    with pytest.raises(InputError, match="max_tree_depth"):
        NUTS(max_tree_depth=depth)
