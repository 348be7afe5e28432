"""What `Dataset` checks when it is put together, and what its errors say."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.types import Bounds

__all__ = ["check_inputs", "check_labels", "check_lengths", "check_same", "check_targets", "described", "finite_range"]


def check_inputs(field: str, x: object, bounds: Bounds | None) -> None:
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
    # In float32, because that is what the points are: the double 0.1 is smaller than its float32.
    allowed_lo, allowed_hi = torch.tensor(bounds, dtype=torch.float32).tolist()
    if lo < allowed_lo or hi > allowed_hi:
        raise InputError(
            f"{field} has values from {lo:g} to {hi:g}, outside bounds ({bounds[0]:g}, {bounds[1]:g}).",
            "Attacks clip to bounds, which would change the clean points.",
            "Rescale the inputs, pass bounds that hold for all of them, or None.",
        )


def check_targets(field: str, y: object) -> None:
    if not isinstance(y, Tensor) or y.dtype != torch.float32 or y.dim() != 2:
        raise InputError(
            f"{field} is {described(y)}.",
            "Without num_classes this is regression, whose targets are float32 tensors [n, out].",
            "Pass num_classes for classification, or use bayesrob.data.from_arrays, which converts.",
        )
    check_filled(field, y)
    finite_range(field, y)


def check_labels(field: str, y: object, num_classes: object) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise InputError(
            f"num_classes is {num_classes!r}.",
            "Classification needs an integer of at least 2.",
            "Pass the number of classes, or None for regression.",
        )
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.dim() != 1:
        raise InputError(
            f"{field} is {described(y)}.",
            f"With num_classes={num_classes} labels are int64 tensors [n].",
            "Turn one-hot labels into classes with argmax(1); for regression pass num_classes=None.",
        )
    check_filled(field, y)
    lo, hi = (int(value) for value in y.aminmax())
    if lo < 0 or hi >= num_classes:
        raise InputError(
            f"{field} has labels from {lo} to {hi}.",
            f"With num_classes={num_classes} they must lie in 0 ... {num_classes - 1}.",
            "Number the classes from 0, or pass the right num_classes.",
        )


def check_filled(field: str, values: Tensor) -> None:
    if values.numel() == 0:
        raise InputError(
            f"{field} is empty: its shape is {tuple(values.shape)}.",
            "Training and test set both need at least one point.",
            "Pass at least one.",
        )


def finite_range(field: str, values: Tensor) -> tuple[float, float]:
    """Smallest and largest value; both are checked, and a single NaN makes both NaN, so no mask of all is needed."""
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
    if len(x) != len(y):
        raise InputError(
            f"x_{part} has {len(x)} points, y_{part} has {len(y)}.",
            "Each point needs its own target.",
            "Check how the arrays were cut.",
        )


def check_same(kind: str, train_field: str, train: Tensor, test_field: str, test: Tensor) -> None:
    if train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"One point of {train_field} has shape {tuple(train.shape[1:])}, one of {test_field} {tuple(test.shape[1:])}.",
            f"One network must take both, so the {kind} must agree.",
            "Reshape one of them.",
        )


def described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} with shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"
