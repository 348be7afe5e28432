"""Hamiltonian dynamics against closed forms and against Pyro's own integrator."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.dual_averaging import DualAveraging as PyrosDualAveraging
from pyro.ops.integrator import velocity_verlet

from bayesrob import rng
from bayesrob.inference.chains import Phase, Point, Warmup, leapfrog
from bayesrob.inference.chains.adaptation import DualAveraging, RunningVariance, StepSizeSearch, mass_windows
from bayesrob.inference.chains.leapfrog import kinetic, point
from bayesrob.models import LogJoint


@pytest.fixture
def target(classifier, moons):
    """A posterior over 22 weights, in float64."""
    return LogJoint(classifier.double(), moons.x_train, moons.y_train)


@pytest.fixture
def start(target):
    return point(target, 0.5 * torch.randn(22, generator=rng.generator(0, "start"), dtype=torch.float64))


@pytest.fixture
def momentum():
    return torch.randn(22, generator=rng.generator(0, "momentum"), dtype=torch.float64)


@pytest.fixture
def inverse_mass():
    return torch.linspace(0.5, 2.0, 22, dtype=torch.float64)


def hamiltonian(state, momentum, inverse_mass):
    return float(-state.log_joint + kinetic(momentum, inverse_mass))


def test_point_holds_the_log_joint_and_its_gradient(target, start, moons):
    theta = start.theta.clone().requires_grad_()
    log_joint = target.model.log_joint(theta, moons.x_train.double(), moons.y_train)
    torch.testing.assert_close(start.log_joint, log_joint.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(start.gradient, torch.autograd.grad(log_joint, theta)[0], rtol=1e-10, atol=1e-12)


def test_kinetic_energy_by_hand():
    assert float(kinetic(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]))) == 0.5 * (1 * 3 + 4 * 0.5)


def test_kinetic_energy_is_summed_in_float64():
    momentum = torch.full((100_000,), 0.1)
    assert float(kinetic(momentum, torch.ones(()))) == pytest.approx(0.5 * 1e5 * float(momentum[0]) ** 2, rel=1e-7)


def test_negated_momentum_comes_back(target, start, momentum, inverse_mass):
    end, p = leapfrog(target, start, momentum, inverse_mass, 0.05, num_steps=20)
    assert (end.theta - start.theta).norm() > 0.5  # it went somewhere
    back, p = leapfrog(target, end, -p, inverse_mass, 0.05, num_steps=20)
    torch.testing.assert_close(back.theta, start.theta, rtol=0, atol=1e-10)
    torch.testing.assert_close(-p, momentum, rtol=0, atol=1e-10)
    torch.testing.assert_close(back.log_joint, start.log_joint, rtol=0, atol=1e-10)


def test_inputs_are_not_modified(target, start, momentum, inverse_mass):
    before = start.theta.clone(), start.gradient.clone(), momentum.clone(), inverse_mass.clone()
    leapfrog(target, start, momentum, inverse_mass, 0.05, num_steps=3)
    assert all(map(torch.equal, before, (start.theta, start.gradient, momentum, inverse_mass)))


def test_energy_error_is_second_order(target, start, momentum, inverse_mass):
    """The same trajectory length with half the step: a quarter of the error."""
    energy = hamiltonian(start, momentum, inverse_mass)
    errors = []
    for halvings in range(3):
        end, p = leapfrog(target, start, momentum, inverse_mass, 0.02 / 2**halvings, num_steps=10 * 2**halvings)
        errors.append(hamiltonian(end, p, inverse_mass) - energy)
    ratios = [errors[0] / errors[1], errors[1] / errors[2]]
    assert ratios == pytest.approx([4.0, 4.0], rel=0.1)


def test_one_step_on_a_gaussian_in_closed_form(linear_gaussian):
    """On N(mean, precision^-1): p' = p - e A u / 2, u' = u + e M^-1 p', p'' = p' - e A u' / 2 with u = theta - mean."""
    exact = linear_gaussian()
    target = LogJoint(exact.model.double(), exact.dataset.x_train, exact.dataset.y_train)
    theta, p = torch.tensor([0.3, -0.2, 0.9]).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    inverse_mass, step = torch.tensor([1.0, 0.5, 2.0]).double(), 0.03
    end, end_p = leapfrog(target, point(target, theta), p, inverse_mass, step, num_steps=1)
    half = p - 0.5 * step * exact.precision @ (theta - exact.mean)
    moved = theta + step * inverse_mass * half
    torch.testing.assert_close(end.theta, moved, rtol=1e-6, atol=1e-6)  # the data are float32
    torch.testing.assert_close(end_p, half - 0.5 * step * exact.precision @ (moved - exact.mean), rtol=1e-5, atol=1e-5)


