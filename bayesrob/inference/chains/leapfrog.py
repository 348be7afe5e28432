"""Hamiltonian dynamics over flat weight vectors, of one chain `[weight]` or of several at once, `[chain, weight]`.

A batch of one chain takes the path of a single chain: the same products, hence the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayesrob.inference.chains.saving import savable
from bayesrob.models import LogJoint

__all__ = ["DIVERGENT", "Phase", "Point", "draw_momentum", "energies", "kinetic", "leapfrog", "leapfrog_each", "point"]

DIVERGENT = 1000.0
"""Energy error above which a trajectory counts as divergent (Stan's and Pyro's threshold)."""


@savable
class Point(NamedTuple):
    """A weight vector, its log joint and the gradient of that; or several: `[chain, weight]`, `[chain]`, `[chain, weight]`.

    The log joint is float64 and on the CPU, where chains decide whether to accept.
    """

    theta: Tensor
    log_joint: Tensor
    gradient: Tensor

    def row(self, chain: int) -> Point:
        """The point of one chain, as views."""
        return Point(self.theta[chain], self.log_joint[chain], self.gradient[chain])

    def rows(self) -> list[Point]:
        """The point of each chain, as views."""
        return list(map(Point, self.theta.unbind(), self.log_joint.unbind(), self.gradient.unbind()))

    def take(self, chains: list[int]) -> Point:
        """The points of some chains, given in rising order; the same object if these are all chains."""
        return (
            self
            if len(chains) == len(self.theta)
            else Point(self.theta[chains], self.log_joint[chains], self.gradient[chains])
        )

    def put(self, chains: list[int], points: Point) -> Point:
        """These points with those of some chains replaced: `points` itself if these are all chains, else in place."""
        if len(chains) == len(self.theta):
            return points
        for mine, new in zip(self, points, strict=True):
            mine[chains] = new
        return self

    def choose(self, accepted: list[bool], proposal: Point) -> Point:
        """The proposal of every chain that accepted it, and the point itself of every other."""
        if all(accepted):
            return proposal
        if not any(accepted):
            return self
        on_cpu = torch.tensor(accepted)
        mask = on_cpu.to(self.theta.device)[:, None]
        return Point(
            torch.where(mask, proposal.theta, self.theta),
            torch.where(on_cpu, proposal.log_joint, self.log_joint),
            torch.where(mask, proposal.gradient, self.gradient),
        )


@savable
class Phase(NamedTuple):
    """A point of one chain with a momentum `[weight]`, and the energy H = -log joint + kinetic energy there."""

    point: Point
    momentum: Tensor
    energy: float

    def own(self) -> Phase:
        """The same phase in memory of its own: a row of a batch, if it is stored, would keep the whole batch in memory."""
        theta, log_joint, gradient = self.point
        return Phase(Point(_own(theta), log_joint, _own(gradient)), _own(self.momentum), self.energy)


def point(target: LogJoint, theta: Tensor) -> Point:
    """The log joint and its gradient at one weight vector, or at each of several."""
    if theta.ndim == 2 and len(theta) == 1:
        return _batch_of_one(point(target, theta[0]))
    log_likelihood, gradient = target.gradient(theta)
    assert log_likelihood is not None
    return Point(theta, (log_likelihood + target.model.log_prior(theta)).cpu(), gradient)


def kinetic(momentum: Tensor, inverse_mass: Tensor) -> Tensor:
    """p' M^-1 p / 2 in float64: energies of a large network agree in their first seven digits. `[chain]` for a batch."""
    exact = momentum.double()
    if exact.ndim == 2 and len(exact) == 1:
        return torch.dot((exact * inverse_mass)[0], exact[0]).mul_(0.5).unsqueeze(0)
    product = torch.dot if exact.ndim == 1 else torch.linalg.vecdot
    return product(exact * inverse_mass, exact).mul_(0.5)


def energies(at: Point, momentum: Tensor, inverse_mass: Tensor) -> list[float]:
    """The energy H = -log joint + kinetic energy of every chain of a batch."""
    kinetics = kinetic(momentum, inverse_mass).tolist()  # one transfer from the device for all chains
    return [energy - log_joint for energy, log_joint in zip(kinetics, at.log_joint.tolist(), strict=True)]


