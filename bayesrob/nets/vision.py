"""What the networks built from torchvision's share: the stem for small images, and which normalisation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

from torch import nn

from bayesrob.errors import check_name
from bayesrob.nets.spec import positive

__all__ = ["Norm", "Stem", "check_sizes", "convolution", "norm_layer"]

Stem = Literal["cifar", "imagenet"]
Norm = Literal["batch", "group"]


def norm_layer(norm: str, groups: int) -> Callable[[int], nn.Module]:
    """Makes the normalisation of so many channels: "batch" (Ioffe & Szegedy 2015) or "group" (Wu & He 2018).

    Group normalisation treats every image alone, as a likelihood that factorises over data points needs.
    """
    check_name("norm", norm, ["batch", "group"])
    return nn.BatchNorm2d if norm == "batch" else functools.partial(nn.GroupNorm, groups)


def check_sizes(out_features: int, in_channels: int, stem: str) -> None:
    """Raise `InputError` for a size below one, `UnknownNameError` for another stem than "cifar" and "imagenet"."""
    positive("out_features", out_features)
    positive("in_channels", in_channels)
    check_name("stem", stem, ["cifar", "imagenet"])


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    """A first layer that keeps or halves the sides, without bias, initialised as torchvision does (He et al. 2015)."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
