"""Weights to return to when a loss blows up."""

from __future__ import annotations

import math
from types import EllipsisType

import torch
from torch import Tensor

__all__ = ["GoodWeights", "Row"]

Row = int | EllipsisType
"""Where the weights of one network lie: its number on the first axis, or everywhere if there is only one network."""


class GoodWeights:
    """Copies of recent weights. The older ones are trusted, because the losses after them were finite as well.

    (Finite weights may already have a loss that is not.)

    Args:
        tensors: what is copied, and given back to.
    """

    def __init__(self, tensors: list[Tensor]):
        self._tensors = [tensor.detach() for tensor in tensors]
        self.trusted, self.newest = ([tensor.clone() for tensor in self._tensors] for _ in range(2))

    def are_finite(self, rows: list[Row]) -> list[bool]:
        """Whether the weights of each network are finite now."""
        # By a sum, which is 30 times as fast as a test of each; one that overflows has blown up as well.
        if rows == [...]:
            return [all(math.isfinite(tensor.sum()) for tensor in self._tensors)]
        finite = torch.stack([tensor.flatten(1).sum(1).isfinite() for tensor in self._tensors])
        return finite.all(0).tolist()

    def keep(self, failed: list[Row]) -> None:
        """Trust the newest copy and make a new one; those of networks that have failed stay what they are."""
        self.trusted, self.newest = self.newest, self.trusted
        for new, tensor in zip(self.newest, self._tensors, strict=True):
            new.copy_(tensor)
        for row in failed:
            self._replace(self.newest, row)

    def stop(self, row: Row) -> None:
        """The network in `row` has failed: forget its newest copy."""
        self._replace(self.newest, row)

    def give_back(self, failed: list[Row]) -> None:
        """Give networks that have failed their trusted weights."""
        for row in failed:
            self._replace(self._tensors, row)

    def _replace(self, tensors: list[Tensor], row: Row) -> None:
        with torch.no_grad():
            for tensor, trusted in zip(tensors, self.trusted, strict=True):
                tensor[row] = trusted[row]
