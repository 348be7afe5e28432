"""One network whose loss is differentiated by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.inference.training.learner import Learner
from bayesrob.inference.training.live import LiveNetwork
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.numerics import without_negligible
from bayesrob.predictive import HeldDraws
from bayesrob.types import Batch, Labels

__all__ = ["Criterion", "NetworkLearner", "buffers", "copies", "penalised"]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""The loss as a function of the network's outputs `[batch, out]` and the labels."""


class NetworkLearner(Learner):
    """A network in training mode, its loss `criterion(net(x), y)`.

    Args:
        net: the network; its parameters change in place.
        criterion: see `penalised`.
        common: what the Predictive is told about its data.
    """

    def __init__(self, net: nn.Module, criterion: Criterion, common: dict[str, Any]):
        self.net, self.criterion, self._common = net, criterion, common
        self.parameters = list(net.parameters())
        self.statistics, self.counters = buffers(net)
        self._live: LiveNetwork | None = None

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        return self.criterion(self.net(x), y)

    def predictive(self) -> HeldDraws:
        return HeldDraws(self.net, copies(dict(self.net.named_parameters())), **self._common)

    def live(self) -> LiveNetwork:
        if self._live is None:
            self._live = LiveNetwork(self.net, **self._common)
        return self._live.now()


def copies(weights: dict[str, Any]) -> dict[str, Tensor]:
    """Weights by name as those of one draw, `[1, *shape]`, copied."""
    return {name: one.detach()[None].clone(memory_format=torch.contiguous_format) for name, one in weights.items()}


def penalised(net: nn.Module, model: nn.Module, likelihood: Likelihood, num_data: int) -> Criterion:
    """The mean negative log likelihood, minus log p(w) / `num_data` if `model` has a prior.

    Args:
        net: the network that is trained; it gives the outputs, and the weights that the prior is about.
        model: the model that was given to `fit`.
        likelihood: what outputs say about labels.
        num_data: number of training points.
    """
    bnn = model if isinstance(model, BayesianNetwork) else None

    def criterion(outputs: Tensor, y: Tensor) -> Tensor:
        if outputs.requires_grad:
            outputs.register_hook(without_negligible)
        value = -likelihood.total(outputs, y) / len(y)
        return value if bnn is None else value - bnn.log_prior(bnn.flatten(dict(net.named_parameters()))) / num_data

    return criterion


def buffers(net: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The running statistics and the counters of `net`, which the loss changes: see `Learner`."""
    own = list(net.buffers())
    return [one for one in own if one.is_floating_point()], [one for one in own if not one.is_floating_point()]
