"""Draws of a network's weights, as functions of the input: what every kind of predictive says about its draws.

Arguments that a method checks itself are annotated `Tensor`; behind the checks, shapes are part of the types.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from bayesrob.models import Categorical, Likelihood
from bayesrob.nets import spec_of, values_kept
from bayesrob.numerics import CACHE_BYTES, chunk_size, low_dtype, low_products, products
from bayesrob.predictive.checks import check_lengths, check_values, checked_inputs
from bayesrob.predictive.gradients import DrawsFunction, Stream
from bayesrob.predictive.objectives import Objective
from bayesrob.predictive.objectives import objective as objective_called
from bayesrob.types import Batch, Bounds, checked_bounds

__all__ = ["ORIGINS", "Draws"]

ORIGINS = ("chain", "guide", "members", "noise", "unknown")
"""Where draws come from: Markov chains; a distribution fitted to the posterior; networks trained one by one; noise that a
network was trained with (dropout, the stochastic delta rule); or nobody said. What can be known about a posterior
depends on it: independent draws have an R-hat of 1 whatever they are drawn from."""


_ORIGIN_OF = {
    "HMC": "chain", "NUTS": "chain", "SVI": "guide", "AdvBNN": "guide", "SGD": "members", "TRADES": "members",
    "Ensemble": "members", "MCDropout": "noise", "DropConnect": "noise", "SDR": "noise", "predictives": "members",
}  # fmt: skip
"""Origins of draws whose `info` has none, by their method: of draws that version 0.1 saved, and of several predictives."""


class Draws(nn.Module, abc.ABC):
    """Draws of a network's weights, seen only through the functions that they make; `Predictive` builds on it.

    Args:
        net: the architecture; copied, frozen and set to evaluation mode.
        likelihood: what the outputs say about a label. None: classes, whose logits the outputs are.
        bounds: smallest and largest value of the data, `(lo, hi)`, between which attacks stay. None: attacks do not clip.
        input_shape: shape of one input. None: unknown, and inputs are not checked.
        out_features: number of classes or regression outputs, where the network does not say.
        info: where the draws come from (method, settings, seed, data, versions); written to every result.
    """

    memory: int = CACHE_BYTES
    """Bytes that the activations of one chunk of draws may take (at least one draw is run). Set it on a predictive; results
    differ by rounding alone."""

    def __init__(
        self,
        net: nn.Module,
        *,
        likelihood: Likelihood | None = None,
        bounds: Bounds | None = None,
        input_shape: tuple[int, ...] | None = None,
        out_features: int | None = None,
        info: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.likelihood = Categorical() if likelihood is None else likelihood
        self.bounds = None if bounds is None else checked_bounds(bounds)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.info: dict[str, Any] = dict(info or {})
        self.out_features = (spec_of(net) or {}).get("out_features", out_features)
        self._outputs_per_example: int | None = None
        self.eval()

    # ---- what a kind of draws must say --------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        """Where the draws come from, one of `ORIGINS`: as the inference wrote into `info`, which slices and files keep."""
        return str(self.info.get("origin") or _ORIGIN_OF.get(str(self.info.get("method")), "unknown"))

    @property
    @abc.abstractmethod
    def num_draws(self) -> int:
        """Draws used when no number is given; for held draws, all of them, in all chains."""

    @abc.abstractmethod
    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[DrawsFunction]:
        """Yield the draws as functions, `size` of them at a time.

        Args:
            size: draws in one function (the last may have fewer). It does not change what is drawn.
            num_draws: draws in all.
            seed: where fresh draws are drawn from: the same seed gives the same draws again.
            dtype: precision in which the functions' `vjp` is computed. None: the weights' own.
        """

    @abc.abstractmethod
    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        """Return the number of draws and the seed that a call with these arguments uses.

        Args:
            num_draws: draws asked for. None: `self.num_draws`.
            seed: seed asked for. None: for fresh draws, the next one of the predictive's own generator.

        Raises:
            InputError: a number of draws that cannot be had.
        """

    # ---- checks of inputs ---------------------------------------------------------------------------------------------

    def check_inputs(self, x: Tensor) -> None:
        """Raise `InputError` unless `x` is a batch of finite inputs within `bounds`: for the start of long work."""
        self._checked(x)
        check_values(x.detach(), self.bounds)

    def check_labels(self, x: Tensor, y: Tensor) -> None:
        """Raise `InputError` unless `y` holds one valid label for every point of `x`."""
        check_lengths(x, y)
        if self.out_features is None and len(x):
            with torch.no_grad():
                self.out_features = self._outputs_of_one(x).shape[-1]
        self.likelihood.check_labels(y, self.out_features)

    def _outputs_of_one(self, x: Tensor) -> Tensor:
        """The outputs `[..., out]` of one draw for the first point, to count them where `out_features` is unknown."""
        return self.net(x[:1])

    def _checked(self, x: Tensor) -> Batch:
        """`x` in the weights' dtype, once it is sure that the network takes it."""
        dtype = next((parameter.dtype for parameter in self.net.parameters()), None)
        return checked_inputs(x, self.input_shape, dtype)

    def _ready(self, x: Tensor, y: Tensor, objective: str | Objective) -> tuple[Batch, Objective]:
        """Inputs of which gradients can be taken, and the objective."""
        x = self._checked(x)
        self.check_labels(x, y)
        check_values(x.detach())
        return x, objective_called(objective, self.likelihood)

    # ---- chunks of draws ----------------------------------------------------------------------------------------------

    def chunk(self, x: Tensor, extra: int = 0) -> int:
        """How many draws to run in one batched forward pass.

        Args:
            x: the inputs.
            extra: values kept for each draw and point besides the activations.
        """
        if self._outputs_per_example is None:
            if len(x) == 0:
                return self.num_draws
            self._outputs_per_example = values_kept(self.net, x)
        bytes_each = x.element_size() * len(x) * (2 * self._outputs_per_example + extra)
        return chunk_size(self.num_draws, bytes_each, self.memory)

    @contextlib.contextmanager
    def _stream(
        self, x: Batch, num_draws: int | None, seed: int | None, *, precision: str = "full", extra: int = 0
    ) -> Iterator[tuple[int, Stream]]:
        """The number of draws, and a function that starts over at their first chunk; products are as `precision` says."""
        dtype = low_dtype(precision)
        num_draws, seed = self.resolve(num_draws, seed)
        with products(self.net), low_products(precision, x.device):
            yield num_draws, functools.partial(self.functions, self.chunk(x, extra), num_draws, seed, dtype)

    def _batches(self, num_draws: int) -> int | None:
        """Batches whose means are independent, interleaved in the first `num_draws` draws; None: every draw is one."""
        return None

    # ---- as a module --------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever `mode` says: dropout stays off, batch statistics fixed."""
        super().train(False)
        return self

    def _common(self) -> dict[str, Any]:
        """What a predictive made of this one takes over: the keyword arguments of `__init__`."""
        return {
            "likelihood": self.likelihood,
            "bounds": self.bounds,
            "input_shape": self.input_shape,
            "out_features": self.out_features,
            "info": self.info,
        }

    def extra_repr(self) -> str:
        """Say how many draws of which method these are."""
        return f"num_draws={self.num_draws}, method={self.info.get('method', 'unknown')!r}, bounds={self.bounds}"
