"""Everything that chains carry from one step to the next."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bayesrob.inference.chains.adaptation import DualAveraging, RunningVariance, StepSizeSearch
from bayesrob.inference.chains.leapfrog import Point
from bayesrob.inference.chains.saving import savable

__all__ = ["ChainState"]


@savable
@dataclasses.dataclass
class ChainState:
    """The state of one or more chains between two steps, one row for each chain.

    The next step depends on this state, the sampler's settings and the data, and on nothing else. `pack` turns the state
    into tensors and numbers, `unpack` makes it again. A sampler that carries more (a trajectory under way, a velocity)
    inherits this class and adds fields.

    Args:
        point: the weights `[chain, weight]`, their log joint `[chain]` and its gradient `[chain, weight]`.
        inverse_mass: the diagonal of the inverse mass matrix, `[chain, weight]`.
        step_size: the leapfrog step of each chain.
        averaging: the state of each chain's step-size adaptation.
        variance: the running variance of the mass window; None if the mass is not adapted.
        search: each chain's search for a reasonable step size; None where none is under way.
        generators: each chain's own generator of random numbers.
        done: transitions that each chain has made, those of the warm-up included.
    """

    point: Point
    inverse_mass: Tensor
    step_size: list[float]
    averaging: list[DualAveraging]
    variance: RunningVariance | None
    search: list[StepSizeSearch | None]
    generators: list[torch.Generator]
    done: list[int]

    def __len__(self) -> int:
        """How many chains there are."""
        return len(self.done)
