"""Shapes and small types shared by every room.

Shapes are jaxtyping annotations; they are checked (by beartype) in the tests only, so they cost nothing in use.
Axis names: `draw` draws of the weights, `batch` data points, `cls` classes (or regression outputs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from bayesrob.errors import InputError

__all__ = ["Batch", "Bounds", "DrawLogits", "Labels", "Outputs", "Real", "Weights", "checked_bounds"]

Real = float | int
"""Python's own reading of an annotation `float`, spelled out for the checks of the tests."""

Bounds = tuple[Real, Real]
"""Smallest and largest value an input component may take, `(lo, hi)`; images are in `(0.0, 1.0)`."""

Weights = Mapping[str, Tensor]
"""Parameters and buffers by their name in the network; with draws, each has a leading `draw` axis."""

Batch = Float[Tensor, "batch *shape"]
Labels = Int[Tensor, " batch"] | Float[Tensor, "batch cls"]
Outputs = Float[Tensor, "batch cls"]
DrawLogits = Float[Tensor, "draw batch cls"]


def checked_bounds(bounds: object) -> Bounds:
    """`bounds` as a pair of floats with lo < hi, or `InputError`."""
    try:
        lo, hi = (float(bound) for bound in bounds)  # pyright: ignore[reportGeneralTypeIssues]
    except (TypeError, ValueError):
        raise InputError(
            f"bounds is {bounds!r}.",
            "It must be a pair of numbers (lo, hi), or None.",
            "Pass bounds=(0, 1) for images.",
        ) from None
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise InputError(
            f"bounds is ({lo:g}, {hi:g}).",
            "Attacks clip to it, so both must be finite and the first smaller.",
            "Pass (lo, hi) with lo < hi, or None if any value is meaningful.",
        )
    return lo, hi
