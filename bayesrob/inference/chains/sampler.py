"""What all samplers that run Markov chains on the full data have in common."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.arguments import number, require, whole
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.base import EachEpoch, Inference, require_bayesian
from bayesrob.inference.chains.leapfrog import Point, point
from bayesrob.inference.chains.run import ChainRun
from bayesrob.inference.chains.state import ChainState
from bayesrob.inference.chains.warmup import Warmup
from bayesrob.models import BayesianNetwork, Likelihood, LogJoint
from bayesrob.nets import initialise
from bayesrob.numerics import MEMORY_BYTES
from bayesrob.predictive import HeldDraws

__all__ = ["ChainSampler"]


@dataclasses.dataclass(frozen=True)
class ChainSampler(Inference):
    """Markov chains over the flat weight vector, whose warm-up adapts the leapfrog step and a diagonal mass matrix.

    A sampler is one `_step` on a `ChainState`; whether chains run one after the other or all at once, and when they
    adapt, is decided here. In turn, a chain is the same to the last bit however many chains run. Batched, it is the same
    up to the rounding of batched products, by which long chains part.

    Args:
        num_samples: draws of each chain after the warm-up.
        warmup: transitions before them, in which step size and mass adapt if they are asked to.
        step_size: the leapfrog step. A number is used as it is; with None a first step is searched for and then adapted in
            the warm-up.
        num_chains: chains with starts of their own (4, as in ArviZ and Stan; R-hat needs several).
        adapt_step_size: whether dual averaging adapts the step in the warm-up; None: only if `step_size` is None.
        target_accept: the acceptance rate that this adaptation aims at (0.8, as in Stan and Pyro).
        adapt_mass: whether a diagonal mass matrix is estimated in the warm-up, in Stan's windows; otherwise it is the
            identity.
        start: where each chain starts: "init" at a random initialisation of the network by its layers' own rules, "prior"
            at a draw of the prior.
        memory: bytes that the activations of one chunk of training data may take, for all chains that run at once.
        chains: "in_turn" runs one chain after the other, "batched" all at once: each leapfrog step is then one gradient for
            all chains, and no chain waits for the end of another's trajectory. None: batched on an accelerator, in turn on
            a CPU, where batching saves only the fixed cost of small operations (half the time of 4 chains of 2-32-32-2 on
            500 points, a tenth of that of 784-64-10 on 2000).
    """

    origin: ClassVar[str] = "chain"

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
            whole(name, getattr(self, name), least=least)
        number("step_size", self.step_size, "It is the length of a leapfrog step.", above=0, or_none=True)
        number("target_accept", self.target_accept, "It is a probability.", above=0, below=1)
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
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        bnn = require_bayesian(type(self).__name__, model)
        run = self._begin(bnn, dataset, seed)
        with progress.bar(type(self).__name__, self.num_chains * (self.warmup + self.num_samples)) as advance:
            for _ in run.steps(advance):
                pass
        stats = run.columns()
        weights = {name: tensor.contiguous() for name, tensor in bnn.unflatten(run.draws.flatten(0, 1)).items()}
        predictive = HeldDraws(bnn.net, weights, self.num_chains, stats, **self._common(likelihood, dataset))
        batched = len(run.states) < self.num_chains
        record = {
            "chunks": len(run.target.chunks(self.num_chains if batched else 1)),
            "chains": "batched" if batched else "in_turn",
        }
        return predictive, _notes(type(self).__name__, stats), record

    def _begin(self, bnn: BayesianNetwork, dataset: Dataset, seed: int) -> ChainRun:
        """The run before its first step."""
        target = LogJoint(bnn, dataset.x_train, dataset.y_train, self.memory)
        generators = [rng.generator(seed, type(self).__name__.lower(), chain) for chain in range(self.num_chains)]
        starts = torch.stack([self._start(bnn, generator, seed, chain) for chain, generator in enumerate(generators)])
        step_size = None if self.step_size is None else float(self.step_size)
        warmup = Warmup(int(self.warmup), step_size, self._adapts_step, self.adapt_mass, float(self.target_accept))
        at_once = self.num_chains if self._batches(starts.device) else 1
        states = [
            self._state(warmup, point(target, theta), generators[i * at_once : (i + 1) * at_once])
            for i, theta in enumerate(starts.split(at_once))
        ]
        return ChainRun(target, self._step, warmup, int(self.num_samples), states)

    def _state(self, warmup: Warmup, start: Point, generators: list[torch.Generator]) -> ChainState:
        """The state of chains before their first transition; a sampler that carries more adds its fields here."""
        return warmup.begin(start, generators)

    def _start(self, bnn: BayesianNetwork, generator: torch.Generator, seed: int, chain: int) -> Tensor:
        if self.start == "prior":
            noise = torch.randn(bnn.num_weights, generator=generator, dtype=torch.float32)
            return noise.to(bnn.prior_scales) * bnn.prior_scales
        net = initialise(bnn.net, seed, type(self).__name__.lower(), chain)
        return bnn.flatten(dict(net.named_parameters())).detach()

    @abc.abstractmethod
    def _step(self, target: LogJoint, state: ChainState, chains: list[int]) -> dict[int, dict[str, Any]]:
        """Advance some chains by one step; it depends on the state alone and changes nothing else.

        Args:
            target: the log joint and its gradient.
            state: the state of the chains, which is changed in place.
            chains: the rows to advance, in rising order.

        Returns:
            The statistics of the chains that completed a transition by this step, which have moved `state.point`:
            `acceptance_rate`, `accepted`, `diverging` and whatever else the sampler records, each a number.
        """


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
