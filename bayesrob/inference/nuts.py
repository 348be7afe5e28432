"""The no-U-turn sampler on the full data."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from bayesrob.arguments import whole
from bayesrob.inference.chains import (
    ChainSampler,
    ChainState,
    Phase,
    Point,
    Trajectory,
    Warmup,
    draw_momentum,
    energies,
    leapfrog_each,
    savable,
)
from bayesrob.models import LogJoint

__all__ = ["NUTS"]


@savable
@dataclasses.dataclass
class TrajectoryState(ChainState):
    """Chains that may stand within a trajectory.

    Args:
        trajectories: the trajectory under way of each chain; None between two transitions.
    """

    trajectories: list[Trajectory | None]


@dataclasses.dataclass(frozen=True)
class NUTS(ChainSampler):
    """The no-U-turn sampler: Hamiltonian trajectories that end when they turn back (Hoffman & Gelman 2014).

    Its draws follow the exact posterior. As in Stan, states of a trajectory are drawn in proportion to exp(-H) with a bias
    towards its later half (Betancourt 2017, appendix A.3), and the U-turn is judged by the momenta's sum, within and
    across the halves (A.4.2). The other settings are those of `ChainSampler`.

    Args:
        max_tree_depth: a trajectory has at most 2^max_tree_depth - 1 steps (10, as in Stan). `sample_stats` tells which
            trajectories reached that limit; there longer ones would have explored more.

    Example:
        >>> post = br.inference.NUTS(num_samples=4, warmup=4, num_chains=2, max_tree_depth=3).fit(bnn, ds, seed=0)
        >>> post.num_draws
        8
        >>> bool((post.sample_stats["n_steps"] <= 7).all())
        True
    """

    max_tree_depth: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("max_tree_depth", self.max_tree_depth)

    def _state(self, warmup: Warmup, start: Point, generators: list[torch.Generator]) -> TrajectoryState:
        state = warmup.begin(start, generators)
        return TrajectoryState(**vars(state), trajectories=[None for _ in generators])

    def _step(self, target: LogJoint, state: ChainState, chains: list[int]) -> dict[int, dict[str, Any]]:
        """One leapfrog step of the trajectory of each of `chains`, in one batch: no chain waits for a longer trajectory."""
        assert isinstance(state, TrajectoryState)
        if fresh := [chain for chain in chains if state.trajectories[chain] is None]:
            self._begin_trajectories(state, fresh)
        under_way = [trajectory for chain in chains if (trajectory := state.trajectories[chain])]
        starts, masses = [t.end for t in under_way], [t.inverse_mass for t in under_way]
        ends = leapfrog_each(target, starts, masses, [t.signed_step for t in under_way])
        finished = {}
        for chain, trajectory, end in zip(chains, under_way, ends, strict=True):
            if trajectory.receive(end.own(), state.generators[chain]):
                finished[chain] = self._statistics(trajectory)
                state.trajectories[chain] = None
                if trajectory.moved:
                    drawn = trajectory.tree.drawn.point
                    state.point = state.point.put([chain], Point(*(field.unsqueeze(0) for field in drawn)))
        return finished

    def _begin_trajectories(self, state: TrajectoryState, chains: list[int]) -> None:
        points, inverse_mass = state.point.take(chains), state.inverse_mass[chains]
        momentum = draw_momentum(inverse_mass, [state.generators[chain] for chain in chains])
        before = energies(points, momentum, inverse_mass)
        for k, chain in enumerate(chains):
            start = Phase(points.row(k), momentum[k], before[k]).own()
            state.trajectories[chain] = Trajectory.begin(
                start, inverse_mass[k], state.step_size[chain], int(self.max_tree_depth), state.generators[chain]
            )

    def _statistics(self, trajectory: Trajectory) -> dict[str, Any]:
        drawn = trajectory.tree.drawn
        ended = trajectory.diverging or trajectory.turned
        return {
            "acceptance_rate": trajectory.acceptance / trajectory.steps,
            "accepted": trajectory.moved,
            "diverging": trajectory.diverging,
            "energy": drawn.energy,
            "energy_error": drawn.energy - trajectory.energy,
            "max_energy_error": trajectory.max_error,
            "lp": float(drawn.point.log_joint),
            "step_size": trajectory.step_size,
            "n_steps": trajectory.steps,
            "tree_depth": trajectory.depth,
            "reached_max_treedepth": trajectory.depth == int(self.max_tree_depth) and not ended,
        }
