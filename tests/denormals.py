"""Counts denormal numbers in what matrix products and convolutions are given: what slows them down up to a hundred times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addmv", "mv", "dot", "linear", "convolution", "convolution_backward")


class Denormals(TorchDispatchMode):
    """Counts, while it is active, the denormal numbers among the inputs of products, and the products."""

    def __init__(self) -> None:
        super().__init__()
        self.products, self.numbers = 0, 0
        self.largest_share = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.removeprefix("aten::") in PRODUCTS:
            self.products += 1
            # `out` is only written to, and so is the first argument where it does not count: memory of any content.
            for one in tree_leaves(args[1:] if (kwargs or {}).get("beta") == 0 else args):
                if isinstance(one, Tensor) and one.is_floating_point() and one.numel():
                    found = int(((one != 0) & (one.abs() < torch.finfo(one.dtype).tiny)).sum())
                    self.numbers += found
                    self.largest_share = max(self.largest_share, found / one.numel())
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def counted() -> Iterator[Denormals]:
    """Counts within the block."""
    with Denormals() as counter:
        yield counter
