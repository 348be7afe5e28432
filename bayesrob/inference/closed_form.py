"""The loss of deterministic networks on a mini-batch with its gradient written out: no autograd inside the step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesrob.models import LIKELIHOODS, BayesianNetwork, FlatNetwork, Likelihood, LikelihoodGradient
from bayesrob.models.gradient import Data
from bayesrob.nets import Stack
from bayesrob.types import Batch, Weights

__all__ = ["ClosedForm"]


class ClosedForm:
    """`sgd.penalised` of a stack of linear layers, over one flat weight vector or one for each of several networks.

    At the sizes of sweeps (784-100-10 on batches of 64) autograd and the optimizer's walk over the parameters take longer
    than the products. A call gives the loss `[*network]` and leaves its gradient in `theta.grad`: no network sees another.

    Args:
        net: for which `takes`; its weights change by `hand_back` alone. bnn: where there is a prior. x: the training points.
        num_data: points that a network is trained on. starts: weights by name, `[*network, *shape]`; None: those of `net`.
    """

    def __init__(
        self,
        net: nn.Module,
        bnn: BayesianNetwork | None,
        likelihood: Likelihood,
        x: Batch,
        num_data: int,
        starts: Weights | None = None,
    ):
        self._flat = FlatNetwork(net, likelihood)
        self.theta = self._flat.flatten(starts or dict(net.named_parameters())).detach().requires_grad_()
        self._likelihood = LikelihoodGradient(self._flat, tuple(self.theta.shape), x, self.theta)
        self.split = self._likelihood.split
        self._bnn, self._num_data = bnn, num_data
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
        likelihood, count = self._likelihood, data.x.shape[-1]
        likelihood.load(self.theta)
        total = likelihood(data, scale=-1 / count)
        assert total is not None
        self.theta.grad, value = likelihood.gradient(), total / -count
        if self._bnn is None:
            return value
        self.theta.grad.addcmul_(self.theta, self._precision, value=1 / self._num_data)
        return value - self._bnn.log_prior(self.theta) / self._num_data

    def at(self, x: Tensor, y: Tensor) -> Tensor:
        """The same of points `[batch, *shape]` that were not among the batches, such as those an attack made."""
        return self(self._likelihood.data(x, y))

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Those of now by name, `[*network, *shape]`, as a copy."""
        return {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in self.views().items()}

    @torch.no_grad()
    def hand_back(self) -> None:
        """Give the one network the weights of now."""
        for name, weight in self.views().items():
            self._flat.net.get_parameter(name).copy_(weight)

    def views(self) -> dict[str, Tensor]:
        """Those of now by name, and of later: they lie in `theta`, which changes in place."""
        return self._flat.unflatten(self.theta.detach())
