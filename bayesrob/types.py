"""Shapes and small types shared by every room.

Shapes are jaxtyping annotations; they are checked (by beartype) in the tests only, so they cost nothing in use.
Axis names: `draw` draws of the weights, `batch` data points, `cls` classes (or regression outputs).
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Batch", "Bounds", "DrawLogits", "Labels", "Outputs", "Weights"]

Bounds = tuple[float, float]
"""Smallest and largest value an input component may take, `(lo, hi)`; images are in `(0.0, 1.0)`."""

Weights = Mapping[str, Tensor]
"""Parameters and buffers by their name in the network; with draws, each has a leading `draw` axis."""

Batch = Float[Tensor, "batch *shape"]
Labels = Int[Tensor, " batch"] | Float[Tensor, "batch cls"]
Outputs = Float[Tensor, "batch cls"]
DrawLogits = Float[Tensor, "draw batch cls"]
