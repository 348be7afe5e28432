"""One network under many weights: `[draw, ...]` weights in, `[draw, batch, out]` outputs out, in batched products.

A stack of known layers (every `mlp`) is run layer by layer with batched matrix products. A network may bring a batched path
of its own, a method `draws_forward(weights, x, per_draw)` (`LSTM` does). Any other goes through `torch.func`: one draw
after the other, by `functional_call`. On a CPU that is as fast as `vmap` for convolutions (whose batched form is a grouped
convolution), and it serves recurrent layers, which `vmap` does not batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from bayesrob.numerics import without_negligible
from bayesrob.types import Weights

__all__ = ["Step", "draws_forward", "forward", "in_fast_layout", "looped", "sequence"]

_ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity,
)  # fmt: skip

_VANISHING = (nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus)
"""Activations whose outputs come close to zero, where they may be denormal: the next product would take long."""

_IN_PLACE: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.ReLU: lambda layer, h: torch.relu_(h),
    nn.LeakyReLU: lambda layer, h: nn.functional.leaky_relu_(h, layer.negative_slope),
    nn.Tanh: lambda layer, h: torch.tanh_(h),
    nn.Sigmoid: lambda layer, h: torch.sigmoid_(h),
}
"""Activations whose derivative follows from their output: right after a product, nobody needs what they overwrite."""

Step = tuple[str, nn.Module]
"""A leaf layer and the prefix of its parameters' names."""


def sequence(net: nn.Module) -> list[Step] | None:
    """The leaf layers of a (nested) `nn.Sequential` of flatten, linear and element-wise layers, else None."""
    tied = len(list(net.parameters())) != len(list(net.named_parameters(remove_duplicate=False)))
    if type(net) is not nn.Sequential or tied:
        return None
    steps: list[Step] = []
    for name, module in net.named_modules(remove_duplicate=False):  # one activation may stand in several places
        if module._forward_pre_hooks or module._forward_hooks:  # pruning and weight norms compute weights there
            return None
        if type(module) is nn.Sequential:
            continue
        flatten = type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)
        if not (flatten or type(module) is nn.Linear or type(module) in _ELEMENTWISE):
            return None
        steps.append((f"{name}.", module))
    return steps


def forward(net: nn.Module, steps: list[Step] | None, weights: Weights, x: Tensor) -> Tensor:
    """Outputs `[batch, out]` of `net` under one set of weights; `steps` is `sequence(net)`, computed once."""
    if steps is None:
        return functional_call(net, {name: fast_layout(tensor) for name, tensor in weights.items()}, (x,))
    fresh = False
    for prefix, layer in steps:
        if isinstance(layer, nn.Linear):
            x = nn.functional.linear(x, weights[prefix + "weight"], weights.get(prefix + "bias"))
        else:
            x = _activate(layer, x, fresh)
        fresh = isinstance(layer, nn.Linear)
    return x


def _activate(layer: nn.Module, h: Tensor, fresh: bool) -> Tensor:
    """`layer(h)`, in place if `h` is `fresh`: the output of the product before, which nothing else refers to."""
    in_place = _IN_PLACE.get(type(layer)) if fresh else None
    after = layer(h) if in_place is None else in_place(layer, h)
    return without_negligible(after) if isinstance(layer, _VANISHING) else after


def draws_forward(net: nn.Module, steps: list[Step] | None, weights: Weights, x: Tensor, per_draw: bool = False) -> Tensor:
    """Outputs `[draw, batch, out]` of `net` under weights with a leading `draw` axis.

    `x` is `[batch, *shape]`, seen by every draw alike, or with `per_draw` `[draw, batch, *shape]`, one batch for each.
    """
    if steps is None:
        own = _own_path(net, weights)
        return looped(net, weights, x, per_draw) if own is None else own(weights, x, per_draw)
    num_draws = next(iter(weights.values())).shape[0]
    h, fresh = x, False
    for prefix, layer in steps:
        if isinstance(layer, nn.Linear):
            weight, bias = weights[prefix + "weight"], weights.get(prefix + "bias")
            h = h if per_draw else h.expand(num_draws, *h.shape)
            per_draw = True  # from the first product on, every draw has its own activations
            lead = h.shape[1:-1]
            h = h.flatten(1, -2)  # a linear layer acts on the last axis, however many come before
            h = torch.bmm(h, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
            if len(lead) > 1:
                h = h.unflatten(1, lead)
        elif isinstance(layer, nn.Flatten):
            h = h.flatten(2 if per_draw else 1)
        else:
            h = _activate(layer, h, fresh)
        fresh = isinstance(layer, nn.Linear) and h.ndim == 3  # not of a view: autograd would copy it first
    return h if per_draw else h.expand(num_draws, *h.shape)


def looped(net: nn.Module, weights: Weights, x: Tensor, per_draw: bool = False) -> Tensor:
    """`draws_forward` of any network: one draw after the other."""
    outputs = []
    for i in range(next(iter(weights.values())).shape[0]):
        draw = {name: fast_layout(tensor[i]) for name, tensor in weights.items()}
        outputs.append(functional_call(net, draw, (x[i] if per_draw else x,)))
    return torch.stack(outputs)


def fast_layout(weight: Tensor) -> Tensor:
    """Kernels of convolutions `[out, in, height, width]` with the channels last in memory; all else as it is.

    oneDNN is faster so, and activations follow: 1.7 to 2 times in training two 5x5 convolutions on MNIST, 1.1 to 1.4 times
    for ResNet-18 and MobileNetV2 (one core of an EPYC). Products of other dtypes would be laid out back and forth.
    """
    kernels = weight.ndim == 4 and weight.is_cpu and weight.dtype is torch.float32
    # `contiguous` would leave those of one channel, which tell the activations what they are to be, as they are.
    return weight.to(memory_format=torch.channels_last) if kernels else weight


def in_fast_layout(net: nn.Module) -> nn.Module:
    """`net` itself, its parameters as `fast_layout` has them: for training, which calls it again and again."""
    for parameter in net.parameters():
        parameter.data = fast_layout(parameter.data)
    return net


def _own_path(net: nn.Module, weights: Weights) -> Callable[[Weights, Tensor, bool], Tensor] | None:
    """`net.draws_forward`, if it has one and that computes what `net.forward` does."""
    own = getattr(net, "draws_forward", None)
    if own is None or any(name not in weights for name, _ in net.named_parameters()):
        return None
    for kind in type(net).__mro__:  # a subclass may have another `forward`
        if "draws_forward" in vars(kind):
            break
        if "forward" in vars(kind):
            return None
    for module in net.modules():  # pruning and weight norms compute weights from others
        if module._forward_pre_hooks or module._forward_hooks or parametrize.is_parametrized(module):
            return None
    return own