def draw_momentum(inverse_mass: Tensor, generators: list[torch.Generator]) -> Tensor:
    """p ~ N(0, M) for every chain, `[chain, weight]`.

    The noise is drawn on the CPU in float32, so that the same seed gives the same proposals on every device and in every
    dtype.
    """
    size = inverse_mass.shape[-1:]
    noise = torch.stack([torch.randn(size, generator=generator, dtype=torch.float32) for generator in generators])
    return noise.to(inverse_mass) * inverse_mass.rsqrt()


def leapfrog(
    target: LogJoint,
    start: Point,
    momentum: Tensor,
    inverse_mass: Tensor,
    step_size: float | list[float],
    *,
    num_steps: int = 1,
) -> tuple[Point, Tensor]:
    """Follow `num_steps` leapfrog steps (Neal 2011, equations 5.18 to 5.20) with a diagonal mass matrix.

    Each step costs one gradient; the log joint is completed only at the end.

    Args:
        target: the log joint that the chain climbs.
        start: where the trajectory begins, of one chain or of several.
        momentum: the momentum there, `[*chain, weight]`.
        inverse_mass: the diagonal of the inverse mass matrix, `[*chain, weight]`.
        step_size: the step; for several chains a list with one for each.
        num_steps: steps of the trajectory.

    Returns:
        The point and the momentum at the end. The arguments are not changed.
    """
    if isinstance(step_size, list):
        if len(step_size) > 1:
            return _leapfrog_batch(target, start, momentum, inverse_mass, step_size, num_steps=num_steps)
        end, momentum = leapfrog(target, start.row(0), momentum[0], inverse_mass[0], step_size[0], num_steps=num_steps)
        return _batch_of_one(end), momentum.unsqueeze(0)
    momentum = torch.add(momentum, start.gradient, alpha=0.5 * step_size)
    theta = torch.addcmul(start.theta, momentum, inverse_mass, value=step_size)
    for _ in range(num_steps - 1):
        momentum.add_(target.gradient(theta, value=False)[1], alpha=step_size)
        theta.addcmul_(momentum, inverse_mass, value=step_size)
    end = point(target, theta)
    return end, momentum.add_(end.gradient, alpha=0.5 * step_size)


def leapfrog_each(
    target: LogJoint, starts: list[Phase], inverse_masses: list[Tensor], step_sizes: list[float]
) -> list[Phase]:
    """One leapfrog step of each of several chains that have stored their phases one by one, in one batch."""
    if len(starts) == 1:
        (start,), (inverse_mass,), (step_size,) = starts, inverse_masses, step_sizes
        end, momentum = leapfrog(target, start.point, start.momentum, inverse_mass, step_size)
        return [Phase(end, momentum, float(kinetic(momentum, inverse_mass)) - float(end.log_joint))]
    fields = [(*start.point, start.momentum) for start in starts]
    *batch, momentum = (torch.stack(field) for field in zip(*fields, strict=True))
    inverse_mass = torch.stack(inverse_masses)
    ends, momentum = leapfrog(target, Point(*batch), momentum, inverse_mass, step_sizes)
    return list(map(Phase, ends.rows(), momentum.unbind(), energies(ends, momentum, inverse_mass)))


def _leapfrog_batch(
    target: LogJoint, start: Point, momentum: Tensor, inverse_mass: Tensor, step_sizes: list[float], *, num_steps: int
) -> tuple[Point, Tensor]:
    step_size = momentum.new_tensor(step_sizes).unsqueeze(-1)
    drift = step_size * inverse_mass
    momentum = torch.addcmul(momentum, start.gradient, step_size, value=0.5)
    theta = torch.addcmul(start.theta, momentum, drift)
    for _ in range(num_steps - 1):
        momentum.addcmul_(target.gradient(theta, value=False)[1], step_size)
        theta.addcmul_(momentum, drift)
    end = point(target, theta)
    return end, momentum.addcmul_(end.gradient, step_size, value=0.5)


def _batch_of_one(single: Point) -> Point:
    return Point(*(field.unsqueeze(0) for field in single))


def _own(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor._is_view() else tensor
