"""Inverted residuals and linear bottlenecks, of torchvision's own blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayesrob import rng
from bayesrob.arguments import number
from bayesrob.nets.spec import describe
from bayesrob.nets.vision import Norm, Stem, check_sizes, convolution, norm_layer

if TYPE_CHECKING:
    from torchvision.models import MobileNetV2

__all__ = ["mobilenet_v2"]

GROUPS = 8
"""torchvision rounds every width to a multiple of 8 (the narrowest are 16 and 24), so no larger number divides all."""

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of each stage (Sandler et al. 2018, table 2)."""


def mobilenet_v2(
    out_features: int,
    in_channels: int = 3,
    stem: Stem = "cifar",
    norm: Norm = "batch",
    *,
    seed: int = 0,
    width_mult: float = 1.0,
) -> MobileNetV2:
    """MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "Inverted residuals and linear bottlenecks").

    2,236,682 parameters with ten classes, whatever the stem: strides have none. (The widely copied CIFAR code of kuangliu,
    whose strides the default has, counts 2,296,922: it adds convolutions beside the blocks that change the width, and one
    to the first block, which the paper does not.)

    Args:
        out_features: number of classes.
        in_channels: number of channels of the images.
        stem: "cifar" for images of about 32x32: the first convolution and the stage of 24 channels have stride 1, so
            32x32 images end as 4x4. "imagenet" is torchvision's network, stride 2 in both: they would end as one pixel.
        norm: "batch" as published, or "group" in 8 groups (the most that divide every width) for Bayesian networks:
            `models.BayesianNetwork` refuses batch normalisation, which couples the data points.
        seed: draws the initial weights as torchvision does (convolutions normal, by fan out; never pretrained). A fit that
            starts afresh (`nets.initialise`) draws torch's own defaults instead.
        width_mult: multiplies all widths (section 4 of the paper: 0.35 to 1.4), which are rounded to multiples of 8. As
            there, the last one does not become less than 1,280.

    Returns:
        torchvision's `MobileNetV2`: `[batch, channel, height, width] -> [batch, out_features]`.

    Raises:
        InputError: a size below one, a `width_mult` that is not positive.
        UnknownNameError: an unknown stem or norm.

    Example:
        >>> net = br.nets.mobilenet_v2(10, norm="group", width_mult=0.25)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_sizes(out_features, in_channels, stem)
    width_mult = number("width_mult", width_mult, "It multiplies the widths.", above=0)
    layer, cifar = norm_layer(norm, GROUPS), stem == "cifar"
    from torchvision.models import MobileNetV2  # takes two seconds to import: only who needs it should wait

    stages = [[*stage[:3], 1 if cifar and stage[1] == 24 else stage[3]] for stage in STAGES]
    with rng.global_seed(seed, "nets", "mobilenet_v2"):
        net = MobileNetV2(out_features, width_mult, stages, norm_layer=layer)
        if cifar or in_channels != 3:
            first: Any = net.features[0]
            first[0] = convolution(in_channels, first[0].out_channels, kernel_size=3, stride=1 if cifar else 2)
    sizes = {"out_features": out_features, "in_channels": in_channels, "width_mult": width_mult}
    describe(net, "mobilenet_v2", **sizes, stem=stem, norm=norm)
    return net
