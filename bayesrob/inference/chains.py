"""What HMC and NUTS share: chains with a warmup that adapts step size and mass, and their record."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Generator, Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.base import EachEpoch, Inference, require, require_bayesian
from bayesrob.inference.leapfrog import (
    DualAveraging,
    Move,
    Phase,
    Point,
    Refresh,
    RunningVariance,
    kinetic,
    leapfrog,
    leapfrog_batched,
    mass_windows,
    point,
    reasonable_step_size,
)
from bayesrob.models import BayesianNetwork, Likelihood, LogJoint
from bayesrob.nets import initialise
from bayesrob.numerics import MEMORY_BYTES
from bayesrob.predictive import HeldDraws

__all__ = ["DIVERGENT", "ChainSampler", "Transition", "run_batched", "run_in_turn"]

DIVERGENT = 1000.0
"""Energy error above which a trajectory counts as divergent (Stan's and Pyro's threshold)."""

Transition = Generator[Refresh | Move, Phase, tuple[Point, dict[str, Any]]]
"""Asks for momenta and trajectories; returns the next state and its sample statistics."""


@dataclasses.dataclass(frozen=True)
class ChainSampler(Inference):
    """Hamiltonian chains over the flat weight vector, run in turn or in batches.

    In turn, chain k is the same however many run. Batched, it is so up to the rounding of batched products, by which long
    chains part.

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
        memory: bytes that the activations of one chunk of training data may take, in all chains that are run at once.
        chains: "in_turn", one chain after the other, or "batched", all at once: every leapfrog step is one gradient for
            all chains that are on their way, and none waits for the end of another's trajectory. None: batched on an
            accelerator, in turn on a CPU. There batching saves only what small operations cost beside their arithmetic:
            half the time of 4 chains of 2-32-32-2 on 500 points, a tenth of 784-64-10 on 2000.
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
    chains: Literal["in_turn", "batched"] | None = None

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
        if self.chains is not None:
            check_name("chains", self.chains, ["in_turn", "batched"])

    @property
    def _adapts_step(self) -> bool:
        return self.step_size is None if self.adapt_step_size is None else self.adapt_step_size

    @property
    def _adapts(self) -> bool:
        return self._adapts_step or self.adapt_mass or self.step_size is None

    def _batches(self, device: torch.device) -> bool:
        return device.type != "cpu" if self.chains is None else self.chains == "batched"

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int, each_epoch: EachEpoch | None = None
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        bnn = require_bayesian(type(self).__name__, model)
        stream = type(self).__name__.lower()
        target = LogJoint(bnn, dataset.x_train, dataset.y_train, self.memory)
        # Axis order: draw, then chain, so that a prefix of the draws is what shorter chains would have given.
        draws = torch.empty(self.num_samples, self.num_chains, bnn.num_weights).to(bnn.prior_scales)
        batched = self.num_chains > 1 and self._batches(draws.device)
        generators = [rng.generator(seed, stream, chain) for chain in range(self.num_chains)]
        starts = [self._start(bnn, generator, seed, chain) for chain, generator in enumerate(generators)]
        states = point(target, torch.stack(starts)).rows() if batched else [point(target, start) for start in starts]
        with progress.bar(type(self).__name__, self.num_chains * (self.warmup + self.num_samples)) as advance:
            walks = [
                self._chain(state.own(), draws[:, chain], generators[chain], chain, advance)
                for chain, state in enumerate(states)
            ]
            rows = run_batched(target, walks) if batched else run_in_turn(target, walks)
        stats = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        weights = {name: tensor.contiguous() for name, tensor in bnn.unflatten(draws.flatten(0, 1)).items()}
        predictive = HeldDraws(bnn.net, weights, self.num_chains, stats, **self._common(likelihood, dataset))
        record = {
            "chunks": len(target.chunks(self.num_chains if batched else 1)),
            "chains": "batched" if batched else "in_turn",
        }
        return predictive, _notes(type(self).__name__, stats), record

    def _chain(
        self, state: Point, draws: Tensor, generator: torch.Generator, chain: int, advance: Any
    ) -> Generator[Refresh | Move, Phase, dict[str, np.ndarray]]:
        """Fill `draws` `[draw, weight]` with one chain from `state`; returns its sample statistics `[draw]`."""
        inverse_mass = torch.ones_like(state.theta)
        step_size = self.step_size or (yield from reasonable_step_size(state, inverse_mass, generator))
        adaptation = DualAveraging(step_size, self.target_accept)
        windows = mass_windows(self.warmup) if self.adapt_mass else []
        variance = RunningVariance(state.theta)
        rows = []
        for i in range(self.warmup + self.num_samples):
            state, row = yield from self._transition(state, inverse_mass, step_size, generator)
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
                            step_size = yield from reasonable_step_size(state, inverse_mass, generator, step_size)
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
    def _transition(self, state: Point, inverse_mass: Tensor, step_size: float, generator: torch.Generator) -> Transition:
        """To the next state and its sample statistics: `acceptance_rate`, `accepted`, `diverging` and what else there is."""


