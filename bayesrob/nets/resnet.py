"""Residual networks, of torchvision's own blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from bayesrob import rng
from bayesrob.nets.spec import describe, positive
from bayesrob.nets.vision import Norm, Stem, check_sizes, convolution, norm_layer

if TYPE_CHECKING:
    from torchvision.models import ResNet

__all__ = ["resnet18", "resnet34", "resnet50"]

GROUPS = 32
"""Wu & He's default; all widths are multiples of 64. Narrower networks have groups of one channel at least."""

PUBLISHED = 64
"""Channels of the first stage."""


def resnet18(
    out_features: int,
    in_channels: int = 3,
    stem: Stem = "cifar",
    norm: Norm = "batch",
    *,
    seed: int = 0,
    width: int = PUBLISHED,
) -> ResNet:
    """Residual network of 18 layers (He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition").

    With the default stem and ten classes 11,173,962 parameters, the widely used CIFAR variant.

    Args:
        out_features: number of classes.
        in_channels: number of channels of the images.
        stem: "cifar" for images of about 32x32: the first convolution is 3x3 with stride 1, and nothing is pooled before
            the average, so 32x32 images end as 4x4. "imagenet" is torchvision's network (7x7 with stride 2, then
            3x3 pooling with stride 2): 32x32 images would end as a single pixel.
        norm: "batch" as published, or "group" in 32 groups (Wu & He's default) for Bayesian networks:
            `models.BayesianNetwork` refuses batch normalisation, which couples the data points.
        seed: draws the initial weights as torchvision does (convolutions normal, by fan out; never pretrained). A fit that
            starts afresh (`nets.initialise`) draws torch's own defaults instead.
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 as published; 16 has about a
            sixteenth of the weights. Group normalisation then has gcd(32, width) groups.

    Returns:
        torchvision's `ResNet`: `[batch, channel, height, width] -> [batch, out_features]`.

    Raises:
        InputError: a size below one.
        UnknownNameError: an unknown stem or norm.

    Example:
        >>> net = br.nets.resnet18(10, norm="group", width=8)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    sizes = _Sizes(out_features, in_channels, stem, norm, width)
    return _resnet("resnet18", "BasicBlock", [2, 2, 2, 2], sizes, seed)


def resnet34(
    out_features: int,
    in_channels: int = 3,
    stem: Stem = "cifar",
    norm: Norm = "batch",
    *,
    seed: int = 0,
    width: int = PUBLISHED,
) -> ResNet:
    """Residual network of 34 layers; see `resnet18`. 21,282,122 parameters with the default stem and ten classes.

    Args:
        out_features: see `resnet18`.
        in_channels: see `resnet18`.
        stem: see `resnet18`.
        norm: see `resnet18`.
        seed: see `resnet18`.
        width: see `resnet18`.

    Returns:
        torchvision's `ResNet`: `[batch, channel, height, width] -> [batch, out_features]`.
    """
    sizes = _Sizes(out_features, in_channels, stem, norm, width)
    return _resnet("resnet34", "BasicBlock", [3, 4, 6, 3], sizes, seed)


def resnet50(
    out_features: int,
    in_channels: int = 3,
    stem: Stem = "cifar",
    norm: Norm = "batch",
    *,
    seed: int = 0,
    width: int = PUBLISHED,
) -> ResNet:
    """Residual network of 50 layers; see `resnet18`. 23,520,842 parameters with the default stem and ten classes.

    Where a block halves the sides, its 3x3 convolution does (torchvision's choice; in the paper the first 1x1).

    Args:
        out_features: see `resnet18`.
        in_channels: see `resnet18`.
        stem: see `resnet18`.
        norm: see `resnet18`.
        seed: see `resnet18`.
        width: see `resnet18`.

    Returns:
        torchvision's `ResNet`: `[batch, channel, height, width] -> [batch, out_features]`.
    """
    sizes = _Sizes(out_features, in_channels, stem, norm, width)
    return _resnet("resnet50", "Bottleneck", [3, 4, 6, 3], sizes, seed)


class _Sizes(NamedTuple):
    """What the three functions are asked for, in the order of their arguments."""

    out_features: int
    in_channels: int
    stem: str
    norm: str
    width: int


def _resnet(name: str, block: str, layers: list[int], sizes: _Sizes, seed: int) -> ResNet:
    out_features, in_channels, stem, norm, width = sizes
    check_sizes(out_features, in_channels, stem)
    layer = norm_layer(norm, math.gcd(GROUPS, positive("width", width)))
    from torchvision.models import resnet  # takes two seconds to import: only who needs it should wait

    with rng.global_seed(seed, "nets", name):
        net = resnet.ResNet(getattr(resnet, block), layers, num_classes=out_features, norm_layer=layer)
        if width != PUBLISHED:
            _rescale(net, getattr(resnet, block), layers, width, layer)
        if stem == "cifar":
            net.conv1 = convolution(in_channels, width, kernel_size=3, stride=1)
            net.maxpool = nn.Identity()  # type: ignore[assignment]
        elif in_channels != 3 or width != PUBLISHED:
            net.conv1 = convolution(in_channels, width, kernel_size=7, stride=2)
    describe(net, name, out_features=out_features, in_channels=in_channels, stem=stem, norm=norm, width=width)
    return net


def _rescale(net: ResNet, block: Any, layers: list[int], width: int, norm: Any) -> None:
    """Stages of `width` channels and its multiples in place of torchvision's, which it fixes at 64; initialised as there."""
    net.inplanes = width
    net.bn1 = norm(width)
    for stage, blocks in enumerate(layers):
        made = net._make_layer(block, width * 2**stage, blocks, stride=1 if stage == 0 else 2)
        setattr(net, f"layer{stage + 1}", made)
        for module in made.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    net.fc = nn.Linear(8 * width * block.expansion, net.fc.out_features)
