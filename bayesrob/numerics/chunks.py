"""How much to do at once: few enough draws (or data) that activations stay in cache and memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["CACHE_BYTES", "MEMORY_BYTES", "chunk_size", "outputs_per_example", "slices"]

CACHE_BYTES = 20 * 2**20
"""Activations of one chunk of draws. Measured on 2 AMD cores with 100 draws of 784-512-512-10 and 128 images: chunks of
10 to 20 draws (this budget gives 9) were fastest, 1 and 100 draws slower by 14% and 34%; 100 draws of 2-32-32-2 and 500
points were fastest at 50 (this budget gives 40), five times faster than one at a time."""

MEMORY_BYTES = 256 * 2**20
"""Activations of one chunk of training data in a full-batch gradient."""


def chunk_size(total: int, bytes_each: int, budget: int = CACHE_BYTES) -> int:
    """How many of `total` items of `bytes_each` fit the budget, evened out over the chunks, at least one."""
    if total < 1:
        return 1
    fit = max(1, min(total, budget // max(1, bytes_each)))
    num_chunks = -(-total // fit)
    return -(-total // num_chunks)


def slices(total: int, size: int) -> Iterator[slice]:
    """`range(total)` in slices of at most `size`."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def outputs_per_example(net: nn.Module, example: Tensor) -> int:
    """Number of values that all layers together produce for one example; `example` is `[1, *shape]`.

    Reshaping layers produce none: their outputs are views.
    """
    count = 0

    def add(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal count
        for tensor in output if isinstance(output, tuple) else (output,):
            count += tensor.numel() if isinstance(tensor, Tensor) else 0

    leaves = [module for module in net.modules() if not any(True for _ in module.children())]
    leaves = [module for module in leaves if not isinstance(module, nn.Flatten | nn.Unflatten | nn.Identity)]
    handles = [module.register_forward_hook(add) for module in leaves]
    try:
        with torch.no_grad():
            net(example)
    finally:
        for handle in handles:
            handle.remove()
    return max(count, 1)
