"""The sum over draws of their input gradients, each point's apart from a factor where float32 would lose its direction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bayesrob.numerics import Rescaled, drop_negligible, faint, per_point
from bayesrob.types import Batch

__all__ = ["InputSum", "multiplied"]


class InputSum:
    """A sum over chunks of draws of what their slopes by the outputs become as derivatives by the inputs `[batch, *shape]`.

    Where a point's slopes are so small that float32 would lose them (a network that gives every wrong class 1e-60, say),
    they are made as large as one, and the logarithm of the point's factor is kept. Elsewhere no factor is applied.
    Slopes that cannot matter beside the point's others are dropped, so that no product is given denormal numbers.

    Args:
        x: the inputs.
    """

    def __init__(self, x: Batch):
        self._total = torch.zeros_like(x)
        self._log_factor: Tensor | None = None
        """`[batch]`: the sum is the total times the exponential of this. None: the total is the sum itself."""
        self._empty = True

    def fade(self, log_ratio: Tensor) -> None:
        """Multiply what was summed so far by the exponential of `log_ratio`, `[batch]`."""
        self._log_factor = log_ratio if self._log_factor is None else self._log_factor + log_ratio

    def add(self, slope: Tensor, rescaled: Callable[[], Rescaled], pullback: Callable[[Tensor, Tensor], None]) -> None:
        """Add one chunk of draws.

        Args:
            slope: derivative of the objective by the outputs, `[chunk, batch, out]`; it is overwritten.
            rescaled: returns the same with its size apart; called if some point's slopes are faint.
            pullback: see `predictive.gradients.Pullback`.
        """
        is_faint = slope.abs().amax((0, -1)) < faint(slope.dtype)
        if bool(is_faint.any()):
            slope = self._made_larger(slope, rescaled(), is_faint)
        elif self._log_factor is not None:
            self._multiply(self._log_factor)
            self._log_factor = None
        pullback(drop_negligible(slope), self._total)
        self._empty = False

    def _made_larger(self, slope: Tensor, apart: Rescaled, is_faint: Tensor) -> Tensor:
        """The slopes of faint points relative to the largest that the point has had, of others as they are."""
        largest = apart.log_size.amax(0)
        before = torch.zeros_like(largest) if self._log_factor is None else self._log_factor.double()
        before = torch.full_like(largest, -torch.inf) if self._empty else before
        self._log_factor = torch.where(is_faint, torch.maximum(largest, before), 0.0)
        if not self._empty:
            self._multiply(before - self._log_factor)
        larger = apart.slope * (apart.log_size - self._log_factor).exp().unsqueeze(-1)
        return torch.where(is_faint.unsqueeze(-1), larger.to(slope.dtype), slope)

    def _multiply(self, log_ratio: Tensor) -> None:
        self._total *= per_point(log_ratio.exp(), self._total).to(self._total.dtype)
        drop_negligible(self._total)

    def result(self, *, scaled: bool) -> Batch:
        """The sum, or with `scaled` each point's times a positive factor that keeps its direction in float32."""
        if self._log_factor is None or scaled:
            return self._total
        return multiplied(self._total, self._log_factor)


def multiplied(gradients: Tensor, log_factor: Tensor) -> Tensor:
    """`gradients`, in place, times the exponential of `log_factor`, in two steps.

    A factor below 1e-38 has few bits in float32; its root has all.
    """
    root = per_point((log_factor / 2).exp().to(gradients.dtype), gradients)
    return gradients.mul_(root).mul_(root)