def test_phase_space_volume_is_kept(linear_gaussian):
    exact = linear_gaussian()
    target = LogJoint(exact.model.double(), exact.dataset.x_train, exact.dataset.y_train)
    inverse_mass = torch.tensor([1.0, 0.5, 2.0]).double()

    def flow(state):
        end, p = leapfrog(target, point(target, state[:3]), state[3:], inverse_mass, 0.03, num_steps=7)
        return torch.cat([end.theta, p])

    # The flow is affine here, so differences of it are its Jacobian exactly.
    origin = flow(torch.zeros(6).double())
    jacobian = torch.stack([flow(unit) - origin for unit in torch.eye(6).double()])
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-8)


def test_trajectory_ends_where_pyros_does(target, start, momentum, classifier, moons):
    x, y = moons.x_train.double(), moons.y_train
    _, potential, _, _ = initialize_model(classifier, model_args=(x, y))
    weights = classifier.unflatten(start.theta)
    z, r, _, energy = velocity_verlet(weights, classifier.unflatten(momentum), potential, lambda p: p, 0.05, 12)
    end, p = leapfrog(target, start, momentum, torch.ones_like(momentum), 0.05, num_steps=12)
    torch.testing.assert_close(end.theta, classifier.flatten(z), rtol=0, atol=1e-10)
    torch.testing.assert_close(p, classifier.flatten(r), rtol=0, atol=1e-10)
    assert float(-end.log_joint) == pytest.approx(float(energy), rel=1e-12)


