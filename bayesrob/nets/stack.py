"""Stacks of linear and element-wise layers in closed form: outputs and gradients without autograd.

Activations are held feature-major, `[draw, feature, point]`: the first layer of all draws is then one product, the input
gradient summed over draws is another (no gradient of a single draw is ever written), and sums and softmax over few classes
run along contiguous points (2 classes, 2,000 points: 5 microseconds instead of 97). Nothing here is differentiable again;
`nets.forward` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.nets.forward import Step, sequence
from bayesrob.numerics import drop_negligible, outputs_per_example, without_negligible
from bayesrob.types import Weights

__all__ = ["Affine", "Stack", "Workspace", "activate", "feature_major", "through_activation", "values_kept"]

_aten: Any = torch.ops.aten

_FROM_OUTPUT: dict[type[nn.Module], tuple[Callable[[Any, Tensor], Any], Callable[[Any, Tensor, Tensor], Any]]] = {
    nn.ReLU: (
        lambda layer, h: torch.relu_(h),
        lambda layer, d, h: _aten.threshold_backward.grad_input(d, h, 0, grad_input=d),
    ),
    nn.LeakyReLU: (
        lambda layer, h: _aten.leaky_relu_(h, layer.negative_slope),
        lambda layer, d, h: _aten.leaky_relu_backward.grad_input(d, h, layer.negative_slope, True, grad_input=d),
    ),
    nn.Tanh: (
        lambda layer, h: torch.tanh_(h),
        lambda layer, d, h: drop_negligible(_aten.tanh_backward.grad_input(d, h, grad_input=d)),
    ),
    nn.Sigmoid: (
        lambda layer, h: drop_negligible(torch.sigmoid_(h), positive=True),
        lambda layer, d, h: drop_negligible(_aten.sigmoid_backward.grad_input(d, h, grad_input=d)),
    ),
}
"""Activations whose derivative follows from their output: computed in place, and `d` times the derivative in place too.
Others (GELU, ELU, ...) keep their input and leave the derivative to autograd, one layer at a time. Derivatives that can come
close to zero, and outputs likewise, could make denormal numbers, which would slow down the next product."""


def feature_major(x: Tensor, axis: int = 0) -> Tensor:
    """`[batch, *shape]` as `[feature, batch]`, a view if the memory is laid out so already, else a copy.

    With `axis` 1 `[draw, batch, *shape]` becomes `[draw, feature, batch]`.
    """
    return x.movedim(axis, -1).flatten(axis, -2)


class Workspace:
    """Memory that every call reuses, because a large new tensor costs a page fault for every 4 kB."""

    def __init__(self) -> None:
        self._held: dict[object, Tensor] = {}

    def take(self, key: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return uninitialised memory of `shape`; a tensor returned under the same key before must no longer be used."""
        held = self._held.get(key)
        if held is not None and held.shape == shape:
            return held
        size = torch.Size(shape).numel()
        if held is None or held.numel() < size:
            held = self._held[key] = like.new_empty(shape)
            return held
        return held.view(-1)[:size].view(shape)


class Stack:
    """The layers of a network whose gradients are written out; `Stack.of(net)` is None for any other network.

    Args:
        steps: the leaf layers of the network, as `nets.sequence` gives them, at least one of them linear.
    """

    def __init__(self, steps: list[Step]):
        self.layers: list[Step] = [
            (prefix, layer) for prefix, layer in steps if not isinstance(layer, nn.Flatten | nn.Identity)
        ]
        kinds = [type(layer) for _, layer in steps]
        self._flattens = nn.Flatten in kinds[: kinds.index(nn.Linear)]
        self.out_features = next(layer.out_features for _, layer in reversed(steps) if isinstance(layer, nn.Linear))
        self.outputs_per_point = sum(layer.out_features for _, layer in steps if isinstance(layer, nn.Linear))
        self._first = [type(layer) for _, layer in self.layers].index(nn.Linear)

    @classmethod
    def of(cls, net: nn.Module) -> Stack | None:
        """The stack of `net`'s layers, or None if it has others than `nets.sequence` knows."""
        steps = sequence(net)
        return cls(steps) if steps is not None and any(isinstance(layer, nn.Linear) for _, layer in steps) else None

    def takes(self, x: Tensor) -> bool:
        """Whether inputs `[batch, *shape]` are vectors here, or flattened before the first linear layer."""
        return x.ndim == 2 or (x.ndim > 2 and self._flattens)

    def bind(self, weights: Weights) -> list[Affine | None]:
        """Views of weights `[out, in]` and `[out]`, or with a leading axis `[draw, ...]`, for `forward` and `backward`.

        They follow when the weights change in place.
        """
        return [
            Affine(weights[prefix + "weight"], weights.get(prefix + "bias")) if isinstance(layer, nn.Linear) else None
            for prefix, layer in self.layers
        ]

    def forward(self, bound: list[Affine | None], x: Tensor, workspace: Workspace) -> tuple[Tensor, list[Any]]:
        """Outputs `[*draw, out, point]` of inputs `[feature, point]` or `[draw, feature, point]`, and what `backward` needs.

        Both live in `workspace`: valid until its next use. To be called without gradients.
        """
        saved: list[Any] = []
        h, fresh = x, False
        for i, (affine, (_, layer)) in enumerate(zip(bound, self.layers, strict=True)):
            if affine is not None:
                saved.append(h)
                h = affine(h, workspace.take((i, "h"), affine.shape(h), h))
            else:
                h, keep = activate(layer, h, fresh)
                saved.append(keep)
            fresh = affine is not None
        return h, saved

    def backward(
        self,
        bound: list[Affine | None],
        saved: list[Any],
        slope: Tensor,
        workspace: Workspace,
        *,
        into: list[Affine | None] | None = None,
        accumulate: bool = False,
        inputs: Tensor | None = None,
    ) -> None:
        """Compute the derivatives by weights or inputs from `slope`, the derivative by the outputs.

        Args:
            bound: the weights of the forward pass.
            saved: what the forward pass returned for this call.
            slope: the derivative by the outputs, `[*draw, out, point]`; it is overwritten.
            workspace: the workspace of the forward pass.
            into: bound tensors, shaped as the weights, which receive the weights' gradients. None: they are not computed.
            accumulate: whether the weights' gradients are added to what `into` holds.
            inputs: `[feature, point]`, to which the inputs' gradients are added, summed over draws; or for inputs of
                each draw's own `[draw, feature, point]`. None: they are not computed.
        """
        d = slope
        for i in reversed(range(len(self.layers))):
            affine, h = bound[i], saved[i]
            if affine is None:
                d = through_activation(self.layers[i][1], h, d)
                continue
            if into is not None:
                affine.gradients(d, h, into[i], accumulate)
            if i == self._first and inputs is None:
                return
            if i == 0:
                affine.transposed(d, h.ndim, inputs, beta=1)
                return
            d = affine.transposed(d, h.ndim, workspace.take((i, "d"), h.shape, d), beta=0)
        assert inputs is not None
        inputs.add_(d)


