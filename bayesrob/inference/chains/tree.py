"""The trajectory of NUTS: states that double in number until they turn back (Hoffman & Gelman 2014; Betancourt 2017)."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from bayesrob.inference.chains.leapfrog import DIVERGENT, Phase
from bayesrob.inference.chains.saving import savable

__all__ = ["Stretch", "Trajectory"]


@savable
class Stretch(NamedTuple):
    """A stretch of a trajectory, first to last in time, and the state drawn from it in proportion to exp(-H)."""

    first: Phase
    last: Phase
    drawn: Phase
    size: int  # how many states it has
    log_weight: float  # log of the sum of exp(H_start - H) over its states
    momentum_sum: Tensor
    first_velocity: Tensor  # M^-1 p
    last_velocity: Tensor
    along_first: float  # momentum_sum' M^-1 p: it has turned where this is not positive
    along_last: float


@savable
@dataclasses.dataclass
class Trajectory:
    """One trajectory under way, which `receive` continues by one leapfrog step of `signed_step` from `end`.

    Args:
        inverse_mass: the diagonal of the inverse mass matrix, `[weight]`.
        step_size: the leapfrog step.
        max_depth: doublings after which the trajectory ends in any case.
        energy: the energy at its start.
        tree: the states so far, without those of the doubling under way.
        end: the state from which the next step leads on.
        forward: whether the doubling under way goes forward in time.
        depth: doublings made, the one that ended the trajectory included.
        count: states of the doubling under way.
        waiting: stretches of that doubling, of falling length, each of which waits for a neighbour as long as itself.
        steps: leapfrog steps in all.
        acceptance: the sum of the acceptance probabilities of all states.
        max_error: the energy error that is largest in size, with its sign, as PyMC records it.
        moved: whether the drawn state is another than the start.
        diverging: whether the energy error exceeded `DIVERGENT`.
        turned: whether the trajectory turned back on itself.
        uniforms: random numbers that have been drawn and not been used.
    """

    inverse_mass: Tensor
    step_size: float
    max_depth: int
    energy: float
    tree: Stretch
    end: Phase
    forward: bool = True
    depth: int = 0
    count: int = 0
    waiting: list[Stretch] = dataclasses.field(default_factory=list)
    steps: int = 0
    acceptance: float = 0.0
    max_error: float = 0.0
    moved: bool = False
    diverging: bool = False
    turned: bool = False
    uniforms: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._unit_mass = _is_unit(self.inverse_mass)

    @classmethod
    def begin(
        cls, start: Phase, inverse_mass: Tensor, step_size: float, max_depth: int, generator: torch.Generator
    ) -> Trajectory:
        """The trajectory before its first step; `generator` chooses the direction."""
        tree = _leaf(start, start.momentum if _is_unit(inverse_mass) else inverse_mass * start.momentum, 0.0)
        trajectory = cls(inverse_mass, step_size, max_depth, start.energy, tree, start)
        trajectory._begin_doubling(generator)
        return trajectory

    @property
    def signed_step(self) -> float:
        """The next leapfrog step, negative where the trajectory is continued backward in time."""
        return self.step_size if self.forward else -self.step_size

    def receive(self, end: Phase, generator: torch.Generator) -> bool:
        """Add the state one step beyond `end`; returns whether the trajectory is over."""
        error = end.energy - self.energy
        if not math.isfinite(error):
            error = math.inf
        self.steps += 1
        if abs(error) > abs(self.max_error):
            self.max_error = error
        if error > DIVERGENT:
            self.diverging = True
            self.depth += 1
            return True
        self.acceptance += math.exp(min(0.0, -error))
        self.end = end
        self.count += 1
        stretch = self._merged(self.leaf(end, -error), generator)
        if stretch is None:
            self.depth += 1
            return True
        if self.count < 2**self.depth:
            self.waiting.append(stretch)
            return False
        return self._double(stretch, generator)

    def leaf(self, state: Phase, log_weight: float) -> Stretch:
        """A stretch of one state."""
        momentum = state.momentum
        return _leaf(state, momentum if self._unit_mass else self.inverse_mass * momentum, log_weight)

    def join(self, before: Stretch, after: Stretch, chosen: Stretch) -> Stretch:
        """Two neighbouring stretches of one length as one; notes in `turned` whether the trajectory turned within it.

        Products of the halves are not computed again: (s + t)' v = s' v + t' v, and p' M^-1 q = q' M^-1 p.
        """
        first, last = before.first_velocity, after.last_velocity
        along_first = before.along_first + _dot(after.momentum_sum, first)
        if before.size == 1:  # two states in all, so that there is but one stretch
            along_last = after.along_last + along_first - before.along_first
            self.turned = along_first <= 0 or along_last <= 0
        else:
            along_last = after.along_last + _dot(before.momentum_sum, last)
            self.turned = along_first <= 0 or along_last <= 0 or _turns_between(before, after)
        return Stretch(
            first=before.first,
            last=after.last,
            drawn=chosen.drawn,
            size=before.size + after.size,
            log_weight=_log_add(before.log_weight, after.log_weight),
            momentum_sum=before.momentum_sum + after.momentum_sum,
            first_velocity=first,
            last_velocity=last,
            along_first=along_first,
            along_last=along_last,
        )

    def _merged(self, stretch: Stretch, generator: torch.Generator) -> Stretch | None:
        """The stretch with all neighbours that waited for it; None if the trajectory turned within it."""
        count = self.count
        while count % 2 == 0:
            count //= 2
            near, far = self.waiting.pop(), stretch
            total = _log_add(near.log_weight, far.log_weight)
            chosen = far if self._uniform(generator) < math.exp(far.log_weight - total) else near
            stretch = self.join(near, far, chosen) if self.forward else self.join(far, near, chosen)
            if self.turned:
                return None
        return stretch

    def _double(self, new: Stretch, generator: torch.Generator) -> bool:
        """Join the complete doubling to the tree; returns whether the trajectory is over."""
        self.depth += 1
        tree = self.tree
        keep_new = self._uniform(generator) < math.exp(min(0.0, new.log_weight - tree.log_weight))
        self.moved |= keep_new
        chosen = new if keep_new else tree
        self.tree = self.join(tree, new, chosen) if self.forward else self.join(new, tree, chosen)
        if self.turned or self.depth == self.max_depth:
            return True
        self._begin_doubling(generator)
        return False

    def _begin_doubling(self, generator: torch.Generator) -> None:
        self.forward = self._uniform(generator) < 0.5
        self.count, self.end = 0, self.tree.last if self.forward else self.tree.first

    def _uniform(self, generator: torch.Generator) -> float:
        if not self.uniforms:  # 16 at once, because one costs as much
            self.uniforms = torch.rand(16, generator=generator, dtype=torch.float64).tolist()
        return self.uniforms.pop()


def _leaf(state: Phase, velocity: Tensor, log_weight: float) -> Stretch:
    along = _twice_kinetic(state)
    return Stretch(state, state, state, 1, log_weight, state.momentum, velocity, velocity, along, along)


def _turns_between(before: Stretch, after: Stretch) -> bool:
    """Whether one stretch together with the other's nearest state turns."""
    p, q = before.last.momentum, after.first.momentum
    return (
        before.along_first + _dot(q, before.first_velocity) <= 0
        or _dot(before.momentum_sum, after.first_velocity) + _twice_kinetic(after.first) <= 0
        or _dot(after.momentum_sum, before.last_velocity) + _twice_kinetic(before.last) <= 0
        or after.along_last + _dot(p, after.last_velocity) <= 0
    )


def _is_unit(inverse_mass: Tensor) -> bool:
    return bool((inverse_mass == 1).all())


def _twice_kinetic(state: Phase) -> float:
    """p' M^-1 p."""
    return 2 * (state.energy + float(state.point.log_joint))


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a, b).item()


def _log_add(a: float, b: float) -> float:
    top = max(a, b)
    return top + math.log(math.exp(a - top) + math.exp(b - top))
