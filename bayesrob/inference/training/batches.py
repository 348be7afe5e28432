"""Shuffled minibatches, for one network or for several networks with an order each."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bayesrob.data import Dataset
from bayesrob.types import Batch, Labels

__all__ = ["Batches", "Points"]

GATHERED = 2**22
"""Bytes of points that are put in order at a time: they are still in the cache when their minibatch is used."""

type Split = Callable[[Batch, Labels, list[int]], Iterable[Any]]
"""Yields what the loss takes for every minibatch, given the shuffled points and the minibatch sizes: `Learner.split`."""


@dataclasses.dataclass(frozen=True)
class Points:
    """Training points on the device of what is trained.

    Args:
        x: inputs `[n, *shape]`.
        y: labels `[n]` or targets `[n, out]`.
        index: for several networks, the points that each is trained on, int64 `[network, point]` on the CPU. None: every
            network is trained on all points.
    """

    x: Batch
    y: Labels
    index: Tensor | None = None

    @classmethod
    def of(cls, dataset: Dataset, like: Tensor, index: Tensor | None = None) -> Points:
        """The training points of `dataset` in the dtype and on the device of `like`."""
        return cls(*dataset.training(like), None if index is None else index.cpu())

    def __len__(self) -> int:
        return len(self.x) if self.index is None else self.index.shape[-1]


class Batches:
    """Minibatches of one epoch after another: all points once an epoch, in a new order.

    They are of equal size, give or take one point: a short last minibatch would count like a full one. Several of them are
    gathered at a time, as many as `GATHERED` bytes hold, because small ones take longer to ask for than to copy. The buffer
    is reused by the next ones, as new memory takes longer than the copy. A single minibatch of everything is not shuffled.

    Args:
        points: the data.
        batch_size: largest number of points in a minibatch.
        split: see `Learner.split`.
        generators: one for each network; they shuffle the points.
        several: whether there is an axis of networks, `[network, batch, *shape]`.
    """

    def __init__(
        self, points: Points, batch_size: int, split: Split, *, generators: Sequence[torch.Generator], several: bool
    ):
        self.num_batches = math.ceil(len(points) / batch_size)
        self.generators = generators
        self.order: Tensor | None = points.index if self.num_batches == 1 else None
        self._points, self._split, self._several = points, split, several
        self._buffer = points.x.new_empty(0)

    def epoch(self) -> Iterator[Any]:
        """Shuffle, and yield what `split` makes of each minibatch."""
        if self.num_batches > 1:
            self.order = self._shuffled()
        return self._in_order()

    def rest(self, taken: int, order: Tensor | None) -> Iterator[Any]:
        """Continue an epoch whose points were in `order` (see the attribute), after `taken` minibatches."""
        self.order = order
        return itertools.islice(self._in_order(), taken, None)

    def _shuffled(self) -> Tensor:
        """Numbers of the points, `[point]`, or `[network, point]`."""
        rows = [torch.randperm(len(self._points), generator=generator) for generator in self.generators]
        if not self._several:
            return rows[0]
        index = self._points.index
        return torch.stack(rows if index is None else [own[row] for own, row in zip(index, rows, strict=True)])

    def _in_order(self) -> Iterator[Any]:
        x, y = self._points.x, self._points.y
        if self.order is None:
            yield from self._split(x, y, [len(x)])
            return
        parts = self.order.to(x.device).tensor_split(self.num_batches, -1)
        size = max(1, GATHERED // max(1, x[0].numel() * x.element_size() * parts[0].numel()))
        for start in range(0, self.num_batches, size):
            group = parts[start : start + size]
            index = torch.cat(group, -1)
            if len(self._buffer) < index.numel():
                self._buffer = x.new_empty(index.numel(), *x.shape[1:])
            # With rows of 784 numbers eight times as fast as `x[index]`.
            rows = torch.index_select(x, 0, index.flatten(), out=self._buffer[: index.numel()])
            labels = y.index_select(0, index.flatten())
            sizes = [part.shape[-1] for part in group]
            yield from self._split(rows.unflatten(0, index.shape), labels.unflatten(0, index.shape), sizes)