def test_every_row_of_a_batch_is_its_own_trajectory(target):
    """Other starts, momenta, masses and step sizes in each row; the last row is nowhere, and nobody minds."""
    g = rng.generator(0, "rows")
    thetas, momenta = (0.5 * torch.randn(4, 22, generator=g, dtype=torch.float64) for _ in range(2))
    thetas[3] = torch.nan
    inverse_masses = torch.rand(4, 22, generator=g, dtype=torch.float64) + 0.5
    sizes = [0.01, 0.05, -0.03, 0.02]
    batch = point(target, thetas)
    ends, ps = leapfrog(target, batch, momenta, inverse_masses, sizes, num_steps=6)
    kinetics = kinetic(ps, inverse_masses)
    for k in range(3):
        start = point(target, thetas[k])
        torch.testing.assert_close(batch.rows()[k], start, rtol=1e-10, atol=1e-10)
        end, p = leapfrog(target, start, momenta[k], inverse_masses[k], sizes[k], num_steps=6)
        torch.testing.assert_close(ends.rows()[k], end, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ps[k], p, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(kinetics[k], kinetic(p, inverse_masses[k]), rtol=1e-10, atol=0)
    assert ends.log_joint[3].isnan()
    assert ends.log_joint.dtype == torch.float64


def test_inputs_of_a_batch_are_not_modified(target):
    batch = point(target, torch.ones(2, 22).double())
    momenta, unit = torch.ones(2, 22).double(), torch.ones(2, 22).double()
    before = batch.theta.clone(), batch.gradient.clone()
    leapfrog(target, batch, momenta, unit, [0.1, 0.2], num_steps=2)
    assert all(map(torch.equal, before, (batch.theta, batch.gradient)))
    assert torch.equal(momenta, unit)


def test_a_row_that_is_kept_does_not_keep_its_batch():
    batch = Point(torch.randn(50, 3), torch.randn(50).double(), torch.randn(50, 3))
    row = Phase(batch.rows()[7], torch.randn(50, 3)[7], 0.0)
    own = row.own()
    for ours, theirs in ((own.point.theta, batch.theta[7]), (own.point.gradient, batch.gradient[7])):
        assert torch.equal(ours, theirs)
        assert ours.untyped_storage().nbytes() == 3 * 4
    assert torch.equal(own.momentum, row.momentum)
    assert own.momentum.untyped_storage().nbytes() == 3 * 4
    assert own.own().point.theta is own.point.theta  # nothing to do


@pytest.mark.parametrize("first", [1e-6, 0.1, 50.0])
def test_reasonable_step_size_crosses_one_half(target, start, first):
    """One side of the returned size accepts more than one half, the other less, with the momentum that it drew."""
    unit = torch.ones_like(start.theta)
    chains = Point(start.theta[None], start.log_joint[None], start.gradient[None])
    warmup = Warmup(10, None, adapts_step=True, adapts_mass=False, target_accept=0.8)
    state = warmup.begin(chains, [rng.generator(0, "step")])
    state.search = [StepSizeSearch(first)]
    while state.search[0] is not None:
        warmup.search(target, state, [0])
    (size,) = state.step_size
    momentum = torch.randn(22, generator=rng.generator(0, "step"), dtype=torch.float32).double()

    def acceptance(step):
        end, p = leapfrog(target, start, momentum, unit, step, num_steps=1)
        return math.exp(hamiltonian(start, momentum, unit) - hamiltonian(end, p, unit))

    before = size / 2 if size > first else size * 2
    assert (acceptance(before) - 0.5) * (acceptance(size) - 0.5) <= 0
    assert math.log2(size / first) == pytest.approx(round(math.log2(size / first)))


def test_dual_averaging_finds_a_known_step():
    """Acceptance exp(-step) is 0.8 at step -log(0.8)."""
    adaptation = DualAveraging(10.0, 0.8)
    for _ in range(500):
        adaptation.update(math.exp(-adaptation.step_size))
    assert math.exp(-adaptation.final) == pytest.approx(0.8, abs=0.01)


def test_dual_averaging_is_pyros():
    """Whose `step` takes the statistic target - acceptance."""
    ours, theirs = DualAveraging(0.2, 0.7), PyrosDualAveraging(prox_center=math.log(10 * 0.2))
    for acceptance in torch.rand(100, generator=rng.generator(0, "acceptance"), dtype=torch.float64).tolist():
        ours.update(acceptance)
        theirs.step(0.7 - acceptance)
        log_step, log_average = theirs.get_state()
        assert ours.step_size == pytest.approx(math.exp(log_step), rel=1e-10)
        assert ours.final == pytest.approx(math.exp(log_average), rel=1e-10)


def test_dual_averaging_without_updates_keeps_the_step():
    assert DualAveraging(0.25, 0.8).final == 0.25


def test_running_variance_is_numpys():
    """Of two chains, the second of which joins later and is taken together with the first."""
    scales = torch.tensor([1e-3, 1, 10, 100.0])
    draws = torch.randn(50, 2, 4, generator=rng.generator(0, "draws"), dtype=torch.float64) * scales
    running = RunningVariance.like(draws[0])
    for i, draw in enumerate(draws):
        running.update([0, 1] if i >= 20 else [0], draw if i >= 20 else draw[:1])
    np.testing.assert_allclose(running.mean[0].numpy(), draws[:, 0].numpy().mean(0), rtol=1e-10)
    variances = running.take([0, 1]).numpy()
    for chain, n in ((0, 50), (1, 30)):
        expected = np.var(draws[50 - n :, chain].numpy(), axis=0, ddof=1) * n / (n + 5) + 1e-3 * 5 / (n + 5)
        np.testing.assert_allclose(variances[chain], expected, rtol=1e-12)
    assert running.count == [0, 0]
    assert not running.squares.any()


@pytest.mark.parametrize("warmup", [10, 20, 100, 250, 1000, 1777])
def testmass_windows_cover_the_middle_once(warmup):
    windows = mass_windows(warmup)
    assert windows[0][0] == int(0.15 * warmup)
    assert windows[-1][1] == int(0.9 * warmup)  # the rest adapts the step to the last mass
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(windows))
    lengths = [stop - start for start, stop in windows]
    assert lengths == sorted(lengths)
    assert min(lengths) >= 5


def testmass_windows_of_a_long_warmup_double():
    assert [stop - start for start, stop in mass_windows(1000)] == [25, 50, 100, 575]


def test_a_warmup_too_short_for_a_variance_has_no_window():
    assert mass_windows(5) == []
