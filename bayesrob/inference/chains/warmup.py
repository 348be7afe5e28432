"""The warm-up of chains: how their states begin, and how step size and mass change after each transition."""

from __future__ import annotations

import dataclasses
import functools

import torch

from bayesrob.inference.chains.adaptation import DualAveraging, RunningVariance, StepSizeSearch, mass_windows
from bayesrob.inference.chains.leapfrog import Phase, Point, draw_momentum, energies, leapfrog_each
from bayesrob.inference.chains.state import ChainState
from bayesrob.models import LogJoint

__all__ = ["Warmup"]

FIRST_TRY = 0.1
"""The step from which the search for a reasonable one begins."""


@dataclasses.dataclass(frozen=True)
class Warmup:
    """The settings of a warm-up, and its changes to a state.

    Args:
        length: transitions of the warm-up.
        step_size: the leapfrog step to begin with; None: it is searched for.
        adapts_step: whether dual averaging changes the step.
        adapts_mass: whether a diagonal mass matrix is estimated in windows.
        target_accept: the acceptance rate that dual averaging aims at.
    """

    length: int
    step_size: float | None
    adapts_step: bool
    adapts_mass: bool
    target_accept: float

    @functools.cached_property
    def windows(self) -> list[tuple[int, int]]:
        """First and last transition (exclusive) of each mass window."""
        return mass_windows(self.length) if self.adapts_mass else []

    def begin(self, start: Point, generators: list[torch.Generator]) -> ChainState:
        """The state of chains `[chain, weight]` that have made no transition."""
        first = FIRST_TRY if self.step_size is None else self.step_size
        return ChainState(
            point=start,
            inverse_mass=torch.ones_like(start.theta),
            step_size=[first for _ in generators],
            averaging=[DualAveraging(first, self.target_accept) for _ in generators],
            variance=RunningVariance.like(start.theta) if self.windows else None,
            search=[StepSizeSearch(first) if self.step_size is None else None for _ in generators],
            generators=generators,
            done=[0 for _ in generators],
        )

    def search(self, target: LogJoint, state: ChainState, chains: list[int]) -> None:
        """Make one try of the search for a reasonable step size in each of `chains`."""
        searches = [(chain, search) for chain in chains if (search := state.search[chain])]
        if fresh := [(chain, search) for chain, search in searches if search.momentum is None]:
            rows = [chain for chain, _ in fresh]
            inverse_mass = state.inverse_mass[rows]
            momentum = draw_momentum(inverse_mass, [state.generators[chain] for chain in rows])
            before = energies(state.point.take(rows), momentum, inverse_mass)
            for (_, search), row, energy in zip(fresh, momentum, before, strict=True):
                search.momentum, search.energy = row.clone(), energy
        starts = [Phase(state.point.row(chain), s.momentum, s.energy) for chain, s in searches if s.momentum is not None]
        masses, sizes = [state.inverse_mass[chain] for chain in chains], [search.step_size for _, search in searches]
        for (chain, search), end in zip(searches, leapfrog_each(target, starts, masses, sizes), strict=True):
            if search.receive(end.energy):
                state.search[chain] = None
                state.step_size[chain] = search.step_size
                state.averaging[chain] = DualAveraging(search.step_size, self.target_accept)

    def update(self, state: ChainState, acceptance: dict[int, float]) -> None:
        """Adapt the chains that have just made a transition, given the acceptance rate of each, before `done` counts it."""
        warming = [chain for chain in acceptance if state.done[chain] < self.length]
        if self.adapts_step:
            for chain in warming:
                averaging = state.averaging[chain]
                averaging.update(acceptance[chain])
                last = state.done[chain] == self.length - 1
                state.step_size[chain] = averaging.final if last else averaging.step_size
        if self.windows:
            self._update_mass(state, warming)

    def _update_mass(self, state: ChainState, warming: list[int]) -> None:
        assert state.variance is not None
        inside = [k for k in warming if any(start <= state.done[k] < stop for start, stop in self.windows)]
        if inside:
            state.variance.update(inside, state.point.take(inside).theta)
        if ending := [k for k in inside if any(state.done[k] == stop - 1 for _, stop in self.windows)]:
            state.inverse_mass[ending] = state.variance.take(ending)
            if self.adapts_step:
                for chain in ending:
                    state.search[chain] = StepSizeSearch(state.step_size[chain])