def values_kept(net: nn.Module, x: Tensor) -> int:
    """Number of values that the backward pass needs of one point of `x` and one draw; it computes as many again.

    A network whose layers keep more than their outputs says so by a method `values_kept(x)`.
    """
    own = getattr(net, "values_kept", None)
    if own is not None:
        return own(x)
    stack = Stack.of(net)
    return stack.outputs_per_point if stack is not None and stack.takes(x) else outputs_per_example(net, x[:1])


class Affine:
    """One linear layer under one set of weights or several: its products, and views of the weights made once.

    Args:
        weight: `[out, in]` or `[draw, out, in]`.
        bias: `[out]` or `[draw, out]`; None for a layer without.
    """

    __slots__ = ("bias", "column", "flat", "flat_column", "flat_t", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.flat = weight if weight.ndim == 2 else weight.flatten(0, 1) if weight.is_contiguous() else None
        """All draws' rows as one matrix. None where they lie apart in memory (parts of several flat vectors)."""
        self.flat_t = None if self.flat is None else self.flat.T
        self.column = None if bias is None else bias.unsqueeze(-1)
        self.flat_column = None if self.column is None or self.flat is None else self.column.view(-1, 1)

    def shape(self, h: Tensor) -> tuple[int, ...]:
        return (*self.weight.shape[:-1], h.shape[-1])

    def __call__(self, h: Tensor, out: Tensor) -> Tensor:
        """weight h + bias for every draw."""
        if self.flat is not None and h.ndim == 2:  # one product, of all draws at once where they share the input
            whole = out if out.ndim == 2 else out.flatten(0, 1)
            if self.flat_column is None:
                torch.mm(self.flat, h, out=whole)
            else:
                torch.addmm(self.flat_column, self.flat, h, out=whole)
            return out
        h = h if h.ndim == 3 else h.expand(len(self.weight), *h.shape)
        if self.column is None:
            return torch.bmm(self.weight, h, out=out)
        return torch.baddbmm(self.column, self.weight, h, out=out)

    def transposed(self, d: Tensor, ndim: int, out: Any, beta: int) -> Tensor:
        """beta out + weight' d; where the input (of `ndim` axes) was shared by all draws, summed over them."""
        if self.flat_t is not None and ndim == 2:
            return torch.addmm(out, self.flat_t, d if d.ndim == 2 else d.flatten(0, 1), beta=beta, out=out)
        if ndim == 2:
            sums = torch.bmm(self.weight.mT, d).sum(0)
            return out.add_(sums) if beta else out.copy_(sums)
        return torch.baddbmm(out, self.weight.mT, d, beta=beta, out=out)

    def gradients(self, d: Tensor, h: Tensor, into: Affine | None, accumulate: bool) -> None:
        """d h' and the sum of d over points, into the weight and bias of `into`."""
        assert into is not None
        weight = into.weight
        if d.ndim == 2:
            torch.addmm(weight, d, h.T, beta=int(accumulate), out=weight)
        else:
            h = h if h.ndim == 3 else h.expand(len(d), *h.shape)
            torch.baddbmm(weight, d, h.mT, beta=int(accumulate), out=weight)
        if into.bias is not None:
            if accumulate:
                into.bias.add_(d.sum(-1))
            else:
                torch.sum(d, -1, out=into.bias)


def computed_in_place(layer: nn.Module) -> bool:
    """Whether the layer's derivative follows from its output."""
    negative = isinstance(layer, nn.LeakyReLU) and layer.negative_slope < 0  # the output's sign is not the input's then
    return type(layer) in _FROM_OUTPUT and not negative


def activate(layer: nn.Module, h: Tensor, fresh: bool) -> tuple[Tensor, Any]:
    """`layer(h)` and what `through_activation` needs; in place if it can be and `h` is `fresh`: nobody else's."""
    if fresh and computed_in_place(layer):
        h = _FROM_OUTPUT[type(layer)][0](layer, h)
        return h, h
    with torch.enable_grad():
        before = h.detach().requires_grad_()
        after = layer(before.clone() if getattr(layer, "inplace", False) else before)
    return without_negligible(after.detach()), (before, after)


def through_activation(layer: nn.Module, saved: Any, d: Tensor) -> Tensor:
    """`d` (overwritten) times the layer's derivative."""
    if isinstance(saved, tuple):
        return without_negligible(torch.autograd.grad(saved[1], saved[0], d)[0])
    return _FROM_OUTPUT[type(layer)][1](layer, d, saved)
