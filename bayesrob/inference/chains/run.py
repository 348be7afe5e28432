"""Chains under way: steps on their states, and the draws and statistics that they leave behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from bayesrob.inference.chains.saving import pack, unpack
from bayesrob.inference.chains.state import ChainState
from bayesrob.inference.chains.warmup import Warmup
from bayesrob.models import LogJoint

__all__ = ["ChainRun", "Step"]

Step = Callable[[LogJoint, ChainState, list[int]], dict[int, dict[str, Any]]]
"""One step of some chains of a state, which it changes: see `ChainSampler._step`."""


@dataclasses.dataclass
class ChainRun:
    """Runs chains to their end, and may be stopped and saved after each step.

    Each state is run to its end before the next begins: chains in turn have a state each, batched chains share one.

    Args:
        target: the log joint that the chains climb.
        step: one step of the sampler.
        warmup: the warm-up and its settings.
        num_samples: draws of each chain.
        states: the states of all chains in their order.
        stats: the statistics of each chain's draws, which are numbers by name.
        draws: the draws of all chains, `[draw, chain, weight]`. Draws come before chains, so that a prefix of them is what
            shorter chains would have given.
    """

    target: LogJoint
    step: Step
    warmup: Warmup
    num_samples: int
    states: list[ChainState]
    stats: list[list[dict[str, Any]]] = dataclasses.field(init=False)
    draws: Tensor = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        num_chains, theta = sum(map(len, self.states)), self.states[0].point.theta
        self.stats = [[] for _ in range(num_chains)]
        self.draws = theta.new_empty(self.num_samples, num_chains, theta.shape[-1])

    def steps(self, advance: Callable[..., None] = lambda steps, note: None) -> Iterator[None]:
        """Make one step after the other until all chains are done; between two of them the run may be saved.

        Args:
            advance: called with 1 and a note after each transition of any chain, to show progress.
        """
        end, first = self.warmup.length + self.num_samples, 0
        for state in self.states:
            while chains := [chain for chain, done in enumerate(state.done) if done < end]:
                self._advance(state, chains, first, advance)
                yield
            first += len(state)

    def columns(self) -> dict[str, np.ndarray]:
        """The statistics by name, `[chain, draw]`, once all chains are done."""
        return {name: np.array([[row[name] for row in rows] for rows in self.stats]) for name in self.stats[0][0]}

    def state_dict(self) -> dict[str, Any]:
        """The run as it stands, as tensors, numbers and text in dictionaries and lists."""
        drawn = max(map(len, self.stats))
        return {"states": pack(self.states), "stats": pack(self.stats), "draws": pack(self.draws[:drawn])}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from where `saved` was taken: the same draws follow, to the last bit."""
        self.states, self.stats = unpack(saved["states"]), unpack(saved["stats"])
        self.draws[: len(saved["draws"])] = saved["draws"]

    def _advance(self, state: ChainState, chains: list[int], first: int, advance: Callable[..., None]) -> None:
        """One step of some chains: a try of those that search for a step size, a step of the sampler for all others."""
        if any(state.search):
            searching = [chain for chain in chains if state.search[chain] is not None]
            chains = [chain for chain in chains if state.search[chain] is None]
            if searching:
                self.warmup.search(self.target, state, searching)
        rows = self.step(self.target, state, chains) if chains else {}
        if not rows:
            return
        self.warmup.update(state, {chain: row["acceptance_rate"] for chain, row in rows.items()})
        self._record(state, rows, first)
        for chain, row in rows.items():
            state.done[chain] += 1
            size = state.step_size[chain]
            advance(1, note=f"chain {first + chain + 1} acceptance {row['acceptance_rate']:.2f} step {size:.2g}")

    def _record(self, state: ChainState, rows: dict[int, dict[str, Any]], first: int) -> None:
        draws = {chain: state.done[chain] - self.warmup.length for chain in rows}
        counts = set(draws.values())
        if len(rows) == len(state) and len(counts) == 1 and min(counts) >= 0:
            self.draws[counts.pop(), first : first + len(state)] = state.point.theta
        for chain, row in rows.items():
            if draws[chain] >= 0:
                if counts:
                    self.draws[draws[chain], first + chain] = state.point.theta[chain]
                self.stats[first + chain].append(row)
