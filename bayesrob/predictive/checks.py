"""What is refused before any work: inputs that no network here was made for, numbers of draws that cannot be had."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.types import Batch

__all__ = ["check_num_draws", "checked_inputs"]


def checked_inputs(x: Tensor, input_shape: tuple[int, ...] | None, dtype: torch.dtype | None) -> Batch:
    """`x` in the weights' `dtype` if it is a batch of floating-point inputs of `input_shape`, else `InputError`."""
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


def check_num_draws(num_draws: object, available: int | None = None) -> int:
    """Return `num_draws` if it is a positive integer (at most `available`), else raise `InputError`."""
    if isinstance(num_draws, bool) or not isinstance(num_draws, int) or num_draws < 1:
        raise InputError(
            f"{num_draws!r} draws were asked for.", "A prediction averages at least one.", "Give num_draws >= 1."
        )
    if available is not None and num_draws > available:
        raise InputError(
            f"{num_draws} draws were asked for.", f"Only {available} are held.", "Ask for fewer, or run longer chains."
        )
    return num_draws
