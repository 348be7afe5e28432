"""The no-U-turn sampler on the full data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from bayesrob.inference.base import require
from bayesrob.inference.chains import DIVERGENT, ChainSampler, Transition
from bayesrob.inference.leapfrog import Move, Phase, Point, Refresh, refresh

__all__ = ["NUTS"]


@dataclasses.dataclass(frozen=True)
class NUTS(ChainSampler):
    """The no-U-turn sampler: trajectories that end when they turn back (Hoffman & Gelman 2014).

    Targets the exact posterior. As in Stan, states of a trajectory are drawn in proportion to exp(-H) with a bias towards
    its later half (Betancourt 2017, appendix A.3), and the U-turn is judged by the momenta's sum, within and across the
    halves (A.4.2).

    Args:
        max_tree_depth: a trajectory has at most 2^max_tree_depth - 1 steps. 10 is Stan's. `sample_stats`
            tells which trajectories reached it, where longer ones would have explored more.
        num_samples, warmup, step_size, num_chains, adapt_step_size, target_accept, adapt_mass, start, memory, chains:
            see `ChainSampler`.
    """

    max_tree_depth: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        depth = self.max_tree_depth
        good = isinstance(depth, int) and not isinstance(depth, bool) and depth >= 1
        require(good, f"max_tree_depth is {depth!r}.", "It counts from 1.", "Give a whole number >= 1.")

    def _transition(self, state: Point, inverse_mass: Tensor, step_size: float, generator: torch.Generator) -> Transition:
        start = yield refresh(state, inverse_mass, generator)
        start = start.own()
        walk = _Walk(inverse_mass, step_size, start.energy, generator)
        tree = walk.leaf(start, 0.0)
        depth = 0
        while depth < self.max_tree_depth and not (walk.diverging or walk.turned):
            forward = walk.uniform() < 0.5
            new = yield from walk.subtree(tree.last if forward else tree.first, 1 if forward else -1, depth)
            depth += 1
            if new is None:
                break
            keep_new = walk.uniform() < math.exp(min(0.0, new.log_weight - tree.log_weight))
            tree = walk.join(*((tree, new) if forward else (new, tree)), chosen=new if keep_new else tree)
        drawn = tree.drawn
        return drawn.point, {
            "acceptance_rate": walk.acceptance / walk.steps,
            "accepted": drawn is not start,
            "diverging": walk.diverging,
            "energy": drawn.energy,
            "energy_error": drawn.energy - start.energy,
            "max_energy_error": walk.max_error,
            "lp": float(drawn.point.log_joint),
            "step_size": step_size,
            "n_steps": walk.steps,
            "tree_depth": depth,
            "reached_max_treedepth": depth == self.max_tree_depth and not (walk.diverging or walk.turned),
        }


class _Tree(NamedTuple):
    """A stretch of a trajectory, first to last in time, and the state drawn from it in proportion to exp(-H)."""

    first: Phase
    last: Phase
    drawn: Phase
    log_weight: float  # log of the sum of exp(H_start - H) over its states
    momentum_sum: Tensor
    first_velocity: Tensor  # M^-1 p
    last_velocity: Tensor
    along_first: float  # momentum_sum' M^-1 p: it has turned where this is not positive
    along_last: float


class _Walk:
    """One trajectory under way: what its subtrees share."""

    def __init__(self, inverse_mass: Tensor, step_size: float, energy: float, generator: torch.Generator):
        self.inverse_mass, self.step_size, self.energy, self.generator = inverse_mass, step_size, energy, generator
        self.steps, self.acceptance = 0, 0.0
        self.max_error = 0.0  # the largest in size, with its sign, as PyMC records it
        self.diverging = self.turned = False
        self._unit_mass = bool((inverse_mass == 1).all())
        self._uniforms: list[float] = []

    def uniform(self) -> float:
        if not self._uniforms:  # a few at once: one costs as much
            self._uniforms = torch.rand(16, generator=self.generator, dtype=torch.float64).tolist()
        return self._uniforms.pop()

    def leaf(self, state: Phase, log_weight: float) -> _Tree:
        """A stretch of one state."""
        p = state.momentum
        velocity = p if self._unit_mass else self.inverse_mass * p
        along = _twice_kinetic(state)
        return _Tree(state, state, state, log_weight, p, velocity, velocity, along, along)

    def subtree(self, start: Phase, direction: int, depth: int) -> Generator[Refresh | Move, Phase, _Tree | None]:
        """2^depth new states beyond `start`; None if they turn back on themselves or diverge, which ends the walk."""
        step_size, end = direction * self.step_size, start
        waiting: list[_Tree] = []  # stretches of falling length, each for a neighbour as long as itself
        for count in range(1, 2**depth + 1):
            end = (yield Move(end.point, end.momentum, self.inverse_mass, step_size, 1)).own()
            tree = self._leaf(end)
            if tree is None:
                return None
            while count % 2 == 0:
                count //= 2
                near, far = waiting.pop(), tree
                total = _log_add(near.log_weight, far.log_weight)
                chosen = far if self.uniform() < math.exp(far.log_weight - total) else near
                tree = self.join(*((near, far) if direction > 0 else (far, near)), chosen=chosen)
                if self.turned:
                    return None
            waiting.append(tree)
        return waiting.pop()

    def join(self, before: _Tree, after: _Tree, chosen: _Tree) -> _Tree:
        """Two neighbouring stretches as one; notes whether the trajectory turned within it.

        What is known of the halves is not computed again: (s + t)' v = s' v + t' v, and p' M^-1 q = q' M^-1 p.
        """
        first, last = before.first_velocity, after.last_velocity
        along_first = before.along_first + _dot(after.momentum_sum, first)
        if before.first is before.last and after.first is after.last:  # of two states there is but one stretch
            along_last = after.along_last + along_first - before.along_first
            self.turned = along_first <= 0 or along_last <= 0
        else:
            along_last = after.along_last + _dot(before.momentum_sum, last)
            self.turned = along_first <= 0 or along_last <= 0 or self._turns_between(before, after)
        log_weight = _log_add(before.log_weight, after.log_weight)
        momentum_sum = before.momentum_sum + after.momentum_sum
        return _Tree(before.first, after.last, chosen.drawn, log_weight, momentum_sum, first, last, along_first, along_last)

    def _turns_between(self, before: _Tree, after: _Tree) -> bool:
        """Whether one stretch and the other's nearest state turn."""
        p, q = before.last.momentum, after.first.momentum
        return (
            before.along_first + _dot(q, before.first_velocity) <= 0
            or _dot(before.momentum_sum, after.first_velocity) + _twice_kinetic(after.first) <= 0
            or _dot(after.momentum_sum, before.last_velocity) + _twice_kinetic(before.last) <= 0
            or after.along_last + _dot(p, after.last_velocity) <= 0
        )

    def _leaf(self, end: Phase) -> _Tree | None:
        error = end.energy - self.energy
        if not math.isfinite(error):
            error = math.inf
        self.steps += 1
        if abs(error) > abs(self.max_error):
            self.max_error = error
        if error > DIVERGENT:
            self.diverging = True
            return None
        self.acceptance += math.exp(min(0.0, -error))
        return self.leaf(end, -error)


def _twice_kinetic(state: Phase) -> float:
    """p' M^-1 p."""
    return 2 * (state.energy + float(state.point.log_joint))


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a, b).item()


def _log_add(a: float, b: float) -> float:
    top = max(a, b)
    return top + math.log(math.exp(a - top) + math.exp(b - top))
