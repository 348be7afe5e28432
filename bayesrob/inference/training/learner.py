"""What a training loop trains: parameters, a loss of a minibatch, and the Predictive that training would end with now."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from bayesrob.predictive import Predictive
from bayesrob.types import Batch, Labels

__all__ = ["Learner", "Wrapped"]


class Learner(abc.ABC):
    """One network, several networks, or a distribution over weights, while it is trained.

    The loop moves `parameters` in place along the gradient of `loss`, and calls the hooks `before_step` and `end_epoch`.
    Whatever else changes between two steps belongs to `state`, so that a run can be saved and continued with the same bits.
    """

    parameters: list[Tensor]
    """Tensors that the optimizer moves, in place."""

    statistics: list[Tensor]
    """Tensors that the loss itself changes (running statistics): if the loss blows up, they go back with the parameters."""

    counters: Sequence[Tensor] = ()
    """Integer tensors that the loss itself changes (minibatches seen by batch normalisation): they only ever count up."""

    advice: str = "Use a smaller lr."
    """What the user should do if the loss has blown up."""

    def loss(self, batch: Any) -> Tensor:
        """The loss of one minibatch as `split` gives it: a scalar, or `[network]` if several networks are trained at once.

        It is differentiable in `parameters`; one that needs no gradient has left the derivatives in the parameters' `grad`.
        """
        return self.loss_at(*batch)

    @abc.abstractmethod
    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        """The same loss at points that were not among the minibatches, such as those that an attack made."""

    @abc.abstractmethod
    def predictive(self) -> Predictive:
        """The Predictive that training would end with now; what the optimizer does next does not change it."""

    @abc.abstractmethod
    def live(self) -> Predictive:
        """The Predictive over what is trained now, which defences attack; called once a step.

        It shares memory with the learner. Its networks are in evaluation mode and use the current running statistics. Random
        networks make one new draw for each model evaluation, as training does for each step.
        """

    def by_autograd(self) -> Learner:
        """A learner of the same network whose loss autograd can follow to the points and the network's outputs."""
        return self

    def split(self, x: Tensor, y: Tensor, sizes: list[int]) -> Iterable[Any]:
        """Yields what `loss` takes for every minibatch, given the shuffled points and the minibatch sizes."""
        return zip(x.split(sizes), y.split(sizes), strict=True)

    def before_step(self) -> None:  # noqa: B027
        """Called when the gradients are known, before the optimizer moves the parameters."""

    def end_epoch(self) -> None:  # noqa: B027
        """Called after the last step of every epoch."""

    def record(self) -> dict[str, Any]:
        """What the fit's `info` says of this training beyond its losses."""
        return {}

    def state(self) -> dict[str, Any]:
        """What changes between steps besides the attributes above: tensors, numbers, and containers of them.

        The tensors may be the learner's own; whoever saves them copies them first.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Continue from what `state` returned, in a learner that was built with the same arguments."""


class Wrapped(Learner):
    """A learner around another one: it does what that does, except for the methods that a subclass overrides.

    Args:
        inner: the learner that is wrapped; its parameters are those that are trained.
    """

    def __init__(self, inner: Learner):
        self.inner = inner
        self.parameters, self.statistics, self.counters = inner.parameters, inner.statistics, inner.counters
        self.advice = inner.advice

    def loss(self, batch: Any) -> Tensor:
        return self.inner.loss(batch)

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        return self.inner.loss_at(x, y)

    def predictive(self) -> Predictive:
        return self.inner.predictive()

    def live(self) -> Predictive:
        return self.inner.live()

    def split(self, x: Batch, y: Labels, sizes: list[int]) -> Iterable[Any]:
        return self.inner.split(x, y, sizes)

    def before_step(self) -> None:
        self.inner.before_step()

    def end_epoch(self) -> None:
        self.inner.end_epoch()

    def record(self) -> dict[str, Any]:
        return self.inner.record()

    def state(self) -> dict[str, Any]:
        return {"inner": self.inner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.inner.restore(state["inner"])
