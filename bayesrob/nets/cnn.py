"""The convolutional network of Carbone et al. 2020."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bayesrob import rng
from bayesrob.errors import InputError
from bayesrob.nets.spec import activation_layer, describe, positive

__all__ = ["cnn"]


def cnn(
    in_shape: Sequence[int], hidden: int, out_features: int, activation: str = "leaky_relu", seed: int = 0
) -> nn.Sequential:
    """Two convolutions, as in Carbone et al. 2020 ("Robustness of BNNs to gradient-based attacks", supplement, VI nets).

    5x5 convolution to 32 channels, activation, 2x2 max pooling; 5x5 convolution to `hidden` channels, activation, 2x2
    max pooling with stride 1; linear. There is no padding. Here pooling comes before the activation, which gives the same
    outputs, since an increasing function keeps the largest value the largest, and evaluates the activation on a quarter of
    the numbers (adversarial training by PGD on MNIST is 1.5 to 2 times as fast, alone on one core of an EPYC).

    Args:
        in_shape: `(channel, height, width)` of one image, at least 16 pixels a side (28 and 32 are usual).
        hidden: channels of the second convolution (paper: 512 on MNIST, 1024 on Fashion-MNIST).
        out_features: number of classes.
        activation: "leaky_relu" in the paper; also "relu", "tanh", "sigmoid".
        seed: draws the initial weights (torch's defaults).

    Returns:
        `nn.Sequential`: `[batch, channel, height, width] -> [batch, out_features]`.

    Raises:
        InputError: a shape that is not (channel, height, width), or images too small for the two convolutions.

    Example:
        >>> br.nets.cnn((1, 28, 28), 16, 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    if len(in_shape) != 3:
        raise InputError(
            f"in_shape is {tuple(in_shape)}.", "A convolutional network sees images.", "Give (channel, height, width)."
        )
    channels, *sides = (positive("in_shape", int(size)) for size in in_shape)
    sides = [(side - 4) // 2 - 4 - 1 for side in sides]
    if min(sides) < 1:
        raise InputError(
            f"Images of {in_shape[1]}x{in_shape[2]} are too small.",
            "Two 5x5 convolutions and two poolings leave no pixel of them.",
            "Use images of at least 16x16, or an mlp.",
        )
    with rng.global_seed(seed, "nets", "cnn"):
        net = nn.Sequential(
            nn.Conv2d(channels, 32, kernel_size=5),
            nn.MaxPool2d(kernel_size=2),
            activation_layer(activation),
            nn.Conv2d(32, positive("hidden", hidden), kernel_size=5),
            nn.MaxPool2d(kernel_size=2, stride=1),
            activation_layer(activation),
            nn.Flatten(),
            nn.Linear(hidden * sides[0] * sides[1], positive("out_features", out_features)),
        )
    describe(net, "cnn", in_shape=list(in_shape), hidden=hidden, out_features=out_features, activation=activation)
    return net
