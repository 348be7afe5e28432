"""Stacks of linear layers whose loss has its gradient written out: no autograd inside the step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.inference.training.learner import Learner
from bayesrob.inference.training.live import LiveNetwork
from bayesrob.inference.training.network import NetworkLearner, copies, penalised
from bayesrob.models import LIKELIHOODS, BayesianNetwork, Data, FlatNetwork, Likelihood, LikelihoodGradient
from bayesrob.nets import Stack
from bayesrob.predictive import HeldDraws
from bayesrob.types import Batch, Labels, Weights

__all__ = ["ClosedForm"]


class ClosedForm(Learner):
    """The loss `penalised` of a stack of linear layers, over one flat weight vector or one for each of several networks.

    At the sizes of sweeps (784-100-10 on minibatches of 64) autograd and the optimizer's walk over the parameters take
    longer than the products. The loss is `[*network]` and leaves its gradient in `theta.grad`: no network sees another.

    Args:
        net: a network that `takes` accepts; it gets the trained weights when `predictive` is called.
        model: the model that was given to `fit`: with a prior, or `net`'s own source.
        likelihood: what outputs say about labels.
        example: some training points, of which the shape counts.
        num_data: number of points that a network is trained on.
        common: what the Predictive is told about its data.
        starts: initial weights by name, `[network, *shape]`, for several networks; None: one network, from those of `net`.
    """

    def __init__(
        self,
        net: nn.Module,
        model: nn.Module,
        likelihood: Likelihood,
        *,
        example: Batch,
        num_data: int,
        common: dict[str, Any],
        starts: Weights | None = None,
    ):
        self._net, self._model, self._num_data, self._common = net, model, num_data, common
        self._flat = FlatNetwork(net, likelihood)
        self.theta = self._flat.flatten(starts or dict(net.named_parameters())).detach().requires_grad_()
        self._likelihood = LikelihoodGradient(self._flat, tuple(self.theta.shape), example, self.theta)
        self._bnn = model if isinstance(model, BayesianNetwork) else None
        precision = torch.zeros(()) if self._bnn is None else self._bnn.prior_scales.to(self.theta).square().reciprocal()
        self._precision = precision
        self.parameters, self.statistics = [self.theta], []
        self._live: LiveNetwork | None = None

    @staticmethod
    def takes(net: nn.Module, likelihood: Likelihood, example: Batch) -> bool:
        """Whether the network is a stack whose weights are its parameters, all of one dtype and on one device.

        The likelihood must be one of bayesrob's own: others (labels that are probabilities) may have another score.
        """
        stack, own = Stack.of(net), dict(net.named_parameters())
        if stack is None or not stack.takes(example) or type(likelihood) not in LIKELIHOODS.values():
            return False
        used = {prefix + name for prefix, layer in stack.layers for name, _ in layer.named_parameters()}
        return used == own.keys() and len({(weight.dtype, weight.device) for weight in own.values()}) == 1

    def split(self, x: Tensor, y: Tensor, sizes: list[int]) -> Iterator[Data]:
        return self._likelihood.split(x, y, sizes)

    @torch.no_grad()
    def loss(self, batch: Data) -> Tensor:
        likelihood, count = self._likelihood, batch.x.shape[-1]
        likelihood.load(self.theta)
        total = likelihood(batch, scale=-1 / count)
        assert total is not None
        self.theta.grad, value = likelihood.gradient(), total / -count
        if self._bnn is None:
            return value
        self.theta.grad.addcmul_(self.theta, self._precision, value=1 / self._num_data)
        return value - self._bnn.log_prior(self.theta) / self._num_data

    def loss_at(self, x: Batch, y: Labels) -> Tensor:
        return self.loss(self._likelihood.data(x, y))

    def predictive(self) -> HeldDraws:
        views = self.views()
        if self.theta.ndim > 1:
            weights = {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in views.items()}
            return HeldDraws(self._net, weights, **self._common)
        with torch.no_grad():
            for name, weight in views.items():
                self._net.get_parameter(name).copy_(weight)
        return HeldDraws(self._net, copies(views), **self._common)

    def live(self) -> LiveNetwork:
        if self._live is None:
            self._live = LiveNetwork(self._net, self.views(), **self._common)
        return self._live.now()

    def by_autograd(self) -> NetworkLearner:
        """A learner of the same network, which has its initial weights until `predictive` is called."""
        net = self._net.requires_grad_(True)
        return NetworkLearner(net, penalised(net, self._model, self._flat.likelihood, self._num_data), self._common)

    def views(self) -> dict[str, Tensor]:
        """The weights by name, `[*network, *shape]`, as views of `theta`, which changes in place."""
        return self._flat.unflatten(self.theta.detach())
