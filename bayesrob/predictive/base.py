"""The one interface: a distribution over functions, whatever made its draws.

Arguments that a method checks itself are annotated `Tensor`; behind the checks, shapes are part of the types.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayesrob import weights
from bayesrob.models import Categorical, Likelihood
from bayesrob.nets import spec_of, values_kept
from bayesrob.numerics import CACHE_BYTES, chunk_size, low_dtype, low_products, products
from bayesrob.predictive.checks import check_lengths, check_values, checked_inputs
from bayesrob.predictive.gradients import DrawsFunction, LogPredictive, Stream, draw_gradients, gradient
from bayesrob.predictive.objectives import Objective
from bayesrob.predictive.objectives import objective as find_objective
from bayesrob.predictive.standard_error import gradient_with_error
from bayesrob.predictive.votes import check_votes, shares
from bayesrob.types import Batch, Bounds, DrawLogits, Outputs, checked_bounds

__all__ = ["Predictive"]


class Predictive(nn.Module, abc.ABC):
    """Draws of a network's weights, seen only through the functions that they make.

    Args:
        net: the architecture; copied, frozen and set to evaluation mode.
        likelihood: what the outputs say about a label.
        bounds: of the data, `(lo, hi)` or None; attacks stay inside.
        input_shape: shape of one input, or None if unknown (then inputs are not checked).
        out_features: number of classes or regression outputs, where the network does not say.
        info: where the draws come from (method, settings, seed, data, versions); written to every result.
    """

    kind: str
    """Name of the class in saved files."""

    memory: int = CACHE_BYTES
    """Bytes that the activations of one chunk of draws may take (at least one draw is run). Set it on a predictive; results
    differ by rounding alone."""

    def __init__(
        self,
        net: nn.Module,
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
    @abc.abstractmethod
    def num_draws(self) -> int:
        """Draws used when no number is given; for held draws, all of them, in all chains."""

    @abc.abstractmethod
    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[DrawsFunction]:
        """The draws, `size` at a time. The same arguments but for `size` give the same draws again.

        With a `dtype`, their `vjp` is computed in it.
        """

    @abc.abstractmethod
    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        """How many draws, from which seed; where the draws are fresh, no seed means the next of the predictive's own."""

    @abc.abstractmethod
    def freeze(self, num_draws: int | None = None, seed: int = 0) -> Predictive:
        """Held draws: `num_draws` drawn once from `seed`; of draws already held, the first `num_draws`."""

    @abc.abstractmethod
    def __getitem__(self, index: int | slice) -> Predictive: ...

    @abc.abstractmethod
    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that a file must keep."""

    @classmethod
    @abc.abstractmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> Predictive:
        """The inverse of `contents`."""

    # ---- what everybody uses ------------------------------------------------------------------------------------------

    def logits(self, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> DrawLogits:
        """The network's outputs under every draw, `[draw, batch, class]`, differentiable in `x`.

        A backward pass of the caller's own runs outside: its products are in torch's setting, not of `numerics.route`.

        Args:
            x: `[batch, *shape]`.
            num_draws: the first so many (held draws), or so many new ones (fresh draws; default `self.num_draws`).
            seed: for fresh draws, where to draw from; None continues the predictive's own generator.
        """
        x = self._checked(x)
        num_draws, seed = self.resolve(num_draws, seed)
        with products(self.net):
            return torch.cat([f(x) for f in self.functions(self.chunk(x), num_draws, seed)])

    def forward(self, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> Outputs:
        """Log posterior predictive probabilities `[batch, class]` (for regression the posterior mean `[batch, out]`).

        Differentiable in `x`; rows of the exponential sum to one, so softmax of it changes nothing.
        """
        return self.likelihood.predictive(self.logits(x, num_draws, seed))

    def vote(self, x: Tensor, num_draws: int | None = None, seed: int | None = None) -> Outputs:
        """Share of the draws that vote for each class, `[batch, class]`, as logits' argmax; rows sum to one.

        Its argmax is the majority, the first class where votes are equal; `predictive.majority` can break ties otherwise.
        Memory does not grow with the number of draws. Piecewise constant in `x`: no gradient.

        Raises:
            InputError: inputs that do not fit, or regression.
        """
        check_votes(self.likelihood)
        x = self._checked(x)
        with self._stream(x, num_draws, seed) as (_, stream):
            return shares(stream(), x)

    @overload
    def input_gradient(
        self, x: Tensor, y: Tensor, objective: str | Objective = ..., num_draws: int | None = ..., seed: int | None = ...,
        standard_error: Literal[False] = ..., precision: str = ...,
    ) -> Batch: ...  # fmt: skip

    @overload
    def input_gradient(
        self, x: Tensor, y: Tensor, objective: str | Objective = ..., num_draws: int | None = ..., seed: int | None = ...,
        *, standard_error: Literal[True], precision: str = ...,
    ) -> tuple[Batch, Batch]: ...  # fmt: skip

    def input_gradient(
        self, x: Tensor, y: Tensor, objective: str | Objective = "expected_loss", num_draws: int | None = None,
        seed: int | None = None, standard_error: bool = False, precision: str = "full",
    ) -> Batch | tuple[Batch, Batch]:  # fmt: skip
        """Gradient of an averaged loss with respect to each input, `[batch, *shape]`: each point's own, no 1/batch.

        Args:
            x: `[batch, *shape]`. y: true labels.
            objective: "expected_loss" (mean over draws of the loss gradient, the default because it is equation 2 of
                Carbone et al. 2020) or another of `predictive.objectives`, by name or as an object.
            num_draws, seed: as in `logits`.
            standard_error: also return the Monte Carlo standard error of every component, `[batch, *shape]`: is the
                gradient vanishing, or lost in noise? A gradient within two of them of zero is not known to differ from
                it. Four Markov chains or more count as that many batches; draws of fewer as independent, which is too
                small if they are correlated.
            precision: "full", the weights' own; "bf16" or (on NVIDIA cards) "tf32" round the factors of products, for the
                steps of attacks whose result is scored in full. Held draws then keep a rounded copy of themselves.

        Raises:
            InputError: shapes or labels that do not fit. UnknownNameError: an unknown objective or precision.
        """
        x, found = self._ready(x, y, objective)
        # For an error every draw has its own copy of the input, so fewer fit the cache.
        with self._stream(x, num_draws, seed, precision, 4 * math.prod(x.shape[1:]) if standard_error else 0) as (n, stream):
            if standard_error:
                return gradient_with_error(stream, x, y, found, self.likelihood, self._batches(n))
            return gradient(stream, n, x, y, found, self.likelihood)

    def gradient_and_prediction(
        self, x: Tensor, y: Tensor, objective: str | Objective = "expected_loss", num_draws: int | None = None,
        seed: int | None = None, precision: str = "full",
    ) -> tuple[Batch, Outputs, Float[Tensor, " batch"]]:  # fmt: skip
        """`input_gradient`, and of the same pass the log predictive and the objective `[batch]`; for classifiers."""
        x, found = self._ready(x, y, objective)
        prediction = LogPredictive()
        with self._stream(x, num_draws, seed, precision) as (n, stream):
            return gradient(stream, n, x, y, found, self.likelihood, prediction), prediction.value, prediction.loss

    @contextlib.contextmanager
    def _stream(
        self, x: Batch, num_draws: int | None, seed: int | None, precision: str = "full", extra: int = 0
    ) -> Iterator[tuple[int, Stream]]:
        """How many draws, and chunks of them, while products are as `precision` says."""
        dtype = low_dtype(precision)
        num_draws, seed = self.resolve(num_draws, seed)
        with products(self.net), low_products(precision, x.device):
            yield num_draws, functools.partial(self.functions, self.chunk(x, extra), num_draws, seed, dtype)

    def draw_gradients(
        self, x: Tensor, y: Tensor, objective: str = "expected_loss", num_draws: int | None = None, seed: int | None = None
    ) -> tuple[Float[Tensor, "draw batch"], Tensor]:
        """Each draw's own loss `[draw, batch]` and its input gradients `[draw, batch, *shape]`: what averages are made of.

        They are all kept, so give few points at a time. With the default, "expected_loss", the losses are -log p_d(y | x).

        Args:
            x, y, num_draws, seed: as in `input_gradient`.
            objective: a mean over draws: "expected_loss", or for audits "double_softmax_per_draw".

        Raises:
            InputError: shapes or labels that do not fit, or an objective that is not a mean over draws.
        """
        x, found = self._ready(x, y, objective)
        with self._stream(x, num_draws, seed, extra=math.prod(x.shape[1:])) as (_, stream):
            parts = draw_gradients(stream(), x, y, found, self.likelihood)
            losses, gradients = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(gradients)

    def objective_value(
        self, x: Tensor, y: Tensor, objective: str = "expected_loss", num_draws: int | None = None, seed: int | None = None
    ) -> Tensor:
        """The averaged loss of each point, `[batch]`, whose gradient `input_gradient` is."""
        x = self._checked(x)
        self.check_labels(x, y)
        return find_objective(objective, self.likelihood).value(self.logits(x, num_draws, seed), y, self.likelihood)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the draws to the folder `path` (safetensors and JSON); `bayesrob.load(path)` reads them back.

        A network of the user's own has no description that a file could hold: pass it to `load(path, net=...)` again.
        """
        tensors, values = self.contents()
        net = {"net": spec_of(self.net), "net_class": type(self.net).__name__}
        common = {**self._common(), "likelihood": self.likelihood.spec()}
        return weights.write(path, tensors, {"kind": self.kind, **net, **common, "values": values})

    # ---- helpers ------------------------------------------------------------------------------------------------------

    def chunk(self, x: Tensor, extra: int = 0) -> int:
        """How many draws to run at once on `x`; `extra` counts further values kept for each draw and point."""
        if self._outputs_per_example is None:
            if len(x) == 0:
                return self.num_draws
            self._outputs_per_example = values_kept(self.net, x)
        bytes_each = x.element_size() * len(x) * (2 * self._outputs_per_example + extra)
        return chunk_size(self.num_draws, bytes_each, self.memory)

    def check_inputs(self, x: Tensor) -> None:
        """Raise `InputError` unless `x` is a batch of finite inputs within `bounds`: for the start of long work."""
        self._checked(x)
        check_values(x.detach(), self.bounds)

    def check_labels(self, x: Tensor, y: Tensor) -> None:
        """Raise `InputError` unless `y` holds one valid label for every point of `x`."""
        check_lengths(x, y)
        if self.out_features is None and len(x):
            with torch.no_grad():
                self.out_features = self.net(x[:1]).shape[-1]
        self.likelihood.check_labels(y, self.out_features)

    def _ready(self, x: Tensor, y: Tensor, objective: str | Objective) -> tuple[Batch, Objective]:
        """Inputs of which gradients can be taken, and the objective."""
        x = self._checked(x)
        self.check_labels(x, y)
        check_values(x.detach())
        return x, find_objective(objective, self.likelihood)

    def _checked(self, x: Tensor) -> Batch:
        dtype = next((parameter.dtype for parameter in self.net.parameters()), None)
        return checked_inputs(x, self.input_shape, dtype)

    def _batches(self, num_draws: int) -> int | None:
        """Batches whose means are independent, interleaved in the first `num_draws` draws; None: every draw is one."""
        return None

    def train(self, mode: bool = True) -> Predictive:
        """A Predictive is never in training mode: dropout stays off, batch statistics fixed, whatever `mode` says."""
        super().train(False)
        return self

    def _common(self) -> dict[str, Any]:
        return {
            "likelihood": self.likelihood,
            "bounds": self.bounds,
            "input_shape": self.input_shape,
            "out_features": self.out_features,
            "info": self.info,
        }

    def extra_repr(self) -> str:
        return f"num_draws={self.num_draws}, method={self.info.get('method', 'unknown')!r}, bounds={self.bounds}"
