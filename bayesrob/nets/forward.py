"""One network under many weights: `[draw, ...]` weights in, `[draw, batch, out]` outputs out, in batched products.

A stack of known layers (every `mlp`) is run layer by layer with batched matrix products. Any other network goes through
`torch.func`: one draw after the other, by `functional_call`. On a CPU that is as fast as `vmap` for convolutions (whose
batched form is a grouped convolution), and it serves recurrent layers, which `vmap` does not batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bayesrob.types import Weights

__all__ = ["Step", "draws_forward", "forward", "sequence"]

_ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity,
)  # fmt: skip

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
    """Outputs `[batch, out]` of `net` under one set of weights; `steps` is `sequence(net)`, found once by the caller."""
    if steps is None:
        return functional_call(net, dict(weights), (x,))
    for prefix, layer in steps:
        if isinstance(layer, nn.Linear):
            x = nn.functional.linear(x, weights[prefix + "weight"], weights.get(prefix + "bias"))
        else:
            x = layer(x)
    return x


def draws_forward(net: nn.Module, steps: list[Step] | None, weights: Weights, x: Tensor, per_draw: bool = False) -> Tensor:
    """Outputs `[draw, batch, out]` of `net` under weights with a leading `draw` axis.

    `x` is `[batch, *shape]`, seen by every draw alike, or with `per_draw` `[draw, batch, *shape]`, one batch for each.
    """
    num_draws = next(iter(weights.values())).shape[0]
    if steps is None:
        outputs = []
        for i in range(num_draws):
            draw = {name: tensor[i] for name, tensor in weights.items()}
            outputs.append(functional_call(net, draw, (x[i] if per_draw else x,)))
        return torch.stack(outputs)
    h = x
    for prefix, layer in steps:
        if isinstance(layer, nn.Linear):
            weight, bias = weights[prefix + "weight"], weights.get(prefix + "bias")
            h = h if per_draw else h.expand(num_draws, *h.shape)
            per_draw = True  # from the first product on, every draw has its own activations
            lead = h.shape[1:-1]
            h = h.flatten(1, -2)  # a linear layer acts on the last axis, however many come before
            h = torch.bmm(h, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
            h = h.unflatten(1, lead)
        elif isinstance(layer, nn.Flatten):
            h = h.flatten(2 if per_draw else 1)
        else:
            h = layer(h)
    return h if per_draw else h.expand(num_draws, *h.shape)
