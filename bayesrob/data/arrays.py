"""The user's own arrays as a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesrob.data.dataset import Dataset
from bayesrob.errors import InputError
from bayesrob.types import Bounds

__all__ = ["from_arrays"]


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    bounds: Bounds | None = None,
    *,
    num_classes: int | None = None,
    name: str = "mine",
) -> Dataset:
    """Make a data set from numpy arrays, torch tensors, or anything that `numpy.array` accepts.

    Everything is copied, so that later changes of the caller's arrays have no effect.

    Args:
        x_train: training inputs, floating numbers `[n, *shape]`. float64 becomes float32, the dtype of all gradients.
        y_train: training targets. Integers or booleans `[n]` mean classification, floating numbers `[n]` or `[n, out]`
            mean regression (`[n]` becomes `[n, 1]`).
        x_test: test inputs `[m, *shape]`.
        y_test: test targets, as `y_train`.
        bounds: smallest and largest value an input component may take. None, the default, leaves attacks unclipped,
            because the range that the data happen to span need not be what is possible.
        num_classes: number of classes; by default the largest label of both sets plus 1. Give it where the highest
            classes may be absent.
        name: name of the data set in tables and file names.

    Raises:
        InputError: inputs of an integer type (unscaled images; they are never rescaled silently), targets of different
            kinds, `num_classes` with floating targets, or anything that `Dataset` refuses.

    Example:
        >>> import numpy as np
        >>> inputs, labels = np.random.rand(6, 2), np.array([0, 1, 0, 1, 0, 1])
        >>> br.data.from_arrays(inputs, labels, inputs, labels, bounds=(0, 1))
        Dataset('mine': 6 train, 6 test, shape (2,), 2 classes, bounds (0.0, 1.0))
    """
    labels = [_targets("y_train", y_train), _targets("y_test", y_test)]
    if labels[0].dtype != labels[1].dtype:
        raise InputError(
            f"y_train is {_kind(labels[0])} and y_test is {_kind(labels[1])}.",
            "Integers mean classification and floating numbers regression; one data set is one of the two.",
            "Convert one of them.",
        )
    if labels[0].dtype == torch.int64:
        num_classes = _largest(labels) + 1 if num_classes is None else num_classes
    elif num_classes is not None:
        raise InputError(
            f"num_classes={num_classes} was passed, but the targets are floating numbers.",
            "Floating numbers mean regression, which has no classes.",
            "Pass integer labels, or leave num_classes out.",
        )
    return Dataset(
        name=name,
        x_train=_inputs("x_train", x_train),
        y_train=labels[0],
        x_test=_inputs("x_test", x_test),
        y_test=labels[1],
        bounds=bounds,
        num_classes=num_classes,
    )


def _inputs(field: str, values: Any) -> Tensor:
    tensor = _copied(field, values)
    if not tensor.is_floating_point():
        span = f" with values from {int(tensor.min())} to {int(tensor.max())}" if tensor.numel() else ""
        raise InputError(
            f"{field} is of type {str(tensor.dtype).removeprefix('torch.')}{span}.",
            "Inputs are floating numbers, and a perturbation's size means nothing before the scale is known.",
            "Scale images to [0, 1], as in x.astype('float32') / 255, and pass bounds=(0, 1).",
        )
    return tensor.to(torch.float32)


def _targets(field: str, values: Any) -> Tensor:
    tensor = _copied(field, values)
    if not tensor.is_floating_point():
        return tensor.to(torch.int64)
    tensor = tensor.to(torch.float32)
    return tensor[:, None] if tensor.dim() == 1 else tensor


def _copied(field: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        tensor = values.detach().clone()
        is_real = not tensor.is_complex()
    else:
        array = _as_array(values)
        is_real = array.dtype.kind in "biuf"
        tensor = _from_numpy(array) if is_real else None
    if tensor is None or not is_real:
        kind = values.dtype if hasattr(values, "dtype") else type(values).__name__
        raise InputError(
            f"{field} is of type {kind}.",
            "Only arrays of real numbers whose rows have equal lengths can be used.",
            "Convert it to one numeric numpy array.",
        )
    return tensor


def _as_array(values: Any) -> np.ndarray:
    try:
        return np.array(values)
    except ValueError:  # rows of different lengths
        return np.array(None)


def _from_numpy(array: np.ndarray) -> Tensor:
    """Convert to what torch supports: it has no big-endian numbers, no long double, and few wide unsigned operations."""
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64))
    return torch.from_numpy(array.astype(np.bool_ if array.dtype.kind == "b" else _integer_type(array)))


def _integer_type(array: np.ndarray) -> type[np.generic]:
    return np.uint8 if array.dtype == np.uint8 else np.int64


def _largest(labels: list[Tensor]) -> int:
    return max((int(y.max()) for y in labels if y.numel()), default=1)


def _kind(y: Tensor) -> str:
    return "integer" if y.dtype == torch.int64 else "floating"
