"""The checks of `Dataset` when it is made, and the messages of their errors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesrob.arguments import whole
from bayesrob.errors import InputError
from bayesrob.types import Bounds

__all__ = ["check_inputs", "check_labels", "check_lengths", "check_same", "check_targets", "described", "finite_range"]


def check_inputs(field: str, x: object, bounds: Bounds | None) -> None:
    """Raise `InputError` unless `x` is a float32 tensor `[n, *shape]`, not empty, finite and within `bounds`."""
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.dim() < 2:
        raise InputError(
            f"{field} is {described(x)}.",
            "Inputs are float32 tensors [n, *shape], one row for each point.",
            "Use bayesrob.data.from_arrays, which converts; a single feature is x[:, None].",
        )
    check_filled(field, x)
    lo, hi = finite_range(field, x)
    if bounds is None:
        return
    # Compared in float32, the dtype of the points: the double 0.1 is smaller than its float32.
    allowed_lo, allowed_hi = torch.tensor(bounds, dtype=torch.float32).tolist()
    if lo < allowed_lo or hi > allowed_hi:
        raise InputError(
            f"{field} has values from {lo:g} to {hi:g}, outside bounds ({bounds[0]:g}, {bounds[1]:g}).",
            "Attacks clip to bounds, which would change the clean points.",
            "Rescale the inputs, pass bounds that hold for all of them, or None.",
        )


def check_targets(field: str, y: object) -> None:
    """Raise `InputError` unless `y` holds regression targets: a float32 tensor `[n, out]`, not empty and finite."""
    if not isinstance(y, Tensor) or y.dtype != torch.float32 or y.dim() != 2:
        raise InputError(
            f"{field} is {described(y)}.",
            "Without num_classes this is regression, whose targets are float32 tensors [n, out].",
            "Pass num_classes for classification, or use bayesrob.data.from_arrays, which converts.",
        )
    check_filled(field, y)
    finite_range(field, y)


def check_labels(field: str, y: object, num_classes: object) -> None:
    """Raise `InputError` unless `y` holds classes: an int64 tensor `[n]` with values in 0 ... `num_classes` - 1."""
    count = whole("num_classes", num_classes, "Classification needs two classes, regression none.", least=2)
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.dim() != 1:
        raise InputError(
            f"{field} is {described(y)}.",
            f"With num_classes={num_classes} labels are int64 tensors [n].",
            "Turn one-hot labels into classes with argmax(1); for regression pass num_classes=None.",
        )
    check_filled(field, y)
    lo, hi = (int(value) for value in y.aminmax())
    if lo < 0 or hi >= count:
        raise InputError(
            f"{field} has labels from {lo} to {hi}.",
            f"With num_classes={num_classes} they must lie in 0 ... {count - 1}.",
            "Number the classes from 0, or pass the right num_classes.",
        )


def check_filled(field: str, values: Tensor) -> None:
    """Raise `InputError` if a tensor has no element."""
    if values.numel() == 0:
        raise InputError(
            f"{field} is empty: its shape is {tuple(values.shape)}.",
            "Training and test set both need at least one point.",
            "Pass at least one point.",
        )


def finite_range(field: str, values: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value, or raise `InputError` if one is NaN or infinite.

    A single NaN makes both of them NaN, so that no mask over all values is needed.
    """
    lo, hi = (value.item() for value in values.detach().aminmax())
    if math.isfinite(lo) and math.isfinite(hi):
        return lo, hi
    bad = ~torch.isfinite(values)
    first = tuple(bad.nonzero()[0].tolist())
    raise InputError(
        f"{field} has {int(bad.sum())} values that are NaN or infinite, the first at index {first}.",
        "No loss or gradient is defined there.",
        "Drop or fill those points.",
    )


def check_lengths(part: str, x: Tensor, y: Tensor) -> None:
    """Raise `InputError` unless there is one target for each point."""
    if len(x) != len(y):
        raise InputError(
            f"x_{part} has {len(x)} points, y_{part} has {len(y)}.",
            "Each point needs its own target.",
            "Check how the arrays were split.",
        )


def check_same(kind: str, train_field: str, train: Tensor, test_field: str, test: Tensor) -> None:
    """Raise `InputError` unless one training point has the shape of one test point."""
    if train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"One point of {train_field} has shape {tuple(train.shape[1:])}, one of {test_field} {tuple(test.shape[1:])}.",
            f"One network must take both, so the {kind} must agree.",
            "Reshape one of them.",
        )


def described(value: object) -> str:
    """Return what kind of value was given, for messages."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} with shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"
