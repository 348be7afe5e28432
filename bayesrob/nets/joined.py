"""The gradient of a small stack with each layer's bias as one more weight: of an input that is always one.

Where products take microseconds, adding a bias to them takes as long again (32 x 32 on 2,000 points, one thread of a Xeon:
24 microseconds, with the bias added 42, as a 33rd column 26), and its gradient is one more sum. Each layer is one matrix
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

LARGEST = 2**14
"""Weights of a layer up to which joining them pays (one thread of a Xeon, Sapphire Rapids): a gradient at 2-32-32-2 and 500
points takes 0.78 of the time, at 2-128-128-2 and 5,000 points 0.88, but at 784-512-10 and 256 points 1.20: there the rows'
odd length costs the products more."""


class _Layer(NamedTuple):
    weight: Tensor  # `[*chain, out, in + 1]`: views of the flat vectors
    back: Tensor  # `[*chain, in, out]`
    into: Tensor  # the gradient, `[*chain, out, in + 1]`
    activation: nn.Module | None


class _Memory(NamedTuple):
    """The tensors of one layer that are written over at every call, for a fixed number of points."""

    outputs: Tensor  # `[*chain, out, point]`: of `joined` all but the row of ones
    joined: Tensor  # `[*chain, out + 1, point]`
    joined_t: Tensor
    slope: Tensor  # the derivative by the outputs; that of the last layer is the caller's


class Joined:
    """The layers of a stack under one set of weights, or a set for each of several chains.

    Args:
        stack: a stack that `Joined.takes`.
        places: each weight's place in a flat vector, by name, shaped as the weight.
        like: a flat vector `[weight]`, or `[chain, weight]`, whose shape, dtype and device the weights will have.
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
        for table, is_transposed, activation, (piece, into) in zip(tables, transposed, activations, pieces, strict=True):
            weight, into = (flat.view(*flat.shape[:-1], *table.shape) for flat in (piece, into))
            weight, into = (weight.mT, into.mT) if is_transposed else (weight, into)
            self._layers.append(_Layer(weight, weight[..., :-1].mT, into, activation))
        self._product, self._added = (torch.mm, torch.addmm) if like.ndim == 1 else (torch.bmm, torch.baddbmm)
        self._workspace, self._points = Workspace(), -1

    @staticmethod
    def takes(stack: Stack) -> bool:
        """Whether every layer is small and has a bias, and every activation follows a layer and is computed in place."""
        fresh = False
        for _, layer in stack.layers:
            if isinstance(layer, nn.Linear):
                if layer.bias is None or layer.weight.numel() > LARGEST:
                    return False
            elif not (fresh and computed_in_place(layer)):
                return False
            fresh = isinstance(layer, nn.Linear)
        return True

    @staticmethod
    def inputs(x: Tensor) -> Tensor:
        """`[*chain, feature, point]` with the row of ones below."""
        return torch.cat([x, x.new_ones(*x.shape[:-2], 1, x.shape[-1])], -2)

    def load(self, theta: Tensor) -> None:
        """Copy the weights from the flat vector `theta`."""
        torch.index_select(theta, -1, self._order, out=self._theta)

    def gradient(self) -> Tensor:
        """The gradient as a flat vector in the order of `theta`; valid until the next call."""
        return torch.index_select(self._gradient, -1, self._inverse, out=self._outgoing)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[*chain, out, point]` of `inputs(x)`; they and what `backward` needs are valid until the next call."""
        if x.shape[-1] != self._points:
            self._points, self._memory = x.shape[-1], self._lay_out(x.shape[-1])
        h = x if self._theta.ndim == 1 else x.expand(len(self._theta), *x.shape[-2:])
        self._inputs_t = h.mT
        for layer, memory in zip(self._layers, self._memory, strict=True):
            self._product(layer.weight, h, out=memory.outputs)
            if layer.activation is not None:
                activate(layer.activation, memory.outputs, fresh=True)
            h = memory.joined
        return self._memory[-1].outputs

    def backward(self, slope: Tensor, accumulate: bool) -> None:
        """From the derivative by the outputs (overwritten) to the weights', added to what is there if `accumulate`."""
        d = slope
        for i in reversed(range(len(self._layers))):
            layer = self._layers[i]
            if layer.activation is not None:
                d = through_activation(layer.activation, self._memory[i].outputs, d)
            inputs_t = self._memory[i - 1].joined_t if i else self._inputs_t
            if accumulate:
                self._added(layer.into, d, inputs_t, out=layer.into)
            else:
                self._product(d, inputs_t, out=layer.into)
            if i:
                d = self._product(layer.back, d, out=self._memory[i - 1].slope)

    def _lay_out(self, points: int) -> list[_Memory]:
        memory: list[_Memory] = []
        for i in reversed(range(len(self._layers))):
            shape = (*self._theta.shape[:-1], self._layers[i].weight.shape[-2], points)
            joined = self._workspace.take((i, "h"), (*shape[:-2], shape[-2] + 1, points), self._theta)
            joined[..., -1, :] = 1
            outputs = joined[..., :-1, :]
            if len(memory) < 2 or memory[0].outputs.shape != shape:
                slope = self._workspace.take((i, "d"), shape, self._theta) if memory else outputs
            else:
                slope = memory[0].outputs  # no longer needed then: less to keep in the cache
            memory.insert(0, _Memory(outputs, joined, joined.mT, slope))
        return memory
