"""The gradient of a likelihood with respect to flat weight vectors: what HMC, NUTS and SVI have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.flat_network import FlatNetwork
from bayesrob.nets import Joined, Stack, Workspace, feature_major
from bayesrob.types import Batch, Labels

__all__ = ["Data", "LikelihoodGradient"]


class Data(NamedTuple):
    """Points and labels in the form that a `LikelihoodGradient` wants, made once for data that are seen again."""

    x: Tensor
    y: Labels
    code: Tensor | None


class LikelihoodGradient:
    """log p(y | x, theta) and its gradient, at one flat weight vector `[weight]` or each of several `[chain, weight]`.

    Stacks of linear layers are differentiated in closed form (`nets.Stack`; small ones by `nets.Joined`), other networks by
    autograd. The weights and the gradient have memory of their own, whose views are made once: at small sizes they would
    cost as much as the products.

    Args:
        model: the network and its likelihood. shape: of theta. example: points, of which the shape counts.
    """

    def __init__(self, model: FlatNetwork, shape: tuple[int, ...], example: Batch):
        self.model, self.shape = model, shape
        theta = model.empty(*shape[:-1])
        stack = Stack.of(model.net)
        self.stack = stack if stack is not None and stack.takes(example) else None
        self._joined: Joined | None = None
        if self.stack is not None and Joined.takes(self.stack):
            places = model.unflatten(torch.arange(model.num_weights, device=theta.device))
            self._joined = Joined(self.stack, places, theta)
            return
        self._theta, self._gradient = theta, torch.empty_like(theta)
        if self.stack is not None:
            self._weights = self.stack.bind(model.unflatten(self._theta))
            self._gradients = self.stack.bind(model.unflatten(self._gradient))
            self._workspace = Workspace()

    def data(self, x: Batch, y: Labels) -> Data:
        if self.stack is None:
            return Data(x, y, None)
        x = feature_major(x)
        code = self.model.likelihood.encode(y, self.stack.out_features, x)
        return Data(x if self._joined is None else self._joined.inputs(x), y, code)

    def load(self, theta: Float[Tensor, "*chain weight"]) -> None:
        """Take the weights to differentiate at."""
        if self._joined is None:
            self._theta.copy_(theta)
        else:
            self._joined.load(theta)

    def gradient(self) -> Float[Tensor, "*chain weight"]:
        """Of the data seen since the last call that did not accumulate. Its memory is used again."""
        return self._gradient if self._joined is None else self._joined.gradient()

    def __call__(self, data: Data, value: bool = True, accumulate: bool = False) -> Float[Tensor, "*chain"] | None:
        """Compute the gradient at the weights that were loaded, or add it to what is there if `accumulate`.

        To be called without gradients.

        Returns:
            The log likelihood, float64; None if `value` is False and leaving it out saves time. No chain sees another: what
            is NaN in one row stays there.
        """
        if self.stack is None:
            return self._by_autograd(data, accumulate)
        assert data.code is not None
        kept: list[Any] = []
        if self._joined is None:
            raw, kept = self.stack.forward(self._weights, data.x, self._workspace)
        else:
            raw = self._joined.forward(data.x)
        likelihood, total = self.model.likelihood, None
        if value:
            total, score = likelihood.total_and_score(raw.mT, data.y, data.code)
        else:
            score = likelihood.score(raw.mT, data.code)
        if self._joined is None:
            self.stack.backward(self._weights, kept, score.mT, self._workspace, self._gradients, accumulate)
        else:
            self._joined.backward(score.mT, accumulate)
        return total

    def _by_autograd(self, data: Data, accumulate: bool) -> Tensor:
        with torch.enable_grad():
            leaf = self._theta.detach().requires_grad_()
            total = self.model.likelihood.total(self.model.outputs(leaf, data.x), data.y)
            (part,) = torch.autograd.grad(total, leaf, torch.ones_like(total))  # rows do not mix: each its own
        self._gradient.add_(part) if accumulate else self._gradient.copy_(part)
        return total.detach()
