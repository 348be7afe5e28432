"""Checks before any work: inputs that the network was not made for, numbers of draws that cannot be had."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesrob.arguments import whole
from bayesrob.errors import InputError
from bayesrob.types import Batch, Bounds

__all__ = ["are_probabilities", "check_lengths", "check_num_draws", "check_prefix", "check_values", "checked_inputs"]


def are_probabilities(outputs: Tensor) -> bool:
    """Whether all of `[batch, class]` lie in [0, 1] and sum to one (1e-3, for those who compute in half precision)."""
    if len(outputs) == 0 or outputs.shape[-1] < 2:
        return False
    inside = (outputs >= 0) & (outputs <= 1 + 1e-3)
    return bool(inside.all()) and bool(((outputs.sum(-1) - 1).abs() <= 1e-3).all())


def checked_inputs(x: Tensor, input_shape: tuple[int, ...] | None, dtype: torch.dtype | None) -> Batch:
    """Return `x` in the weights' `dtype` if it is a batch of inputs, else raise `InputError`.

    Args:
        x: what the caller gave.
        input_shape: shape of one input. None: it is not checked.
        dtype: the weights'. None: there are no weights, and `x` stays as it is.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"Inputs are {kind}.", "A floating-point tensor is needed.", "Use torch.as_tensor(x).float().")
    if x.ndim == 0 or (input_shape is not None and tuple(x.shape[1:]) != input_shape):
        shape = "*shape" if input_shape is None else ", ".join(map(str, input_shape))
        raise InputError(
            f"Inputs have shape {tuple(x.shape)}.",
            f"The network was trained on [batch, {shape}].",
            "Reshape them; a single input needs a batch axis, x[None].",
        )
    dtype = x.dtype if dtype is None else dtype
    if torch.finfo(x.dtype).bits > torch.finfo(dtype).bits:
        raise InputError(
            f"Inputs are {x.dtype}, the weights {dtype}.",
            "Their precision would be lost.",
            f"Use x.to({dtype}), or post.to({x.dtype}).",
        )
    return x.to(dtype)


def check_values(x: Tensor, bounds: Bounds | None = None) -> None:
    """Raise `InputError` unless all inputs are finite, and inside `bounds` where there are some."""
    if x.numel() == 0:
        return
    # One pass, as it is made at every step of an attack: a single NaN makes both NaN.
    low, high = (float(value) for value in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("Inputs contain NaN or infinity.", "No loss or gradient is defined there.", "Clean the data first.")
    if bounds is not None:
        lo, hi = x.new_tensor(bounds).tolist()  # in the inputs' precision: float32's 0.1 is above the double's
        if low < lo or high > hi:
            raise InputError(
                f"Inputs run from {low:g} to {high:g}.",
                f"The data's bounds are [{lo:g}, {hi:g}].",
                "Scale the inputs as the training data were, or set other bounds.",
            )


def check_lengths(x: Tensor, y: object) -> None:
    """Raise `InputError` unless `y` is a tensor with one label for every input."""
    if not isinstance(y, Tensor) or y.ndim == 0:
        kind = "single number" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"Labels are a {kind}.", "A tensor [batch] is needed.", "Use torch.as_tensor(y).")
    if len(y) != len(x):
        raise InputError(f"{len(x)} inputs but {len(y)} labels.", "Each input needs its own.", "Check the batch.")


def check_num_draws(num_draws: object, available: int | None = None) -> int:
    """Return `num_draws` as an `int` if so many can be had, else raise `InputError`.

    Args:
        num_draws: what the caller gave.
        available: how many draws are held. None: there is no end of them.
    """
    why = "A prediction averages at least one draw."
    return whole("num_draws", num_draws, why if available is None else f"{why} Only {available} are held.", most=available)


def check_prefix(index: int | slice, num_draws: int) -> int:
    """Return how many draws `index` takes of fresh draws, which can only be counted, else raise `InputError`.

    Args:
        index: what the caller put in brackets; only `[:n]` has a meaning.
        num_draws: how many draws `[:]` takes.
    """
    if not isinstance(index, slice) or index.start not in (None, 0) or index.step not in (None, 1):
        raise InputError(
            f"[{index}] of fresh draws.", "They have no order: only their number can be chosen.", "freeze() them first."
        )
    return num_draws if index.stop is None else check_num_draws(index.stop)
