"""The gradient of a likelihood with respect to flat weight vectors: what HMC, NUTS and SVI have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayesrob.models.flat_network import FlatNetwork
from bayesrob.nets import Joined, Stack, Workspace, feature_major
from bayesrob.numerics import without_negligible
from bayesrob.types import Batch

__all__ = ["Data", "LikelihoodGradient"]


class Data(NamedTuple):
    """Points and labels in the form that a `LikelihoodGradient` takes, computed once for data that are used repeatedly.

    For a stack they may have a leading axis of chains, each with points of its own.
    """

    x: Tensor
    y: Tensor
    code: Tensor | None

    def split(self, sizes: list[int]) -> Iterator[Data]:
        """The points in parts of `sizes`, as views; for stacks, whose points are columns."""
        assert self.code is not None
        axis = self.code.ndim - 2
        yield from map(Data, self.x.split(sizes, -1), self.y.split(sizes, axis), self.code.split(sizes, axis))


class LikelihoodGradient:
    """log p(y | x, theta) and its gradient, at one flat weight vector `[weight]` or each of several `[chain, weight]`.

    Stacks of linear layers are differentiated in closed form (`nets.Stack`; small ones by `nets.Joined`), other networks by
    autograd. The weights and the gradient have memory of their own, whose views are made once: at small sizes they would
    cost as much as the products.

    Args:
        model: the network and its likelihood.
        shape: shape of theta.
        example: points `[batch, *shape]`, of which only the shape is used.
        theta: the caller's own weights, which are read in place where the layout allows it. None: `load` copies them.
    """

    def __init__(self, model: FlatNetwork, shape: tuple[int, ...], example: Batch, theta: Tensor | None = None):
        self.model, self.shape, self._ndim = model, shape, example.ndim
        self._like = theta = model.empty(*shape[:-1]) if theta is None else theta.detach()
        stack = Stack.of(model.net)
        self.stack = stack if stack is not None and stack.takes(example) else None
        if self.stack is not None and Joined.takes(self.stack):
            places = model.unflatten(torch.arange(model.num_weights, device=theta.device))
            self._way: _AsTheyLie | Joined = Joined(self.stack, places, theta)
        else:
            self._way = _AsTheyLie(model, self.stack, theta)

    def data(self, x: Tensor, y: Tensor) -> Data:
        """Prepare points `[batch, *shape]` or, for stacks, `[chain, batch, *shape]`, and labels likewise."""
        if self.stack is None:
            return Data(x, y, None)
        code = self.model.likelihood.encode(y, self.stack.out_features, self._like)
        return Data(self._way.inputs(feature_major(x, x.ndim - self._ndim)), y, code)

    def split(self, x: Tensor, y: Tensor, sizes: list[int]) -> Iterator[Data]:
        """Yields the data of minibatches of these sizes; labels are encoded and points laid out once for all of them."""
        if self.stack is None:
            yield from (Data(*part, None) for part in zip(x.split(sizes), y.split(sizes), strict=True))
        else:
            yield from self.data(x, y).split(sizes)

    def load(self, theta: Float[Tensor, "*chain weight"]) -> None:
        """Set the weights at which the next call differentiates."""
        self._way.load(theta)

    def gradient(self) -> Float[Tensor, "*chain weight"]:
        """The gradient accumulated since the last call with `accumulate=False`. The buffer is reused by the next call."""
        return self._way.gradient()

    def __call__(
        self, data: Data, value: bool = True, accumulate: bool = False, scale: float = 1.0
    ) -> Float[Tensor, "*chain"] | None:
        """Compute `scale` times the gradient at the weights that were loaded, or add it to what is there if `accumulate`.

        To be called without gradients.

        Returns:
            The log likelihood, float64; None if `value` is False and leaving it out saves time. No chain sees another: what
            is NaN in one row stays there.
        """
        if data.code is None:
            assert scale == 1.0
            return self._by_autograd(data, accumulate)
        outputs, likelihood, total = self._way.forward(data.x).mT, self.model.likelihood, None
        if value:
            total, score = likelihood.total_and_score(outputs, data.y, data.code)
        else:
            score = likelihood.score(outputs, data.code)
        self._way.backward(score.mT if scale == 1.0 else score.mT.mul_(scale), accumulate)
        return total

    def _by_autograd(self, data: Data, accumulate: bool) -> Tensor:
        assert isinstance(self._way, _AsTheyLie)
        with torch.enable_grad():
            leaf = self._way.theta.detach().requires_grad_()
            outputs = self.model.outputs(leaf, data.x)
            outputs.register_hook(without_negligible)
            total = self.model.likelihood.total(outputs, data.y)
            (part,) = torch.autograd.grad(total, leaf, torch.ones_like(total))  # rows do not mix: each its own
        into = self._way.gradient()
        into.add_(part) if accumulate else into.copy_(part)
        return total.detach()


class _AsTheyLie:
    """Weights as they lie in the flat vector, and the products of a stack on views of them; as `Joined` to its user."""

    def __init__(self, model: FlatNetwork, stack: Stack | None, theta: Tensor):
        self.theta, self._gradient, self._workspace = theta, torch.empty_like(theta), Workspace()
        if stack is not None:
            self._stack = stack
            self._weights, self._into = (stack.bind(model.unflatten(flat)) for flat in (theta, self._gradient))

    def inputs(self, x: Tensor) -> Tensor:
        return x

    def load(self, theta: Tensor) -> None:
        if theta.data_ptr() != self.theta.data_ptr():
            self.theta.copy_(theta)

    def gradient(self) -> Tensor:
        return self._gradient

    def forward(self, x: Tensor) -> Tensor:
        outputs, self._saved = self._stack.forward(self._weights, x, self._workspace)
        return outputs

    def backward(self, slope: Tensor, accumulate: bool) -> None:
        self._stack.backward(self._weights, self._saved, slope, self._workspace, into=self._into, accumulate=accumulate)
