"""Numbers too small to matter: left in, a processor would take up to a hundred times as long for products with them.

Numbers below 1.2e-38 have fewer bits than others in float32; they are called denormal. A confident network's residuals are
full of them: an error of 1e-40 in the probability of a class. They are dropped where they arise, already where they are
larger than that by a factor `GUARD`, so that what later layers make of those that are kept is not denormal either. To set
the processor to flush such numbers would not do: the setting belongs to each thread, and Python does not reach the threads
in which torch computes products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Rescaled", "drop_negligible", "faint", "negligible", "rescaled", "without_negligible"]

_aten: Any = torch.ops.aten

GUARD = 2.0**26
"""How much larger than the smallest normal number what is kept must be."""


def negligible(dtype: torch.dtype) -> float:
    """The size up to which a slope by an output counts as zero: 7.9e-31 in float32 and bfloat16, 1.5e-300 in float64.

    In float16 it is 0: there nothing is dropped, because 6e-8 may matter.
    """
    return 0.0 if dtype is torch.float16 else torch.finfo(dtype).tiny * GUARD


def faint(dtype: torch.dtype) -> float:
    """The size of a point's largest slope below which dropping others would show in its gradient: 6.8e-21 in float32.

    At it, a thousand slopes that are negligible come to one rounding error of the largest.
    """
    return negligible(dtype) * 1024 / torch.finfo(dtype).eps


def drop_negligible(values: Tensor, *, positive: bool = False) -> Tensor:
    """Set what is negligible in `values` to zero, in place; NaNs stay. To be called without gradients.

    Args:
        values: any numbers.
        positive: whether none of them is below zero, which is faster.
    """
    size = negligible(values.dtype)
    if not size:
        return values
    return torch.threshold_(values, size, 0.0) if positive else _aten.hardshrink.out(values, size, out=values)


class Rescaled(NamedTuple):
    """Slopes whose size is written apart, because it may be smaller than any number of their dtype.

    Args:
        slope: `[..., out]`, the largest entry of size one (or all zero).
        log_size: the logarithm of the size that the largest entry has, float64 `[...]`: the slopes are
            exp(log_size) times `slope`.
    """

    slope: Tensor
    log_size: Tensor


def rescaled(slope: Tensor) -> Rescaled:
    """The slopes `[..., out]` with their size apart. What is zero in their own dtype stays so."""
    wide = slope.double()
    size = wide.abs().amax(-1).clamp_(min=torch.finfo(torch.float64).tiny)
    return Rescaled((wide / size.unsqueeze(-1)).to(slope.dtype), size.log())


def without_negligible(values: Tensor) -> Tensor:
    """`values` with zeros for what is negligible, as a differentiable function."""
    size = negligible(values.dtype)
    return torch.nn.functional.hardshrink(values, size) if size else values
