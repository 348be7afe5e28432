"""What HMC and NUTS share: chains with a warmup that adapts step size and mass, and their record."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.base import Inference, require, require_bayesian
from bayesrob.inference.leapfrog import (
    DualAveraging,
    Point,
    RunningVariance,
    mass_windows,
    point,
    reasonable_step_size,
)
from bayesrob.models import BayesianNetwork, Likelihood, LogJoint
from bayesrob.nets import initialise
from bayesrob.numerics.chunks import MEMORY_BYTES
from bayesrob.predictive import HeldDraws

__all__ = ["DIVERGENT", "ChainSampler", "draw_momentum"]

DIVERGENT = 1000.0
"""Energy error above which a trajectory counts as divergent (Stan's and Pyro's threshold)."""


@dataclasses.dataclass(frozen=True)
class ChainSampler(Inference):
    """Hamiltonian chains over the flat weight vector, run in turn; chain k is the same however many run.

    Args:
        num_samples: draws kept of each chain.
        warmup: transitions before them, in which step size and mass adapt if asked to.
        step_size: leapfrog step. A number is used as it is; None finds one and adapts it during the warmup.
        num_chains: 4: R-hat needs several, and four is ArviZ's and Stan's habit.
        adapt_step_size: adapt by dual averaging in the warmup. None: only if `step_size` is None.
        target_accept: the acceptance that adaptation aims at; 0.8 is Stan's and Pyro's.
        adapt_mass: learn a diagonal mass matrix in the warmup (Stan's windows); False keeps unit mass.
        start: chains start at "init", a random initialisation of the network each (layers' own), or at a draw of the
            "prior".
        memory: bytes that the activations of one chunk of training data may take.
    """

    num_samples: int = 250
    warmup: int = 250
    step_size: float | None = None
    num_chains: int = 4
    adapt_step_size: bool | None = None
    target_accept: float = 0.8
    adapt_mass: bool = False
    start: Literal["init", "prior"] = "init"
    memory: int = MEMORY_BYTES

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 1), ("warmup", 0), ("num_chains", 1), ("memory", 1)):
            value = getattr(self, name)
            good = isinstance(value, int) and not isinstance(value, bool) and value >= least
            require(good, f"{name} is {value!r}.", f"It counts from {least}.", f"Give a whole number >= {least}.")
        size = self.step_size
        require(
            size is None or (math.isfinite(size) and size > 0),
            f"step_size is {size!r}.",
            "A leapfrog step must go somewhere.",
            "Give a positive number, or None to adapt.",
        )
        require(
            0 < self.target_accept < 1,
            f"target_accept is {self.target_accept}.",
            "It is a probability.",
            "Give e.g. 0.8.",
        )
        require(
            not self._adapts or self.warmup > 0,
            "Adaptation without warmup.",
            "Step size and mass adapt only there.",
            "Give warmup > 0, or a fixed step_size with adapt_mass=False.",
        )
        check_name("start", self.start, ["init", "prior"])

    @property
    def _adapts_step(self) -> bool:
        return self.step_size is None if self.adapt_step_size is None else self.adapt_step_size

    @property
    def _adapts(self) -> bool:
        return self._adapts_step or self.adapt_mass or self.step_size is None

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        bnn = require_bayesian(type(self).__name__, model)
        stream = type(self).__name__.lower()
        target = LogJoint(bnn, dataset.x_train, dataset.y_train, self.memory)
        # Axis order: draw, then chain, so that a prefix of the draws is what shorter chains would have given.
        draws = torch.empty(self.num_samples, self.num_chains, bnn.num_weights).to(bnn.prior_scales)
        stats: dict[str, np.ndarray] = {}
        with progress.bar(type(self).__name__, self.num_chains * (self.warmup + self.num_samples)) as advance:
            for chain in range(self.num_chains):
                for name, values in self._chain(
                    target, draws[:, chain], rng.generator(seed, stream, chain), seed, chain, advance
                ).items():
                    stats.setdefault(name, np.empty((self.num_chains, self.num_samples), values.dtype))[chain] = values
        weights = {name: tensor.contiguous() for name, tensor in bnn.unflatten(draws.flatten(0, 1)).items()}
        predictive = HeldDraws(bnn.net, weights, self.num_chains, stats, **self._common(likelihood, dataset))
        return predictive, _notes(type(self).__name__, stats), {"chunks": len(target.chunks)}

    def _chain(
        self, target: LogJoint, draws: Tensor, generator: torch.Generator, seed: int, chain: int, advance: Any
    ) -> dict[str, np.ndarray]:
        """Fill `draws` `[draw, weight]` with one chain; returns its sample statistics `[draw]`."""
        bnn = target.model
        state = point(target, self._start(bnn, generator, seed, chain))
        inverse_mass = torch.ones_like(state.theta)
        step_size = self.step_size or reasonable_step_size(target, state, inverse_mass, generator)
        adaptation = DualAveraging(step_size, self.target_accept)
        windows = mass_windows(self.warmup) if self.adapt_mass else []
        variance = RunningVariance(state.theta)
        rows = []
        for i in range(self.warmup + self.num_samples):
            state, row = self._transition(target, state, inverse_mass, step_size, generator)
            if i < self.warmup:
                if self._adapts_step:
                    adaptation.update(row["acceptance_rate"])
                    step_size = adaptation.step_size
                if windows and i >= windows[0][0]:
                    variance.update(state.theta)
                    if i + 1 == windows[0][1]:
                        windows.pop(0)
                        inverse_mass, variance = variance.regularised, RunningVariance(state.theta)
                        if self._adapts_step:
                            step_size = reasonable_step_size(target, state, inverse_mass, generator, step_size)
                            adaptation = DualAveraging(step_size, self.target_accept)
                if i == self.warmup - 1 and self._adapts_step:
                    step_size = adaptation.final
            else:
                draws[i - self.warmup] = state.theta
                rows.append(row)
            advance(1, note=f"chain {chain + 1} acceptance {row['acceptance_rate']:.2f} step {step_size:.2g}")
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def _start(self, bnn: BayesianNetwork, generator: torch.Generator, seed: int, chain: int) -> Tensor:
        if self.start == "prior":
            noise = torch.randn(bnn.num_weights, generator=generator, dtype=torch.float32)
            return noise.to(bnn.prior_scales) * bnn.prior_scales
        net = initialise(bnn.net, seed, type(self).__name__.lower(), chain)
        return bnn.flatten(dict(net.named_parameters())).detach()

    @abc.abstractmethod
    def _transition(
        self, target: LogJoint, state: Point, inverse_mass: Tensor, step_size: float, generator: torch.Generator
    ) -> tuple[Point, dict[str, Any]]:
        """The next state, and its sample statistics: `acceptance_rate`, `accepted`, `diverging` and what else there is."""


def draw_momentum(state: Point, inverse_mass: Tensor, generator: torch.Generator) -> Tensor:
    """p ~ N(0, M). Noise is drawn on the CPU in float32: the same seed, the same proposals, whatever device and dtype."""
    noise = torch.randn(state.theta.shape, generator=generator, dtype=torch.float32)
    return noise.to(state.theta) * inverse_mass.rsqrt()


def _notes(method: str, stats: dict[str, np.ndarray]) -> list[str]:
    """What the sampler itself noticed. A posterior that passes may still not be reached: see R-hat in function space."""
    notes = []
    divergent = int(stats["diverging"].sum())
    if divergent:
        notes.append(
            f"{method}: {divergent} of {stats['diverging'].size} trajectories diverged: the posterior is not explored "
            "there. Use a smaller step_size, or None to adapt it."
        )
    stuck = np.flatnonzero(stats["accepted"].mean(axis=1) < 0.1)
    if len(stuck):
        notes.append(
            f"{method}: chains {(stuck + 1).tolist()} accepted fewer than 10% of their proposals: few of their draws "
            "differ. Use a smaller step_size, or None to adapt it."
        )
    return notes
