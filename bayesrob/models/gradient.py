"""The gradient of a likelihood with respect to flat weight vectors: what HMC, NUTS and SVI have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.flat_network import FlatNetwork
from bayesrob.nets import Stack, Workspace, feature_major
from bayesrob.types import Batch, Labels

__all__ = ["Data", "LikelihoodGradient"]


class Data(NamedTuple):
    """Points and labels in the form that a `LikelihoodGradient` wants, made once for data that are seen again."""

    x: Tensor
    y: Labels
    code: Tensor | None


class LikelihoodGradient:
    """log p(y | x, theta) and its gradient, at one flat weight vector `[weight]` or each of several `[chain, weight]`.

    Stacks of linear layers are differentiated in closed form (`nets.Stack`), other networks by autograd. The weights and
    the gradient have memory of their own, `theta` and `gradient`, whose views are made once: at small sizes they would cost
    as much as the products.

    Args:
        model: the network and its likelihood. shape: of `theta`. example: points, of which the shape counts.
    """

    def __init__(self, model: FlatNetwork, shape: tuple[int, ...], example: Batch):
        self.model = model
        self.theta: Float[Tensor, "*chain weight"] = model.empty(*shape[:-1])
        self.gradient: Float[Tensor, "*chain weight"] = torch.empty_like(self.theta)
        stack = Stack.of(model.net)
        self.stack = stack if stack is not None and stack.takes(example) else None
        if self.stack is not None:
            self._weights = self.stack.bind(model.unflatten(self.theta))
            self._gradients = self.stack.bind(model.unflatten(self.gradient))
            self._workspace = Workspace()

    def data(self, x: Batch, y: Labels) -> Data:
        if self.stack is None:
            return Data(x, y, None)
        return Data(feature_major(x), y, self.model.likelihood.encode(y, self.stack.out_features, self.theta))

    @torch.no_grad()
    def __call__(self, data: Data, value: bool = True, accumulate: bool = False) -> Float[Tensor, "*chain"] | None:
        """Write the gradient at `theta` into `gradient`, or add it to what is there if `accumulate`.

        Returns:
            The log likelihood, float64; None if `value` is False and leaving it out saves time. No chain sees another: what
            is NaN in one row stays there.
        """
        if self.stack is None:
            return self._by_autograd(data, accumulate)
        assert data.code is not None
        raw, kept = self.stack.forward(self._weights, data.x, self._workspace)
        total = self.model.likelihood.total(raw.mT, data.y) if value else None
        slope = self.model.likelihood.score(raw.mT, data.code).mT
        self.stack.backward(self._weights, kept, slope, self._workspace, self._gradients, accumulate)
        return total

    def _by_autograd(self, data: Data, accumulate: bool) -> Tensor:
        with torch.enable_grad():
            leaf = self.theta.detach().requires_grad_()
            total = self.model.likelihood.total(self.model.outputs(leaf, data.x), data.y)
            (part,) = torch.autograd.grad(total, leaf, torch.ones_like(total))  # rows do not mix: each its own
        self.gradient.add_(part) if accumulate else self.gradient.copy_(part)
        return total.detach()
