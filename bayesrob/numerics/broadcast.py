"""Shapes that broadcast."""

from __future__ import annotations

from torch import Tensor

__all__ = ["per_point"]


def per_point(values: Tensor, like: Tensor) -> Tensor:
    """`values`, one for each point, with axes of length one behind them, so that they broadcast against `like`.

    Args:
        values: `[batch]`, or `[draw, batch]` and so on.
        like: a tensor of the same leading axes, such as inputs `[batch, *shape]`.
    """
    return values.reshape(*values.shape, *(1,) * (like.ndim - values.ndim))
