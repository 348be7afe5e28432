"""Multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from bayesrob import rng
from bayesrob.nets.spec import activation_layer, describe, positive

__all__ = ["mlp"]


def mlp(
    in_features: int, hidden: Sequence[int], out_features: int, activation: str = "relu", seed: int = 0
) -> nn.Sequential:
    """Fully connected network `in_features - hidden[0] - ... - out_features`; it flattens its input.

    Args:
        in_features: number of input components, e.g. 784 for MNIST images `[1, 28, 28]`.
        hidden: units of each hidden layer; `()` gives a linear model.
        out_features: number of classes or of regression outputs.
        activation: "relu", "leaky_relu" (slope 0.01), "tanh" or "sigmoid".
        seed: draws the initial weights (torch's default for `nn.Linear`).

    Returns:
        `nn.Sequential`: `[batch, *shape] -> [batch, out_features]`.

    Raises:
        InputError: a size below one.
        UnknownNameError: an unknown activation.

    Example:
        >>> br.nets.mlp(784, (32, 32), 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    sizes = [positive("in_features", in_features), *(positive("hidden", h) for h in hidden)]
    layers: list[nn.Module] = [nn.Flatten()]
    with rng.global_seed(seed, "nets", "mlp"):
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), activation_layer(activation)]
        layers.append(nn.Linear(sizes[-1], positive("out_features", out_features)))
    net = nn.Sequential(*layers)
    describe(net, "mlp", in_features=in_features, hidden=list(hidden), out_features=out_features, activation=activation)
    return net
