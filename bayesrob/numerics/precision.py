"""Lower precision, only where a user asks for it by name: an attack's steps may be rounded, its score never is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from bayesrob.errors import InputError, check_name

__all__ = ["PRECISIONS", "fast_precision", "low_dtype", "low_products"]

PRECISIONS = ("full", "tf32", "bf16")
"""Of the products inside a gradient. "full": the weights' own. "tf32": float32 whose factors an NVIDIA card rounds to 10
bits. "bf16": weights and activations rounded to 8 bits, sums in float32."""


def low_dtype(precision: str) -> torch.dtype | None:
    """What weights and activations are rounded to; None leaves them as they are."""
    return torch.bfloat16 if check_name("precision", precision, PRECISIONS) == "bf16" else None


@contextlib.contextmanager
def low_products(precision: str, device: torch.device) -> Iterator[None]:
    """The block's float32 products on a card are rounded if `precision` is "tf32"; its setting is restored behind it.

    Raises:
        InputError: "tf32" elsewhere, where nothing computes in it.
    """
    if precision != "tf32":
        yield
        return
    if device.type != "cuda":
        raise InputError(
            f"precision='tf32' on {device.type}.",
            "Only NVIDIA cards (since Ampere) have units for it.",
            "Use 'bf16', or 'full'.",
        )
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):  # before torch 2.9
        before, matmul.allow_tf32 = matmul.allow_tf32, True
        try:
            yield
        finally:
            matmul.allow_tf32 = before
        return
    # Not `allow_tf32`, which refuses to be read where a user has set the newer one.
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        yield
    finally:  # what was inherited from the setting for all backends is to be so again
        matmul.fp32_precision = "none" if before == getattr(torch.backends, "fp32_precision", "none") else before


def fast_precision() -> str:
    """Return "bf16" where this machine multiplies bfloat16 faster than float32, else "full".

    The machine's card decides, or its processor where there is no card. Elsewhere bfloat16 would be emulated, and slower.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "full"
    cpu: Any = torch.cpu
    checks = (getattr(cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16" if any(check() for check in checks if check is not None) else "full"
