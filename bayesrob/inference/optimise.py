"""Mini-batch minimisation with a decaying learning rate: what SGD and SVI share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bayesrob import progress
from bayesrob.types import Batch, Labels

__all__ = ["Minimised", "minimise", "num_epochs"]

RECORDS = 200
"""Losses kept of a run."""


@dataclasses.dataclass(frozen=True)
class Minimised:
    """How a run went: mean loss of each stretch of steps, and whether it had to be stopped."""

    losses: list[float]
    steps: int
    failed_at: int | None

    def notes(self, method: str) -> list[str]:
        if self.failed_at is None:
            return []
        return [
            f"{method}: the loss became NaN or infinite at step {self.failed_at} of {self.steps}; the last finite "
            "weights were kept. Use a smaller lr."
        ]


def num_epochs(epochs: int | None, num_data: int, batch_size: int, least: int, min_steps: int) -> int:
    """`epochs`, or by default `least` and more where these are under `min_steps` steps (small data: few steps an epoch)."""
    return epochs if epochs is not None else max(least, math.ceil(min_steps / math.ceil(num_data / batch_size)))


def minimise(
    loss: Callable[[Tensor, Tensor], Tensor],
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    x: Batch,
    y: Labels,
    epochs: int,
    batch_size: int,
    decay: bool,
    generator: torch.Generator,
    description: str,
    each_epoch: Callable[[int], None] | None = None,
) -> Minimised:
    """Minimise `loss(x_batch, y_batch)` over `parameters` in place.

    With `decay` the learning rate follows half a cosine to zero over all steps (Loshchilov & Hutter 2017, one cycle), so
    that the noise of the mini-batches and draws does not stay in the final weights. A loss that is not finite ends the
    run at recent weights whose loss was finite. `each_epoch` is called with the number of
    epochs done after each; what it draws from torch's global generator does not change the run.
    """
    num_data = len(x)
    per_epoch = math.ceil(num_data / batch_size)
    steps = epochs * per_epoch
    rates = [group["lr"] for group in optimizer.param_groups]
    every = max(1, steps // RECORDS)
    losses: list[float] = []
    recent: list[Tensor] = []
    # Weights are trusted once the losses after them were finite: finite weights may already have a loss that is not.
    trusted, newest = ([parameter.detach().clone() for parameter in parameters] for _ in range(2))
    step = 0
    with progress.bar(description, steps) as advance, torch.enable_grad():
        for epoch in range(epochs):
            # Batches of equal size, give or take a point: a short last one would stand for all the data like a full one.
            order = torch.randperm(num_data, generator=generator).to(x.device) if per_epoch > 1 else None
            for index in (None,) if order is None else order.tensor_split(per_epoch):
                if decay:
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.zero_grad(set_to_none=True)
                value = loss(x, y) if index is None else loss(x[index], y[index])
                value.backward()
                optimizer.step()
                recent.append(value.detach())
                step += 1
                if step % every == 0 or step == steps:
                    mean = float(torch.stack(recent).mean())
                    recent.clear()
                    # A step may also carry finite losses into weights that are not.
                    # (Of a sum, because it is 30 times as fast as asking each; one that overflows has blown up as well.)
                    if not (
                        math.isfinite(mean) and all(math.isfinite(parameter.detach().sum()) for parameter in parameters)
                    ):
                        with torch.no_grad():
                            for parameter, old in zip(parameters, trusted, strict=True):
                                parameter.copy_(old)
                        return Minimised(losses, steps, step)
                    losses.append(mean)
                    for older, new, parameter in zip(trusted, newest, parameters, strict=True):
                        older.copy_(new)
                        new.copy_(parameter.detach())
                    advance(every, note=f"loss {mean:.4f}")
            if each_epoch is not None:
                with torch.random.fork_rng(devices=[]):
                    each_epoch(epoch + 1)
    return Minimised(losses, steps, None)
