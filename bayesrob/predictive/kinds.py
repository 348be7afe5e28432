"""Kinds of objectives, by how their gradient over many draws is made: in one pass, or with something known beforehand."""

from __future__ import annotations

import abc
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models import Likelihood
from bayesrob.numerics import Rescaled, rescaled
from bayesrob.types import DrawLogits, Labels, Outputs

__all__ = ["AboutMean", "DrawMean", "MeanOutputs", "Objective", "Pooled", "value_and_slope"]


class Objective(abc.ABC):
    """A loss of each data point under all draws; attacks climb it."""

    needs_classes = True

    @abc.abstractmethod
    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        """The loss of each point from the outputs of every draw."""


class DrawMean(Objective):
    """A mean over draws: its gradient is the mean of the draws' gradients."""

    @abc.abstractmethod
    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        """The loss of each point under each draw."""

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        return self.per_draw(outputs, y, likelihood).mean(0)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        """Derivative of `per_draw` with respect to each draw's outputs."""
        return value_and_slope(lambda outputs: self.per_draw(outputs, y, likelihood), outputs)[1]

    def rescaled_slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Rescaled:
        """`slope` with the size of each draw's at each point apart: asked for where float32 is about to lose it.

        An objective that knows a formula for it overrides this: then the direction stays right however small the slope.
        """
        return rescaled(self.slope(outputs, y, likelihood))


class Pooled(Objective):
    """A function of the posterior predictive log probabilities `[batch, cls]`."""

    @abc.abstractmethod
    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        """The loss of each averaged prediction."""

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        return self.loss(likelihood.predictive(outputs), y)


class AboutMean(Objective):
    """A function of the draws' outputs and of their mean, here the mean over draws of `about(mean)`."""

    needs_classes = False

    @abc.abstractmethod
    def about(self, mean: Outputs) -> DrawMean:
        """The same with the mean known; its `slope` is the whole derivative, also what goes through the mean."""

    def value(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, " batch"]:
        mean = MeanOutputs()
        mean.add(outputs)
        return self.about(mean.value).value(outputs, y, likelihood)


class MeanOutputs:
    """The mean over draws of their outputs, `[batch, out]`, summed chunk by chunk; of equal draws exactly their output."""

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._rest: Tensor | float = 0.0
        self._count = 0

    def add(self, outputs: DrawLogits) -> None:
        """Add the outputs of one chunk of draws."""
        self._first = outputs[0] + 0 if self._first is None else self._first  # a copy: the next chunk may overwrite it
        self._rest = self._rest + (outputs - self._first).sum(0)
        self._count += len(outputs)

    @property
    def value(self) -> Outputs:
        """The mean of the draws added so far."""
        assert self._first is not None
        return self._first + self._rest / self._count


def value_and_slope(loss: Callable[[Tensor], Tensor], outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Values of `loss(outputs)` and the derivative of their sum, both detached."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        values = loss(leaf)
        (slope,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slope
