"""Inputs scaled inside the network, so that attacks and their radii stay in the data's own unit."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.errors import InputError
from bayesrob.nets.spec import build, describe, spec_of

__all__ = ["Normalise", "normalised"]


class Normalise(nn.Module):
    """(x - mean) / std of each channel, `[..., channel, height, width]`, or of all inputs where there is one mean.

    Args:
        mean: one number, or one for each channel.
        std: as many positive numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            shape = (len(values), 1, 1) if len(values) > 1 else (1,)
            self.register_buffer(name, torch.tensor(list(values), dtype=torch.float32).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalised(
    net: nn.Module | dict[str, Any], mean: float | Sequence[float], std: float | Sequence[float]
) -> nn.Sequential:
    """`net` behind a layer that subtracts `mean` and divides by `std`.

    Networks trained on normalised images are usually scaled outside, by the data loader. An attack then works in normalised
    units: its radius is that of pixels divided by `std`, and the bounds [0, 1] are no longer bounds. With the layer inside
    all is in pixels.

    Args:
        net: a network that takes normalised inputs, or its description (`nets.spec_of`).
        mean: mean of each channel, e.g. CIFAR-10's (0.4914, 0.4822, 0.4465); or one number, e.g. MNIST's 0.1307.
        std: standard deviation of each channel, e.g. CIFAR-10's (0.2023, 0.1994, 0.2010); or one number, e.g. 0.3081.

    Returns:
        `nn.Sequential` of the layer and `net` itself.

    Raises:
        InputError: means and deviations of different lengths, numbers that are not finite, a deviation that is not positive.

    Example:
        >>> behind = br.nets.normalised(br.nets.mlp(2, (8,), 2), mean=0.5, std=2.0)
        >>> torch.equal(behind(x), behind[1]((x - 0.5) / 2.0))
        True
    """
    means, deviations = _per_channel(mean), _per_channel(std)
    good = len(means) == len(deviations) > 0 and all(math.isfinite(v) for v in (*means, *deviations))
    if not good or min(deviations) <= 0:
        raise InputError(
            f"mean is {mean}, std {std}.",
            "Each channel has one of both, and is divided by std.",
            "Give as many finite means as positive deviations, one a channel.",
        )
    inner = build(net) if isinstance(net, dict) else net
    made = nn.Sequential(Normalise(means, deviations), inner)
    spec = spec_of(inner)
    if spec is not None:
        describe(made, "normalised", net=spec, mean=means, std=deviations)
    return made


def _per_channel(values: float | Sequence[float]) -> list[float]:
    return [float(values)] if isinstance(values, float | int | numbers.Real) else [float(value) for value in values]
