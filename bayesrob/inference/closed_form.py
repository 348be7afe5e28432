"""The loss of one deterministic network on a mini-batch with its gradient written out: no autograd inside the step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesrob.models import LIKELIHOODS, BayesianNetwork, FlatNetwork, Likelihood, LikelihoodGradient
from bayesrob.models.gradient import Data
from bayesrob.nets import Stack
from bayesrob.types import Batch

__all__ = ["ClosedForm"]


class ClosedForm:
    """`sgd.penalised` of a stack of linear layers, over one flat weight vector, for `minimise`.

    At the sizes of sweeps (784-100-10 on batches of 64) autograd and the optimizer's walk over the parameters take longer
    than the products. A call gives the loss and leaves its gradient in `theta.grad`.

    Args:
        net: for which `takes`; its weights are the start, and change by `hand_back` alone. bnn: where there is a prior.
        x: the training points.
    """

    def __init__(self, net: nn.Module, bnn: BayesianNetwork | None, likelihood: Likelihood, x: Batch):
        self._flat = FlatNetwork(net, likelihood)
        self.theta = self._flat.flatten(dict(net.named_parameters())).detach().requires_grad_()
        self._likelihood = LikelihoodGradient(self._flat, tuple(self.theta.shape), x, self.theta)
        self.split = self._likelihood.split
        self._bnn, self._num_data = bnn, len(x)
        self._precision = torch.zeros(()) if bnn is None else bnn.prior_scales.to(self.theta).square().reciprocal()

    @staticmethod
    def takes(net: nn.Module, likelihood: Likelihood, x: Batch) -> bool:
        """Whether the network is a stack whose every weight is a parameter of its own, all alike in dtype and device.

        And the likelihood one of ours: others (labels that are probabilities) may not know a score in closed form.
        """
        stack, own = Stack.of(net), dict(net.named_parameters())
        if stack is None or not stack.takes(x) or type(likelihood) not in LIKELIHOODS.values():
            return False
        used = {prefix + name for prefix, layer in stack.layers for name, _ in layer.named_parameters()}
        return used == own.keys() and len({(weight.dtype, weight.device) for weight in own.values()}) == 1

    @torch.no_grad()
    def __call__(self, data: Data) -> Tensor:
        likelihood, count = self._likelihood, len(data.y)
        likelihood.load(self.theta)
        total = likelihood(data, scale=-1 / count)
        assert total is not None
        self.theta.grad, value = likelihood.gradient(), total / -count
        if self._bnn is None:
            return value
        self.theta.grad.addcmul_(self.theta, self._precision, value=1 / self._num_data)
        return value - self._bnn.log_prior(self.theta) / self._num_data

    @torch.no_grad()
    def hand_back(self) -> None:
        """Give the network the weights of now."""
        for name, weight in self._flat.unflatten(self.theta).items():
            self._flat.net.get_parameter(name).copy_(weight)
