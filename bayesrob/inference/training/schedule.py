"""How long training takes, in which steps, and by which optimizer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bayesrob.arguments import number, require, whole
from bayesrob.inference.training.adam import Adam, fused_adam

__all__ = ["Optimizer", "Schedule", "check_batches", "check_training", "num_epochs"]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Settings of an optimizer.

    Args:
        lr: learning rate.
        name: "adam" (Kingma & Ba 2015) or "sgd" (with momentum 0.9).
        betas: decay rates of Adam's averages of gradients and of their squares.
        weight_decay: L2 penalty.
    """

    lr: float
    name: Literal["adam", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def make(self, parameters: Sequence[Tensor]) -> Adam | torch.optim.Optimizer:
        """The optimizer that these settings describe, for `parameters`."""
        if self.name == "adam":
            return fused_adam(parameters, self.lr, self.betas, self.weight_decay)
        return torch.optim.SGD(parameters, self.lr, momentum=0.9, weight_decay=self.weight_decay, fused=True)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A run of training.

    Args:
        epochs: passes over the data.
        batch_size: largest number of points in a minibatch; the minibatches of an epoch are equal up to one point.
        optimizer: settings of the optimizer.
        decay: let the learning rate follow half a cosine to zero over all steps (Loshchilov & Hutter 2017, one cycle), so
            that the noise of minibatches and draws does not stay in the final weights.
        stream: name of the random numbers that shuffle the data, and of those that layers such as dropout draw. Methods
            with the same name and seed see the same minibatches.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    decay: bool = True
    stream: str = "sgd"


def num_epochs(epochs: int | None, num_data: int, batch_size: int, *, least: int, min_steps: int) -> int:
    """Return `epochs` or, by default, `least`, and more where these give under `min_steps` steps (small data)."""
    return int(epochs) if epochs is not None else max(least, math.ceil(min_steps / math.ceil(num_data / batch_size)))


def check_training(epochs: int | None, lr: float, batch_size: int) -> None:
    """Raise `InputError` for settings under which no step could be taken."""
    whole("epochs", epochs, "Training needs one at least.", or_none=True)
    number("lr", lr, "A step must go somewhere.", above=0)
    whole("batch_size", batch_size, "A batch holds one point at least.")


def check_batches(net: nn.Module, num_data: int, batch_size: int) -> None:
    """Raise `InputError` where batch normalisation would get a minibatch of one point."""
    smallest = num_data // math.ceil(num_data / batch_size)  # minibatches are of equal size, give or take a point
    require(
        smallest > 1 or not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()),
        f"batch_size={batch_size} makes batches of one of {num_data} points, and the network has batch normalisation.",
        "It scales by the spread of a batch, which one point does not have.",
        "Give two points or more and batch_size >= 3, or use group normalisation.",
    )
