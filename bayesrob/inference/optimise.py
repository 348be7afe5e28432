"""Mini-batch minimisation with a decaying learning rate: what SGD and SVI share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bayesrob import progress
from bayesrob.inference.adam import Adam
from bayesrob.types import Batch, Labels

__all__ = ["RECORDS", "Batches", "Minimised", "let_fall", "minimise", "num_epochs"]

RECORDS = 200
"""Losses kept of a run."""

GATHERED = 2**22
"""Bytes of points that are put in order at once: they stay in the cache until their batch has its turn."""

type Split = Callable[[Batch, Labels, list[int]], Iterable[Sequence[Any]]]
"""From points in the order in which they are seen, and the batches' sizes, to what the loss is given of each batch."""


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
    loss: Callable[..., Tensor],
    parameters: Sequence[Tensor],
    optimizer: Adam | torch.optim.Optimizer,
    x: Batch,
    y: Labels,
    epochs: int,
    batch_size: int,
    decay: bool,
    generator: torch.Generator,
    description: str,
    each_epoch: Callable[[int], None] | None = None,
    split: Split | None = None,
) -> Minimised:
    """Minimise `loss(*batch)` over `parameters` in place; a batch is `(x, y)` unless `split` says otherwise.

    The loss is a scalar; one without a graph has left its gradients in the parameters' `grad` itself.

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
    apart = every * max(1, min(10, steps // 20) // every)  # copies of weights, which may take as long as a short run's steps
    losses: list[float] = []
    recent: list[Tensor] = []
    # Weights are trusted once the losses after them were finite: finite weights may already have a loss that is not.
    trusted, newest = ([parameter.detach().clone() for parameter in parameters] for _ in range(2))
    order = None if per_epoch == 1 else lambda: torch.randperm(num_data, generator=generator)
    step, batches = 0, Batches(x, y, per_epoch, order, split or _by_rows)
    with progress.bar(description, steps) as advance, torch.enable_grad():
        for epoch in range(epochs):
            for batch in batches:
                if decay:
                    let_fall(optimizer, rates, step / steps)
                optimizer.zero_grad(set_to_none=True)
                value = loss(*batch)
                if value.requires_grad:
                    value.backward()
                optimizer.step()
                recent.append(value.detach())
                step += 1
                if step % every == 0 or step == steps:
                    mean = float(torch.stack(recent).mean())
                    recent.clear()
                    copying = step % apart == 0 or step == steps
                    # A step may also carry finite losses into weights that are not.
                    # (Of a sum, because it is 30 times as fast as asking each; one that overflows has blown up as well.)
                    if not math.isfinite(mean) or (
                        copying and not all(math.isfinite(parameter.detach().sum()) for parameter in parameters)
                    ):
                        with torch.no_grad():
                            for parameter, old in zip(parameters, trusted, strict=True):
                                parameter.copy_(old)
                        return Minimised(losses, steps, step)
                    losses.append(mean)
                    if copying:
                        trusted, newest = newest, trusted
                        for new, parameter in zip(newest, parameters, strict=True):
                            new.copy_(parameter.detach())
                    advance(every, note=f"loss {mean:.4f}")
            if each_epoch is not None:
                with torch.random.fork_rng(devices=[]):
                    each_epoch(epoch + 1)
    return Minimised(losses, steps, None)


def let_fall(optimizer: Adam | torch.optim.Optimizer, rates: Sequence[float], done: float) -> None:
    """The learning rates of a step, when that part of all was done."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))


class Batches:
    """All points once an epoch, in a new order; of equal size, give or take one: a short last batch would count like a full
    one.

    Several batches are gathered at once, as many as `GATHERED` bytes hold: small ones take longer to ask for than to copy.
    The next ones take their place in memory, as new memory takes longer than the copy.

    Args:
        order: makes the numbers of an epoch's points, `[point]`, or `[network, point]` where each of several networks has
            an order of its own. None: all as they lie, in one batch.
    """

    def __init__(self, x: Batch, y: Labels, number: int, order: Callable[[], Tensor] | None, split: Split):
        self._x, self._y, self._number, self._order, self._split = x, y, number, order, split
        self._room = x.new_empty(0)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        x, y = self._x, self._y
        if self._order is None:
            yield from self._split(x, y, [len(x)])
            return
        parts = self._order().to(x.device).tensor_split(self._number, -1)
        together = max(1, GATHERED // max(1, x[0].numel() * x.element_size() * parts[0].numel()))
        for start in range(0, self._number, together):
            some = parts[start : start + together]
            index = torch.cat(some, -1)
            if len(self._room) < index.numel():
                self._room = x.new_empty(index.numel(), *x.shape[1:])
            # With rows of 784 numbers eight times as fast as `x[index]`.
            rows = torch.index_select(x, 0, index.flatten(), out=self._room[: index.numel()])
            labels = y.index_select(0, index.flatten())
            sizes = [part.shape[-1] for part in some]
            yield from self._split(rows.unflatten(0, index.shape), labels.unflatten(0, index.shape), sizes)


def _by_rows(x: Batch, y: Labels, sizes: list[int]) -> Iterable[tuple[Batch, Labels]]:
    return zip(x.split(sizes), y.split(sizes), strict=True)
