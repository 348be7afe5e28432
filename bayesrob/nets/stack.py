"""Stacks of linear and element-wise layers in closed form: outputs and gradients without autograd.

Activations are kept feature-major, `[draw, feature, point]`: the first layer of all draws is then one product, the input
gradient summed over draws is another (no gradient of a single draw is ever written), and sums and softmax over few classes
run along contiguous points (2 classes, 2,000 points: 5 microseconds instead of 97). Nothing here is differentiable again;
`nets.forward` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.nets.forward import Step, sequence
from bayesrob.types import Weights

__all__ = ["Stack", "Workspace", "feature_major"]

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
    nn.Tanh: (lambda layer, h: torch.tanh_(h), lambda layer, d, h: _aten.tanh_backward.grad_input(d, h, grad_input=d)),
    nn.Sigmoid: (
        lambda layer, h: torch.sigmoid_(h),
        lambda layer, d, h: _aten.sigmoid_backward.grad_input(d, h, grad_input=d),
    ),
}
"""Activations whose derivative follows from their output: computed in place, and `d` times the derivative in place too.
Others (GELU, ELU, ...) keep their input and leave the derivative to autograd, one layer at a time."""


def feature_major(x: Tensor, axis: int = 0) -> Tensor:
    """`[batch, *shape]` as `[feature, batch]`, a view if the memory is laid out so already, else a copy.

    With `axis` 1 `[draw, batch, *shape]` becomes `[draw, feature, batch]`.
    """
    return x.movedim(axis, -1).flatten(axis, -2)


class Workspace:
    """Memory used again by each call: a large new tensor costs a page fault for every 4 kB."""

    def __init__(self) -> None:
        self._held: dict[object, Tensor] = {}

    def take(self, key: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uninitialised memory of `shape`; what was taken under the same key before is given up."""
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

    Weights are `[out, in]` and `[out]` by name, or with a leading axis `[draw, ...]`.
    """

    def __init__(self, steps: list[Step]):
        self._layers = [(prefix, layer) for prefix, layer in steps if not isinstance(layer, nn.Flatten | nn.Identity)]
        kinds = [type(layer) for _, layer in steps]
        self._flattens = nn.Flatten in kinds[: kinds.index(nn.Linear)]
        self._first = [type(layer) for _, layer in self._layers].index(nn.Linear)

    @classmethod
    def of(cls, net: nn.Module) -> Stack | None:
        steps = sequence(net)
        return cls(steps) if steps is not None and any(isinstance(layer, nn.Linear) for _, layer in steps) else None

    def takes(self, x: Tensor) -> bool:
        """Whether inputs `[batch, *shape]` are vectors here, or flattened before the first linear layer."""
        return x.ndim == 2 or (x.ndim > 2 and self._flattens)

    @torch.no_grad()
    def forward(self, weights: Weights, x: Tensor, workspace: Workspace) -> tuple[Tensor, list[Any]]:
        """Outputs `[*draw, out, point]` of inputs `[feature, point]` or `[draw, feature, point]`, and what `backward` needs.

        Both live in `workspace`: valid until its next use.
        """
        kept: list[Any] = []
        h, fresh = x, False
        for i, (prefix, layer) in enumerate(self._layers):
            if isinstance(layer, nn.Linear):
                kept.append(h)
                h = _affine(weights[prefix + "weight"], weights.get(prefix + "bias"), h, workspace, i)
            elif fresh and _in_place(layer):
                h = _FROM_OUTPUT[type(layer)][0](layer, h)
                kept.append(h)
            else:
                with torch.enable_grad():
                    before = h.detach().requires_grad_()
                    after = layer(before.clone() if getattr(layer, "inplace", False) else before)
                kept.append((before, after))
                h = after.detach()
            fresh = isinstance(layer, nn.Linear)
        return h, kept

    @torch.no_grad()
    def backward(
        self,
        weights: Weights,
        kept: list[Any],
        slope: Tensor,
        workspace: Workspace,
        into: Mapping[str, Tensor] | None = None,
        accumulate: bool = False,
        inputs: Tensor | None = None,
    ) -> Tensor | None:
        """From `slope`, the derivative by the outputs (overwritten), to those by weights or inputs.

        Args:
            weights, kept, workspace: of the forward pass.
            into: tensors shaped as the weights, which get their gradients, added to what is there if `accumulate`.
            inputs: `[feature, point]`, to which the inputs' gradients are added, summed over draws; or for inputs of
                each draw's own `[draw, feature, point]`. None: they are not computed.

        Returns:
            `inputs`.
        """
        d = slope
        for i in reversed(range(len(self._layers))):
            prefix, layer = self._layers[i]
            if not isinstance(layer, nn.Linear):
                if isinstance(kept[i], tuple):
                    before, after = kept[i]
                    (d,) = torch.autograd.grad(after, before, d)
                else:
                    _FROM_OUTPUT[type(layer)][1](layer, d, kept[i])
                continue
            weight, h = weights[prefix + "weight"], kept[i]
            if into is not None:
                _weight_gradients(d, h, into[prefix + "weight"], into.get(prefix + "bias"), accumulate)
            if i == self._first and inputs is None:
                return None
            target = inputs if i == 0 else None
            d = _transposed(weight, d, h.ndim, workspace, i, target)
            if target is not None:
                return target
        assert inputs is not None
        return inputs.add_(d)


def _in_place(layer: nn.Module) -> bool:
    negative = isinstance(layer, nn.LeakyReLU) and layer.negative_slope < 0  # the output's sign is not the input's then
    return type(layer) in _FROM_OUTPUT and not negative


def _affine(weight: Tensor, bias: Tensor | None, h: Tensor, workspace: Workspace, key: int) -> Tensor:
    """weight h + bias for every draw."""
    out = workspace.take(("h", key), (*weight.shape[:-1], h.shape[-1]), h)
    if weight.ndim == 2 or h.ndim == 2:  # one product, of all draws at once where they share the input
        flat, whole = weight.flatten(0, -2), out.flatten(0, -2)
        if bias is None:
            torch.mm(flat, h, out=whole)
        else:
            torch.addmm(bias.reshape(-1, 1), flat, h, out=whole)
    elif bias is None:
        torch.bmm(weight, h, out=out)
    else:
        torch.baddbmm(bias.unsqueeze(-1), weight, h, out=out)
    return out


def _transposed(weight: Tensor, d: Tensor, ndim: int, workspace: Workspace, key: int, into: Tensor | None) -> Tensor:
    """weight' d, added to `into` if given; where the input (of `ndim` axes) was shared by all draws, summed over them."""
    points = d.shape[-1]
    if weight.ndim == 2 or ndim == 2:
        flat, whole = weight.flatten(0, -2).mT, d.flatten(0, -2)
        if into is not None:
            return into.addmm_(flat, whole)
        return torch.mm(flat, whole, out=workspace.take(("d", key), (weight.shape[-1], points), d))
    if into is not None:
        return into.baddbmm_(weight.mT, d)
    return torch.bmm(weight.mT, d, out=workspace.take(("d", key), (len(weight), weight.shape[-1], points), d))


def _weight_gradients(d: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, accumulate: bool) -> None:
    """d h' and the sum of d over points, into `weight` and `bias`."""
    if d.ndim == 2:
        torch.addmm(weight, d, h.mT, out=weight) if accumulate else torch.mm(d, h.mT, out=weight)
    else:
        h = h if h.ndim == 3 else h.expand(len(d), *h.shape)
        torch.baddbmm(weight, d, h.mT, out=weight) if accumulate else torch.bmm(d, h.mT, out=weight)
    if bias is not None:
        bias.add_(d.sum(-1)) if accumulate else torch.sum(d, -1, out=bias)