def run_in_turn[T](target: LogJoint, walks: Iterable[Generator[Refresh | Move, Phase, T]]) -> list[T]:
    """What the walks return, each run to its end before the next begins."""
    results = []
    for walk in walks:
        try:
            request = next(walk)
            while True:
                request = walk.send(_answer(target, request))
        except StopIteration as end:
            results.append(end.value)
    return results


def run_batched[T](target: LogJoint, walks: Iterable[Generator[Refresh | Move, Phase, T]]) -> list[T]:
    """What the walks return, all run at once: requests of one kind and number of steps are answered in one batch.

    Walks that have ended drop out. A walk alone in its batch takes the plain path.
    """
    walks = list(walks)
    results: dict[int, T] = {}
    pending: dict[int, Refresh | Move] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(walks)))  # None starts a generator
    while answers:
        for k, answer in answers.items():
            try:
                pending[k] = walks[k].send(answer)
            except StopIteration as end:
                results[k] = end.value
        groups: dict[int, list[int]] = {}
        for k, request in pending.items():
            groups.setdefault(request.num_steps if isinstance(request, Move) else 0, []).append(k)
        # Momenta first: they cost no gradient, and those who ask for them then join the others' next move.
        answers = {}
        for group in [groups[0]] if 0 in groups else groups.values():
            answers.update(zip(group, _answer_all(target, [pending.pop(k) for k in group]), strict=True))
    return [results[k] for k in range(len(walks))]


def _answer(target: LogJoint, request: Refresh | Move) -> Phase:
    if isinstance(request, Refresh):
        end = request.start
        momentum = request.noise.to(end.theta) * request.inverse_mass.rsqrt()
    else:
        end, momentum = leapfrog(target, *request)
    return Phase(end, momentum, float(kinetic(momentum, request.inverse_mass)) - float(end.log_joint))


def _answer_all(target: LogJoint, requests: list[Any]) -> list[Phase]:
    """Answers to requests of one kind and number of steps in few operations, however many they are."""
    if len(requests) == 1:
        return [_answer(target, requests[0])]
    inverse_mass = torch.stack([request.inverse_mass for request in requests])
    if isinstance(requests[0], Refresh):
        ends = [request.start for request in requests]
        momentum = torch.stack([request.noise for request in requests]).to(inverse_mass) * inverse_mass.rsqrt()
    else:
        fields = [(r.start.theta, r.start.log_joint, r.start.gradient, r.momentum) for r in requests]
        *start, momentum = (torch.stack(field) for field in zip(*fields, strict=True))
        step_size = momentum.new_tensor([[request.step_size] for request in requests])
        end, momentum = leapfrog_batched(target, Point(*start), momentum, inverse_mass, step_size, requests[0].num_steps)
        ends = end.rows()
    kinetics = kinetic(momentum, inverse_mass).tolist()  # one transfer for all
    return [
        Phase(end, p, energy - float(end.log_joint))
        for end, p, energy in zip(ends, momentum.unbind(), kinetics, strict=True)
    ]


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
