"""The gradient of a small stack with each layer's bias as one more weight: of an input that is always one.

Where products take microseconds, adding a bias to them takes as long again (32 x 32 on 2,000 points, one thread of a Xeon:
24 microseconds, with the bias added 42, as a 33rd column 26), and so does summing its gradient. Each layer is one matrix
here, `[out, in + 1]`, or transposed where there are fewer inputs than outputs: a product that has few rows is 5 times as
fast as one that has few columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bayesrob.nets.stack import Stack, Workspace, activate, computed_in_place, through_activation
from bayesrob.types import Weights

__all__ = ["Joined"]


class _Layer(NamedTuple):
    weight: Tensor  # `[*chain, out, in + 1]`: views of the flat vectors
    back: Tensor  # `[*chain, in, out]`
    into: Tensor  # its gradient as it lies in memory, `[*chain, out, in + 1]` or `[*chain, in + 1, out]`
    transposed: bool
    activation: nn.Module | None


class Joined:
    """The layers of a stack under one set of weights, or a set for each of several chains.

    Args:
        stack: for which `Joined.takes(stack)`. places: each weight's place in a flat vector, by name, shaped as the weight.
        like: a flat vector `[weight]`, or `[chain, weight]`, of which shape, dtype and device count.
    """

    def __init__(self, stack: Stack, places: Weights, like: Tensor):
        tables, transposed, activations = [], [], []
        for prefix, layer in stack.layers:
            if not isinstance(layer, nn.Linear):
                activations[-1] = layer
                continue
            table = torch.cat([places[prefix + "weight"], places[prefix + "bias"].unsqueeze(-1)], -1)
            transposed.append(layer.in_features <= layer.out_features)
            tables.append(table.T if transposed[-1] else table)
            activations.append(None)
        self._order = torch.cat([table.flatten() for table in tables])
        self._inverse = self._order.argsort()
        self._theta, self._gradient, self._outgoing = (torch.empty_like(like) for _ in range(3))
        sizes = [table.numel() for table in tables]
        self._layers = []
        pieces = zip(self._theta.split(sizes, -1), self._gradient.split(sizes, -1), strict=True)
        for table, turn, activation, (piece, into) in zip(tables, transposed, activations, pieces, strict=True):
            weight, into = (flat.view(*flat.shape[:-1], *table.shape) for flat in (piece, into))
            weight = weight.mT if turn else weight
            self._layers.append(_Layer(weight, weight[..., :-1].mT, into, turn, activation))
        self._product, self._added = (torch.mm, torch.addmm) if like.ndim == 1 else (torch.bmm, torch.baddbmm)
        self._workspace, self._points = Workspace(), -1

    @staticmethod
    def takes(stack: Stack) -> bool:
        """Whether every layer has a bias, and every activation follows a layer and is computed in place."""
        fresh = False
        for _, layer in stack.layers:
            linear = isinstance(layer, nn.Linear)
            if not (layer.bias is not None if linear else fresh and computed_in_place(layer)):
                return False
            fresh = linear
        return True

    @staticmethod
    def inputs(x: Tensor) -> Tensor:
        """`[feature, point]` with the row of ones below."""
        return torch.cat([x, x.new_ones(1, x.shape[1])])

    def load(self, theta: Tensor) -> None:
        """Take the weights, in the places that were given."""
        torch.index_select(theta, -1, self._order, out=self._theta)

    def gradient(self) -> Tensor:
        """In the places that were given; valid until the next call."""
        return torch.index_select(self._gradient, -1, self._inverse, out=self._outgoing)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[*chain, out, point]` of `inputs(x)`; valid until the next call, as what `backward` needs."""
        if x.shape[-1] != self._points:
            self._prepare(x.shape[-1])
        self._x = h = x if self._theta.ndim == 1 else x.expand(len(self._theta), *x.shape)
        for layer, (values, whole, _) in zip(self._layers, self._buffers, strict=True):
            self._product(layer.weight, h, out=values)
            if layer.activation is not None:
                activate(layer.activation, values, fresh=True)
            h = whole
        return self._buffers[-1][0]

    def backward(self, slope: Tensor, accumulate: bool) -> None:
        """From the derivative by the outputs (overwritten) to the weights', added to what is there if `accumulate`."""
        d = slope
        for i in reversed(range(len(self._layers))):
            layer, (values, _, _) = self._layers[i], self._buffers[i]
            if layer.activation is not None:
                d = through_activation(layer.activation, values, d)
            h = self._buffers[i - 1][1] if i else self._x
            factors = (h, d.mT) if layer.transposed else (d, h.mT)
            if accumulate:
                self._added(layer.into, *factors, out=layer.into)
            else:
                self._product(*factors, out=layer.into)
            if i:
                d = self._product(layer.back, d, out=self._buffers[i - 1][2])

    def _prepare(self, points: int) -> None:
        """Memory for each layer's outputs, the same with a row of ones below, and their derivatives."""
        self._points, self._buffers, lead = points, [], self._theta.shape[:-1]
        for i, layer in enumerate(self._layers):
            out = layer.weight.shape[-2]
            whole = self._workspace.take((i, "h"), (*lead, out + 1, points), self._theta)
            whole[..., -1, :] = 1
            d = self._workspace.take((i, "d"), (*lead, out, points), self._theta)
            self._buffers.append((whole[..., :-1, :], whole, d))
