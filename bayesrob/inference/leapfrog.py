"""Hamiltonian dynamics over flat weight vectors, and its adaptation: the pieces that HMC and NUTS compose.

A chain is a generator that asks for its momenta (`Refresh`) and trajectories (`Move`) and is sent the `Phase` they lead to:
whoever answers (`bayesrob.inference.chains`) may follow one trajectory, or those of many chains in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from bayesrob.models import LogJoint

__all__ = [
    "DualAveraging",
    "Move",
    "Phase",
    "Point",
    "Refresh",
    "RunningVariance",
    "kinetic",
    "leapfrog",
    "leapfrog_batched",
    "mass_windows",
    "point",
    "reasonable_step_size",
    "refresh",
]


class Point(NamedTuple):
    """A weight vector with its log joint (float64 scalar, on the CPU where chains decide) and the gradient of that.

    Or a batch of them: `[chain, weight]`, `[chain]` and `[chain, weight]`.
    """

    theta: Tensor
    log_joint: Tensor
    gradient: Tensor

    def own(self) -> Point:
        """The same point in memory of its own: the row of a batch, kept for long, would keep the whole batch alive."""
        return Point(_own(self.theta), self.log_joint, _own(self.gradient))

    def rows(self) -> list[Point]:
        """Each chain's point, as views of the batch."""
        return list(map(Point, self.theta.unbind(), self.log_joint.unbind(), self.gradient.unbind()))


class Phase(NamedTuple):
    """A point with a momentum `[weight]`, and the energy H = -log joint + kinetic energy there."""

    point: Point
    momentum: Tensor
    energy: float

    def own(self) -> Phase:
        """See `Point.own`."""
        return Phase(self.point.own(), _own(self.momentum), self.energy)


class Refresh(NamedTuple):
    """A chain's request for the momentum p = M^(1/2) noise at `start`; noise is `[weight]`, float32 on the CPU."""

    start: Point
    noise: Tensor
    inverse_mass: Tensor


class Move(NamedTuple):
    """A chain's request for the end of `num_steps` leapfrog steps; one chain's arguments of `leapfrog`."""

    start: Point
    momentum: Tensor
    inverse_mass: Tensor
    step_size: float
    num_steps: int


def point(target: LogJoint, theta: Tensor) -> Point:
    log_likelihood, gradient = target.gradient(theta)
    assert log_likelihood is not None
    return Point(theta, (log_likelihood + target.model.log_prior(theta)).cpu(), gradient)


def kinetic(momentum: Tensor, inverse_mass: Tensor) -> Tensor:
    """p' M^-1 p / 2 in float64: energies of a large network agree in their first seven digits. `[chain]` for a batch."""
    exact = momentum.double()
    product = torch.dot if exact.ndim == 1 else torch.linalg.vecdot
    return product(exact * inverse_mass, exact).mul_(0.5)


def leapfrog(
    target: LogJoint, start: Point, momentum: Tensor, inverse_mass: Tensor, step_size: float, num_steps: int
) -> tuple[Point, Tensor]:
    """`num_steps` leapfrog steps (Neal 2011, equations 5.18 to 5.20) with a diagonal mass matrix.

    One gradient a step; the log joint is completed only at the end.
    """
    momentum = torch.add(momentum, start.gradient, alpha=0.5 * step_size)
    theta = torch.addcmul(start.theta, momentum, inverse_mass, value=step_size)
    for _ in range(num_steps - 1):
        momentum.add_(target.gradient(theta, value=False)[1], alpha=step_size)
        theta.addcmul_(momentum, inverse_mass, value=step_size)
    end = point(target, theta)
    return end, momentum.add_(end.gradient, alpha=0.5 * step_size)


def leapfrog_batched(
    target: LogJoint, start: Point, momentum: Tensor, inverse_mass: Tensor, step_size: Tensor, num_steps: int
) -> tuple[Point, Tensor]:
    """`leapfrog` for every row of `[chain, weight]`, each with its own step size, `[chain, 1]`."""
    drift = step_size * inverse_mass
    momentum = torch.addcmul(momentum, start.gradient, step_size, value=0.5)
    theta = torch.addcmul(start.theta, momentum, drift)
    for _ in range(num_steps - 1):
        momentum.addcmul_(target.gradient(theta, value=False)[1], step_size)
        theta.addcmul_(momentum, drift)
    end = point(target, theta)
    return end, momentum.addcmul_(end.gradient, step_size, value=0.5)


def refresh(start: Point, inverse_mass: Tensor, generator: torch.Generator) -> Refresh:
    """p ~ N(0, M). Noise is drawn on the CPU in float32: the same seed, the same proposals, whatever device and dtype."""
    return Refresh(start, torch.randn(start.theta.shape, generator=generator, dtype=torch.float32), inverse_mass)


def reasonable_step_size(
    start: Point, inverse_mass: Tensor, generator: torch.Generator, step_size: float = 0.1
) -> Generator[Refresh | Move, Phase, float]:
    """Double or halve until one leapfrog step's acceptance crosses one half (Hoffman & Gelman 2014, algorithm 4)."""
    initial = yield refresh(start, inverse_mass, generator)

    def log_acceptance(size: float) -> Generator[Refresh | Move, Phase, float]:
        end = yield Move(start, initial.momentum, inverse_mass, size, 1)
        change = initial.energy - end.energy
        return change if math.isfinite(change) else -math.inf

    direction = 1 if (yield from log_acceptance(step_size)) > math.log(0.5) else -1
    for _ in range(50):
        if direction * (yield from log_acceptance(step_size)) <= direction * math.log(0.5):
            break
        step_size *= 2.0**direction
    return step_size


def _own(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor._is_view() else tensor


class DualAveraging:
    """Step-size adaptation towards a target acceptance (Hoffman & Gelman 2014, section 3.2.1, their constants)."""

    def __init__(self, step_size: float, target_accept: float):
        self.mu = math.log(10 * step_size)
        self.target_accept = target_accept
        self.count, self.error, self.log_average = 0, 0.0, 0.0
        self.step_size = step_size

    def update(self, acceptance: float) -> None:
        self.count += 1
        self.error += (self.target_accept - acceptance - self.error) / (self.count + 10)
        log_step = self.mu - math.sqrt(self.count) / 0.05 * self.error
        weight = self.count**-0.75
        self.log_average = weight * log_step + (1 - weight) * self.log_average
        self.step_size = math.exp(log_step)

    @property
    def final(self) -> float:
        """The averaged step size, for use once adaptation ends."""
        return math.exp(self.log_average) if self.count else self.step_size


class RunningVariance:
    """Welford's variance of every weight, shrunk towards 1e-3 as in Stan."""

    def __init__(self, like: Tensor):
        self.count, self.mean, self.squares = 0, torch.zeros_like(like), torch.zeros_like(like)

    def update(self, theta: Tensor) -> None:
        self.count += 1
        delta = theta - self.mean
        self.mean += delta / self.count
        self.squares += delta * (theta - self.mean)

    @property
    def regularised(self) -> Tensor:
        n = self.count
        return (self.squares / (n - 1)) * (n / (n + 5)) + 1e-3 * 5 / (n + 5)


def mass_windows(warmup: int) -> list[tuple[int, int]]:
    """Stan's schedule: 15% to find the posterior, then windows of doubling length, then 10% for the step size alone."""
    start, end = int(0.15 * warmup), int(0.9 * warmup)
    windows, size = [], 25
    while start < end:
        stop = end if start + 3 * size > end else start + size
        if stop - start >= 5:
            windows.append((start, stop))
        start, size = stop, 2 * size
    return windows
